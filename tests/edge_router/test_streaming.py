"""One live stream to a caller: heartbeats, models that stall or crawl, late failures, callers who leave."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from edge_router.cloud_api import REGION_HEADER
from edge_router.errors import GatewayError, UpstreamError
from edge_router.relay import StreamRelay
from edge_router.replies import EventStream
from edge_router.streaming import Batch, LiveChunks, OpenStream, StreamLimits
from tests.edge_router.harness import (
    CLOUD_FAST,
    COMPLEX_PROMPT,
    DONE,
    FRANKFURT,
    HEARTBEAT,
    VIRGINIA,
    World,
    answer_cloud,
    chat_body,
    chunk,
    chunks_of,
    cloud,
    error_of,
    event,
    finish_reasons,
    openai_events,
    read_events,
    read_stream,
    streamed_text,
)
from tests.fakes import STALL, Caller, CloudCall, CollectingLog, FakeClock, FakeUpstreamResponse, RunningClock, Step

ASK = chat_body(COMPLEX_PROMPT, stream=True)
BEAT_S = 0.01
THINKING_S = 0.05  # some heartbeats long
FIRST = [event(chunk({"role": "assistant", "content": ""})), event(chunk({"content": "Par"}))]
REST = [event(chunk({"content": "is."})), event(chunk({}, finish="stop")), DONE]


def world_of(*responses: FakeUpstreamResponse, **fields: Any) -> World:
    """One cloud model whose regions give these answers, the nearest one the first; clock and timers run."""
    left = list(responses)
    regions = (FRANKFURT, VIRGINIA)[: len(left)]
    options = {"heartbeat_s": BEAT_S, "clock": RunningClock(), **fields}
    return World(models=(CLOUD_FAST,), regions=regions, cloud=cloud(lambda call: left.pop(0)), **options)


def stream_of(*steps: Step) -> FakeUpstreamResponse:
    return FakeUpstreamResponse.stream(*steps)


def body_of(reply: object) -> EventStream:
    body = getattr(reply, "body", None)
    assert isinstance(body, EventStream)
    return body


# A model that thinks


async def test_model_that_thinks_longer_than_a_heartbeat() -> None:
    """Headers leave first, then heartbeats, then the answer, whose first chunk says who gives it."""
    reply = await world_of(stream_of(THINKING_S, *openai_events("Paris."))).ask(ASK)
    events = await read_events(reply)
    chunks = chunks_of(events)

    assert "nearside-served-by" not in reply.headers
    assert reply.headers["nearside-route-reason"] == "complex"
    assert events[0] == HEARTBEAT
    assert streamed_text(chunks) == "Paris."
    assert (chunks[0]["nearside"]["served_by"], chunks[0]["nearside"]["model"]) == ("cloud", "cloud-fast-1")
    assert chunks[0]["nearside"]["timings_ms"]["ttft"] >= THINKING_S * 900


async def test_model_that_answers_within_a_heartbeat() -> None:
    """The headers wait for it, and no comment is sent."""
    reply = await world_of(stream_of(*openai_events("Paris.")), heartbeat_s=5.0).ask(ASK)

    assert reply.headers["nearside-served-by"] == "cloud"
    assert HEARTBEAT not in await read_events(reply)


async def test_model_that_fails_after_the_headers() -> None:
    """The next one answers: only comments were sent."""
    broken = stream_of(THINKING_S, UpstreamError("cut"))
    reply = await world_of(broken, stream_of(*openai_events("Paris."))).ask(ASK)
    chunks = await read_stream(reply)

    assert streamed_text(chunks) == "Paris."
    assert not any("error" in each for each in chunks)
    assert chunks[-1]["nearside"]["cloud_region"] == "iad"
    assert chunks[-1]["nearside"]["fallbacks"] == ["cloud-fast-1@fra: upstream_error"]
    assert broken.cancels == 1


OWN = {REGION_HEADER: "fra"}
REFUSAL = b'{"error": {"message": "Bad n.", "param": "n", "code": "bad_n"}}'


@pytest.mark.parametrize(
    ("response", "timeout_s", "kind", "code"),
    [
        pytest.param(
            lambda: stream_of(THINKING_S, UpstreamError("cut")),
            5.0,
            "upstream_error",
            "upstream_error",
            id="breaks off",
        ),
        pytest.param(
            lambda: FakeUpstreamResponse(THINKING_S, b"oops", status=500, headers=OWN),
            5.0,
            "upstream_error",
            "upstream_error",
            id="500",
        ),
        pytest.param(lambda: stream_of(STALL), 0.03, "upstream_error", "upstream_timeout", id="never answers"),
        pytest.param(
            lambda: FakeUpstreamResponse(THINKING_S, REFUSAL, status=400, headers=OWN),
            5.0,
            "invalid_request_error",
            "bad_n",
            id="400",
        ),
        pytest.param(
            lambda: stream_of(THINKING_S, RuntimeError("the prompt")), 5.0, "server_error", "internal_error", id="a bug"
        ),
    ],
)
async def test_failure_after_the_headers(
    response: Callable[[], FakeUpstreamResponse], timeout_s: float, kind: str, code: str
) -> None:
    """No status is left to set: exactly one chunk with the error, then `[DONE]`, and the record says so."""
    world = world_of(response(), timeout_s=timeout_s)
    reply = await world.ask(ASK)
    chunks = await read_stream(reply)

    assert reply.status == 200
    assert [set(each["error"]) for each in chunks] == [{"message", "type", "param", "code"}]
    assert (chunks[0]["error"]["type"], chunks[0]["error"]["code"]) == (kind, code)
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert finish_reasons(chunks) == ["error"]
    assert chunks[0]["nearside"]["timings_ms"]["total"] > 0
    assert await world.kept() == []
    assert len(world.telemetry.records) == 1
    assert "the prompt" not in world.log.text() + str(chunks)


async def test_failure_before_the_headers() -> None:
    """A proper status."""
    reply = await world_of(stream_of(UpstreamError("cut")), heartbeat_s=5.0).ask(ASK)

    assert (reply.status, error_of(reply)["code"]) == (502, "upstream_error")


# Silence within a stream


async def test_pause_within_a_stream() -> None:
    """Heartbeats; then the stream goes on as if nothing had been."""
    reply = await world_of(stream_of(*FIRST, THINKING_S, *REST)).ask(ASK)
    events = await read_events(reply)
    chunks, beats = chunks_of(events), [each for each in events if each == HEARTBEAT]

    assert 1 <= len(beats) <= THINKING_S / BEAT_S + 1
    assert streamed_text(chunks) == "Paris."
    assert finish_reasons(chunks) == ["stop"]


@pytest.mark.parametrize(
    ("steps", "limits", "code"),
    [
        pytest.param([STALL], {"idle_s": 0.03}, "stream_stalled", id="stalls"),
        pytest.param(
            [STALL], {"slow_grace_s": 0.02, "min_tokens_per_s": 1000.0}, "stream_too_slow", id="crawls, and is silent"
        ),
        pytest.param(
            [0.03, *REST], {"slow_grace_s": 0.02, "min_tokens_per_s": 1000.0, "heartbeat_s": 5.0}, "stream_too_slow",
            id="crawls, and sends",
        ),
    ],
)  # fmt: skip
async def test_stream_that_gets_nowhere(steps: list[Step], limits: dict[str, float], code: str) -> None:
    """Ends with one error chunk, and the upstream is let go."""
    upstream = stream_of(*FIRST, *steps)
    world = world_of(upstream, **limits)
    chunks = await read_stream(await world.ask(ASK))

    assert streamed_text(chunks[:2]) == "Par"
    assert [each["error"]["code"] for each in chunks if "error" in each] == [code]
    assert chunks[-1]["error"]["type"] == "upstream_error"
    assert upstream.is_cancelled
    assert upstream.open_reads == 0
    assert "stream_failed" in world.log.names()


@pytest.mark.parametrize(
    ("seconds_per_token", "min_tokens_per_s", "is_whole"),
    [
        pytest.param(0.9, 1.0, True, id="as fast as asked"),
        pytest.param(1.5, 1.0, False, id="too slow"),
        pytest.param(1.5, 0.0, True, id="not judged"),
    ],
)
async def test_speed_of_a_stream(seconds_per_token: float, min_tokens_per_s: float, is_whole: bool) -> None:
    """The average counts, from the grace period on."""
    world = World(min_tokens_per_s=min_tokens_per_s, slow_grace_s=3.0)
    events = openai_events(*["x"] * 10)
    world.cloud.handler = lambda call: FakeUpstreamResponse(
        *events,
        headers={"content-type": "text/event-stream"},
        on_read=lambda: world.clock.advance(seconds_per_token),
    )
    chunks = await read_stream(await world.ask(ASK))

    assert finish_reasons(chunks) == (["stop"] if is_whole else ["error"])
    assert (streamed_text(chunks) == "x" * 10) is is_whole


async def test_slow_end_of_a_whole_stream() -> None:
    """An answer that is complete is not thrown away for having been slow."""
    world = World(min_tokens_per_s=1.0, slow_grace_s=3.0)
    world.cloud.handler = lambda call: FakeUpstreamResponse(
        *FIRST, b"".join(REST), headers={"content-type": "text/event-stream"}, on_read=lambda: world.clock.advance(9)
    )
    chunks = await read_stream(await world.ask(ASK))

    assert streamed_text(chunks) == "Paris."
    assert finish_reasons(chunks) == ["stop"]


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"idle_s": 0.02}, id="silence"),
        pytest.param({"slow_grace_s": 0.02, "min_tokens_per_s": 100.0}, id="speed"),
    ],
)
async def test_caller_who_reads_slowly(limits: dict[str, float]) -> None:
    """The model is judged by the time for which it was waited, not by the caller's pauses."""
    reply = await world_of(stream_of(*FIRST, *REST), **limits).ask(ASK)
    parts = await Caller(body_of(reply), pause_s=0.04).hear_all()

    assert finish_reasons(chunks_of("".join(parts).split("\n\n")[:-1])) == ["stop"]


