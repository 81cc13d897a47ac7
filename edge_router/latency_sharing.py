"""What isolates at one place tell each other of latencies, through a store a minute behind. Nobody waits for it."""

from typing import Final

from .errors import StoreError
from .latency import NOWHERE, WINDOW_S, LatencyTable
from .ports import Background, Clock, Log, Store

EXCHANGE_EVERY_S: Final = 60.0
MAX_PLACES: Final = 64  # an isolate lies at one; only emulated geography has more


class SharedLatencies:
    """A table, and its copy in the store. Scope: isolate."""

    def __init__(self, table: LatencyTable, store: Store, clock: Clock, log: Log) -> None:
        self.table = table
        self._store = store
        self._clock = clock
        self._log = log
        self._exchanged_at_s: dict[str, float] = {}

    def exchange_later(self, colo: str | None, background: Background) -> None:
        """Reads what others know and writes what we do, behind an answer, at most once in EXCHANGE_EVERY_S a place."""
        place, now_s = colo or NOWHERE, self._clock.now_s()
        if 0 <= now_s - self._exchanged_at_s.get(place, float("-inf")) < EXCHANGE_EVERY_S:
            return
        if len(self._exchanged_at_s) >= MAX_PLACES:
            self._exchanged_at_s.clear()
        self._exchanged_at_s[place] = now_s
        background.run(self._exchange(place))

    async def _exchange(self, place: str) -> None:
        key = f"latency:{place}"
        try:
            known = await self._store.get(key)
            if known is not None:
                self._merge(place, known)
            ours = self.table.dump(place, self._clock.now_s())
            if ours != known:
                await self._store.put(key, ours, ttl_s=int(WINDOW_S))
        except StoreError as exc:
            self._log.event("latency_exchange_failed", reason=exc.message)

    def _merge(self, place: str, text: str) -> None:
        """What can't be read is overwritten."""
        try:
            self.table.merge(place, text, self._clock.now_s())
        except ValueError as exc:
            self._log.event("latency_exchange_failed", reason=f"unreadable: {type(exc).__name__}")
