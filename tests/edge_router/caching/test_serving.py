"""Stored answers as requests meet them: served fresh, served stale and refreshed, or instead of an error."""

from dataclasses import replace
from typing import Any

import pytest

from edge_router.caching.policy import Lifetimes
from edge_router.cloud_api import REGION_HEADER
from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    MODELS,
    USAGE,
    World,
    bearer,
    cache_of,
    chat_body,
    cloud,
    completion,
    edge,
    error_of,
    key_records,
    read_json,
    read_stream,
    streamed_text,
    text_of,
)
from tests.fakes import CloudCall, EdgeCall, FakeFlights, FakeUpstreamResponse, MemoryStore, RunningClock

LATE_S = 1.1 * 100 + 1  # past every spread of a lifetime of 100 s


def failing(_: EdgeCall | CloudCall) -> FakeUpstreamResponse:
    raise UpstreamError("down")


def world(**parts: Any) -> World:
    life = Lifetimes(ttl_s=100, swr_s=200, stale_if_error_s=1000)
    return World(**{"lifetimes": life, "single_flight": "cloud", **parts})


def tenant(**fields: Any) -> World:
    """Whose callers belong to a tenant with these fields in its key record."""
    return world(auth="keys", keys=key_records(k001={"tenant": "acme", **fields}))


async def asked(around: World, body: dict[str, Any] | None = None, **options: Any) -> Reply:
    """The reply, read whole, after everything that follows a reply has happened."""
    reply = await around.ask(body or chat_body(), **options)
    while len(around.background):
        await around.background.finish()
    return reply


def break_down(around: World) -> None:
    """From now on every model fails."""
    around.edge.handler = around.cloud.handler = failing


def told_ttl_s(reply: Reply) -> int:
    ttl_s = cache_of(reply)["ttl_s"]
    assert isinstance(ttl_s, int)
    return ttl_s


# Stale while revalidate


async def test_stale_answer_is_served_at_once_and_refreshed() -> None:
    """A hit with a lifetime below zero; the model is asked after the response, and the next caller gets a fresh one."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S)
    around.edge.handler = lambda call: FakeUpstreamResponse.plain({"response": "Still Paris."})
    stale = await around.ask(chat_body())
    calls_before = around.calls
    while len(around.background):
        await around.background.finish()

    assert (stale.status, text_of(stale)) == (200, "Paris, says edge-small-1.")
    ttl_s = told_ttl_s(stale)
    assert -21 <= ttl_s < 0
    assert stale.headers["cache-status"] == f"nearside; hit; ttl={ttl_s}; detail=kv"
    assert stale.headers["age"] == "111"
    assert (calls_before, around.calls) == (1, 2)
    assert text_of(await asked(around)) == "Still Paris."


async def test_stale_answer_is_refreshed_by_one_caller() -> None:
    """However many get it meanwhile, in whichever isolate: each reply here is of another one."""
    around = world()
    around.flights = FakeFlights(around.cloud)
    await asked(around)
    around.clock.advance(LATE_S)
    replies = [await around.ask(chat_body()) for _ in range(5)]
    while len(around.background):
        await around.background.finish()

    assert {text_of(reply) for reply in replies} == {"Paris, says edge-small-1."}
    assert around.calls == 2


async def test_refresh_that_crashes() -> None:
    """The stale answer went out long ago; the log says what broke, by its name alone."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S)

    def crash(_: EdgeCall) -> FakeUpstreamResponse:
        raise RuntimeError("with a secret")

    around.edge = edge(crash)
    reply = await around.ask(chat_body())
    while len(around.background):
        await around.background.finish()

    assert reply.status == 200
    crashes = [facts for name, facts in around.log.lines if name == "crash"]
    assert [facts["reason"] for facts in crashes] == ["RuntimeError"]
    assert "secret" not in around.log.text()


async def test_isolate_asks_once_while_claims_fail() -> None:
    """Without the Durable Object each isolate still refreshes an answer only once a minute."""
    around = world()
    around.flights = FakeFlights(around.cloud, is_down=True)
    await asked(around)
    around.clock.advance(LATE_S)
    break_down(around)
    isolate = around.gateway()
    replies = [await around.ask(chat_body(), of=isolate) for _ in range(3)]
    while len(around.background):
        await around.background.finish()

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert around.log.names().count("claim_failed") == 1
    assert around.log.names().count("refresh_failed") == 1
    around.clock.advance(60)
    await asked(around, of=isolate)
    assert around.log.names().count("refresh_failed") == 2


async def test_streaming_caller_gets_the_stale_answer_too() -> None:
    """Replayed; the refresh asks for a plain answer, and serves both forms."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S)
    chunks = await read_stream(await asked(around, chat_body(stream=True, stream_options={"include_usage": True})))

    assert streamed_text(chunks) == "Paris, says edge-small-1."
    assert chunks[-1]["nearside"]["cache"]["ttl_s"] < 0
    assert "stream" not in around.edge.calls[-1].inputs
    assert told_ttl_s(await asked(around)) > 0


@pytest.mark.parametrize("cache_control", ["max-age=1000", "min-fresh=1", "max-age=50", "max-stale=0"])
async def test_caller_who_wants_no_stale_answer(cache_control: str) -> None:
    """Is answered by the model, and told that there was an older answer."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S)
    reply = await asked(around, headers={"cache-control": cache_control})

    assert reply.headers["cache-status"] == "nearside; fwd=stale; stored"
    assert around.calls == 2


