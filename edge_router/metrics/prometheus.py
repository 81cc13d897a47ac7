"""The text that Prometheus reads (exposition format 0.0.4): sums since each location's object began."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ..breaker import State
from .cells import NONE, Cell, Slice, Timing
from .histogram import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Name, what it counts of a cell, further labels, help.
_COUNTERS: Final[tuple[tuple[str, tuple[tuple[str, dict[str, str]], ...], str], ...]] = (
    ("nearside_requests_total", (("requests", {}),), "Requests to a model's endpoint."),
    ("nearside_errors_total", (("errors", {}),), "Requests that failed by no fault of the caller."),
    ("nearside_rejected_total", (("rejected", {}),), "Requests that the caller must change."),
    ("nearside_timeouts_total", (("timeouts", {}),), "Requests in which an upstream did not answer in time."),
    (
        "nearside_tokens_total",
        (
            ("input_tokens", {"kind": "input"}),
            ("output_tokens", {"kind": "output"}),
            ("avoided_tokens", {"kind": "avoided"}),
        ),
        "Tokens, counted or estimated; avoided: of stored and shared answers.",
    ),
    (
        "nearside_cache_lookups_total",
        (
            ("hits_memory", {"outcome": "hit", "tier": "memory"}),
            ("hits_kv", {"outcome": "hit", "tier": "kv"}),
            ("hits_semantic", {"outcome": "hit", "tier": "semantic"}),
            ("stale", {"outcome": "stale", "tier": ""}),
            ("misses", {"outcome": "miss", "tier": ""}),
        ),
        "Look-ups in the cache.",
    ),
    ("nearside_cache_bypass_total", (("bypass", {}),), "Requests for which no stored answer was looked up."),
    ("nearside_collapsed_total", (("collapsed", {}),), "Answers of a call that others shared."),
    ("nearside_escalations_total", (("escalations", {}),), "Edge answers that the cascade replaced."),
    ("nearside_hedges_total", (("hedges", {}),), "Requests whose call was late and doubled."),
    ("nearside_fallbacks_total", (("fallbacks", {}),), "Attempts that failed before another one answered."),
    (
        "nearside_budget_failures_total",
        (("budget_failures", {}),),
        "Requests whose tenant's ledger could not be reached.",
    ),
    ("nearside_cost_usd_total", (("cost_usd", {}),), "Declared price of the answers."),
    ("nearside_cost_avoided_usd_total", (("cost_avoided_usd", {}),), "Declared price of what was not asked anew."),
)
_HISTOGRAMS: Final[tuple[tuple[str, Timing, float, tuple[float, ...], str], ...]] = (
    (
        "nearside_ttft_seconds",
        "ttft_ms",
        1000,
        (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30),
        "Arrival to the first content of a stream, caches excluded.",
    ),
    (
        "nearside_request_duration_seconds",
        "total_ms",
        1000,
        (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 120),
        "Arrival to the end of the answer.",
    ),
    (
        "nearside_client_rtt_seconds",
        "client_rtt_ms",
        1000,
        (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
        "Round trip between caller and edge.",
    ),
    (
        "nearside_tokens_per_second",
        "tokens_per_s",
        1,
        (5, 10, 20, 40, 60, 80, 120, 200, 400),
        "Output tokens of a stream by the time after its first one.",
    ),
)
_RTT: Final = ("nearside_cloud_rtt_seconds", 1000, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1))
_STATES: Final[tuple[State, ...]] = ("closed", "half_open", "open")

_Labels = tuple[tuple[str, str], ...]


def exposition(slices: Mapping[str, Slice], missing: int) -> str:
    """slices: by location. missing: how many locations could not be read."""
    cells, regions = _regrouped(slices)
    lines = list(_counters(cells))
    for name, timing, divisor, limits, help_text in _HISTOGRAMS:
        found = {labels: cell.timings[timing] for labels, cell in cells.items() if timing in cell.timings}
        lines += _histogram(name, help_text, found, limits, divisor)
    name, divisor, limits = _RTT
    lines += _histogram(name, "Round trip between edge and region.", regions, limits, divisor)
    lines += _breakers(slices)
    lines += _head("nearside_lost_records_total", "counter", "Records that could not be written.")
    lines += [_line("nearside_lost_records_total", (("colo", colo),), each.lost) for colo, each in slices.items()]
    lines += _head("nearside_missing_colos", "gauge", "Locations that could not be read just now.")
    lines.append(_line("nearside_missing_colos", (), missing))
    return "\n".join(lines) + "\n"


def _regrouped(slices: Mapping[str, Slice]) -> tuple[dict[_Labels, Cell], dict[_Labels, Histogram]]:
    """By location, model and what served; round trips by location and region."""
    cells: dict[_Labels, Cell] = {}
    regions: dict[_Labels, Histogram] = {}
    for colo, found in slices.items():
        for labels, cell in found.cells.items():
            key = (("colo", colo), ("model", labels.model), ("served_by", labels.served_by))
            cells.setdefault(key, Cell()).merge(cell)
            if labels.region != NONE and "cloud_rtt_ms" in cell.timings:
                place = (("colo", colo), ("region", labels.region))
                regions.setdefault(place, Histogram()).merge(cell.timings["cloud_rtt_ms"])
    return cells, regions


def _counters(cells: Mapping[_Labels, Cell]) -> Iterator[str]:
    for name, parts, help_text in _COUNTERS:
        yield from _head(name, "counter", help_text)
        for labels, cell in cells.items():
            for counted, more in parts:
                yield _line(name, (*labels, *more.items()), cell.counts.get(counted, 0))


def _histogram(
    name: str, help_text: str, found: Mapping[_Labels, Histogram], limits: tuple[float, ...], divisor: float
) -> Iterator[str]:
    yield from _head(name, "histogram", help_text)
    for labels, histogram in found.items():
        counts = histogram.count_up_to([limit * divisor for limit in limits])
        for limit, count in zip(limits, counts, strict=True):
            yield _line(f"{name}_bucket", (*labels, ("le", f"{limit:g}")), count)
        yield _line(f"{name}_bucket", (*labels, ("le", "+Inf")), histogram.count)
        yield _line(f"{name}_sum", labels, histogram.sum / divisor)
        yield _line(f"{name}_count", labels, histogram.count)


def _breakers(slices: Mapping[str, Slice]) -> Iterator[str]:
    name = "nearside_breaker_state"
    yield from _head(name, "gauge", "1 for the state that the breaker of a region has at a location.")
    for colo, found in slices.items():
        for region, state in found.breakers.items():
            for each in _STATES:
                yield _line(name, (("colo", colo), ("region", region), ("state", each)), int(state == each))


def _head(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{told}}} {value!r}" if told else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
