"""From a chat request to its answer: cache, models, cloud, and everything that may fail on the way."""

import json
import re
from collections.abc import Callable
from typing import Any, Literal

import pytest

from edge_router.auth import hash_secret
from edge_router.catalog import DEFAULT_MODELS, Model
from edge_router.cloud_api import REGION_HEADER
from edge_router.errors import CloudUnavailable, FlightLost, UpstreamError, UpstreamTimeout
from edge_router.ports import Store
from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    COMPLEX_PROMPT,
    DONE,
    EDGE_LARGE,
    EDGE_SMALL,
    FRANKFURT,
    MODELS,
    SIMPLE_PROMPT,
    TRACEPARENT,
    USAGE,
    FixedScore,
    World,
    answer_cloud,
    chat_body,
    chunk,
    cloud,
    completion,
    edge,
    error_of,
    event,
    finish_reasons,
    native,
    native_events,
    openai_events,
    read_json,
    read_stream,
    streamed_text,
    text_of,
)
from tests.fakes import (
    STALL,
    Caller,
    CloudCall,
    EdgeCall,
    FailingStore,
    FakeFlights,
    FakeUpstreamResponse,
    MemoryStore,
    RunningClock,
    Step,
)

STREAM = chat_body(stream=True)
TO_CLOUD = chat_body(COMPLEX_PROMPT)
TINY_S = 0.01


def edge_down(call: EdgeCall) -> FakeUpstreamResponse:
    raise UpstreamError("Workers AI can't be reached.")


def cloud_down(call: CloudCall) -> FakeUpstreamResponse:
    raise CloudUnavailable("The region can't be reached.")


def cloud_says(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> World:
    """A world whose regions all answer the same, by our own service."""
    own = {REGION_HEADER: "here", **(headers or {})}
    return World(cloud=cloud(lambda call: FakeUpstreamResponse.plain(body, status=status, headers=own)))


def entry_of(world: World) -> str:
    assert isinstance(world.store, MemoryStore)
    return next(iter(world.store.texts))


# Which model answers


async def test_simple_question() -> None:
    """The small model at the edge answers, and the report says so."""
    world = World()
    reply = await world.ask(chat_body())

    assert reply.status == 200
    assert text_of(reply) == "Paris, says edge-small-1."
    assert reply.headers["nearside-served-by"] == "edge-model"
    assert reply.headers["nearside-model"] == "edge-small-1"
    assert reply.headers["nearside-tier"] == "edge-small"
    assert reply.headers["nearside-route-reason"] == "simple"
    assert reply.headers["nearside-cost-usd"] == "0.00002"
    assert "nearside-cloud-region" not in reply.headers


async def test_complex_question() -> None:
    """The nearest region answers."""
    world = World()
    reply = await world.ask(TO_CLOUD)

    assert text_of(reply) == "Paris, says cloud-fast-1@fra."
    assert reply.headers["nearside-served-by"] == "cloud"
    assert reply.headers["nearside-cloud-region"] == "fra"
    assert reply.headers["nearside-complexity"] == "0.8"


@pytest.mark.parametrize(
    "fields",
    [{"stop": "x"}, {"n": 2}, {"logprobs": True}, {"logit_bias": {"5": 1}}, {"top_logprobs": 2}],
    ids=lambda fields: next(iter(fields)),
)
async def test_parameter_that_the_small_model_does_not_know(fields: dict[str, Any]) -> None:
    """Goes to a model that does, instead of being ignored without a word; pinned, it is refused by its name."""
    name = next(iter(fields))
    reply = await World().ask(chat_body(**fields))
    refused = await World().ask(chat_body(model=EDGE_SMALL.id, **fields))

    assert reply.headers["nearside-model"] == EDGE_LARGE.id
    assert reply.headers["nearside-route-reason"] == "parameters"
    assert (refused.status, error_of(refused)["param"]) == (400, name)
    assert name in error_of(refused)["message"]


@pytest.mark.parametrize("fields", [{"stop": None}, {"stop": []}, {"n": 1}, {"logprobs": False}], ids=str)
async def test_parameter_that_asks_for_nothing(fields: dict[str, Any]) -> None:
    """The small model answers: it is what it does anyway."""
    reply = await World().ask(chat_body(**fields))

    assert reply.headers["nearside-model"] == EDGE_SMALL.id


async def test_hard_question_for_the_edge() -> None:
    """Its strongest model answers: nobody who names a side asked for the weakest one."""
    world = World()
    reply = await world.ask(chat_body(COMPLEX_PROMPT, model="edge"))

    assert reply.headers["nearside-model"] == EDGE_LARGE.id
    assert reply.headers["nearside-route-reason"] == "forced-edge"
    assert world.cloud.calls == []


async def test_question_too_hard_for_every_tier() -> None:
    """The strongest model that there is answers, not the nearest."""
    reply = await World(models=(EDGE_LARGE, CLOUD_FAST), scorer=FixedScore(0.95)).ask(chat_body())

    assert text_of(reply) == "Paris, says cloud-fast-1@fra."


async def test_request_that_the_cloud_gets() -> None:
    """The caller's body with the model in and our own fields out; the request's id, trace and deadline go along."""
    world = World()
    await world.ask(
        {**TO_CLOUD, "use_cache": False, "logit_bias": {"5": 1}},
        headers={
            "x-request-id": "abc",
            "traceparent": TRACEPARENT,
            "cookie": "secret",
            "nearside-cascade": "true",
        },
    )
    (call,) = world.cloud.calls

    assert call.path == "/v1/chat/completions"
    assert call.body == {"messages": TO_CLOUD["messages"], "logit_bias": {"5": 1}, "model": "cloud-fast-1"}
    assert call.headers == {
        "x-request-id": "abc",
        "traceparent": TRACEPARENT,
        "nearside-deadline-ms": "5000",
    }


async def test_stream_that_the_cloud_is_asked_for() -> None:
    """Usage is asked for always, because the cost depends on it; the caller's other options stay."""
    world = World()
    await world.ask({**TO_CLOUD, "stream": True, "stream_options": {"include_obfuscation": False}})

    assert world.cloud.calls[0].body["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_cloud_answer_with_usage() -> None:
    """Stays byte for byte, with the report added."""
    text = json.dumps(completion("Grüße"), indent=1)
    reply = await cloud_says(text).ask(TO_CLOUD)

    assert isinstance(reply.body, str)
    assert reply.body.startswith(text[:-1])


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(None, id="absent"),
        pytest.param({"prompt_tokens": 1}, id="half"),
        pytest.param({"prompt_tokens": -1, "completion_tokens": 5}, id="negative"),
        pytest.param({"prompt_tokens": True, "completion_tokens": "5"}, id="no numbers"),
    ],
)
async def test_answer_without_usage(usage: object) -> None:
    """The counts are estimated, and marked as such."""
    reply = await cloud_says(completion("Paris.", usage=usage)).ask(TO_CLOUD)
    body = read_json(reply)

    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert body["nearside"]["usage_estimated"] is True


