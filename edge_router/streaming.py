"""One live stream to a caller: batches of chunks as they arrive, heartbeats while nothing does, and always an end.

The pure rules of what a stream may say are in `relay`; here is when: how long a model may think, be silent or
crawl, and that whoever stops listening stops the upstream. Once a stream is open, the upstream's bytes are pushed
through: nothing is awaited for a chunk, because waking a coroutine costs more than rewriting one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .errors import GatewayError, UpstreamTimeout
from .ports import Clock, Log, UpstreamBody
from .relay import StreamRelay
from .timers import done_within

FAREWELL_S = 1.0  # for an upstream that has said `[DONE]` to end by itself

_Piece = TypeVar("_Piece", contravariant=True)


class Send(Protocol[_Piece]):
    """Takes a piece at once. What it returns, if anything, ends when there is room for more."""

    def __call__(self, piece: _Piece, /) -> Awaitable[None] | None: ...


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """heartbeat_s: silence before a comment is sent. idle_s: silence before the stream counts as dead.

    min_tokens_per_s: the slowest average that counts as alive, judged from grace_s after the first token on.
    """

    heartbeat_s: float
    idle_s: float
    min_tokens_per_s: float
    grace_s: float


@dataclass(slots=True)
class OpenStream:
    """An upstream's stream that has shown its first content. `pending`: chunks that were read but not sent yet."""

    label: str
    response: UpstreamBody
    relay: StreamRelay
    pending: list[str]

    def usage(self) -> Mapping[str, Any]:
        return self.relay.usage()[0]

    async def discard(self) -> None:
        await self.response.cancel()


@dataclass(slots=True)  # one a chunk, and a frozen one costs three times as much to make
class Batch:
    """JSON texts of chunks to send together. Empty and not last: nothing to say yet, send a heartbeat."""

    texts: list[str]
    is_last: bool


HEARTBEAT = Batch([], is_last=False)


class Storyteller(Protocol):
    """What the stream's owner adds to it."""

    def begin(self, stream: OpenStream) -> list[str]:
        """The first chunks, once it is known who answers."""
        ...

    def settle(self, stream: OpenStream) -> list[str]:
        """The last chunks, `stream.relay.error` telling whether all went well."""
        ...

    def leave(self, stream: OpenStream) -> None:
        """The caller went away: what was answered until then still counts."""
        ...

    def rescue(self, error: GatewayError) -> list[str] | None:
        """What is told in place of `fail`, when there is an older answer to fall back on."""
        ...

    def fail(self, error: GatewayError) -> list[str]:
        """The only chunks of a stream that nobody could answer after its headers were sent."""
        ...


class LiveChunks:
    """The batches of one answer. Scope: request. Whoever has run it closes it, in whatever way it ended."""

    def __init__(
        self,
        opening: "asyncio.Task[OpenStream]",
        owner: Storyteller,
        limits: StreamLimits,
        clock: Clock,
        log: Log,
    ) -> None:
        self._opening = opening
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._log = log
        self._flow: _Flow | None = None
        self._is_over = False
        self.has_failed = False

    async def run(self, send: Send[Batch]) -> None:
        """Sends every batch; the last one has `is_last` set. Cancel it when nobody listens any more."""
        while not await done_within(self._clock, self._opening, self._limits.heartbeat_s):
            await _room(send(HEARTBEAT))
        try:
            stream = self._opening.result()
        except GatewayError as exc:
            last = self._rescue(exc)
        except Exception as exc:
            last = self._fail(self._crash(exc, None))
        else:
            last = await self._tell(stream, send)
        self._is_over = True
        send(Batch(last, is_last=True))

    async def aclose(self) -> None:
        """Lets the upstream go: tells one that has not ended that nobody listens."""
        flow, self._flow = self._flow, None
        if self._is_over:
            if flow is not None:
                await flow.close(FAREWELL_S)
            return
        self._is_over = True
        self._opening.cancel()  # an upstream that is being opened is told by whoever opens it
        await asyncio.wait({self._opening})
        if self._opening.cancelled() or self._opening.exception() is not None:
            return
        stream = self._opening.result()
        self._owner.leave(stream)
        await (flow.close(0.0) if flow is not None else stream.response.cancel())

    async def _tell(self, stream: OpenStream, send: Send[Batch]) -> list[str]:
        """The story but for its last chunks, which it returns."""
        relay = stream.relay
        texts = self._owner.begin(stream)
        rest: list[str] = []
        if relay.is_done or relay.error:
            rest = texts
        else:
            if texts:
                await _room(send(Batch(texts, is_last=False)))
            self._flow = _Flow(stream, send, self._limits, self._clock)
            try:
                rest = await self._flow.run()
            except GatewayError as exc:
                relay.error = exc
            except Exception as exc:
                relay.error = self._crash(exc, stream.label)
        self.has_failed = relay.error is not None
        return rest + self._owner.settle(stream)

    def _rescue(self, error: GatewayError) -> list[str]:
        rescued = self._owner.rescue(error)
        return self._fail(error) if rescued is None else rescued

    def _fail(self, error: GatewayError) -> list[str]:
        self.has_failed = True
        return self._owner.fail(error)

    def _crash(self, exc: Exception, upstream: str | None) -> GatewayError:
        """A bug must not end a stream without a word."""
        self._log.event("crash", reason=type(exc).__name__, upstream=upstream)
        return GatewayError("The gateway failed while streaming.", code="internal_error")


