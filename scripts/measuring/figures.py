"""What n runs of one target come to. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from edge_router.client import Completion
from scripts.asking.summary import percentile


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds; nearest-rank percentiles."""

    avg_s: float
    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one target. ttft, total: of the sequential runs; None where none succeeded.

    sequential_s, parallel_s: for as many runs one after the other, and `concurrency` at a time.
    errors: failed runs of both kinds, by kind.
    """

    label: str
    runs: int
    concurrency: int
    ttft: Times | None
    total: Times | None
    tokens_per_s: float | None
    output_tokens: int
    sequential_s: float
    parallel_s: float
    errors: dict[str, int]

    @property
    def speed_up(self) -> float | None:
        """None where a run failed: what failed took no time worth comparing."""
        return None if self.errors or self.parallel_s <= 0 else self.sequential_s / self.parallel_s


def times(values: Sequence[float]) -> Times | None:
    return Times(fmean(values), percentile(values, 50), percentile(values, 95)) if values else None


def figures(
    label: str,
    done: Sequence[Completion],
    *,
    concurrency: int,
    runs: int,
    sequential_s: float,
    parallel_s: float,
    errors: dict[str, int],
) -> Figures:
    """done: the sequential runs that succeeded."""
    speeds = [one.tokens_per_s for one in done if one.tokens_per_s is not None]
    return Figures(
        label=label,
        runs=runs,
        concurrency=concurrency,
        ttft=times([one.ttft_s for one in done if one.ttft_s is not None]),
        total=times([one.total_s for one in done]),
        tokens_per_s=percentile(speeds, 50) if speeds else None,
        output_tokens=sum(one.output_tokens for one in done),
        sequential_s=sequential_s,
        parallel_s=parallel_s,
        errors=errors,
    )