@pytest.mark.parametrize(
    ("timing", "expected_ms"),
    [
        pytest.param("app;dur=20, upstream;dur=230.0", "50", id="own time is taken off"),
        pytest.param('app;dur=20;desc="x"', "280", id="with a description"),
        pytest.param("app;dur=9999", "0", id="never negative"),
        pytest.param("app, cache", None, id="without durations"),
        pytest.param("app;dur=fast", None, id="no number"),
        pytest.param("app;dur=nan", None, id="not a number"),
        pytest.param(None, None, id="absent"),
    ],
)
async def test_round_trip_to_the_cloud(timing: str | None, expected_ms: str | None) -> None:
    """The time of the call less what the service says it took itself; unknown without that."""
    world = World()

    def take_300_ms(call: CloudCall) -> FakeUpstreamResponse:
        world.clock.advance(0.3)
        return FakeUpstreamResponse.plain(completion(), headers={"server-timing": timing} if timing else {})

    world.cloud.handler = take_300_ms
    reply = await world.ask(TO_CLOUD)

    assert reply.headers.get("nearside-cloud-rtt-ms") == expected_ms


@pytest.mark.parametrize(("waited", "expected_ms"), [("120.5", "100.5"), ("soon", None), ("inf", None)])
async def test_round_trip_of_an_answer_that_a_flight_brought(waited: str, expected_ms: str | None) -> None:
    world = World()
    headers = {"server-timing": "app;dur=20", "nearside-waited-ms": waited}
    world.cloud.handler = lambda call: FakeUpstreamResponse.plain(completion(), headers=headers)
    reply = await world.ask(TO_CLOUD)

    assert reply.headers.get("nearside-cloud-rtt-ms") == expected_ms


# Exact cache


async def ask_twice(world: World, first: dict[str, Any], second: dict[str, Any], **options: Any) -> Reply:
    """The second reply, after the first was read and its background work done."""
    reply = await world.ask(first)
    if not isinstance(reply.body, str):
        await read_stream(reply)
    await world.background.finish()
    world.clock.advance(90.5)
    return await world.ask(second, **options)


async def test_first_question() -> None:
    """A miss, stored after the response."""
    world = World()
    reply = await world.ask(chat_body())

    assert reply.headers["cache-status"] == "nearside; fwd=miss; stored"
    assert world.store.texts == {}  # type: ignore[attr-defined]  # the fake's
    await world.background.finish()
    [ttl_s] = world.store.ttl_s.values()  # type: ignore[attr-defined]  # the fake's
    assert 3240 <= ttl_s <= 3960


async def test_same_question_again() -> None:
    """A hit: no model is asked, nothing is paid, and the age is told."""
    world = World()
    reply = await ask_twice(world, chat_body(), chat_body())

    assert text_of(reply) == "Paris, says edge-small-1."
    assert world.calls == 1
    remaining = re.fullmatch(r"nearside; hit; ttl=(\d+); detail=kv", reply.headers["cache-status"])
    assert remaining is not None
    assert 3149 <= int(remaining[1]) <= 3870  # a lifetime of 3600 s within a tenth, 90.5 s ago
    assert reply.headers["age"] == "90"
    assert reply.headers["nearside-served-by"] == "exact-cache"
    assert reply.headers["nearside-model"] == "edge-small-1"
    assert reply.headers["nearside-cost-usd"] == "0"
    assert reply.headers["nearside-cost-avoided-usd"] == "0.00002"


@pytest.mark.parametrize("prompt", [SIMPLE_PROMPT, COMPLEX_PROMPT], ids=["edge", "cloud"])
@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)], ids=str)
async def test_stream_and_plain_share_an_entry(first: bool, second: bool, prompt: str) -> None:
    """Whichever came first, the other one gets the same text."""
    world = World()
    reply = await ask_twice(world, chat_body(prompt, stream=first), chat_body(prompt, stream=second))

    text = streamed_text(await read_stream(reply)) if second else text_of(reply)
    assert text.startswith("Paris, says ")
    assert reply.headers["cache-status"].startswith("nearside; hit")
    assert world.calls == 1