# Callers who leave


async def leave_at_once(caller: Caller) -> None:
    """Before anything was heard."""


async def leave_after_one(caller: Caller) -> None:
    await caller.hear(1)


async def leave_while_waiting(caller: Caller) -> None:
    await caller.hear(1)
    await asyncio.sleep(0.025)


LEAVING = [leave_at_once, leave_after_one, leave_while_waiting]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([STALL], id="thinking"),
        pytest.param([*FIRST, STALL], id="silent"),
        pytest.param([*FIRST, *[event(chunk({"content": "x"})), 0.005] * 30, STALL], id="talking"),
    ],
)
async def test_caller_who_leaves(steps: list[Step], leave: Callable[[Caller], Any]) -> None:
    """The upstream is told once, nothing goes on, nothing is kept, and the request is recorded once."""
    upstream = stream_of(*steps)
    world = world_of(upstream)
    before = asyncio.all_tasks()
    caller = Caller(body_of(await world.ask(ASK)))

    await leave(caller)
    await caller.leave()
    await caller.leave()
    heard = list(caller.parts)
    await asyncio.sleep(0.03)

    assert upstream.cancels == 1
    assert upstream.open_reads == 0
    assert asyncio.all_tasks() == before
    assert caller.parts == heard
    assert not any("error" in part for part in heard)
    assert await world.kept() == []
    assert len(world.telemetry.records) == 1


