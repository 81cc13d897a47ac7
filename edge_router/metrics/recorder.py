"""Records of requests: noted in the isolate, written together after the responses, once a second at most."""

from collections.abc import Callable, Mapping
from typing import Final

from ..breaker import State
from ..errors import StoreError
from ..flushing import FLUSH_AFTER_S, FlushTimer
from ..ports import Background, Clock, Log, MetricsStore
from ..report import Report
from .cells import Slice

MAX_WAITING: Final = 10_000  # records; beyond it only the loss is counted
ENROLL_EVERY_S: Final = 3600.0
UNKNOWN_COLO: Final = "-"


class Recorder:
    """`Telemetry`. Scope: isolate. On a request's way it only appends to a list.

    What can't be written is counted as lost and told with the next write. An isolate that ends takes up to a second of
    records along, which nobody counts. breakers: the state of each region's, told with every write.
    """

    def __init__(
        self,
        store: MetricsStore,
        clock: Clock,
        log: Log,
        *,
        breakers: Callable[[], Mapping[str, State]],
        flush_after_s: float = FLUSH_AFTER_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._breakers = breakers
        self._timer = FlushTimer(self.flush, clock, after_s=flush_after_s)
        self._waiting: list[tuple[Report, int]] = []
        self._lost: dict[str, int] = {}
        self._enrolled: dict[str, tuple[str, float]] = {}

    def record(self, report: Report, background: Background, *, tenant: str, status: int) -> None:
        if not report.is_asking:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((report, status))
        else:
            self._lose(_colo(report), 1)
        self._timer.start(background)

    async def flush(self) -> None:
        """Writes what waits; never raises."""
        waiting, self._waiting = self._waiting, []
        lost, self._lost = self._lost, {}
        slices = {colo: Slice(lost=count) for colo, count in lost.items()}
        for report, status in waiting:
            colo = _colo(report)
            if colo not in slices:
                slices[colo] = Slice()
            slices[colo].note(report, status)
        breakers = self._breakers()
        for colo, found in slices.items():
            found.see(breakers)
            await self._write(colo, found)

    async def _write(self, colo: str, found: Slice) -> None:
        try:
            await self._store.add(await self._place_of(colo), found)
        except StoreError as exc:
            records = found.lost + round(sum(cell.counts["requests"] for cell in found.cells.values()))
            self._log.event("metrics_lost", records=records, colo=colo, reason=exc.message)
            self._lose(colo, records)

    async def _place_of(self, colo: str) -> str:
        known = self._enrolled.get(colo)
        now_s = self._clock.now_s()
        if known is not None and now_s - known[1] < ENROLL_EVERY_S:
            return known[0]
        place = await self._store.enroll(colo)
        self._enrolled[colo] = (place, now_s)
        return place

    def _lose(self, colo: str, records: int) -> None:
        self._lost[colo] = self._lost.get(colo, 0) + records


def _colo(report: Report) -> str:
    return report.location.colo or UNKNOWN_COLO