@pytest.mark.parametrize(
    "refusal", [{"role": "assistant", "content": None, "refusal": "I can't help with that."}], ids=["refusal"]
)
@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)], ids=["stream, plain", "plain, stream"])
async def test_refusal_asked_again(refusal: dict[str, Any], first: bool, second: bool) -> None:
    """The second caller gets the refusal too, not an empty answer."""
    plain = completion(choices=[{"index": 0, "message": refusal, "finish_reason": "stop"}])
    streamed = [event(chunk(refusal)), event(chunk({}, finish="stop")), DONE]
    world = World(
        cloud=cloud(
            lambda call: (
                FakeUpstreamResponse.stream(*streamed) if call.body.get("stream") else FakeUpstreamResponse.plain(plain)
            )
        )
    )
    reply = await ask_twice(world, {**TO_CLOUD, "stream": first}, {**TO_CLOUD, "stream": second})
    chunks = await read_stream(reply) if second else [read_json(reply)]

    assert "I can't help with that." in json.dumps(chunks)


async def test_replayed_stream() -> None:
    """Looks like a live one: role first, finish reason last, the report on both ends, usage when asked for."""
    world = World()
    again = chat_body(stream=True, stream_options={"include_usage": True})
    chunks = await read_stream(await ask_twice(world, STREAM, again))

    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert finish_reasons(chunks) == ["stop"]
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    assert [i for i, each in enumerate(chunks) if "nearside" in each] == [0, len(chunks) - 1]
    assert chunks[0]["nearside"]["cache"]["status"] == "hit"


@pytest.mark.parametrize(
    ("fields", "headers", "outcome"),
    [
        pytest.param({"use_cache": False}, {}, "bypass", id="use_cache false"),
        pytest.param({"temperature": 0.9}, {}, "bypass", id="variety asked for"),
        pytest.param({}, {"cache-control": "no-store"}, "bypass", id="no-store"),
        pytest.param({}, {"cache-control": "no-cache"}, "bypass; stored", id="no-cache"),
        pytest.param({}, {"cache-control": "max-age=0"}, "bypass; stored", id="max-age=0"),
        pytest.param({}, {"nearside-use-cache": "false"}, "bypass", id="by header"),
    ],
)
async def test_bypass(fields: dict[str, Any], headers: dict[str, str], outcome: str) -> None:
    """The model is asked although an answer is stored."""
    world = World()
    reply = await ask_twice(world, chat_body(), chat_body(**fields), headers=headers)

    assert world.calls == 2
    assert reply.headers["cache-status"] == f"nearside; fwd={outcome}"
    assert "age" not in reply.headers


async def test_entry_older_than_the_caller_accepts() -> None:
    """The model is asked, and its answer takes the entry's place."""
    world = World()
    reply = await ask_twice(world, chat_body(), chat_body(), headers={"cache-control": "max-age=60"})

    assert world.calls == 2
    assert reply.headers["cache-status"] == "nearside; fwd=stale; stored"
    assert "age" not in reply.headers


async def test_entry_after_its_lifetime() -> None:
    """Not served, and told apart from a question that is new."""
    world = World()
    await ask_twice(world, chat_body(), chat_body())
    world.clock.advance(3961)
    reply = await world.ask(chat_body())

    assert world.calls == 2
    assert reply.headers["cache-status"] == "nearside; fwd=stale; stored"


GARBAGE = [
    pytest.param("garbage", id="garbage"),
    pytest.param("", id="nothing"),
    pytest.param("[" * 100_000 + "\n{}", id="deep nesting"),
    pytest.param('{"v":1,"model":"m","at":1e9,"ttl":Infinity,"usd":0}\n{}', id="a lifetime without end"),
]


@pytest.mark.parametrize("text", GARBAGE)
async def test_store_that_returns_garbage(text: str) -> None:
    """A miss."""
    world = World()
    await world.ask(chat_body())
    await world.background.finish()
    world.store = MemoryStore({entry_of(world): text})
    reply = await world.ask(chat_body())

    assert reply.status == 200
    assert reply.headers["cache-status"].startswith("nearside; fwd=miss")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_entry_whose_body_is_damaged(stream: bool) -> None:
    """Is a miss, not the caller's problem."""
    world = World()
    await world.ask(chat_body())
    await world.background.finish()
    assert isinstance(world.store, MemoryStore)
    name = entry_of(world)
    world.store.texts[name] = world.store.texts[name].split("\n")[0] + "\n{damaged}"
    reply = await world.ask(chat_body(stream=stream))
    text = streamed_text(await read_stream(reply)) if stream else text_of(reply)

    assert (reply.status, text) == (200, "Paris, says edge-small-1.")


async def test_store_that_fails() -> None:
    """Costs nobody an answer: noted in the log, and that is all."""
    store: Store = FailingStore()
    world = World(store=store)
    reply = await world.ask(chat_body())
    await world.background.finish()

    assert reply.status == 200
    assert world.log.names() == ["store_failed", "store_failed"]


async def test_two_tenants_with_the_same_question() -> None:
    """Never share an entry."""
    secrets = {"aaaa": "A" * 20, "bbbb": "B" * 20}
    records = {
        f"key:{name}": json.dumps({"tenant": f"tenant-{name}", "hashes": [hash_secret(secret)]})
        for name, secret in secrets.items()
    }
    world = World(auth="keys", keys=MemoryStore(records))
    for name, secret in secrets.items():
        reply = await world.ask(chat_body(), headers={"authorization": f"Bearer nsk_{name}_{secret}"})
        await world.background.finish()
        assert reply.headers["cache-status"] == "nearside; fwd=miss; stored"

    assert world.calls == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(native("", tool_calls=[{"name": "f", "arguments": {}}]), id="calls a tool"),
        pytest.param(native("x" * (1024 * 1024)), id="larger than an entry may be"),
    ],
)
async def test_answer_that_is_not_kept(answer: dict[str, Any]) -> None:
    """It is given, and nothing is stored."""
    world = World(edge=edge(lambda call: FakeUpstreamResponse.plain(answer)))
    reply = await world.ask(chat_body())

    assert reply.headers["cache-status"] == "nearside; fwd=miss"
    assert await world.kept() == []


