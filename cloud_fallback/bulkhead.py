"""Bulkhead: one upstream may hold so many calls and so many in the queue behind them, and no more."""

import asyncio

from cloud_fallback.errors import UpstreamUnavailable

RETRY_AFTER_S = 1.0


class Bulkhead:
    """Scope: process."""

    def __init__(self, *, max_concurrency: int, max_queue: int) -> None:
        self._places = asyncio.Semaphore(max_concurrency)
        self._max_queue = max_queue
        self.in_flight = 0
        self.queued = 0

    async def enter(self, deadline_s: float) -> None:
        """Waits for a place, in order of arrival. Raises UpstreamUnavailable. `leave` must follow.

        deadline_s: on the event loop's clock.
        """
        if self._places.locked():
            await self._wait(deadline_s)
        else:
            await self._places.acquire()
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1
        self._places.release()

    async def _wait(self, deadline_s: float) -> None:
        if self.queued >= self._max_queue:
            raise _full()
        self.queued += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._places.acquire()
        except TimeoutError:
            raise _full() from None
        finally:
            self.queued -= 1


def _full() -> UpstreamUnavailable:
    return UpstreamUnavailable(
        "The upstream has as many calls as it may have.", code="upstream_saturated", retry_after_s=RETRY_AFTER_S
    )