async def test_caller_who_takes_any_stale_answer() -> None:
    """`max-stale` reaches beyond what the entry itself allows."""
    around = world()
    await asked(around)
    around.clock.advance(110 + 250)

    reply = await around.ask(chat_body(), headers={"cache-control": "max-stale"})

    assert reply.headers["nearside-served-by"] == "exact-cache"
    assert (await around.ask(chat_body())).headers["nearside-served-by"] == "edge-model"


async def test_short_lifetime_that_was_asked_for_has_a_short_window() -> None:
    """Who asks for 10 s gets nothing that is older than twice that, but in an outage."""
    around = world()
    await asked(around, chat_body(cache_ttl_s=10))
    around.clock.advance(22)

    assert (await asked(around)).headers["cache-status"] == "nearside; fwd=stale; stored"


# Stale if error


@pytest.mark.parametrize("is_stream", [False, True])
async def test_stale_answer_instead_of_an_error(is_stream: bool) -> None:
    """When every model fails, the old answer is given: 200, with the failure's status in Cache-Status."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S + 300)
    break_down(around)
    reply = await asked(around, chat_body(stream=is_stream))

    assert reply.status == 200
    if is_stream:
        chunks = await read_stream(reply)
        assert streamed_text(chunks) == "Paris, says edge-small-1."
        told = chunks[-1]["nearside"]["cache"]
    else:
        told = cache_of(reply)
    assert (told["status"], told["failed_status"]) == ("stale", 502)
    status = f"nearside; fwd=stale; fwd-status=502; ttl={told['ttl_s']}; detail=kv"
    assert reply.headers["cache-status"] == status
    assert reply.headers["nearside-served-by"] == "exact-cache"
    assert reply.headers["age"] == "411"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_damaged_answer_instead_of_an_error(stream: bool) -> None:
    """Is of no use: the failure is told as it is."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S + 300)
    assert isinstance(around.store, MemoryStore)
    for key, text in around.store.texts.items():
        around.store.texts[key] = text.split("\n")[0] + "\n{damaged}"
    break_down(around)
    reply = await around.ask(chat_body(stream=stream))

    assert (reply.status, error_of(reply)["type"]) == (502, "upstream_error")
    assert "fwd-status" not in reply.headers["cache-status"]


async def test_stream_whose_models_fail_late() -> None:
    """The headers have left when the models turn out to be down: the old answer still comes in place of the error."""
    around = world(clock=RunningClock(), heartbeat_s=0.01)
    await asked(around)
    around.clock.advance(LATE_S + 300)
    slow = FakeUpstreamResponse.stream(0.05, UpstreamError("broke off"))
    around.edge = edge(lambda call: slow)
    around.cloud = cloud(lambda call: slow)
    reply = await around.ask(chat_body(stream=True))
    chunks = await read_stream(reply)

    assert "age" not in reply.headers
    assert streamed_text(chunks) == "Paris, says edge-small-1."
    assert chunks[-1]["nearside"]["cache"]["failed_status"] == 502
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_answer_that_is_too_old_for_an_error() -> None:
    """The failure is told as it is."""
    around = world()
    await asked(around)
    around.clock.advance(110 + 1001)
    break_down(around)

    assert (await asked(around)).status == 502


@pytest.mark.parametrize("cache_control", ["no-cache", "max-age=100"])
async def test_caller_who_wants_an_error_rather_than_an_old_answer(cache_control: str) -> None:
    """Gets it."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S)
    break_down(around)

    assert (await asked(around, headers={"cache-control": cache_control})).status == 502


async def test_refused_request_is_no_outage() -> None:
    """A 400 of the model is the caller's to see, whatever is stored."""
    around = world()
    body = chat_body(model=CLOUD_FAST.id)
    await asked(around, body)
    around.clock.advance(LATE_S + 300)
    refusal = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": "no"}}
    around.cloud.handler = lambda call: FakeUpstreamResponse.plain(refusal, status=400, headers={REGION_HEADER: "fra"})

    assert (await asked(around, body)).status == 400


# Only if cached


async def test_only_if_cached_finds_something() -> None:
    """A stored answer is served like any other; a stale one is not refreshed, because no model may be asked."""
    around = world()
    await asked(around)
    around.clock.advance(LATE_S)
    reply = await asked(around, headers={"cache-control": "only-if-cached"})

    assert (reply.status, around.calls) == (200, 1)