# Failures before the first content


async def test_edge_model_that_fails() -> None:
    """The next one answers, and the report names what failed."""
    world = World()
    answer = world.edge.handler
    world.edge.handler = lambda call: edge_down(call) if call.model_id == EDGE_SMALL.id else answer(call)
    reply = await world.ask(chat_body())

    assert text_of(reply) == "Paris, says edge-large-1."
    assert read_json(reply)["nearside"]["fallbacks"] == ["edge-small-1: upstream_error"]
    assert world.log.names() == ["attempt_failed"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_edge_model_that_answers_with_an_error(stream: bool) -> None:
    """The next one answers, whatever the error was: another model may know better."""
    world = World()
    answer = world.edge.handler
    world.edge.handler = lambda call: (
        FakeUpstreamResponse.plain("5007: No such model", status=400)
        if call.model_id == EDGE_SMALL.id
        else answer(call)
    )
    reply = await world.ask(chat_body(stream=stream))

    assert reply.status == 200
    assert reply.headers["nearside-model"] == "edge-large-1"


@pytest.mark.parametrize("body", [chat_body(), STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "models",
    [pytest.param((EDGE_SMALL, EDGE_LARGE, CLOUD_FAST), id="small"), pytest.param(DEFAULT_MODELS, id="default")],
)
async def test_edge_that_is_down(models: tuple[Model, ...], body: dict[str, Any]) -> None:
    """The cloud answers, however many edge models the catalog has."""
    reply = await World(models=models, edge=edge(edge_down)).ask(body)

    assert reply.status == 200
    assert reply.headers["nearside-served-by"] == "cloud"


async def test_nearest_region_that_is_down() -> None:
    """The next one answers."""
    world = World()
    world.cloud.handler = lambda call: cloud_down(call) if call.region_id == "fra" else answer_cloud(call)
    reply = await world.ask(TO_CLOUD)

    assert text_of(reply) == "Paris, says cloud-fast-1@iad."
    assert reply.headers["nearside-cloud-region"] == "iad"


async def test_region_that_answers_after_another_one_failed() -> None:
    """The round trip is its own; when it is unknown, the failed region's is not shown instead."""
    world = World()
    world.cloud.handler = lambda call: (
        FakeUpstreamResponse.plain({}, status=500, headers={"server-timing": "app;dur=1"})
        if call.region_id == "fra"
        else answer_cloud(call)
    )
    reply = await world.ask(TO_CLOUD)

    assert reply.headers["nearside-cloud-region"] == "iad"
    assert "nearside-cloud-rtt-ms" not in reply.headers


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_edge_that_answers_because_the_cloud_can_not(stream: bool) -> None:
    """The report names no region: none served the answer."""
    failing = cloud(lambda call: FakeUpstreamResponse.plain({}, status=500))
    world = World(models=(EDGE_LARGE, CLOUD_FAST), scorer=FixedScore(0.95), cloud=failing)
    reply = await world.ask(chat_body(stream=stream))

    assert reply.status == 200
    assert reply.headers["nearside-served-by"] == "edge-model"
    assert "nearside-cloud-region" not in reply.headers


EDGE_FIRST = ["edge-small-1", "edge-large-1"]
CLOUD = ["cloud-fast-1@fra", "cloud-fast-1@iad", "cloud-quality-1@fra", "cloud-quality-1@iad"]


@pytest.mark.parametrize(
    ("score", "models", "expected"),
    [
        pytest.param(0.1, MODELS, [*EDGE_FIRST, *CLOUD], id="simple"),
        pytest.param(0.5, MODELS, [*EDGE_FIRST[1:], *CLOUD], id="medium"),
        pytest.param(0.8, MODELS, CLOUD, id="complex"),
        pytest.param(0.95, (EDGE_SMALL, EDGE_LARGE, CLOUD_FAST), [*CLOUD[:2], *EDGE_FIRST[::-1]], id="too complex"),
    ],
)
async def test_order_of_attempts(score: float, models: tuple[Model, ...], expected: list[str]) -> None:
    """Is the route's: the next model, each cloud model in the nearest region first, the edge where the route has it."""
    failing = cloud(lambda call: FakeUpstreamResponse.plain({}, status=500))
    world = World(models=models, scorer=FixedScore(score), edge=edge(edge_down), cloud=failing)
    reply = await world.ask(chat_body())

    assert reply.status == 502
    assert read_json(reply)["nearside"]["fallbacks"] == [f"{label}: upstream_error" for label in expected]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_everything_down(stream: bool) -> None:
    """502 with the report, and no answer is invented."""
    world = World(edge=edge(edge_down), cloud=cloud(cloud_down))
    reply = await world.ask(chat_body(stream=stream))

    assert reply.status == 502
    assert error_of(reply)["code"] == "cloud_unavailable"
    assert error_of(reply)["type"] == "upstream_error"
    assert reply.headers["cache-status"] == "nearside; fwd=miss"
    assert len(read_json(reply)["nearside"]["fallbacks"]) >= 4


async def test_no_region_configured() -> None:
    """502 says so."""
    reply = await World(regions=()).ask(TO_CLOUD)

    assert (reply.status, error_of(reply)["code"]) == (502, "cloud_unavailable")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("status", "error", "param", "code"),
    [
        pytest.param(400, {"message": "Bad n.", "param": "n", "code": "bad_n"}, "n", "bad_n", id="with a code"),
        pytest.param(422, {"message": "No.", "param": 5, "code": 77}, None, "77", id="odd types"),
        pytest.param(404, {"message": "No model.", "code": "no_model"}, None, "no_model", id="without a parameter"),
        pytest.param(
            400,
            {"message": "Bad n.", "type": "invalid_request_error", "param": "n", "code": None},
            "n",
            None,
            id="without a code, as OpenAI often does",
        ),
    ],
)
async def test_request_that_the_cloud_refuses(
    status: int, error: dict[str, Any], param: str | None, code: str | None, stream: bool
) -> None:
    """Passed on as it is, after one call: no other region would take it."""
    world = cloud_says({"error": error}, status=status)
    reply = await world.ask({**TO_CLOUD, "stream": stream})

    assert reply.status == status
    assert error_of(reply)["param"] == param
    assert error_of(reply)["code"] == code
    assert error_of(reply)["type"] == "invalid_request_error"
    assert world.calls == 1


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        pytest.param("7", "7", id="seconds"),
        pytest.param("0", "1", id="at least a second"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", None, id="a date"),
        pytest.param("9" * 400, None, id="absurd"),
        pytest.param(None, None, id="absent"),
    ],
)
async def test_cloud_that_limits_the_rate(retry_after: str | None, expected: str | None) -> None:
    """429 with `Retry-After` when every region says so."""
    world = cloud_says({}, status=429, headers={"retry-after": retry_after} if retry_after else None)
    reply = await world.ask(TO_CLOUD)

    assert reply.status == 429
    assert error_of(reply)["type"] == "rate_limit_error"
    assert reply.headers.get("retry-after") == expected