async def test_caller_who_leaves_while_reading_slowly() -> None:
    """What waits for room waits no longer."""
    upstream = stream_of(*FIRST, *[event(chunk({"content": "x"}))] * 5, STALL)
    before = asyncio.all_tasks()
    caller = Caller(body_of(await world_of(upstream).ask(ASK)), pause_s=60)
    running = asyncio.ensure_future(caller.hear_all())
    await asyncio.sleep(0.02)

    running.cancel()
    await asyncio.wait({running})

    assert upstream.cancels == 1
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("steps", "cancels"),
    [
        pytest.param([*FIRST, *REST], 0, id="whole"),
        pytest.param([*FIRST, UpstreamError("cut")], 1, id="broken"),
        pytest.param([UpstreamError("cut")], 1, id="never answered"),
    ],
)
async def test_caller_who_leaves_after_the_end(steps: list[Step], cancels: int) -> None:
    """There is nobody left to tell."""
    upstream = stream_of(0.02, *steps)
    world = world_of(upstream)
    body = body_of(await world.ask(ASK))
    await Caller(body).hear_all()
    await body.aclose()

    assert upstream.cancels == cancels
    assert len(world.telemetry.records) == 1


async def test_caller_who_leaves_when_nobody_could_answer() -> None:
    """Nothing to tell, and the failure that nobody reads makes no noise."""
    world = world_of(stream_of(0.02, UpstreamError("cut")))
    body = body_of(await world.ask(ASK))
    await asyncio.sleep(0.03)

    await body.aclose()

    assert len(world.telemetry.records) == 1