class _Flow:
    """An open upstream's bytes, rewritten and sent on as they are pushed. Scope: one live stream."""

    def __init__(self, stream: OpenStream, send: Send[Batch], limits: StreamLimits, clock: Clock) -> None:
        self._stream = stream
        self._relay = stream.relay
        self._send = send
        self._clock = clock
        self._rest: list[str] = []
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holding: asyncio.Task[None] | None = None
        self._watchdog = _Watchdog(stream.relay, limits, clock, self._beat, self._fail)
        self._pushing = asyncio.ensure_future(stream.response.push(self._take))
        self._pushing.add_done_callback(self._note_end)

    async def run(self) -> list[str]:
        """The texts that arrived with the end and were not sent yet. Raises what ended the stream otherwise."""
        try:
            await self._over
        finally:
            self._watchdog.stop()
            if self._holding is not None:
                self._holding.cancel()
        return self._rest

    async def close(self, patience_s: float) -> None:
        """patience_s: for an upstream that is about to end by itself. Cancelled meanwhile, it tells it all the same."""
        has_ended = False
        try:
            has_ended = self._relay.is_done and await done_within(self._clock, self._pushing, patience_s)
        finally:
            if not has_ended:
                await self._stream.response.cancel()
                self._pushing.cancel()
                await asyncio.wait({self._pushing})

    def _take(self, data: bytes) -> Awaitable[None] | None:
        if self._over.done():
            return None
        try:
            texts = self._relay.feed(data)
        except Exception as exc:
            self._fail(exc)
            return None
        self._watchdog.saw_data()
        if self._relay.is_done or self._relay.error or self._over.done():
            self._end(texts)
            return None
        room = self._send(Batch(texts, is_last=False)) if texts else None
        return None if room is None else self._hold(room)

    def _hold(self, room: Awaitable[None]) -> Awaitable[None]:
        """The caller reads slowly: that is no fault of the model's."""

        async def hold() -> None:
            self._watchdog.pause()
            await room
            self._watchdog.resume()

        self._holding = asyncio.ensure_future(hold())
        return self._holding

    def _note_end(self, pushing: "asyncio.Task[None]") -> None:
        """The upstream's bytes are over, in whatever way."""
        error = None if pushing.cancelled() else pushing.exception()
        if self._over.done():
            return
        if error is None:
            self._end(self._relay.end())
        else:
            self._fail(error)

    def _end(self, texts: list[str]) -> None:
        self._rest += texts
        if not self._over.done():
            self._over.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _beat(self) -> None:
        self._send(HEARTBEAT)


class _Watchdog:
    """One timer per stream instead of one per chunk: timers are costly, and counted, in a Worker."""

    def __init__(
        self,
        relay: StreamRelay,
        limits: StreamLimits,
        clock: Clock,
        beat: Callable[[], None],
        fail: Callable[[GatewayError], None],
    ) -> None:
        self._relay = relay
        self._limits = limits
        self._clock = clock
        self._beat = beat
        self._fail = fail
        # When the model began to be waited for, and when it last sent something; the caller's pauses move both on.
        self._began_ms = self._last_ms = clock.elapsed_ms()
        self._paused_ms: float | None = None
        self._stop_timer = clock.after(self._pause_s(0.0), self._look)

    def saw_data(self) -> None:
        self._last_ms = self._clock.elapsed_ms()
        self._judge_speed(self._last_ms)

    def pause(self) -> None:
        self._paused_ms = self._clock.elapsed_ms()

    def resume(self) -> None:
        assert self._paused_ms is not None
        now_ms = self._clock.elapsed_ms()
        self._began_ms += now_ms - self._paused_ms
        self._last_ms = now_ms
        self._paused_ms = None

    def stop(self) -> None:
        """For good. The flow and its dog refer to each other: that would keep both until a collection."""
        self._stop_timer()
        self._beat = self._fail = _nobody

    def _look(self) -> None:
        silent_s = 0.0
        if self._paused_ms is None:
            now_ms = self._clock.elapsed_ms()
            silent_s = (now_ms - self._last_ms) / 1000
            if silent_s >= self._limits.idle_s:
                self._fail(UpstreamTimeout("The model stopped sending.", code="stream_stalled"))
                return
            self._judge_speed(now_ms)
            if silent_s >= self._limits.heartbeat_s:
                self._beat()
        self._stop_timer = self._clock.after(self._pause_s(silent_s), self._look)

    def _pause_s(self, silent_s: float) -> float:
        """Until the next thing that could be due."""
        heartbeat_s = self._limits.heartbeat_s
        return max(0.01, min(heartbeat_s - silent_s % heartbeat_s, self._limits.idle_s - silent_s))

    def _judge_speed(self, now_ms: float) -> None:
        elapsed_s = (now_ms - self._began_ms) / 1000
        if elapsed_s < self._limits.grace_s or self._relay.is_done:
            return
        if self._relay.deltas < self._limits.min_tokens_per_s * elapsed_s:
            self._fail(UpstreamTimeout("The model sends too slowly.", code="stream_too_slow"))


def _nobody(*_: object) -> None:
    """Nobody is told."""


async def _room(room: Awaitable[None] | None) -> None:
    if room is not None:
        await room