async def test_cloud_that_asks_for_a_pause() -> None:
    """Its own 503 stays one, with the time to wait: an open breaker, or a process that is about to end."""
    world = cloud_says({"error": {"code": "upstream_open"}}, status=503, headers={"retry-after": "4"})
    reply = await world.ask(TO_CLOUD)

    assert (reply.status, error_of(reply)["code"], reply.headers["retry-after"]) == (503, "upstream_open", "4")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(500, "<html>oops</html>", (502, "upstream_error"), id="500 that is not JSON"),
        pytest.param(503, {"error": {"code": "overloaded"}}, (503, "overloaded"), id="503 with a code"),
        pytest.param(503, "<html>oops</html>", (503, "upstream_error"), id="503 that is not JSON"),
        pytest.param(404, {"error": {"code": "gone"}}, (502, "gone"), id="404 that says nothing to the caller"),
        pytest.param(404, "<html>oops</html>", (502, "upstream_error"), id="404 of somebody else"),
        pytest.param(502, {"error": "text"}, (502, "upstream_error"), id="an error that is text"),
        pytest.param(502, "[]", (502, "upstream_error"), id="a list"),
        pytest.param(504, {"error": {"code": "x"}}, (504, "upstream_timeout"), id="504"),
        pytest.param(200, "no json", (502, "upstream_error"), id="200 that is not JSON"),
        pytest.param(200, {"choices": []}, (502, "upstream_error"), id="200 without choices"),
        pytest.param(200, {"error": {"message": "x"}}, (502, "upstream_error"), id="200 with an error"),
        pytest.param(
            200,
            {"choices": [{"message": {"content": None, "tool_calls": "f"}}]},
            (502, "upstream_error"),
            id="200 with tool calls that are text",
        ),
        pytest.param(
            200, {"choices": [{"message": {"refusal": 5}}]}, (502, "upstream_error"), id="200 with an odd refusal"
        ),
        pytest.param(200, {"choices": ["x"]}, (502, "upstream_error"), id="200 with a choice that is text"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_cloud_that_fails(status: int, body: object, expected: tuple[int, str], stream: bool) -> None:
    """An upstream's fault is 502, 503 or 504, never 500, after every region and model was tried."""
    world = cloud_says(body, status=status)
    reply = await world.ask({**TO_CLOUD, "stream": stream})

    assert (reply.status, error_of(reply)["code"]) == expected
    assert world.calls == 4
    assert "oops" not in json.dumps(read_json(reply))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(native("", tool_calls=5), id="tool calls that are no list"),
        pytest.param(native("", tool_calls=["f"]), id="a tool call that is text"),
        pytest.param(native(usage=[1]), id="usage that is a list"),
        pytest.param(native(""), id="empty"),
        pytest.param("no json", id="not JSON"),
        pytest.param({"choices": [{"message": {"content": 5}}]}, id="content that is a number"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_edge_model_whose_answer_can_not_be_read(answer: object, stream: bool) -> None:
    """Counts as failed: another one answers. Usage alone may be broken without harm."""
    world = World(edge=edge(lambda call: FakeUpstreamResponse.plain(answer)))
    reply = await world.ask(chat_body(stream=stream))

    assert reply.status == 200
    assert "crash" not in world.log.names()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_models_that_never_answer(stream: bool) -> None:
    """504 after the deadline of each, and every upstream is told that nobody listens."""
    responses: list[FakeUpstreamResponse] = []

    def hang(call: object) -> FakeUpstreamResponse:
        responses.append(FakeUpstreamResponse.stream(STALL))
        return responses[-1]

    world = World(edge=edge(hang), cloud=cloud(hang), timeout_s=TINY_S)
    reply = await world.ask(chat_body(stream=stream))

    assert (reply.status, error_of(reply)["code"]) == (504, "upstream_timeout")
    assert all(response.is_cancelled for response in responses)


# Streams


async def test_stream() -> None:
    """Role first, text as it comes, finish reason and report last."""
    reply = await World().ask(STREAM)
    chunks = await read_stream(reply)

    assert reply.headers["cache-control"] == "no-cache, no-transform"
    assert reply.headers["nearside-served-by"] == "edge-model"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert streamed_text(chunks) == "Paris, says edge-small-1."
    assert finish_reasons(chunks) == ["stop"]
    assert [i for i, each in enumerate(chunks) if "nearside" in each] == [0, len(chunks) - 1]
    assert "cost_usd" not in chunks[0]["nearside"]
    assert chunks[-1]["nearside"]["cost_usd"] == 0.00002
    assert not any(each.get("usage") for each in chunks)


async def test_stream_that_is_not_to_be_kept() -> None:
    """Nothing is left to do after it."""
    world = World()
    await read_stream(await world.ask({**STREAM, "use_cache": False}))

    assert await world.kept() == []


@pytest.mark.parametrize("prompt", [SIMPLE_PROMPT, COMPLEX_PROMPT], ids=["edge", "cloud"])
async def test_stream_with_usage(prompt: str) -> None:
    """One chunk more, without choices, when it was asked for."""
    body = chat_body(prompt, stream=True, stream_options={"include_usage": True})
    chunks = await read_stream(await World().ask(body))

    assert [each["usage"] for each in chunks if each.get("usage")] == [USAGE]
    assert chunks[-1]["choices"] == []


async def test_stream_whose_usage_has_to_be_estimated() -> None:
    """The chunk tells the same counts as the report is made from: the prompt is not free."""
    world = World(edge=edge(lambda call: FakeUpstreamResponse.stream(*native_events("Paris."))))
    chunks = await read_stream(await world.ask(chat_body(stream=True, stream_options={"include_usage": True})))

    assert chunks[-1]["nearside"]["usage_estimated"] is True
    assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([], id="nothing"),
        pytest.param([DONE], id="only the end"),
        pytest.param([event(chunk({"role": "assistant"}))], id="only the role"),
        pytest.param([event(chunk({"role": "assistant"})), DONE], id="only the role and the end"),
        pytest.param([event(chunk({"content": "x"})).replace(b"x", b"\xff")], id="not UTF-8"),
        pytest.param([event({"error": {"message": "x"}})], id="an error"),
        pytest.param([event("no json")], id="not JSON"),
        pytest.param([event(chunk({"role": "assistant"})), UpstreamError("cut")], id="breaks off"),
        pytest.param([event({"id": "x"})], id="no choices"),
    ],
)
async def test_stream_that_dies_before_its_first_content(steps: list[Step]) -> None:
    """Another model answers: nothing was sent yet. The first upstream is let go."""
    broken = FakeUpstreamResponse.stream(*steps)
    world = World()
    world.cloud.handler = lambda call: broken if call.region_id == "fra" else answer_cloud(call)
    reply = await world.ask({**TO_CLOUD, "stream": True})

    assert streamed_text(await read_stream(reply)) == "Paris, says cloud-fast-1@iad."
    assert broken.is_cancelled


