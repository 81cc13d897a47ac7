"""The cascade from the caller's side: which answer comes, what the report says of it, and what is let go."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest

from edge_router.attempts import Attempt
from edge_router.auth import OPEN_TENANT
from edge_router.cascade.run import Cascade
from edge_router.chat_call import ChatCall
from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from edge_router.report import Report
from edge_router.requests import parse_chat
from edge_router.routing import Route
from edge_router.upstreams import Upstreams
from tests.edge_router.harness import (
    CLOUD_FAST,
    DONE,
    EDGE_SMALL,
    FRANKFURT,
    USAGE,
    FixedScore,
    World,
    answer_cloud,
    chat_body,
    chunk,
    chunks_of,
    cloud,
    completion,
    edge,
    event,
    finish_reasons,
    native,
    native_events,
    openai_events,
    read_json,
    read_stream,
    streamed_text,
)
from tests.fakes import (
    STALL,
    Caller,
    CloudCall,
    CollectingBackground,
    EdgeCall,
    FakeClock,
    FakeFeedbackStore,
    FakeUpstreamResponse,
    RunningClock,
    Step,
)

REFUSAL = "I'm sorry, but I can't assist with that."
GOOD = "Paris is the capital of France, and has been for most of the time since the tenth century, with pauses."
STREAMS = [pytest.param(False, id="plain"), pytest.param(True, id="stream")]
MEDIUM = 0.5  # between the harness's thresholds, 0.3 and 0.7
NEAR = 0.65


def says(text: str, *, usage: Any = USAGE) -> Any:
    """An edge that says so, in the dialect of whichever model is asked."""

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        is_stream, is_native = call.inputs.get("stream"), call.model_id == EDGE_SMALL.id
        if is_stream:
            words = [word + " " for word in text.split(" ")]
            events = native_events(*words, usage=usage) if is_native else openai_events(*words, usage=usage)
            return FakeUpstreamResponse.stream(*events)
        return FakeUpstreamResponse.plain(native(text) if is_native else completion(text, usage=usage))

    return answer


def world(text: str = REFUSAL, *, score: float = MEDIUM, **fields: Any) -> World:
    parts: dict[str, Any] = {"cascade": "on", "edge": edge(says(text)), "cascade_hold_s": 0.5}
    return World(scorer=FixedScore(score), **{**parts, **fields})


async def answered(world: World, *, stream: bool = False, **fields: Any) -> tuple[str, dict[str, Any], Reply]:
    """(the text that arrives, the report at its end, the reply)."""
    reply = await world.ask(chat_body(stream=stream, **fields))
    assert reply.status == 200
    if stream:
        chunks = await read_stream(reply)
        return streamed_text(chunks), chunks[-1]["nearside"], reply
    body = read_json(reply)
    return body["choices"][0]["message"]["content"], body["nearside"], reply


@pytest.mark.parametrize("stream", STREAMS)
async def test_good_answer_is_delivered(stream: bool) -> None:
    """The edge model's answer passes: no call to the cloud, and the report says that it was checked."""
    gateway = world(GOOD)

    text, report, reply = await answered(gateway, stream=stream)

    assert text.strip() == GOOD
    assert report["cascade"] == {"verdict": "accepted"}
    assert reply.headers["nearside-cascade"] == "accepted"
    assert (report["served_by"], report["route_reason"]) == ("edge-model", "medium")
    assert gateway.cloud.calls == []


@pytest.mark.parametrize("stream", STREAMS)
async def test_rejected_answer_is_replaced(stream: bool) -> None:
    """The cloud answers instead; nothing of the rejected answer is sent, and both are counted in the cost."""
    gateway = world()

    text, report, reply = await answered(gateway, stream=stream)

    edge_usd, cloud_usd = (10 * 2.0 + 5 * 4.0) / 1e6, (10 * 10.0 + 5 * 20.0) / 1e6
    assert text.startswith("Paris, says cloud-fast-1@")
    assert report["cascade"] == {
        "verdict": "escalated",
        "reason": "refusal",
        "other_cost_usd": pytest.approx(edge_usd, rel=0.3),
    }
    assert reply.headers["nearside-cascade"] == "escalated; reason=refusal"
    assert (report["served_by"], report["route_reason"]) == ("cloud", "escalated")
    assert report["model"] == CLOUD_FAST.id
    assert report["cost_usd"] == pytest.approx(cloud_usd + report["cascade"]["other_cost_usd"])
    assert {"ai", "cloud"} <= report["timings_ms"].keys()


