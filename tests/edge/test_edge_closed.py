"""Answers without Workers AI, and its prompt cache, on the real Worker."""

import httpx
import pytest

from scripts.local.stack import running_stack
from tests.edge.control import Control, becomes_true, chat, easy

pytestmark = pytest.mark.workerd

MODEL = "@cf/zai-org/glm-4.7-flash"


def test_free_allocation_used_up(edge: httpx.Client, control: Control) -> None:
    """The cloud answers and says why; Workers AI is left alone, and used again when it may be."""
    control.fault("ai", "allowance")
    first, second = (edge.post("/v1/chat/completions", json=chat(easy())) for _ in range(2))
    asked = control.counters()["ai"]
    forced = edge.post("/v1/chat/completions", json=chat(easy(), model="edge"))
    control.clear()

    assert [reply.headers["nearside-served-by"] for reply in (first, second)] == ["cloud", "cloud"]
    assert second.headers["nearside-route-reason"] == "edge-allowance"
    assert asked == 1
    assert (forced.status_code, forced.json()["error"]["code"]) == (429, "edge_allowance_used_up")
    assert int(forced.headers["retry-after"]) > 0
    assert becomes_true(
        lambda: edge.post("/v1/chat/completions", json=chat(easy())).headers["nearside-served-by"] == "edge-model",
        within_s=20,
    )


def test_no_ai_binding() -> None:
    """The Worker starts and answers from the cloud; what only the edge has is a clear 503."""
    with (
        running_stack(auth="open", config={"ai": None}) as (_, address),
        httpx.Client(base_url=address.url, timeout=30) as edge,
    ):
        plain = edge.post("/v1/chat/completions", json=chat(easy()))
        forced = edge.post("/v1/chat/completions", json=chat(easy(), model="edge"))
        embedded = edge.post("/v1/embeddings", json={"model": "auto", "input": "Hi"})

    assert plain.headers["nearside-served-by"] == "cloud"
    assert plain.headers["nearside-route-reason"] == "edge-absent"
    for reply in (forced, embedded):
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "edge_absent")


def test_conversation_stays_where_its_prefix_is_cached(edge: httpx.Client) -> None:
    """The second turn reaches the same instance, and the report tells how much of it was cached."""
    question = easy()
    turns = [{"role": "system", "content": "Be brief. " * 1000}, {"role": "user", "content": question}]
    first = edge.post("/v1/chat/completions", json={"messages": turns, "model": MODEL})
    turns += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Really?"}]

    second = edge.post("/v1/chat/completions", json={"messages": turns, "model": MODEL})

    assert first.json()["nearside"]["prompt_cache"] == {"hit_percent": 0.0}
    assert second.json()["nearside"]["prompt_cache"]["hit_percent"] > 50
