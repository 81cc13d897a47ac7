"""Counts and histograms as `GET /v1/metrics` tells them: docs/metrics.md."""

from typing import Any, get_args

from ..report import CacheTier
from .cells import TIMINGS, Cell
from .histogram import Histogram

_TIERS: tuple[CacheTier, ...] = get_args(CacheTier)
_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def facts(cell: Cell) -> dict[str, Any]:
    """All of it."""
    return {
        **_outcomes(cell),
        "error_rate": _share(cell, "errors"),
        "timeout_rate": _share(cell, "timeouts"),
        **{name: spread(cell.timings.get(name)) for name in TIMINGS},
        "tokens": {
            "input": whole(cell, "input_tokens"),
            "output": whole(cell, "output_tokens"),
            "avoided": whole(cell, "avoided_tokens"),
        },
        "cache": cache_facts(cell),
        **{name: whole(cell, name) for name in ("collapsed", "escalations", "hedges", "fallbacks", "budget_failures")},
        **_costs(cell),
    }


def point(cell: Cell) -> dict[str, Any]:
    """What charts over time show."""
    return {
        **_outcomes(cell),
        "ttft_ms": spread(cell.timings.get("ttft_ms")),
        "total_ms": spread(cell.timings.get("total_ms")),
        "hit_rate": cache_facts(cell)["hit_rate"],
        **_costs(cell),
    }


def cache_facts(cell: Cell) -> dict[str, Any]:
    tiers = {tier: whole(cell, f"hits_{tier}") for tier in _TIERS}
    hits, stale, misses = sum(tiers.values()), whole(cell, "stale"), whole(cell, "misses")
    lookups = hits + stale + misses
    return {
        "lookups": lookups,
        "hits": hits,
        "hit_rate": round(hits / lookups, 4) if lookups else None,
        "tiers": tiers,
        "tier_rates": {tier: round(count / lookups, 4) if lookups else None for tier, count in tiers.items()},
        "stale": stale,
        "misses": misses,
        "bypass": whole(cell, "bypass"),
    }


def spread(histogram: Histogram | None) -> dict[str, float | None]:
    """How many values there were, and how they are spread."""
    if histogram is None or not histogram.count:
        return {"count": 0, "mean": None, **dict.fromkeys(_PERCENTILES)}
    percentiles = {name: round(histogram.percentile(share) or 0.0, 2) for name, share in _PERCENTILES.items()}
    return {"count": histogram.count, "mean": round(histogram.sum / histogram.count, 2), **percentiles}


def whole(cell: Cell, name: str) -> int:
    return round(cell.counts.get(name, 0))


def _outcomes(cell: Cell) -> dict[str, int]:
    return {name: whole(cell, name) for name in ("requests", "errors", "rejected", "timeouts")}


def _costs(cell: Cell) -> dict[str, float]:
    return {name: round(cell.counts.get(name, 0.0), 9) for name in ("cost_usd", "cost_avoided_usd")}


def _share(cell: Cell, name: str) -> float | None:
    requests = cell.counts.get("requests", 0)
    return round(cell.counts.get(name, 0) / requests, 4) if requests else None
