"""Calls with the same static prefix are named alike, no word is moved, and what the provider's cache saved is told."""

import json
from typing import Any

import pytest

from cloud_fallback.calls import Endpoint, parse_call
from cloud_fallback.prompt_cache import cache_key, hit_percent
from tests.cloud_fallback.harness import COMPLETION, DONE, FakeUpstream, call, chunk, service

SYSTEM = {"role": "system", "content": "You are a librarian. " * 50}
TOOLS = [{"type": "function", "function": {"name": "find"}}]


def key_of(*messages: dict[str, Any], model: str = "gpt-4o", **fields: Any) -> str | None:
    body = json.dumps({"model": model, "messages": list(messages), **fields}).encode()
    return cache_key(parse_call(Endpoint.CHAT, body))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_same_prefix_same_key() -> None:
    """The key is of the instructions and tools alone, whatever is asked after them."""
    key = key_of(SYSTEM, user("a"))

    assert key == key_of(SYSTEM, user("b"), {"role": "assistant", "content": "x"}, user("c"), temperature=1)
    assert key is not None
    assert len(key) <= 64
    assert "librarian" not in key


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(key_of({**SYSTEM, "content": "x"}, user("a")), id="instructions"),
        pytest.param(key_of(SYSTEM, user("a"), tools=TOOLS), id="tools"),
        pytest.param(key_of(SYSTEM, user("a"), model="gpt-4o-mini"), id="model"),
        pytest.param(key_of(SYSTEM, {"role": "developer", "content": "y"}, user("a")), id="more instructions"),
    ],
)
def test_other_prefix_other_key(other: str) -> None:
    """What the provider could not reuse has another name."""
    assert other != key_of(SYSTEM, user("a"))


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key_of(user("a")), id="nothing static"),
        pytest.param(key_of(user("a"), SYSTEM), id="instructions that do not lead"),
        pytest.param(key_of(SYSTEM, user("a"), prompt_cache_key="mine"), id="the caller's own"),
        pytest.param(cache_key(parse_call(Endpoint.CHAT, b'{"model": "m", "messages": "odd"}')), id="odd messages"),
    ],
)
def test_no_key(key: str | None) -> None:
    """Where there is nothing to name, or a name already."""
    assert key is None


async def test_key_goes_upstream_and_all_else_stays() -> None:
    """The field is put in front; every other byte is the caller's."""
    upstream = FakeUpstream.plain(COMPLETION)
    body = json.dumps({"model": "gpt-4o", "messages": [SYSTEM, user("Grüße")], "x": 1.0}).encode()

    await call(service(upstream), "POST", "/v1/chat/completions", body)

    sent = upstream.asked_body
    assert json.loads(sent)["prompt_cache_key"] == key_of(SYSTEM, user("Grüße"))
    assert sent.endswith(body[1:])


@pytest.mark.parametrize(
    ("usage", "percent"),
    [
        ({"prompt_tokens": 2048, "prompt_tokens_details": {"cached_tokens": 1536}}, 75.0),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}, 33.3),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 0}}, 0.0),
        ({"prompt_tokens": 10}, None),
        ({"prompt_tokens": 10, "prompt_tokens_details": None}, None),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11}}, None),
        ({"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}, None),
        ({"prompt_tokens": True, "prompt_tokens_details": {"cached_tokens": 0}}, None),
        (None, None),
    ],
)
def test_hit_percent(usage: object, percent: float | None) -> None:
    """Of the input tokens; nothing where it was not counted, or can't be true."""
    assert hit_percent(usage) == percent


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_what_was_saved_is_told(stream: bool) -> None:
    """In a header of plain answers, and in the counters of both."""
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}}
    upstream = FakeUpstream.plain({**COMPLETION, "usage": usage})
    if stream:
        upstream = FakeUpstream.streaming(chunk(), chunk(choices=[], usage=usage), DONE)
    app = service(upstream)

    response = await call(app, "POST", "/v1/chat/completions", {"model": "gpt-4o", "messages": [], "stream": stream})
    metrics = (await call(app, "GET", "/metrics")).text

    assert response.headers.get("nearside-prompt-cache-percent") == (None if stream else "80.0")
    assert 'nearside_cloud_cached_input_tokens_total{model="gpt-4o"} 80.0' in metrics
    assert 'nearside_cloud_input_tokens_total{model="gpt-4o"} 100.0' in metrics
    assert 'nearside_cloud_output_tokens_total{model="gpt-4o"} 5.0' in metrics