@pytest.mark.parametrize("steps", [[STALL], [*FIRST, STALL]], ids=["thinking", "silent"])
async def test_request_that_is_cancelled_before_its_headers(steps: list[Step]) -> None:
    """The upstream is told."""
    upstream = stream_of(0.05, *steps)
    asking = asyncio.ensure_future(world_of(upstream, heartbeat_s=5.0).ask(ASK))
    await upstream.is_read.wait()

    asking.cancel()
    await asyncio.wait({asking})
    await asyncio.wait_for(upstream.ended.wait(), 5)

    assert asking.cancelled()
    assert upstream.cancels == 1


# What LiveChunks promises, whoever uses it


class BrokenRelay(StreamRelay):
    """A relay with a bug."""

    def feed(self, data: bytes) -> list[str]:
        raise ZeroDivisionError("the prompt")


class Owner:
    """Says what it was asked for."""

    def begin(self, stream: OpenStream) -> list[str]:
        return stream.pending

    def settle(self, stream: OpenStream) -> list[str]:
        return [f"settled: {stream.relay.error.code if stream.relay.error else None}"]

    def leave(self, stream: OpenStream) -> None:
        """Nothing is counted here."""

    def rescue(self, error: GatewayError) -> list[str] | None:
        """There is nothing older."""

    def fail(self, error: GatewayError) -> list[str]:
        return [f"failed: {error.code}"]


def relay(kind: type[StreamRelay] = StreamRelay) -> StreamRelay:
    return kind(
        "openai",
        completion_id="c",
        created_s=1,
        model="m",
        limit_tokens=9,
        include_usage=False,
        input_tokens=lambda: 0,
    )


def live(
    response: FakeUpstreamResponse,
    *,
    of: StreamRelay | None = None,
    pending: list[str] | None = None,
    log: CollectingLog | None = None,
) -> LiveChunks:
    async def opened() -> OpenStream:
        return OpenStream("m@fra", response, of or relay(), pending or [])

    limits = StreamLimits(heartbeat_s=BEAT_S, idle_s=5.0, min_tokens_per_s=0.0, grace_s=5.0)
    return LiveChunks(asyncio.ensure_future(opened()), Owner(), limits, RunningClock(), log or CollectingLog())


async def hear(chunks: LiveChunks) -> list[Batch]:
    batches: list[Batch] = []
    await chunks.run(batches.append)
    await chunks.aclose()
    return batches


async def test_upstream_that_stays_after_its_end() -> None:
    """The answer is whole at `[DONE]`; an upstream that does not end then is told to."""
    response = stream_of(*FIRST, *REST, STALL)
    chunks, batches = live(response), list[Batch]()

    await chunks.run(batches.append)
    assert batches[-1].is_last
    assert response.cancels == 0

    await chunks.aclose()
    assert response.cancels == 1


async def test_caller_who_leaves_between_done_and_the_end() -> None:
    """The upstream is told at once, and once, although whoever waited for its end is cancelled."""
    response = stream_of(*FIRST, *REST, STALL)
    chunks, batches = live(response), list[Batch]()
    await chunks.run(batches.append)
    closing = asyncio.ensure_future(chunks.aclose())
    await asyncio.sleep(0)

    closing.cancel()
    await asyncio.wait({closing})
    await chunks.aclose()

    assert closing.cancelled()
    assert response.cancels == 1
    assert response.open_reads == 0