FIRST = [event(chunk({"role": "assistant", "content": ""})), event(chunk({"content": "Par"}))]


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        pytest.param([], "stream_cut", id="just ends"),
        pytest.param([UpstreamError("cut", code="stream_cut")], "stream_cut", id="breaks off"),
        pytest.param([event("no json"), *openai_events("is")], "upstream_error", id="not JSON"),
        pytest.param([event({"error": {"message": "oops"}}), DONE], "upstream_error", id="an error"),
        pytest.param([event(chunk({}, finish="stop")), event("["), DONE], "upstream_error", id="after its finish"),
        pytest.param([event(chunk({"tool_calls": 5})), DONE], "upstream_error", id="tool calls that are no list"),
        pytest.param([event(chunk({"tool_calls": ["f"]})), DONE], "upstream_error", id="a tool call that is text"),
        pytest.param([RuntimeError("bug")], "internal_error", id="a bug of ours"),
        pytest.param([STALL], "stream_stalled", id="stops sending"),
    ],
)
async def test_stream_that_dies_after_its_first_content(steps: list[Step], code: str) -> None:
    """Exactly one error chunk, then `[DONE]`; the upstream is let go; nothing is kept."""
    broken = FakeUpstreamResponse.stream(*FIRST, *steps)
    world = World(cloud=cloud(lambda call: broken), idle_s=0.03, clock=RunningClock())
    chunks = await read_stream(await world.ask({**TO_CLOUD, "stream": True}))

    errors = [each for each in chunks if "error" in each]
    assert errors == chunks[-1:]
    assert set(errors[0]["error"]) == {"message", "type", "param", "code"}
    assert errors[0]["error"]["code"] == code
    assert errors[0]["choices"][0]["finish_reason"] == "error"
    assert "nearside" in errors[0]
    assert finish_reasons(chunks) == ["error"]
    assert "oops" not in json.dumps(chunks)
    assert broken.is_cancelled
    assert await world.kept() == []
    assert len(world.cloud.calls) == 1


async def test_caller_who_leaves_in_the_middle() -> None:
    """The upstream is cancelled, and half an answer is not kept."""
    upstream = FakeUpstreamResponse.stream(*FIRST, STALL)
    world = World(cloud=cloud(lambda call: upstream))
    reply = await world.ask({**TO_CLOUD, "stream": True})
    assert not isinstance(reply.body, str)
    caller = Caller(reply.body)
    await caller.hear(1)
    assert not upstream.is_cancelled

    await caller.leave()

    assert upstream.is_cancelled
    assert await world.kept() == []