async def test_delivered_answer_is_the_cached_one() -> None:
    """The next caller gets the cloud's answer from the cache, and the record for ratings knows of the escalation."""
    gateway = world()
    first, _, _ = await answered(gateway)
    await gateway.background.finish()

    second, report, _ = await answered(gateway)

    assert second == first
    assert report["served_by"] == "exact-cache"
    assert (len(gateway.edge.calls), len(gateway.cloud.calls)) == (1, 1)


@pytest.mark.parametrize("stream", STREAMS)
async def test_no_better_answer(stream: bool) -> None:
    """When the cloud fails, the rejected answer is delivered after all, marked, and not kept in the cache."""
    gateway = world(cloud=cloud(lambda call: FakeUpstreamResponse.plain("", status=500)))

    text, report, reply = await answered(gateway, stream=stream)
    await gateway.background.finish()

    assert text.strip() == REFUSAL
    assert report["cascade"] == {"verdict": "kept", "reason": "refusal", "because": "cloud-failed"}
    assert reply.headers["nearside-cascade"] == "kept; reason=refusal; because=cloud-failed"
    assert report["served_by"] == "edge-model"
    assert report["fallbacks"]
    assert gateway.store.texts == {}  # type: ignore[attr-defined]  # a MemoryStore


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("mode", "calls"), [("on", 0), ("race", 1)])
async def test_no_time_to_escalate(mode: Any, calls: int, stream: bool) -> None:
    """With `max_latency_ms` the cloud is asked only when it may answer in time, and waited for no longer."""
    slow = cloud(lambda call: FakeUpstreamResponse.stream(STALL))
    gateway = world(cloud=slow, clock=RunningClock(), score=NEAR, cascade=mode)

    text, report, _ = await answered(gateway, stream=stream, max_latency_ms=80)

    assert text.strip() == REFUSAL
    assert report["cascade"]["verdict"] == "kept"
    assert report["cascade"]["because"] == "no-time"
    assert len(gateway.cloud.calls) == calls


@pytest.mark.parametrize(
    ("default", "score", "fields", "is_checked"),
    [
        pytest.param("on", MEDIUM, {}, True, id="between the thresholds"),
        pytest.param("on", 0.2, {}, False, id="below them"),
        pytest.param("off", MEDIUM, {}, False, id="off"),
        pytest.param("off", MEDIUM, {"cascade": True}, True, id="asked for"),
        pytest.param("off", MEDIUM, {"cascade": "on"}, True, id="asked for in a word"),
        pytest.param("off", 0.2, {"cascade": "on"}, True, id="asked for, whatever the score"),
        pytest.param("on", MEDIUM, {"cascade": False}, False, id="not wanted"),
        pytest.param("on", MEDIUM, {"cascade": "off"}, False, id="not wanted, in a word"),
        pytest.param("on", MEDIUM, {"cascade": "on", "model": "edge"}, False, id="the edge is forced"),
        pytest.param("on", MEDIUM, {"cascade": "on", "model": "edge-large-1"}, False, id="the model is pinned"),
        pytest.param("on", MEDIUM, {"cascade": "on", "n": 2}, False, id="several choices"),
    ],
)
async def test_which_answers_are_checked(default: Any, score: float, fields: dict[str, Any], is_checked: bool) -> None:
    """By default those whose score leaves it open who should answer; else those of callers who ask for it."""
    gateway = world(GOOD, score=score, cascade=default)

    _, report, reply = await answered(gateway, **fields)

    assert ("cascade" in report) == ("nearside-cascade" in reply.headers) == is_checked


async def test_failed_edge_model_needs_no_verdict() -> None:
    """An edge that can't answer is what fallbacks are for: the cloud's answer is not checked."""
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.plain("", status=500)))

    _, report, _ = await answered(gateway)

    assert "cascade" not in report
    assert report["served_by"] == "cloud"


async def test_beginning_is_released_in_time() -> None:
    """A stream that shows too little is sent on when the time for holding it back is over, with what comes later."""
    slow: list[Step] = [event(chunk({"content": "Paris"})), 0.2, *openai_events(" is it.")]
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.stream(*slow)), cascade_hold_s=0.02)
    gateway.clock = RunningClock()

    text, report, _ = await answered(gateway, stream=True)

    assert text == "Paris is it."
    assert report["cascade"]["verdict"] == "accepted"
    assert report["timings_ms"]["ttft"] < report["timings_ms"]["total"] - 50


