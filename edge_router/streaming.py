"""One live stream to a caller: batches of chunks as they arrive, heartbeats while nothing does, and always an end.

The pure rules of what a stream may say are in `relay`; here is when: how long a model may think, be silent or
crawl, and that whoever stops listening stops the upstream.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from .errors import GatewayError, UpstreamTimeout
from .ports import Clock, Log, UpstreamResponse
from .relay import StreamRelay
from .timers import done_within


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
    response: UpstreamResponse
    chunks: AsyncIterator[bytes]
    relay: StreamRelay
    pending: list[str]

    async def discard(self) -> None:
        await self.response.cancel()


@dataclass(frozen=True, slots=True)
class Batch:
    """JSON texts of chunks to send together. Empty and not last: nothing to say yet, send a heartbeat."""

    texts: list[str]
    is_last: bool


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

    def fail(self, error: GatewayError) -> list[str]:
        """The only chunks of a stream that nobody could answer after its headers were sent."""
        ...


class LiveChunks:
    """The batches of one answer, ended by one whose `is_last` is set. Close it to stop the upstream.

    on_silence: called when a heartbeat is due while a batch is awaited. Scope: request.
    """

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
        self._stream: OpenStream | None = None
        self._is_over = False
        self._watchdog: _Watchdog | None = None
        self.on_silence: Callable[[], None] | None = None
        self.has_failed = False

    def __aiter__(self) -> "LiveChunks":
        return self

    async def __anext__(self) -> Batch:
        if self._is_over:
            raise StopAsyncIteration
        if self._stream is not None:
            return await self._next(self._stream)

        is_open = await done_within(self._clock, self._opening, self._limits.heartbeat_s)
        if self._is_over:  # closed meanwhile
            raise StopAsyncIteration
        if not is_open:
            return Batch([], is_last=False)
        try:
            self._stream = self._opening.result()
        except GatewayError as exc:
            return self._fail(exc)
        except Exception as exc:
            return self._fail(self._crash(exc))
        texts = self._owner.begin(self._stream)
        self._watchdog = _Watchdog(self._stream, self._limits, self._clock, self._beat)
        return Batch(texts, is_last=False) if texts else await self._next(self._stream)

    def _fail(self, error: GatewayError) -> Batch:
        self._is_over = self.has_failed = True
        return Batch(self._owner.fail(error), is_last=True)

    async def aclose(self) -> None:
        """Harmless after the end. Before it, the upstream is told that nobody listens."""
        if self._is_over:
            return
        self._is_over = True
        if self._watchdog is not None:
            self._watchdog.stop()
        self._opening.cancel()  # an upstream that is being opened is told by whoever opens it
        await asyncio.wait({self._opening})
        if not self._opening.cancelled() and self._opening.exception() is None:
            stream = self._opening.result()
            self._owner.leave(stream)
            await stream.response.cancel()

    async def _next(self, stream: OpenStream) -> Batch:
        relay, watchdog, texts = stream.relay, self._watchdog, []
        assert watchdog is not None
        while not relay.is_done and not relay.error:
            watchdog.wait()
            try:
                chunk = await anext(stream.chunks, None)
                texts = relay.end() if chunk is None else relay.feed(chunk)
            except GatewayError as exc:
                relay.error = exc
            except Exception as exc:
                relay.error = self._crash(exc)
            if self._is_over:  # closed meanwhile
                raise StopAsyncIteration
            relay.error = watchdog.verdict() or relay.error
            if texts and not relay.is_done and not relay.error:
                return Batch(texts, is_last=False)

        self._is_over = True
        watchdog.stop()
        last = Batch(texts + self._owner.settle(stream), is_last=True)
        if relay.error:
            self.has_failed = True
            await stream.response.cancel()
        return last

    def _crash(self, exc: Exception) -> GatewayError:
        """A bug must not end a stream without a word."""
        upstream = self._stream.label if self._stream else None
        self._log.event("crash", reason=type(exc).__name__, upstream=upstream)
        return GatewayError("The gateway failed while streaming.", code="internal_error")

    def _beat(self) -> None:
        if self.on_silence is not None:
            self.on_silence()


class _Watchdog:
    """One timer per stream instead of one per chunk: timers are costly, and counted, in a Worker."""

    def __init__(self, stream: OpenStream, limits: StreamLimits, clock: Clock, beat: Callable[[], None]) -> None:
        self._stream = stream
        self._limits = limits
        self._clock = clock
        self._beat = beat
        self._waited_s = 0.0  # for the model, the caller's own pauses left out
        self._waiting_since_ms: float | None = None
        self._error: GatewayError | None = None
        self._ending: asyncio.Task[None] | None = None
        self._stop_timer = clock.after(self._pause_s(0.0), self._look)

    def wait(self) -> None:
        """Notes that a read begins."""
        self._waiting_since_ms = self._clock.elapsed_ms()

    def verdict(self) -> GatewayError | None:
        """Notes that something arrived. Why the stream must end, or None."""
        self._waited_s += self._silent_s()
        self._waiting_since_ms = None
        return self._error or self._too_slow()

    def stop(self) -> None:
        self._stop_timer()

    def _look(self) -> None:
        silent_s = self._silent_s()
        if silent_s >= self._limits.idle_s:
            self._error = UpstreamTimeout("The model stopped sending.", code="stream_stalled")
        else:
            self._error = self._too_slow()
        if self._error:
            # The read that is awaited ends with the upstream, and then asks for the verdict.
            self._ending = asyncio.ensure_future(self._stream.response.cancel())
            return
        if silent_s >= self._limits.heartbeat_s:
            self._beat()
        self._stop_timer = self._clock.after(self._pause_s(silent_s), self._look)

    def _silent_s(self) -> float:
        since_ms = self._waiting_since_ms
        return 0.0 if since_ms is None else (self._clock.elapsed_ms() - since_ms) / 1000

    def _pause_s(self, silent_s: float) -> float:
        """Until the next thing that could be due."""
        heartbeat_s = self._limits.heartbeat_s
        return max(0.01, min(heartbeat_s - silent_s % heartbeat_s, self._limits.idle_s - silent_s))

    def _too_slow(self) -> GatewayError | None:
        elapsed_s = self._waited_s + self._silent_s()
        if elapsed_s < self._limits.grace_s or self._stream.relay.is_done:
            return None
        if self._stream.relay.deltas >= self._limits.min_tokens_per_s * elapsed_s:
            return None
        return UpstreamTimeout("The model sends too slowly.", code="stream_too_slow")
