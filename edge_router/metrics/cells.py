"""What is counted of requests, and for which of them together. Pure; no prompt text comes in here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, get_args

from ..breaker import State
from ..report import CacheTier, Report
from .histogram import Histogram

COUNTS: Final = (
    "requests",
    "errors",
    "rejected",
    "timeouts",
    "input_tokens",
    "output_tokens",
    "avoided_tokens",
    *(f"hits_{tier}" for tier in get_args(CacheTier)),
    "stale",
    "misses",
    "bypass",
    "collapsed",
    "escalations",
    "hedges",
    "fallbacks",
    "budget_failures",
    "cost_usd",
    "cost_avoided_usd",
)
Timing = Literal["ttft_ms", "total_ms", "client_rtt_ms", "cloud_rtt_ms", "tokens_per_s"]
TIMINGS: Final[tuple[Timing, ...]] = get_args(Timing)
TIMEOUT_CODES: Final = frozenset({"upstream_timeout", "stream_stalled", "stream_too_slow"})

MAX_MODELS: Final = 50  # of one slice
MAX_CELLS: Final = 200  # of one slice, so that it stays well below the 2 MB that SQLite takes in one value
NONE: Final = "-"
OTHER: Final = "other"
_FROM_BEST: Final[tuple[State, ...]] = ("closed", "half_open", "open")


class Labels(NamedTuple):
    """What a request was; NONE when it was nothing of that kind."""

    model: str
    served_by: str
    region: str
    route_reason: str


class Cell:
    """Sums and histograms of some requests."""

    __slots__ = ("counts", "timings")

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.timings: dict[str, Histogram] = {}

    def count(self, name: str, amount: float = 1) -> None:
        if amount:
            self.counts[name] = self.counts.get(name, 0) + amount

    def time(self, name: Timing, value: float | None) -> None:
        if value is not None:
            if name not in self.timings:
                self.timings[name] = Histogram()
            self.timings[name].add(value)

    def note(self, report: Report, status: int) -> None:
        """One request. status: of the response. `error_code` in the report: it failed by no fault of the caller."""
        is_error = report.error_code is not None
        is_rejected = status >= 400 and not is_error
        self.count("requests")
        if is_error or report.fallbacks:
            self.count("errors", is_error)
            self.count("timeouts", timed_out(report))
            self.count("fallbacks", len(report.fallbacks))
        # Most requests are hits for which nothing was asked; one that stands in for a failure is none of them.
        if report.served_by != "exact-cache" or report.failed_status is not None:
            self._note_call(report)
        self.count("cost_avoided_usd", report.cost_avoided_usd or 0)
        self.count("avoided_tokens", report.avoided_tokens)
        self._note_cache(report)
        self.time("client_rtt_ms", report.location.rtt_ms)
        if is_rejected:
            self.count("rejected")
        elif not is_error:
            self._note_times(report)

    def _note_call(self, report: Report) -> None:
        """What models and regions were asked for it."""
        self.count("collapsed", report.collapsed)
        self.count("hedges", report.hedged)
        self.count("budget_failures", report.budget is not None and "failed" in report.budget)
        self.count("escalations", report.cascade is not None and report.cascade.verdict == "escalated")
        self.count("cost_usd", report.cost_usd or 0)
        self.count("input_tokens", report.input_tokens)
        self.count("output_tokens", report.output_tokens)
        self.time("cloud_rtt_ms", report.cloud_rtt_ms)

    def _note_cache(self, report: Report) -> None:
        if report.cache == "hit":
            self.count(f"hits_{report.cache_tier or 'kv'}")
        elif report.cache in ("miss", "unserved"):
            self.count("misses")
        elif report.cache is not None:
            self.count(report.cache)

    def _note_times(self, report: Report) -> None:
        total_ms, ttft_ms = report.timings_ms.get("total"), report.timings_ms.get("ttft")
        self.time("total_ms", total_ms)
        self.time("ttft_ms", ttft_ms)
        self.time("tokens_per_s", tokens_per_s(report))

    def merge(self, other: "Cell") -> None:
        for name, amount in other.counts.items():
            self.count(name, amount)
        for name, histogram in other.timings.items():
            self.timings.setdefault(name, Histogram()).merge(histogram)

    def encoded(self, timings: tuple[str, ...] = TIMINGS) -> dict[str, Any]:
        kept = {name: self.timings[name].encoded() for name in timings if name in self.timings}
        return {"counts": self.counts, "timings": kept}

    @classmethod
    def decoded(cls, data: Mapping[str, Any]) -> "Cell":
        cell = cls()
        cell.counts = dict(data["counts"])
        cell.timings = {name: Histogram.decoded(flat) for name, flat in data["timings"].items()}
        return cell


@dataclass(slots=True)
class Slice:
    """One location's requests of some time. breakers: region -> state, the worst that was told. lost: records that
    could not be written.
    """

    cells: dict[Labels, Cell] = field(default_factory=dict)
    breakers: dict[str, State] = field(default_factory=dict)
    lost: int = 0

    def cell(self, labels: Labels) -> Cell:
        """To add to; beyond the bounds, that of all others."""
        found = self.cells.get(labels)
        if found is not None:
            return found
        models = {known.model for known in self.cells}
        if labels.model not in models and len(models) >= MAX_MODELS:
            labels = labels._replace(model=OTHER)
        if labels not in self.cells and len(self.cells) >= MAX_CELLS:
            labels = Labels(OTHER, OTHER, OTHER, OTHER)
        return self.cells.setdefault(labels, Cell())

    def note(self, report: Report, status: int) -> None:
        labels = Labels(
            report.model or NONE, report.served_by or NONE, report.cloud_region or NONE, report.route_reason or NONE
        )
        self.cell(labels).note(report, status)

    def see(self, breakers: Mapping[str, State]) -> None:
        for region, state in breakers.items():
            self.breakers[region] = worst(state, self.breakers.get(region))

    def merge(self, other: "Slice") -> None:
        for labels, cell in other.cells.items():
            self.cell(labels).merge(cell)
        self.see(other.breakers)
        self.lost += other.lost

    def encoded(self) -> dict[str, Any]:
        cells = [[*labels, cell.encoded()] for labels, cell in self.cells.items()]
        return {"cells": cells, "breakers": self.breakers, "lost": self.lost}

    @classmethod
    def decoded(cls, data: Mapping[str, Any]) -> "Slice":
        cells = {Labels(*labels): Cell.decoded(cell) for *labels, cell in data["cells"]}
        return cls(cells, dict(data["breakers"]), data["lost"])


def worst(state: State, other: State | None) -> State:
    return max(state, other or state, key=_FROM_BEST.index)


def timed_out(report: Report) -> bool:
    """Whether a model or region did not answer in time, whoever answered then."""
    codes = {report.error_code, *(attempt.rpartition(": ")[2] for attempt in report.fallbacks)}
    return not TIMEOUT_CODES.isdisjoint(codes)


def tokens_per_s(report: Report) -> float | None:
    """Output tokens of a stream by the time that its model took for them after the first one."""
    total_ms, ttft_ms = report.timings_ms.get("total"), report.timings_ms.get("ttft")
    if total_ms is None or ttft_ms is None or total_ms <= ttft_ms or report.output_tokens < 2:
        return None
    return 1000 * (report.output_tokens - 1) / (total_ms - ttft_ms)
