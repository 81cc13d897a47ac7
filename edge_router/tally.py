"""Counts that cost a request next to nothing: summed in the isolate, written together a second after the first."""

from collections.abc import Mapping

from .counters import Amount
from .errors import StoreError
from .flushing import FLUSH_AFTER_S, FlushTimer
from .ports import Background, Clock, CounterStore, Log

MAX_NAMES = 10_000  # that wait at a time, of all tenants; beyond it only the loss is counted
LOST = "lost"


class Tally:
    """Scope: isolate. What can't be written is counted under LOST, so that sums say how much they lack.

    Nothing is written twice: a write whose outcome is unknown counts as lost. An isolate that ends takes up to a
    second of counts along, which nobody counts.
    """

    def __init__(self, store: CounterStore, clock: Clock, log: Log, *, flush_after_s: float = FLUSH_AFTER_S) -> None:
        self._store = store
        self._log = log
        self._timer = FlushTimer(self.flush, clock, after_s=flush_after_s)
        self._waiting: dict[str, dict[tuple[str, float | None], float]] = {}
        self._names = 0

    def add(
        self, tenant: str, background: Background, amounts: Mapping[str, float], *, until_s: float | None = None
    ) -> None:
        """until_s: Unix time at which these sums disappear."""
        waiting = self._waiting.setdefault(tenant, {})
        if self._names >= MAX_NAMES:
            amounts, until_s = {LOST: len(amounts)}, None
        for name, value in amounts.items():
            place = (name, until_s)
            if place not in waiting:
                self._names += 1
                waiting[place] = 0.0
            waiting[place] += value
        self._timer.start(background)

    async def flush(self) -> None:
        """Writes what waits; never raises."""
        by_tenant, self._waiting, self._names = self._waiting, {}, 0
        for tenant, sums in by_tenant.items():
            amounts = [Amount(name, value, until_s) for (name, until_s), value in sums.items()]
            try:
                await self._store.add(tenant, amounts)
            except StoreError as exc:
                self._log.event("counts_lost", counts=len(amounts), reason=exc.message)
                lost = self._waiting.setdefault(tenant, {})
                before = sums.get((LOST, None), 0.0)
                lost[LOST, None] = lost.get((LOST, None), before) + len(amounts) - (before > 0)