@pytest.mark.parametrize("pause_s", [None, 0.001], ids=["fast caller", "slow caller"])
async def test_what_comes_first_after_the_release(pause_s: float | None) -> None:
    """A piece that was waited for when the time was over is sent like all others."""
    slow: list[Step] = [event(chunk({"content": "Paris"})), 0.05, *openai_events(" is it.")]
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.stream(*slow)), cascade_hold_s=0.001)
    gateway.clock = RunningClock()
    reply = await gateway.ask(chat_body(stream=True))
    assert not isinstance(reply.body, str)

    parts = await Caller(reply.body, pause_s=pause_s).hear_all()

    chunks = chunks_of("".join(parts).split("\n\n")[:-1])
    assert streamed_text(chunks) == "Paris is it."


async def test_stream_that_is_cut_after_the_release() -> None:
    """Its end was being waited for; the caller is told that it is no good end."""
    steps: list[Step] = [event(chunk({"content": "Paris"})), 0.05]
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.stream(*steps)), cascade_hold_s=0.001)
    gateway.clock = RunningClock()

    chunks = await read_stream(await gateway.ask(chat_body(stream=True)))

    assert streamed_text(chunks) == "Paris"
    assert chunks[-1]["error"]["code"] == "stream_cut"


async def test_caller_who_leaves_after_the_release() -> None:
    """The model is told, whether or not the piece that was waited for has come."""
    opened: list[FakeUpstreamResponse] = []

    def begins(call: EdgeCall) -> FakeUpstreamResponse:
        texts = [event(chunk({"content": text})) for text in ("Par", "is")]
        opened.append(FakeUpstreamResponse.stream(texts[0], 0.02, texts[1], STALL))
        return opened[-1]

    for heard in (1, 2):
        gateway = world(edge=edge(begins), cascade_hold_s=0.001, clock=RunningClock())
        reply = await gateway.ask(chat_body(stream=True))
        assert not isinstance(reply.body, str)
        caller = Caller(reply.body)
        await caller.hear(heard)
        await caller.leave()

    assert [response.is_cancelled for response in opened] == [True, True]
    assert [response.open_reads for response in opened] == [0, 0]


@pytest.mark.parametrize(
    ("response_format", "reason"),
    [
        pytest.param({"type": "json_object"}, "json", id="no JSON"),
        pytest.param(
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "required": ["city"]}}},
            "json",
            id="not by the schema",
        ),
    ],
)
async def test_answer_that_is_not_as_it_was_asked_for(response_format: dict[str, Any], reason: str) -> None:
    """JSON that is none, or not what its schema says, is not delivered."""
    gateway = world('{"town": "Paris"}' if "json_schema" in response_format else GOOD)

    _, report, _ = await answered(gateway, response_format=response_format)

    assert (report["cascade"]["verdict"], report["cascade"]["reason"]) == ("escalated", reason)


async def test_end_of_a_stream_that_was_released() -> None:
    """What was sent is not taken back; that its end is bad is told, and it is not served again."""
    endless = GOOD + " and so on" * 60
    gateway = world(endless)

    text, report, _ = await answered(gateway, stream=True)
    await gateway.background.finish()

    assert text.strip() == endless
    assert report["cascade"] == {"verdict": "accepted", "late": "repetition"}
    assert gateway.store.texts == {}  # type: ignore[attr-defined]  # a MemoryStore


@pytest.mark.parametrize("last", [UpstreamError("gone"), b"", event("{")], ids=["breaks", "ends", "garbage"])
async def test_stream_that_breaks_while_it_is_held_back(last: Any) -> None:
    """Nothing was sent yet, so the caller sees the cloud's answer only."""
    steps = [event(chunk({"content": "Par"})), last]
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.stream(*steps)))

    text, report, _ = await answered(gateway, stream=True)

    assert text.startswith("Paris, says cloud-fast-1@")
    assert report["cascade"]["reason"] == "truncated"


async def test_broken_stream_without_a_better_one() -> None:
    """It follows the law of streams: what came of it, one error, `[DONE]`."""
    steps: list[Step] = [event(chunk({"content": "Par"})), UpstreamError("gone")]
    down = cloud(lambda call: FakeUpstreamResponse.plain("", status=500))
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.stream(*steps)), cloud=down)

    chunks = await read_stream(await gateway.ask(chat_body(stream=True)))

    assert streamed_text(chunks) == "Par"
    assert finish_reasons(chunks) == ["error"]


