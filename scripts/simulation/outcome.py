"""What a run counted and timed, and the sums that the tables tell."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

import numpy as np

from scripts.simulation.trace import Trace
from scripts.simulation.world import Floats, Ints

# Where an answer came from; the last two are no answers: refused before the first token, cut off after it.
MEMORY, KV, STALE, SEMANTIC, COLLAPSED, EDGE, CLOUD, REFUSED, BROKEN = range(9)
TIERS: Final = ("memory", "kv", "stale", "semantic", "collapsed", "edge", "cloud", "refused", "broken")
HITS: Final = (MEMORY, KV, STALE, SEMANTIC, COLLAPSED)
PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Slots by continent (Workers AI) and by region (the cloud). Unlimited where nothing is said."""

    edge: Mapping[str, float] = field(default_factory=dict)
    cloud: Mapping[str, float] = field(default_factory=dict)

    def of_edge(self, continent: str) -> float:
        return self.edge.get(continent, inf)

    def of_cloud(self, region_id: str) -> float:
        return self.cloud.get(region_id, inf)


@dataclass(slots=True)
class Tally:
    """Counts of the measured window."""

    model_usd: float = 0.0
    platform_usd: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)  # by region, hedges included
    call_log: list[tuple[float, str]] = field(default_factory=list)  # (time, region) of each
    hedges: int = 0
    capacity_errors: int = 0  # of Workers AI
    escalated: int = 0
    refreshed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the requests that arrived in the measured window. Times in seconds, NaN where there was no answer.

    edge_erlangs, cloud_erlangs: slots that were busy on average.
    """

    trace: Trace
    measured: Ints  # positions in the trace
    tier: Ints
    ttft_s: Floats
    total_s: Floats
    tally: Tally
    edge_erlangs: Mapping[str, float]
    cloud_erlangs: Mapping[str, float]
    capacity: Capacity
    slice_share: float = 1.0

    def __len__(self) -> int:
        return len(self.tier)

    def percentiles_s(self, times: Floats) -> tuple[float, ...]:
        answered = times[~np.isnan(times)]
        if not len(answered):
            return (float("nan"),) * len(PERCENTILES)
        return tuple(float(value) for value in np.percentile(answered, PERCENTILES))

    def share(self, *tiers: int) -> float:
        return float(np.isin(self.tier, tiers).mean()) if len(self) else 0.0

    @property
    def usd_per_million(self) -> float:
        return (self.tally.model_usd + self.tally.platform_usd) / max(1, len(self)) * 1e6

    def summary(self) -> dict[str, Any]:
        """Plain values, as `--json` writes them; loads and slots are of the whole traffic, not of the slice."""
        whole = 1 / self.slice_share
        return {
            "requests": len(self),
            "ttft_s": dict(zip(("p50", "p95", "p99"), map(_rounded, self.percentiles_s(self.ttft_s)), strict=True)),
            "total_s": dict(zip(("p50", "p95", "p99"), map(_rounded, self.percentiles_s(self.total_s)), strict=True)),
            "share": {name: round(self.share(tier), 5) for tier, name in enumerate(TIERS)},
            "hit_rate": round(self.share(*HITS), 5),
            "usd_per_million": round(self.usd_per_million, 2),
            "model_usd_per_million": round(self.tally.model_usd / max(1, len(self)) * 1e6, 2),
            "calls_by_region": {name: round(self.tally.calls[name] * whole) for name in sorted(self.tally.calls)},
            "hedges_per_call": round(self.tally.hedges / max(1, self.tally.calls.total() - self.tally.hedges), 5),
            "capacity_errors": round(self.tally.capacity_errors * whole),
            "edge_busy_slots": {name: round(value * whole, 1) for name, value in self.edge_erlangs.items()},
            "cloud_busy_slots": {name: round(value * whole, 1) for name, value in self.cloud_erlangs.items()},
        }


def _rounded(value: float) -> float:
    return round(value, 4)
