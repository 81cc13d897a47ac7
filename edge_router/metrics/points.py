"""One request as a data point of Workers Analytics Engine: which column is what. docs/telemetry.md

A dataset's columns have no names but their place, so a new one goes to the end. The index is the tenant: sampling is
fair for each value of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..flushing import FLUSH_AFTER_S, FlushTimer
from ..ports import Background, Clock, PointStore
from ..report import Report
from .cells import timed_out, tokens_per_s

BLOBS: Final = (
    "colo",
    "served by",
    "model",
    "route reason",
    "cloud region",
    "cache outcome",
    "status",
    "cache tier",
    "error code",
    "cascade verdict",
)
DOUBLES: Final = (
    "total, ms",
    "TTFT, ms",
    "client RTT, ms",
    "cost, USD",
    "cost avoided, USD",
    "cloud RTT, ms",
    "input tokens",
    "output tokens",
    "avoided tokens",
    "output tokens per second",
    "1 if collapsed",
    "1 if hedged",
    "1 if a model or region timed out",
    "attempts that failed before",
    "1 if a model was asked for",
)
MAX_INDEX_BYTES: Final = 96
# One event of a Worker may write 250: what it writes at once, and what it may have waited for.
MAX_TOGETHER: Final = 100


def data_point(report: Report, tenant: str, status: int) -> Mapping[str, Any]:
    """What `writeDataPoint` takes. What is unknown is an empty text, or 0."""
    location, timings_ms = report.location, report.timings_ms
    return {
        "indexes": [tenant if len(tenant) * 4 <= MAX_INDEX_BYTES else _cut(tenant)],
        "blobs": [
            location.colo or "",
            report.served_by or "",
            report.model or "",
            report.route_reason or "",
            report.cloud_region or "",
            report.cache or "",
            str(status),
            report.cache_tier or "",
            report.error_code or "",
            report.cascade.verdict if report.cascade else "",
        ],
        "doubles": [
            timings_ms.get("total", 0.0),
            timings_ms.get("ttft", 0.0),
            location.rtt_ms or 0.0,
            report.cost_usd or 0.0,
            report.cost_avoided_usd or 0.0,
            report.cloud_rtt_ms or 0.0,
            report.input_tokens,
            report.output_tokens,
            report.avoided_tokens,
            tokens_per_s(report) or 0.0,
            int(report.collapsed),
            int(report.hedged),
            int(timed_out(report)),
            len(report.fallbacks),
            int(report.is_asking),
        ],
    }


class PointRecorder:
    """`Telemetry`. Scope: isolate. On a request's way it only appends to a list.

    Points are handed over without waiting; the platform may drop them, and never tells. An isolate that ends takes up
    to a second of them along.
    """

    def __init__(self, store: PointStore, clock: Clock, *, flush_after_s: float = FLUSH_AFTER_S) -> None:
        self._store = store
        self._timer = FlushTimer(self.flush, clock, after_s=flush_after_s)
        self._waiting: list[tuple[Report, str, int]] = []

    def record(self, report: Report, background: Background, *, tenant: str, status: int) -> None:
        self._waiting.append((report, tenant, status))
        if len(self._waiting) >= MAX_TOGETHER:
            self._write()
        else:
            self._timer.start(background)

    async def flush(self) -> None:
        """Writes what waits; never raises."""
        if self._waiting:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        points: Sequence[Mapping[str, Any]] = [data_point(*each) for each in waiting]
        self._store.write(points)


def _cut(tenant: str) -> str:
    return tenant.encode()[:MAX_INDEX_BYTES].decode("utf-8", "ignore")