async def test_caller_who_leaves_before_the_first_event() -> None:
    """The upstream is cancelled as well: its stream is open by then."""
    upstream = FakeUpstreamResponse.stream(*FIRST, STALL)
    reply = await World(cloud=cloud(lambda call: upstream)).ask({**TO_CLOUD, "stream": True})
    assert not isinstance(reply.body, str)

    await reply.body.aclose()

    assert upstream.is_cancelled


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(completion("Paris."), id="complete"),
        pytest.param({"choices": [{"message": {"content": "Paris."}}]}, id="the least that is an answer"),
        pytest.param(
            '{"choices": [{"message": {"content": "Paris.\\ud83d"}, "finish_reason": "stop"}]}', id="half an emoji"
        ),
    ],
)
@pytest.mark.parametrize("prompt", [SIMPLE_PROMPT, COMPLEX_PROMPT], ids=["edge", "cloud"])
async def test_one_json_object_although_a_stream_was_asked_for(prompt: str, answer: object) -> None:
    """It becomes the stream."""
    response = FakeUpstreamResponse.plain(answer)
    world = World(edge=edge(lambda call: response), cloud=cloud(lambda call: response))
    reply = await world.ask(chat_body(prompt, stream=True))
    chunks = await read_stream(reply)

    assert streamed_text(chunks).startswith("Paris.")
    assert finish_reasons(chunks) == ["stop"]
    assert "fallbacks" not in chunks[-1]["nearside"]


@pytest.mark.parametrize("prompt", [SIMPLE_PROMPT, COMPLEX_PROMPT], ids=["edge", "cloud"])
async def test_least_that_is_an_answer(prompt: str) -> None:
    """An answer without id, time and model is still an answer, also when it is replayed from the cache."""
    response = FakeUpstreamResponse.plain({"choices": [{"message": {"content": "Paris."}, "finish_reason": "stop"}]})
    world = World(edge=edge(lambda call: response), cloud=cloud(lambda call: response))
    reply = await ask_twice(world, chat_body(prompt), chat_body(prompt, stream=True))

    assert streamed_text(await read_stream(reply)) == "Paris."


async def test_stream_whose_only_event_is_its_end() -> None:
    """An answer without any text but with a finish reason is whole; the report rides on its only chunk."""
    steps = [event(chunk({"role": "assistant"}, finish="content_filter")), DONE]
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.stream(*steps)))
    chunks = await read_stream(await world.ask({**TO_CLOUD, "stream": True}))

    assert finish_reasons(chunks) == ["content_filter"]
    assert await world.kept() == []


@pytest.mark.parametrize("model", [EDGE_SMALL, CLOUD_FAST], ids=["edge", "cloud"])
async def test_error_that_never_ends(model: Model) -> None:
    """Is no longer listened to when the attempt's time is over."""
    endless = FakeUpstreamResponse(b'{"error":', STALL, status=500, headers={REGION_HEADER: "fra"})
    world = World(models=(model,), regions=(FRANKFURT,), timeout_s=TINY_S)
    world.edge, world.cloud = edge(lambda call: endless), cloud(lambda call: endless)
    reply = await world.ask({**TO_CLOUD, "model": model.id})

    assert reply.status == 504
    assert endless.is_cancelled


async def test_error_that_is_not_the_service_s() -> None:
    """What a proxy says is not read, and ended."""
    foreign = FakeUpstreamResponse.plain("<html>", status=500)
    world = World(cloud=cloud(lambda call: foreign))
    await world.ask({**TO_CLOUD, "model": CLOUD_FAST.id})

    assert foreign.is_cancelled
    assert not foreign.is_read.is_set()


# Single flight


async def test_question_that_another_caller_is_asking() -> None:
    """One call for both: this caller pays nothing, says so, and leaves storing to the other."""
    world = World(single_flight="cloud")
    world.flights = FakeFlights(world.cloud, landed=FakeUpstreamResponse.plain(completion("Shared.")))
    reply = await world.ask(TO_CLOUD)

    assert text_of(reply) == "Shared."
    assert world.calls == 0
    assert reply.headers["cache-status"] == "nearside; fwd=miss; collapsed"
    assert reply.headers["nearside-cost-usd"] == "0"
    assert reply.headers["nearside-cost-avoided-usd"] == "0.0002"
    assert await world.kept() == []


@pytest.mark.parametrize(
    ("model", "landed"),
    [
        pytest.param(EDGE_SMALL, FakeUpstreamResponse.plain(native("Shared.")), id="edge"),
        pytest.param(CLOUD_FAST, FakeUpstreamResponse.plain(completion("Shared.")), id="cloud"),
        pytest.param(CLOUD_FAST, UpstreamTimeout("late"), id="its time is over"),
    ],
)
async def test_time_of_a_call_that_another_caller_made(model: Model, landed: FakeUpstreamResponse | Exception) -> None:
    """Is not learned: who joined waited for a part of it."""
    world = World(single_flight="all")
    world.flights = FakeFlights(world.cloud, landed, edge=world.edge)
    await world.ask({**TO_CLOUD, "model": model.id})

    assert world.flights.keys
    assert len(world.latencies) == 0


async def test_first_of_several_callers() -> None:
    """Pays and stores as if alone; the key holds the place and the request."""
    world = World(single_flight="cloud")
    world.flights = FakeFlights(world.cloud)
    reply = await world.ask(TO_CLOUD)

    assert reply.headers["cache-status"] == "nearside; fwd=miss; stored"
    assert world.flights.keys[0].startswith("EU:")


async def test_flights_that_fail() -> None:
    """The caller goes alone."""
    world = World(single_flight="cloud")
    world.flights = FakeFlights(world.cloud, is_down=True)
    reply = await world.ask(TO_CLOUD)

    assert text_of(reply) == "Paris, says cloud-fast-1@fra."
    assert world.log.names() == ["flight_failed"]


