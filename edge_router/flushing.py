"""What requests leave behind to be written: together, a second after the first of them, behind a response."""

from collections.abc import Awaitable, Callable

from .ports import Background, Clock
from .timers import pause

FLUSH_AFTER_S = 1.0
DIED_AFTER_S = 10.0  # a flush that takes longer to begin died with the request that carried it


class FlushTimer:
    """Scope: isolate. flush: writes what waits; must not raise."""

    def __init__(self, flush: Callable[[], Awaitable[None]], clock: Clock, *, after_s: float) -> None:
        self._flush = flush
        self._clock = clock
        self._after_s = after_s
        self._set_at_s: float | None = None

    def start(self, background: Background) -> None:
        """Something waits. Nothing happens when a flush is on its way already."""
        now_s = self._clock.now_s()
        if self._set_at_s is None or now_s - self._set_at_s > DIED_AFTER_S:
            self._set_at_s = now_s
            background.run(self._run())

    async def _run(self) -> None:
        await pause(self._clock, self._after_s)
        self._set_at_s = None
        await self._flush()
