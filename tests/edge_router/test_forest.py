"""Trees summed all at once give what walking each of them gives."""

import random
from math import isclose

import pytest

from edge_router.forest import Forest, Node

NUMBERS = 6


def tree(random_: random.Random, leaves: int) -> Node:
    """Any shape with so many leaves; thresholds are few, so that they meet each other and the numbers."""
    if leaves == 1:
        return random_.uniform(-1, 1)
    low = random_.randint(1, leaves - 1)
    threshold = random_.randint(0, 4) / 2
    return random_.randrange(NUMBERS), threshold, tree(random_, low), tree(random_, leaves - low)


def walked(node: Node, numbers: list[float]) -> float:
    while not isinstance(node, float):
        number, threshold, low, high = node
        node = low if numbers[number] <= threshold else high
    return node


@pytest.mark.parametrize("leaves", [1, 2, 16, 17, 33, 64])
def test_sum(leaves: int) -> None:
    """For trees of every size, and numbers below, on and above their thresholds."""
    random_ = random.Random(leaves)
    trees = [tree(random_, random_.randint(1, leaves)) for _ in range(20)] + [tree(random_, leaves)]
    forest = Forest(trees)

    for _ in range(50):
        numbers = [random_.randint(0, 8) / 4 for _ in range(NUMBERS)]
        assert isclose(forest.sum(numbers), sum(walked(each, numbers) for each in trees), abs_tol=1e-12)


def test_no_trees() -> None:
    """Nothing is the sum of nothing."""
    assert Forest([]).sum([1.0]) == 0


def test_too_large_a_tree() -> None:
    """Is refused rather than summed wrongly."""
    with pytest.raises(ValueError, match="at most 64 leaves, got 65"):
        Forest([tree(random.Random(1), 65)])
