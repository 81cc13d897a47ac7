"""Samples, their medians and spread, and the tables made of them. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median


@dataclass(frozen=True, slots=True)
class Sample:
    """One case in one round. cpu_ms: of the measured process, for each request. Latencies: at the client."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of the rounds, and how far they lay apart."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Fit:
    """y = c * x ** slope. r2: of the logarithms, 1 is exact; also 1 where y does not change at all."""

    slope: float
    r2: float


def fit_power(pairs: Sequence[tuple[float, float]]) -> Fit:
    """pairs: two or more of (x, y), all above 0, with different x."""
    xs, ys = ([math.log(pair[place]) for pair in pairs] for place in (0, 1))
    slope, intercept = linear_regression(xs, ys)
    mean = sum(ys) / len(ys)
    spread = sum((y - mean) ** 2 for y in ys)
    left = sum((y - slope * x - intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    return Fit(slope, 1 - left / spread if spread else 1.0)


def figure(values: Sequence[float]) -> Figure:
    """values: one a round, not empty."""
    return Figure(median(values), min(values), max(values))


def ratio(samples: Sequence[Sample], floor: Sequence[Sample]) -> Figure:
    """Requests/s compared with the floor's in the same round, so that a slow moment of the machine hits both."""
    pairs = zip(samples, floor, strict=True)
    return figure([sample.requests_per_s / base.requests_per_s for sample, base in pairs])


def markdown_table(says: Mapping[str, str], samples: Mapping[str, Sequence[Sample]], *, floor: str) -> str:
    """One row a case, in the order of `says` (name -> description). Spread in brackets."""
    header = "| Worker | requests/s | of the floor | p50 ms | p99 ms | CPU ms a request | RSS MiB |"
    lines = [header, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, text in says.items():
        rounds = samples[name]
        cells = [
            text,
            cell(figure([sample.requests_per_s for sample in rounds]), 0),
            cell(ratio(rounds, samples[floor]), 2),
            cell(figure([sample.p50_ms for sample in rounds]), 2),
            cell(figure([sample.p99_ms for sample in rounds]), 2),
            cell(figure([sample.cpu_ms for sample in rounds]), 2),
            f"{figure([sample.rss_mib for sample in rounds]).median:,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(value: Figure, decimals: int) -> str:
    """The median, and the least and most in brackets."""
    return f"{value.median:,.{decimals}f} ({value.least:,.{decimals}f}–{value.most:,.{decimals}f})"
