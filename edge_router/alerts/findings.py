"""What the last hour says of each rule. Pure.

Minutes are judged one by one, from the metrics' own history and not from when somebody looks, so that "for 300 s" is
right with a cron that comes once a minute, late, or not at all for a while. Breakers have no history: they are judged
as they are when somebody looks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..breaker import State
from ..metrics import telling
from ..metrics.cells import Cell
from ..metrics.shard import View
from .rules import STEP_S, Rule

HISTORY_S: Final = 3600 - STEP_S  # whole minutes in the window of an hour
_NAMES: Final = {"total_ms": "the total", "ttft_ms": "the time to the first token"}
_RATES: Final = {"error_rate": "errors", "timeout_rate": "timeouts"}


@dataclass(frozen=True, slots=True)
class Observed:
    """at_s: when the last whole minute ended. minutes: by the time at which they begin; those without requests may be
    missing. breakers: region -> location -> state.
    """

    at_s: int
    minutes: Mapping[int, Cell] = field(default_factory=dict)
    breakers: Mapping[str, Mapping[str, State]] = field(default_factory=dict)

    def encoded(self) -> dict[str, Any]:
        minutes = {str(begin_s): cell.encoded() for begin_s, cell in self.minutes.items()}
        return {"at_s": self.at_s, "minutes": minutes, "breakers": self.breakers}

    @classmethod
    def decoded(cls, data: Mapping[str, Any]) -> "Observed":
        minutes = {int(begin_s): Cell.decoded(cell) for begin_s, cell in data["minutes"].items()}
        return cls(data["at_s"], minutes, data["breakers"])


@dataclass(frozen=True, slots=True)
class Finding:
    """What is so now of one rule and one thing that it is about.

    is_breached: None when nothing is known. since_s: of the minutes without a break that breach. is_enough: so many
    samples, and of so many minutes, that it may fire. reaches_back: it may have begun before what can be seen.
    """

    key: str | None
    is_breached: bool | None
    since_s: int = 0
    is_enough: bool = False
    reaches_back: bool = False
    value: float = 0
    summary: str = ""


def observe(views: Mapping[str, View], at_s: float) -> Observed:
    """views: by location, of the window of an hour. at_s: the minute in which it lies is left out."""
    at_s = int(at_s // STEP_S) * STEP_S
    minutes: dict[int, Cell] = {}
    breakers: dict[str, dict[str, State]] = {}
    for colo, view in views.items():
        for begin_s, cell in view.points.items():
            if at_s - HISTORY_S <= begin_s < at_s:
                minutes.setdefault(begin_s, Cell()).merge(cell)
        for region, state in view.breakers.items():
            breakers.setdefault(region, {})[colo] = state
    return Observed(at_s, minutes, breakers)


def findings_of(rule: Rule, observed: Observed, usual_hit_rate: float | None) -> Sequence[Finding]:
    """usual_hit_rate: None when too little is known to say."""
    if rule.metric == "breakers_open":
        return [_of_region(rule, region, observed) for region in observed.breakers]
    if rule.usually_at_least is not None and (usual_hit_rate is None or usual_hit_rate < rule.usually_at_least):
        return [Finding(None, False)]
    return [_of_minutes(rule, observed)]


def _of_region(rule: Rule, region: str, observed: Observed) -> Finding:
    """half_open counts as open: the region has not answered well yet."""
    colos = sorted(colo for colo, state in observed.breakers[region].items() if state != "closed")
    value = float(len(colos))
    summary = f"The breaker of {region} is open at {', '.join(colos[:5])}{' and others' if len(colos) > 5 else ''}"
    is_breached = rule.is_breached_by(value)
    return Finding(region, is_breached, observed.at_s, is_enough=True, reaches_back=True, value=value, summary=summary)


def _of_minutes(rule: Rule, observed: Observed) -> Finding:
    from_s = observed.at_s - rule.for_s
    span, known, since_s = Cell(), 0, None
    for begin_s, cell, value in _newest_first(rule, observed):
        if not rule.is_breached_by(value):
            if since_s is None:
                return Finding(None, False)
            break
        since_s = begin_s
        if begin_s >= from_s:
            known += 1
            span.merge(cell)
    if since_s is None or not known:  # silence for as long as the rule looks back
        return Finding(None, None)
    worth, samples = measured(rule.metric, span)
    value = round(worth or 0, 4)
    is_enough = 2 * known * STEP_S >= rule.for_s and samples >= rule.min_samples
    return Finding(
        None,
        True,
        since_s,
        is_enough=is_enough,
        reaches_back=since_s == observed.at_s - HISTORY_S,
        value=value,
        summary=_summary(rule, value),
    )


def _newest_first(rule: Rule, observed: Observed) -> Iterator[tuple[int, Cell, float]]:
    """Minutes of which the metric is known."""
    for begin_s in sorted(observed.minutes, reverse=True):
        value, _ = measured(rule.metric, observed.minutes[begin_s])
        if value is not None:
            yield begin_s, observed.minutes[begin_s], value


def measured(metric: str, cell: Cell) -> tuple[float | None, int]:
    """(value, of how many samples); None of none."""
    if metric == "hit_rate":
        facts = telling.cache_facts(cell)
        return facts["hit_rate"], facts["lookups"]
    if metric in _RATES:
        requests, count = cell.counts.get("requests", 0), cell.counts.get(_RATES[metric], 0)
        return (count / requests if requests else None), round(requests)
    timing, _, percentile = metric.partition(".")
    spread = telling.spread(cell.timings.get(timing))
    return spread[percentile], round(spread["count"] or 0)


def _summary(rule: Rule, value: float) -> str:
    side = "above" if rule.above is not None else "below"
    timing, _, percentile = rule.metric.partition(".")
    if percentile:
        what, shown, limit = f"{percentile} of {_NAMES[timing]}", f"{value:.0f} ms", f"{rule.threshold:g} ms"
    else:
        what = f"The {rule.metric.replace('_', ' ')}"
        shown, limit = f"{100 * value:.1f} %", f"{100 * rule.threshold:g} %"
    return f"{what} is {shown}, {side} {limit} for {rule.for_s} s"
