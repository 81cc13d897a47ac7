"""Histograms with buckets that grow by a constant factor, as in DDSketch (Masson et al., 2019).

Percentiles are within RELATIVE_ERROR of the exact ones, and stay so when histograms are merged.
"""

from collections.abc import Iterator, Sequence
from math import ceil, isfinite, log
from typing import Final

GROWTH: Final = 1.02
RELATIVE_ERROR: Final = (GROWTH - 1) / (GROWTH + 1)  # 0.99 %: a bucket's value lies between its two ends
SMALLEST: Final = 0.05  # what is not above it counts as 0: the edge's clock often does not move at all
LARGEST: Final = 3_600_000.0  # an hour in milliseconds; what is above it counts as that

_PER_BUCKET: Final = 1 / log(GROWTH)
_OFFSET: Final = 1 - log(SMALLEST) * _PER_BUCKET


class Histogram:
    """Of numbers from 0 on, in whatever unit. Others are ignored."""

    __slots__ = ("_buckets", "count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self._buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        if not isfinite(value) or value < 0:
            return
        value = min(value, LARGEST)
        place = ceil(log(value) * _PER_BUCKET + _OFFSET) if value > SMALLEST else 0
        self._buckets[place] = self._buckets.get(place, 0) + 1
        self.count += 1
        self.sum += value

    def merge(self, other: "Histogram") -> None:
        for place, count in other._buckets.items():
            self._buckets[place] = self._buckets.get(place, 0) + count
        self.count += other.count
        self.sum += other.sum

    def percentile(self, share: float) -> float | None:
        """The value that this share in (0, 1] of the numbers does not exceed (nearest rank); None of no numbers."""
        rank = max(1, ceil(share * self.count))
        for value, seen in self._cumulated():
            if seen >= rank:
                return value
        return None

    def count_up_to(self, limits: Sequence[float]) -> list[int]:
        """How many numbers do not exceed each limit, which ascend; exact to within RELATIVE_ERROR of the limit."""
        cumulated = list(self._cumulated())
        return [max((seen for value, seen in cumulated if value <= limit), default=0) for limit in limits]

    def encoded(self) -> list[float]:
        """Compact JSON: the sum, then bucket and count in turn."""
        flat: list[float] = [round(self.sum, 3)]
        for item in self._buckets.items():
            flat += item
        return flat

    @classmethod
    def decoded(cls, flat: Sequence[float]) -> "Histogram":
        histogram = cls()
        histogram.sum = flat[0]
        histogram._buckets = {int(place): int(n) for place, n in zip(flat[1::2], flat[2::2], strict=True)}
        histogram.count = sum(histogram._buckets.values())
        return histogram

    def _cumulated(self) -> Iterator[tuple[float, int]]:
        """(value of a bucket, how many numbers lie in it or below), ascending."""
        seen = 0
        for place in sorted(self._buckets):
            seen += self._buckets[place]
            upper = SMALLEST * GROWTH ** (place - 1)
            yield (2 * upper / (GROWTH + 1) if place else 0.0), seen
