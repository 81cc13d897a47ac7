"""Prompt tools on the real Worker."""

import httpx
import pytest

from tests.edge.control import Control, chat, easy

pytestmark = pytest.mark.workerd


def test_optimized_prompt(edge: httpx.Client, control: Control) -> None:
    """The report says what was saved, and two wordings that become one share an answer."""
    question = easy()
    first = edge.post("/v1/chat/completions", json=chat(f"Could you please tell me: {question}", optimize_prompt=True))
    again = edge.post("/v1/chat/completions", json=chat(f"Tell me: {question}", optimize_prompt=True))

    assert first.json()["nearside"]["prompt"]["saved_percent"] > 0
    assert first.json()["nearside"]["cache"]["key"] == again.json()["nearside"]["cache"]["key"]


def test_conversation_beyond_every_window(edge: httpx.Client, control: Control) -> None:
    """Is answered when it may be cut, by header too."""
    messages = [{"role": "user", "content": "word " * 40_000} for _ in range(5)]
    messages.append({"role": "user", "content": easy()})
    body = {"messages": messages, "max_tokens": 50}

    refused = edge.post("/v1/chat/completions", json=body)
    fitted = edge.post("/v1/chat/completions", json=body, headers={"nearside-fit-context": "true"})

    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert fitted.status_code == 200, fitted.text
    assert fitted.json()["nearside"]["prompt"]["dropped_messages"] > 0
