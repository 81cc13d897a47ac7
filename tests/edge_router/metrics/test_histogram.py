"""How near the percentiles of a histogram are to the exact ones."""

import json
import random
from collections.abc import Callable
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.metrics.histogram import LARGEST, RELATIVE_ERROR, SMALLEST, Histogram

DRAWS: dict[str, Callable[[random.Random], float]] = {
    "log-normal": lambda rng: rng.lognormvariate(5, 1.2),
    "uniform": lambda rng: rng.uniform(0.1, 30_000),
    "two humps": lambda rng: rng.gauss(40, 3) if rng.random() < 0.9 else rng.gauss(2500, 100),
    "pareto": lambda rng: 10 * rng.paretovariate(1.1),
}


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def exact(values: list[float], share: float) -> float:
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


@pytest.mark.parametrize("name", DRAWS)
def test_percentiles_of_many(name: str) -> None:
    """Of 100,000 samples in ten merged histograms: within RELATIVE_ERROR, which is below 1 %, of the exact ones."""
    rng = random.Random(name)
    values = [DRAWS[name](rng) for _ in range(100_000)]
    whole = Histogram()
    for part in range(10):
        whole.merge(Histogram.decoded(json.loads(json.dumps(histogram_of(values[part::10]).encoded()))))

    for share in (0.5, 0.9, 0.95, 0.99, 0.999):
        assert whole.percentile(share) == pytest.approx(exact(values, share), rel=RELATIVE_ERROR * 1.0001)
    assert whole.count == 100_000
    assert whole.sum == pytest.approx(sum(min(value, LARGEST) for value in values), rel=1e-6)
    assert RELATIVE_ERROR < 0.01
    assert len(json.dumps(whole.encoded())) < 8000


@given(
    st.lists(st.floats(SMALLEST * 1.0001, LARGEST), min_size=1, max_size=50),
    st.floats(0.001, 1),
)
def test_percentile_of_few(values: list[float], share: float) -> None:
    """The error does not depend on how many there are, or how they are spread."""
    assert histogram_of(values).percentile(share) == pytest.approx(exact(values, share), rel=RELATIVE_ERROR * 1.0001)


@given(st.lists(st.floats(0, LARGEST), max_size=30), st.lists(st.floats(0, LARGEST), max_size=30))
def test_merging(some: list[float], more: list[float]) -> None:
    """Says the same as if all had been in one from the beginning."""
    merged, together = histogram_of(some), histogram_of(some + more)
    merged.merge(histogram_of(more))

    assert sorted(merged.encoded()[1:]) == sorted(together.encoded()[1:])
    assert merged.percentile(0.95) == together.percentile(0.95)


def test_no_numbers() -> None:
    """Have no percentile."""
    assert Histogram().percentile(0.5) is None
    assert Histogram().count_up_to([1, 2]) == [0, 0]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_can_not_be(value: float) -> None:
    """Is not counted."""
    assert histogram_of([value]).count == 0


def test_ends() -> None:
    """A clock that did not move reads 0; what is too large counts as the largest."""
    assert histogram_of([0.0]).percentile(1) == 0.0
    assert histogram_of([LARGEST * 5]).percentile(1) == pytest.approx(LARGEST, rel=RELATIVE_ERROR * 1.0001)


def test_counts_up_to_limits() -> None:
    """As Prometheus wants its buckets: cumulated."""
    assert histogram_of([1, 20, 20, 300]).count_up_to([10, 100, 1000]) == [1, 3, 4]
