"""The simulated cascade: its curve against a count by hand, and what can never be."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from scripts.training.cascade import World, cascade, routing, simulated
from scripts.training.rows import Row

WORLD = World(
    right=np.array([False, False, True, True]),
    strong=np.array([1.0, 0.5, 1.0, 0.0]),
    caught=np.array([True, True, True, True]),
    misjudged=np.array([False, False, False, False]),
    chances=np.array([0.0, 0.9, 0.0, 0.0]),
    luck=np.array([0.0, 0.0, 0.9, 0.0]),
)


def test_routing_alone() -> None:
    """Nothing to the cloud: the edge's quality for the edge's cost; all of it: the cloud's for the cloud's."""
    line = routing(WORLD, edge_cost=0.1)

    assert (line.qualities[0], line.costs[0]) == pytest.approx((0.5, 0.1))
    assert (line.qualities[-1], line.costs[-1]) == pytest.approx((0.625, 1.0))


def test_cascade_pays_twice_for_what_it_escalates() -> None:
    """Of four, the first is wrong and shows it, the last is right and looks as if it were not."""
    rejected = WORLD.rejected(visible=0.5, odd=0.5)
    line = cascade(WORLD, rejected, edge_cost=0.1)

    assert rejected.tolist() == [True, False, False, True]
    assert line.costs[0] == pytest.approx(0.1 + 2 / 4)
    assert line.qualities[0] == pytest.approx((1.0 + 0 + 1 + 0.0) / 4)


def test_cascade_without_visible_faults_is_routing() -> None:
    """Then the verifier rejects nothing."""
    alone = routing(WORLD, edge_cost=0.1)
    line = cascade(WORLD, WORLD.rejected(visible=0.0, odd=0.0), edge_cost=0.1)

    assert line.qualities.tolist() == alone.qualities.tolist()
    assert line.costs.tolist() == alone.costs.tolist()


def test_simulated_world() -> None:
    """The hardest prompt first; the real verifier catches bad texts and lets ordinary ones pass."""
    rows = [Row(number, f"What is the meaning of item {number}?", weak=number % 2, strong=1.0) for number in range(40)]
    scores = np.arange(40.0)

    world = simulated(rows, scores)

    assert world.right.tolist() == [number % 2 == 1 for number in reversed(range(40))]
    assert world.caught.all()
    assert not world.misjudged.any()