@pytest.mark.parametrize("cache_control", ["only-if-cached", "only-if-cached, no-cache", "only-if-cached, max-age=0"])
async def test_only_if_cached_finds_nothing(cache_control: str) -> None:
    """504 as RFC 9111 asks; SDKs are told not to try again, and no model is asked."""
    around = world()
    reply = await asked(around, headers={"cache-control": cache_control})

    assert (reply.status, error_of(reply)["code"]) == (504, "not_cached")
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["cache-status"] == "nearside; detail=only-if-cached"
    assert around.calls == 0


# What decides how long


@pytest.mark.parametrize(
    ("asked_s", "tenant_s", "model_s", "expected_s"),
    [
        pytest.param(50, 1000, 2000, 50, id="the request"),
        pytest.param(None, 1000, 2000, 1000, id="the tenant"),
        pytest.param(None, None, 2000, 2000, id="the model"),
        pytest.param(None, None, None, 100, id="the default"),
    ],
)
async def test_who_decides_how_long_an_answer_is_fresh(
    asked_s: int | None, tenant_s: float | None, model_s: int | None, expected_s: int
) -> None:
    """The request before the tenant before the model before the default."""
    around = tenant(cache_ttl_s=tenant_s)
    around.models = [replace(model, cache_ttl_s=model_s) for model in MODELS]
    controls = {} if asked_s is None else {"nearside-cache-ttl": str(asked_s)}
    await asked(around, headers={**bearer(), **controls})

    ttl_s = told_ttl_s(await asked(around, headers=bearer()))

    assert expected_s * 0.9 - 1 <= ttl_s <= expected_s * 1.1


async def test_store_keeps_an_entry_for_its_whole_use() -> None:
    """Lifetime and the longer window; at least a minute, which is the platform's minimum."""
    around = world()
    store = around.store
    assert isinstance(store, MemoryStore)
    await asked(around)
    await asked(around, chat_body("short", cache_ttl_s=1), headers={})

    long_s, short_s = sorted(store.ttl_s.values(), reverse=True)
    assert 1090 <= long_s <= 1110
    assert 1000 <= short_s <= 1002
    around.lifetimes = Lifetimes(5, 0, 0)
    await asked(around, chat_body("shorter"))
    assert min(store.ttl_s.values()) == 60


async def test_relaxed_tenant() -> None:
    """Case and white space do not matter to one; to another they do."""
    calls = []
    for around in (tenant(cache_normalisation="relaxed"), tenant(cache_normalisation="strict")):
        await asked(around, chat_body("What is  France?"), headers=bearer())
        await asked(around, chat_body("what is france?"), headers=bearer())
        calls.append(around.calls)

    assert calls == [1, 2]


async def test_relaxed_variable() -> None:
    """Is for all tenants whose record says nothing."""
    around = world(normalisation="relaxed")
    await asked(around, chat_body("What is  France?"))
    await asked(around, chat_body("what is france?"))

    assert around.calls == 1


# What is in an entry


async def test_tool_calls_are_kept_on_request() -> None:
    """With `use_cache` an answer that calls a tool is stored and replayed, as a stream too, usage included."""
    around = world()
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    around.cloud.handler = lambda call: FakeUpstreamResponse.plain(completion(choices=choices))
    tool = {"type": "function", "function": {"name": "look"}}
    body = chat_body(model=CLOUD_FAST.id, tools=[tool], use_cache=True)
    await asked(around, body)
    plain = await asked(around, body)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = await read_stream(await asked(around, {**body, **options}))

    assert around.calls == 1
    assert read_json(plain)["choices"][0]["message"]["tool_calls"] == [call]
    calls = [part for each in chunks for choice in each["choices"] for part in choice["delta"].get("tool_calls", ())]
    assert calls == [{"index": 0, **call}]
    assert chunks[-1]["usage"] == USAGE
    assert [c["finish_reason"] for each in chunks for c in each["choices"] if c["finish_reason"]] == ["tool_calls"]


async def test_key_of_an_entry_is_told() -> None:
    """The same on the miss that stored it and on the hit; nothing when nothing could be kept."""
    around = world()
    stored, hit = await asked(around), await asked(around)

    assert len(bytes.fromhex(cache_of(stored)["key"])) == 32
    assert cache_of(hit)["key"] == cache_of(stored)["key"]
    assert "key" not in cache_of(await asked(around, chat_body(use_cache=False)))


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({"nearside-cache-ttl": "0"}, "cache_ttl_s"),
        ({"nearside-cache-ttl": "soon"}, "cache_ttl_s"),
        ({"nearside-cache-ttl": "1.5"}, "cache_ttl_s"),
        ({"nearside-cache-ttl": "31536001"}, "cache_ttl_s"),
        ({"nearside-cache-tags": "a b"}, "cache_tags[0]"),
        ({"nearside-cache-tags": "a," + "b" * 65}, "cache_tags[1]"),
        ({"nearside-cache-tags": "1,2,3,4,5,6,7,8,9"}, "cache_tags"),
    ],
)
async def test_controls_that_are_wrong(headers: dict[str, str], param: str) -> None:
    """400 that names the field."""
    reply = await asked(world(), headers=headers)

    assert (reply.status, error_of(reply)["param"]) == (400, param)
