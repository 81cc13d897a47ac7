"""The end of a process, in order: `/ready` says no, then no more calls are taken, then open ones get drain_s to end.

A stream that is still open after that ends with one error event; a plain call gets 503, which the edge takes to
another region.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType

from cloud_fallback.errors import ShuttingDown

MESSAGE = "This region is shutting down."


class Drain:
    """Scope: process. notice_s: for which calls are still taken after `begin`. drain_s: for open calls after that."""

    def __init__(self, *, notice_s: float, drain_s: float) -> None:
        self._notice_s = notice_s
        self._drain_s = drain_s
        self._limits: set[asyncio.Timeout] = set()
        self.is_draining = False
        self.is_over = False

    def begin(self, stop_taking: Callable[[], None]) -> None:
        """To be called on the event loop, once. stop_taking: called after notice_s."""
        self.is_draining = True
        loop = asyncio.get_running_loop()
        loop.call_later(self._notice_s, stop_taking)
        loop.call_later(self._notice_s + self._drain_s, self._end)

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Work that ends with the process. Raises ShuttingDown when its time is over."""
        if self.is_over:
            raise ShuttingDown(MESSAGE)
        try:
            async with asyncio.timeout(None) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ShuttingDown(MESSAGE) from None

    def _end(self) -> None:
        self.is_over = True
        for limit in tuple(self._limits):
            limit.reschedule(0)


def drain_on_sigterm(drain: Drain) -> None:
    """Puts `drain` before the server's own handler, which closes the listening socket. Only in the main thread.

    A handler of the server's own class would not reach the workers that uvicorn starts as processes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    servers_own = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        def stop_taking() -> None:
            if callable(servers_own):
                servers_own(number, frame)

        if drain.is_draining:
            stop_taking()
        else:
            loop.call_soon_threadsafe(drain.begin, stop_taking)

    signal.signal(signal.SIGTERM, on_sigterm)