async def test_stream_that_another_caller_is_asking_for() -> None:
    """The same, but for the cost, which only the last chunk can tell."""
    world = World(single_flight="cloud")
    shared = FakeUpstreamResponse.stream(event(chunk({"content": "Shared."}, finish="stop")), DONE)
    world.flights = FakeFlights(world.cloud, landed=shared)
    reply = await world.ask({**TO_CLOUD, "stream": True})
    chunks = await read_stream(reply)

    assert world.calls == 0
    assert reply.headers["cache-status"] == "nearside; fwd=miss; collapsed"
    report = chunks[-1]["nearside"]
    assert report["cost_usd"] == 0
    assert report["cost_avoided_usd"] > 0
    assert report["cache"]["collapsed"] is True
    assert await world.kept() == []


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_caller_who_is_to_store_a_shared_answer(stream: bool) -> None:
    """Because the one who asked first has left."""

    class Heir(FakeFlights):
        async def post(self, *args: Any, on_join: Callable[[], None]) -> FakeUpstreamResponse:
            response = await FakeFlights.post(self, *args, on_join=on_join)
            response.keeps = True
            return response

    world = World(single_flight="cloud")
    landed = FakeUpstreamResponse.plain(completion("Shared."))
    if stream:
        landed = FakeUpstreamResponse.stream(event(chunk({"content": "Shared."}, finish="stop")), DONE)
    world.flights = Heir(world.cloud, landed=landed)
    reply = await world.ask({**TO_CLOUD, "stream": stream})
    if stream:
        await read_stream(reply)

    assert len(await world.kept()) == 1


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        pytest.param({"use_cache": False}, {}, id="not to be stored"),
        pytest.param({"logprobs": True}, {}, id="with probabilities"),
        pytest.param({}, {"cache-control": "no-cache"}, id="to be fresh"),
        pytest.param({}, {"cache-control": "max-age=5"}, id="not to be older than"),
    ],
)
async def test_question_that_flies_alone(fields: dict[str, Any], headers: dict[str, str]) -> None:
    """Only answers that may be stored, and may be as old as others' calls, are shared."""
    world = World(single_flight="cloud")
    world.flights = FakeFlights(world.cloud, landed=FakeUpstreamResponse.plain(completion("Shared.")))
    await world.ask({**TO_CLOUD, **fields}, headers=headers)

    assert world.flights.keys == []


@pytest.mark.parametrize(("policy", "shared"), [("off", False), ("cloud", False), ("all", True)])
async def test_question_for_the_edge(policy: Literal["off", "cloud", "all"], shared: bool) -> None:
    """Calls of Workers AI are shared when the policy says so."""
    world = World(single_flight=policy)
    world.flights = FakeFlights(world.cloud, edge=world.edge)
    await world.ask()

    assert bool(world.flights.keys) is shared


async def test_question_for_the_edge_while_flights_are_down() -> None:
    """Costs nobody an answer: the caller goes alone."""
    world = World(single_flight="all")
    world.flights = FakeFlights(world.cloud, edge=world.edge, is_down=True)
    reply = await world.ask()

    assert reply.status == 200
    assert len(world.edge.calls) == 1
    assert "flight_failed" in world.log.names()


async def test_names_of_flights() -> None:
    """Tenants, forms, models and places never share; how usage is asked for makes no difference."""
    world = World(single_flight="cloud")
    world.flights = FakeFlights(world.cloud)
    for body in (
        TO_CLOUD,
        {**TO_CLOUD, "stream": True},
        {**TO_CLOUD, "stream": True, "stream_options": {"include_usage": True}},
        {**TO_CLOUD, "seed": 1},
    ):
        await world.ask(body)
    plain, stream, stream_with_usage, other = world.flights.keys

    assert stream == stream_with_usage
    assert len({plain, stream, other}) == 3


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_flight_that_is_lost_on_its_way(stream: bool) -> None:
    """Before the first content: the caller asks the same upstream alone, and nobody sees it."""
    world = World(single_flight="cloud")
    lost = FakeUpstreamResponse(
        event(chunk({"role": "assistant"})), FlightLost("lost"), headers={"content-type": "text/event-stream"}
    )
    world.flights = FakeFlights(world.cloud, landed=lost)
    reply = await world.ask({**TO_CLOUD, "stream": stream})
    text = text_of(reply) if not stream else streamed_text(await read_stream(reply))

    assert text == "Paris, says cloud-fast-1@fra."
    assert world.log.names() == ["flight_failed"]
    assert lost.is_cancelled
    assert "collapsed" not in reply.headers["cache-status"]


async def test_stream_that_is_lost_half_way() -> None:
    """After the first content: one error, as for any stream that was cut."""
    world = World(single_flight="cloud")
    lost = FakeUpstreamResponse.stream(event(chunk({"content": "Sha"})), FlightLost("lost"))
    world.flights = FakeFlights(world.cloud, landed=lost)
    chunks = await read_stream(await world.ask({**TO_CLOUD, "stream": True}))

    assert [chunk for chunk in chunks if "error" in chunk] == [chunks[-1]]
    assert world.calls == 0


class FlightsThatLandBadly(FakeFlights):
    """The first call shares a failed answer; then the flights are down."""

    async def post(self, *args: Any, on_join: Callable[[], None]) -> FakeUpstreamResponse:
        self.is_down = bool(self.keys)
        self.landed = FakeUpstreamResponse.plain({}, status=500)
        return await FakeFlights.post(self, *args, on_join=on_join)


async def test_caller_who_goes_alone_after_a_shared_failure() -> None:
    """Pays for the answer and stores it: it is nobody else's."""
    world = World(single_flight="cloud")
    world.flights = FlightsThatLandBadly(world.cloud)
    reply = await world.ask(TO_CLOUD)

    assert text_of(reply) == "Paris, says cloud-fast-1@iad."
    assert reply.headers["cache-status"] == "nearside; fwd=miss; stored"
    assert reply.headers["nearside-cost-usd"] == "0.0002"