async def test_bug_while_streaming() -> None:
    """Is an error like any other to the caller; the log has its name and none of its words."""
    response, log = stream_of(*FIRST), CollectingLog()
    batches = await hear(live(response, of=relay(BrokenRelay), pending=["one"], log=log))

    assert batches == [Batch(["one"], is_last=False), Batch(["settled: internal_error"], is_last=True)]
    assert log.lines == [("crash", {"reason": "ZeroDivisionError", "upstream": "m@fra"})]
    assert response.cancels == 1


async def test_stream_with_nothing_pending() -> None:
    """The first batch is what comes next."""
    batches = await hear(live(stream_of(*FIRST, *REST)))

    assert [len(batch.texts) for batch in batches] == [1, 1, 1, 1]
    assert [batch.is_last for batch in batches] == [False, False, False, True]


async def test_chunks_that_only_hold_comments() -> None:
    """Make no batch of their own: an empty one would be a heartbeat."""
    batches = await hear(live(stream_of(b": hm\n\n", *FIRST, b": hm\n\n", *REST)))

    assert all(batch.texts for batch in batches)


async def test_caller_who_leaves_a_stream_with_two_regions() -> None:
    """No other region is asked for somebody who is gone."""
    world = world_of(stream_of(STALL), stream_of(*openai_events("Paris.")))
    body = body_of(await world.ask(ASK))

    await body.aclose()

    assert len(world.cloud.calls) == 1


async def test_edge_model_that_thinks() -> None:
    """The same at the edge: a model that stalls there is followed by the cloud, after the headers."""
    slow = stream_of(STALL)
    world = World(heartbeat_s=BEAT_S, timeout_s=0.05, clock=RunningClock())
    world.edge.handler = lambda call: slow
    world.cloud.handler = answer_cloud
    chunks = await read_stream(await world.ask(chat_body(stream=True)))

    assert chunks[0]["nearside"]["served_by"] == "cloud"
    assert finish_reasons(chunks) == ["stop"]


class HandClock(FakeClock):
    """Whose timers fire when a test says so, all that are due at once, as after a loop that was held up."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        timer = (self.now_s() + delay_s, callback)
        self._timers.append(timer)
        return lambda: self._timers.remove(timer) if timer in self._timers else None

    def fire(self) -> None:
        due = [timer for timer in self._timers if timer[0] <= self.now_s()]
        for timer in due:
            self._timers.remove(timer)
            timer[1]()


async def test_model_that_is_found_slow_twice_before_anyone_can_act() -> None:
    """Ends its stream once."""
    clock, batches = HandClock(), list[Batch]()
    response = stream_of(STALL)
    limits = StreamLimits(heartbeat_s=1.0, idle_s=50.0, min_tokens_per_s=1.0, grace_s=5.0)

    async def opened() -> OpenStream:
        return OpenStream("m@fra", response, relay(), ["one"])

    opening = asyncio.ensure_future(opened())
    await opening
    chunks = LiveChunks(opening, Owner(), limits, clock, CollectingLog())
    running = asyncio.ensure_future(chunks.run(batches.append))
    await response.is_read.wait()
    for _ in range(2):
        clock.advance(9)
        clock.fire()
    await running
    await chunks.aclose()

    assert batches[-1] == Batch(["settled: stream_too_slow"], is_last=True)
    assert response.cancels == 1


async def test_ended_stream_waits_for_no_collector() -> None:
    """Nothing of it refers to itself in a circle: in a busy isolate that would stay for hundreds of requests."""
    answers: list[weakref.ref[FakeUpstreamResponse]] = []

    def answer(call: CloudCall) -> FakeUpstreamResponse:
        response = stream_of(*FIRST, *REST)
        answers.append(weakref.ref(response))
        return response

    around = World(models=(CLOUD_FAST,), regions=(FRANKFURT,), cloud=cloud(answer))
    gc.collect()
    gc.disable()
    try:
        await read_stream(await around.ask(ASK))
        await around.background.finish()
        around.cloud.calls.clear()
        await asyncio.sleep(0)
        assert [ref() for ref in answers] == [None]
    finally:
        gc.enable()
