"""What callers, logs and headers never hear: prompts, and what an upstream writes when it fails."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.cloud_api import REGION_HEADER
from edge_router.replies import Reply
from tests.edge_router.harness import COMPLEX_PROMPT, SIMPLE_PROMPT, World, chat_body, cloud, edge, read_events
from tests.fakes import FakeUpstreamResponse

KEY, PROMPT, TRACE = "sk-live-0123456789abcdef", "my diagnosis is scurvy", 'File "/srv/app.py", line 7, in ask'
SPILT = {
    "JSON error": {"error": {"message": f"{KEY} {PROMPT} {TRACE}", "type": KEY, "param": KEY, "code": KEY}},
    "JSON of another shape": {"errors": [{"message": f"{KEY} {PROMPT}"}], "detail": TRACE},
    "page": f"<html>{KEY} {PROMPT} {TRACE}</html>",
    "answer with an error": {"choices": [], "error": {"message": f"{KEY} {PROMPT}", "code": KEY}, "trace": TRACE},
}

words = st.text("abcdefghijklmnopqrstuvwxyzäßдж中", min_size=1, max_size=8).map(lambda word: f"xq{word}qx")
questions = st.lists(words, min_size=1, max_size=5)


def answering(handler: Callable[[object], FakeUpstreamResponse]) -> World:
    """Edge models and regions that all answer the same."""
    return World(edge=edge(handler), cloud=cloud(handler))


async def whole(reply: Reply) -> str:
    """All that a caller receives."""
    body = reply.body if isinstance(reply.body, str) else "\n".join(await read_events(reply))
    return json.dumps(reply.headers) + body


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(texts=questions, stream=st.booleans(), place=st.sampled_from(["content", "model", "user", "stop", "tools", "x"]))
async def test_no_header_echoes_the_request(texts: list[str], stream: bool, place: str) -> None:
    """Whatever field a text stands in; log, metrics and keys hear nothing of it either."""
    text = " ".join(texts)
    tool = {"type": "function", "function": {"name": "f", "description": text}}
    variants: dict[str, dict[str, Any]] = {
        "content": {},
        "model": {"model": text},
        "user": {"user": text},
        "stop": {"stop": [text]},
        "tools": {"tools": [tool]},
        "x": {text: text},
    }
    world = World()

    reply = await world.ask(chat_body(f"{COMPLEX_PROMPT} {text}", stream=stream, use_cache=True, **variants[place]))
    await whole(reply)
    keys = await world.kept()

    heard = repr([reply.headers, world.log.lines, world.telemetry.records, keys])
    assert not [word for word in texts if word in heard]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 429, 500, 503])
@pytest.mark.parametrize("spilt", SPILT.values(), ids=SPILT)
@pytest.mark.parametrize("side", ["edge", "cloud"])
async def test_failing_upstream_is_not_quoted(side: str, spilt: object, status: int, stream: bool) -> None:
    """Neither its key nor the prompt that it repeats, nor a trace: not to callers, not to the log."""
    world = answering(lambda _: FakeUpstreamResponse.plain(spilt, status=status))

    heard = await whole(await world.ask(chat_body(SIMPLE_PROMPT, model=side, stream=stream)))

    assert not [secret for secret in (KEY, PROMPT, TRACE) if secret in heard + repr(world.log.lines)]


@pytest.mark.parametrize("side", ["edge", "cloud"])
async def test_upstream_that_fails_in_mid_stream_is_not_quoted(side: str) -> None:
    """Its error event becomes ours."""
    begun = {"choices": [{"index": 0, "delta": {"content": "Par"}, "finish_reason": None}], "response": "Par"}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [f"data: {json.dumps(each)}\n\n".encode() for each in ({**head, **begun}, SPILT["JSON error"])]
    world = answering(lambda _: FakeUpstreamResponse.stream(*events))

    heard = await whole(await world.ask(chat_body(SIMPLE_PROMPT, model=side, stream=True)))

    assert "Par" in heard
    assert '"error"' in heard
    assert not [secret for secret in (KEY, PROMPT, TRACE) if secret in heard + repr(world.log.lines)]


async def test_only_our_own_service_is_quoted() -> None:
    """A refusal is repeated when cloud_fallback itself wrote it, which its header says."""
    refusal = {"error": {"message": "Bad n.", "param": "n", "code": "bad_n"}}
    world = World()
    world.cloud.handler = lambda _: FakeUpstreamResponse.plain(refusal, status=400, headers={REGION_HEADER: "fra"})

    assert "Bad n." in await whole(await world.ask(chat_body(model="cloud")))


async def test_image_address_is_passed_on_and_never_fetched() -> None:
    """To a model that sees, as it is; nobody here asks that address, and no edge model hears of it."""
    address = "http://169.254.169.254/latest/meta-data"
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": address}}]
    world = World()

    reply = await world.ask({"messages": [{"role": "user", "content": content}]})

    assert (reply.status, reply.headers["nearside-route-reason"]) == (200, "images")
    assert [call.body["messages"][0]["content"] for call in world.cloud.calls] == [content]
    assert world.edge.calls == []
