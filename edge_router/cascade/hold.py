"""The beginning of a stream, held back until the verifier has seen enough of it or the time for that is over."""

import asyncio
from collections.abc import Awaitable, Callable

from ..errors import GatewayError
from ..ports import Clock, UpstreamBody
from ..streaming import OpenStream
from ..timers import done_within
from .reading import said_of
from .verifier import Asked, Check, verify, verify_beginning


async def judge_beginning(stream: OpenStream, asked: Asked, *, hold_s: float, clock: Clock) -> Check | None:
    """The check that rejects the stream, None when it may be sent. Nothing of it has been sent yet; what is read here
    is added to `stream.pending`. A stream that ends meanwhile is judged as a whole; one that breaks is `truncated`.
    """
    relay, ends_ms = stream.relay, clock.elapsed_ms() + hold_s * 1000
    held = stream.response = _Held(stream.response)
    try:
        while not relay.is_done and not relay.error:
            if relay.calls_tools:
                return None
            check, is_enough = verify_beginning(asked, relay.text())
            left_s = (ends_ms - clock.elapsed_ms()) / 1000
            if check is not None or is_enough or left_s <= 0 or not await held.has_more_within(clock, left_s):
                return check
            try:
                data = await held.read()
            except GatewayError as exc:
                relay.error = exc
            else:
                stream.pending += relay.end() if data is None else relay.feed(data)
        return "truncated" if relay.error else verify(asked, said_of(relay.completion()))
    finally:
        if not held.is_reading:
            stream.response = held.inner  # nothing stands between the model and the caller any more


class _Held:
    """`UpstreamBody` of which a read may be under way that nobody waits for: the next one gets it."""

    def __init__(self, inner: UpstreamBody) -> None:
        self.inner = inner
        self._reading: asyncio.Task[bytes | None] | None = None

    @property
    def is_reading(self) -> bool:
        return self._reading is not None

    @property
    def keeps(self) -> bool:
        return self.inner.keeps

    async def has_more_within(self, clock: Clock, delay_s: float) -> bool:
        """Whether `read` would return at once by then."""
        self._reading = asyncio.ensure_future(self.inner.read())
        return await done_within(clock, self._reading, delay_s)

    async def read(self) -> bytes | None:
        assert self._reading is not None  # it stands in for the body only while a read is under way
        try:
            return await self._reading
        finally:
            self._reading = None

    async def push(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        data = await self.read()
        if data is None:
            return
        room = take(data)
        if room is not None:
            await room
        await self.inner.push(take)

    async def cancel(self) -> None:
        await self.inner.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._reading = None