async def test_tool_call_in_a_stream() -> None:
    """It is no text that could be checked."""
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    steps = [event(chunk({"tool_calls": [call]})), event(chunk({}, finish="tool_calls")), DONE]
    gateway = world(edge=edge(lambda call: FakeUpstreamResponse.stream(*steps)))

    _, report, _ = await answered(gateway, stream=True)

    assert report["cascade"] == {"verdict": "accepted"}


async def test_empty_stream_that_has_ended() -> None:
    """Content of nothing but white space is an empty answer."""
    gateway = world(" \n ")

    text, report, _ = await answered(gateway, stream=True)

    assert text.startswith("Paris, says cloud")
    assert report["cascade"]["reason"] == "empty"


@pytest.mark.parametrize("stream", STREAMS)
async def test_race_that_the_edge_wins(stream: bool) -> None:
    """Near the upper threshold both are asked at once; the cloud's call is ended when the edge's answer passes."""
    slow = FakeUpstreamResponse.stream(STALL)
    gateway = world(GOOD, score=NEAR, cascade="race", cloud=cloud(lambda call: slow))

    text, report, reply = await answered(gateway, stream=stream)

    assert text.strip() == GOOD
    assert report["cascade"]["verdict"] == "accepted"
    assert reply.headers["nearside-cascade"] == "accepted; raced"
    assert report["cascade"]["other_cost_usd"] == pytest.approx(7 * 10.0 / 1e6)  # the input of the call that was ended
    assert len(gateway.cloud.calls) == 1
    assert slow.is_cancelled


@dataclass(slots=True)
class Given:
    """What an attempt gave, as far as a cascade looks at it."""

    is_discarded: bool = False

    def usage(self) -> Mapping[str, Any]:
        return USAGE

    async def discard(self) -> None:
        self.is_discarded = True


class AtOnce:
    """Upstreams of which nobody has to be waited for."""

    def __init__(self, *, has_cloud: bool) -> None:
        self.has_cloud = has_cloud
        self.cloud = Given()

    async def first_that_works(self, call: ChatCall, route: Route, make: object) -> tuple[Attempt, Given]:
        if route.first.side == "edge":
            return Attempt(route.first, None), Given()
        if not self.has_cloud:
            raise UpstreamError("down")
        return Attempt(route.first, FRANKFURT), self.cloud


@pytest.mark.parametrize("has_cloud", [True, False])
async def test_race_that_ends_for_both_at_once(has_cloud: bool) -> None:
    """The edge's answer passes, so it is delivered; the cloud's, if there is one as well, is paid for whole."""
    body, upstreams = chat_body(), AtOnce(has_cloud=has_cloud)
    call = ChatCall(parse_chat(body), body, OPEN_TENANT, None, {}, CollectingBackground(), Report("r"), 0.0)

    async def make(at: Attempt) -> Given:
        raise AssertionError("made by the upstreams")

    async def accept(given: Given) -> None:
        return None

    cascade = Cascade(call, cast(Upstreams, upstreams), make, accept, FakeClock())
    at, _ = await cascade.first_good(Route((EDGE_SMALL, CLOUD_FAST), ("medium",)), "race")

    outcome = call.report.cascade
    assert outcome is not None
    assert (at.model, outcome.verdict) == (EDGE_SMALL, "accepted")
    assert outcome.other_tokens == (15 if has_cloud else 0)
    assert outcome.other_cost_usd == pytest.approx((10 * 10.0 + 5 * 20.0) / 1e6 if has_cloud else 0.0)
    assert upstreams.cloud.is_discarded is has_cloud


@pytest.mark.parametrize("stream", STREAMS)
async def test_race_that_the_cloud_wins(stream: bool) -> None:
    """A cloud answer that is there before the verdict is delivered, and the edge's call ended."""
    slow = FakeUpstreamResponse.stream(STALL)
    gateway = world(score=NEAR, cascade="race", edge=edge(lambda call: slow))

    text, report, _ = await answered(gateway, stream=stream)

    assert text.startswith("Paris, says cloud-fast-1@")
    assert report["cascade"]["verdict"] == "overtaken"
    assert report["route_reason"] == "raced"
    assert slow.is_cancelled


