"""docs/costs.md: fresh, and right where one can reckon it by hand."""

import pytest

from scripts.costs import PAGE, Month, bill, page


def test_page_is_fresh() -> None:
    """What `python -m scripts.costs` would write is what is there."""
    assert PAGE.read_text() == page()


def test_small_month_is_the_plan_alone() -> None:
    """Within what the plan includes, and no call of the cloud."""
    costs = bill(Month(requests=100_000, hit_rate=0.5, edge_share=1.0))

    assert sum(costs.values()) == costs["paid plan"] == 5.0


def test_month_by_hand() -> None:
    """20 million requests, half of them hits, all misses to the cloud."""
    costs = bill(Month(requests=20e6, hit_rate=0.5, edge_share=0.0, memory_share=0.0))

    assert costs["requests"] == pytest.approx(10 * 0.30)
    assert costs["KV reads"] == pytest.approx(10 * 0.50)
    assert costs["KV writes"] == pytest.approx(9 * 5.00)
    assert costs["cloud provider"] == pytest.approx(10e6 * (250 * 0.15 + 150 * 0.60) / 1e6)
    assert costs["Workers AI"] == 0.0
