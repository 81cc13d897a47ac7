"""Router quality as RouteLLM defines it (arXiv 2406.18665): PGR, APGR and CPT, and the noise in them.

Prompts go to the strong model from the highest score down. Prompts with equal scores go in a random order and every
figure is the mean over those orders, so a constant score is exactly the random router. A share c that ends between
two prompts is linear between them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SHARES = tuple(step / 10 for step in range(11))  # where APGR's trapezoids meet
RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Curve:
    """PGR by share of the calls that go to the strong model; straight between the points."""

    shares: Array
    pgr: Array

    def at(self, share: float) -> float:
        return float(np.interp(share, self.shares, self.pgr))

    def apgr(self) -> float:
        """Area under PGR, by trapezoids over c = 0, 10, … 100 %."""
        values = np.interp(SHARES, self.shares, self.pgr)
        return float(((values[1:] + values[:-1]) / 2).mean())

    def cpt(self, pgr: float) -> float:
        """The smallest share of strong calls, in %, that recovers `pgr` (in (0, 1]) of the gap."""
        reached = int(np.argmax(self.pgr >= pgr - 1e-12))
        if reached == 0:
            return 0.0
        x0, x1 = self.shares[reached - 1 : reached + 1]
        y0, y1 = self.pgr[reached - 1 : reached + 1]
        return float(100 * (x0 + (x1 - x0) * min(1.0, (pgr - y0) / (y1 - y0))))


def curve(scores: Sequence[float], weak: Sequence[float], strong: Sequence[float]) -> Curve | None:
    """None when the two models are equally good on these prompts: there is no gap to recover."""
    return _curve(np.asarray(scores, float), np.asarray(strong, float) - np.asarray(weak, float))


def _curve(scores: Array, gains: Array) -> Curve | None:
    count = len(gains)
    total = float(gains.sum())
    if not count or math.isclose(total, 0.0, abs_tol=1e-9 * count):
        return None
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    # The mean over the orders of equal scores is the straight line across them.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    summed = np.cumsum(gains[order])[ends - 1]
    return Curve(np.concatenate([[0.0], ends / count]), np.concatenate([[0.0], summed / total]))


@dataclass(frozen=True, slots=True)
class Quality:
    """low, high: bounds of APGR's 95 % confidence interval; CPT in % of calls."""

    count: int
    apgr: float
    low: float
    high: float
    cpt50: float
    cpt80: float


def quality(
    scores: Sequence[float], weak: Sequence[float], strong: Sequence[float], *, resamples: int = RESAMPLES
) -> Quality | None:
    """None when there is no gap. The interval is the percentile bootstrap over prompts, with a fixed seed."""
    values = np.asarray(scores, float)
    gains = np.asarray(strong, float) - np.asarray(weak, float)
    whole = _curve(values, gains)
    if whole is None:
        return None
    areas = list(_resampled(values, gains, resamples)) or [whole.apgr()]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(areas, [tail, 1 - tail])
    return Quality(len(gains), whole.apgr(), float(low), float(high), whole.cpt(0.5), whole.cpt(0.8))


def _resampled(scores: Array, gains: Array, resamples: int) -> Iterator[float]:
    generator = np.random.default_rng(0)
    for _ in range(resamples):
        rows = generator.integers(len(gains), size=len(gains))
        drawn = _curve(scores[rows], gains[rows])
        if drawn is not None:
            yield drawn.apgr()
