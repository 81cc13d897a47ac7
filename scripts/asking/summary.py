"""Figures over many outcomes. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scripts.asking.outcome import Outcome

SERVED_BY = ("exact-cache", "semantic-cache", "edge-model", "cloud")
NOBODY = "(nobody)"


@dataclass(frozen=True, slots=True)
class Spread:
    """Nearest-rank percentiles in seconds."""

    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """Outcomes of one kind. Spreads count whole answers only and are None where there are none."""

    name: str
    count: int
    share: float
    ttft: Spread | None
    total: Spread | None
    colos: tuple[str, ...]
    errors: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    cost_avoided_usd: float


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """status: None when no answer came. request_id: of one of them, to look for in the gateway's log."""

    status: int | None
    code: str
    count: int
    request_id: str | None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` % of them do not exceed (nearest rank).

    values: not empty, in any order. percent: in (0, 100].
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be in (0, 100], got {percent}")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def groups(outcomes: Sequence[Outcome]) -> list[Group]:
    """One group for each place that answered, and `all` last."""
    names = [outcome.served_by or NOBODY for outcome in outcomes]
    present = [name for name in SERVED_BY if name in names]
    present += sorted(set(names) - set(SERVED_BY))
    by_place = [
        _group(name, [o for o, place in zip(outcomes, names, strict=True) if place == name], len(outcomes))
        for name in present
    ]
    return [*by_place, _group("all", outcomes, len(outcomes))]


def error_kinds(outcomes: Iterable[Outcome]) -> list[ErrorKind]:
    """Failures by status and code, the most frequent first."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    counts = Counter((outcome.status, outcome.error or "") for outcome in failed)
    examples = {(outcome.status, outcome.error or ""): outcome.request_id for outcome in failed}
    return [ErrorKind(*kind, count, examples[kind]) for kind, count in counts.most_common()]


def _group(name: str, outcomes: Sequence[Outcome], total: int) -> Group:
    whole = [outcome for outcome in outcomes if outcome.error is None]
    return Group(
        name=name,
        count=len(outcomes),
        share=len(outcomes) / total if total else 0.0,
        ttft=_spread([outcome.ttft_s for outcome in whole if outcome.ttft_s is not None]),
        total=_spread([outcome.total_s for outcome in whole]),
        colos=tuple(sorted({outcome.colo for outcome in outcomes if outcome.colo})),
        errors=len(outcomes) - len(whole),
        input_tokens=sum(outcome.input_tokens for outcome in outcomes),
        output_tokens=sum(outcome.output_tokens for outcome in outcomes),
        cost_usd=sum(outcome.cost_usd for outcome in outcomes),
        cost_avoided_usd=sum(outcome.cost_avoided_usd for outcome in outcomes),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(percentile(values, 50), percentile(values, 95), percentile(values, 99))