@pytest.mark.parametrize("stream", STREAMS)
async def test_race_after_a_rejected_answer(stream: bool) -> None:
    """The cloud's call is on its way already."""

    def late(call: CloudCall) -> FakeUpstreamResponse:
        steps = answer_cloud(call)._steps
        return FakeUpstreamResponse(
            0.05, *steps, headers={"content-type": answer_cloud(call).header("content-type") or ""}
        )

    gateway = world(score=NEAR, cascade="race", cloud=cloud(late))

    text, report, _ = await answered(gateway, stream=stream)

    assert text.startswith("Paris, says cloud-fast-1@")
    assert report["cascade"]["verdict"] == "escalated"
    assert report["cascade"]["raced"]
    assert len(gateway.cloud.calls) == 1


async def test_race_with_one_that_fails() -> None:
    """The other one answers, whichever it is; when both fail, that is the answer."""
    broken = FakeUpstreamResponse.plain("", status=500)
    no_edge = world(score=NEAR, cascade="race", edge=edge(lambda call: broken))
    no_cloud = world(GOOD, score=NEAR, cascade="race", cloud=cloud(lambda call: broken))
    neither = world(score=NEAR, cascade="race", edge=edge(lambda call: broken), cloud=cloud(lambda call: broken))

    assert (await answered(no_edge))[0].startswith("Paris, says cloud-fast-1@")
    assert (await answered(no_cloud))[0] == GOOD
    assert (await neither.ask(chat_body())).status == 502


async def test_race_only_near_the_upper_threshold() -> None:
    """Below that the edge goes alone, unless the caller asks for a race."""
    far = world(GOOD, cascade="race")
    asked = world(GOOD, score=0.1)

    await answered(far)
    await answered(asked, cascade="race")

    assert far.cloud.calls == []
    assert len(asked.cloud.calls) == 1


@pytest.mark.parametrize("mode", ["on", "race"])
async def test_caller_who_leaves_while_the_beginning_is_held_back(mode: Any) -> None:
    """Every call is ended."""
    opened: list[FakeUpstreamResponse] = []

    def stalls(call: Any) -> FakeUpstreamResponse:
        opened.append(FakeUpstreamResponse.stream(event(chunk({"role": "assistant", "content": ""})), STALL))
        return opened[-1]

    def begins(call: EdgeCall) -> FakeUpstreamResponse:
        opened.append(FakeUpstreamResponse.stream(event(chunk({"content": "Par"})), STALL))
        return opened[-1]

    gateway = world(score=NEAR, cascade=mode, edge=edge(begins), cloud=cloud(stalls), heartbeat_s=0.02)
    gateway.cascade_hold_s = 5
    reply = await gateway.ask(chat_body(stream=True))
    assert not isinstance(reply.body, str)
    await reply.body.aclose()

    assert len(opened) == (2 if mode == "race" else 1)
    assert all(response.is_cancelled for response in opened)
    assert all(response.open_reads == 0 for response in opened)


async def test_caller_who_leaves_while_the_cloud_is_asked() -> None:
    """Both the rejected stream and the cloud's are ended."""
    opened: list[FakeUpstreamResponse] = []

    def refuses(call: EdgeCall) -> FakeUpstreamResponse:
        opened.append(FakeUpstreamResponse.stream(*openai_events(REFUSAL)[:2], STALL))
        return opened[-1]

    def stalls(call: CloudCall) -> FakeUpstreamResponse:
        opened.append(FakeUpstreamResponse.stream(STALL))
        return opened[-1]

    gateway = world(edge=edge(refuses), cloud=cloud(stalls), heartbeat_s=0.02)
    reply = await gateway.ask(chat_body(stream=True))
    assert not isinstance(reply.body, str)
    await asyncio.sleep(0)
    await reply.body.aclose()

    assert [response.is_cancelled for response in opened] == [True, True]


async def test_record_of_an_escalated_answer() -> None:
    """An escalation can be learned from without a rating."""
    gateway = world(feedback=FakeFeedbackStore())
    await answered(gateway)
    await gateway.background.finish()

    reply = await gateway.ask("", path="/v1/feedback/export", method="GET")

    assert isinstance(reply.body, str)
    row = json.loads(reply.body)
    assert (row["escalated"], row["served_by"], row["score"], row["rating"]) == ("refusal", "cloud", MEDIUM, "")
