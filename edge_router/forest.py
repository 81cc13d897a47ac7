"""Regression trees over numbers, summed without walking them one by one.

After Lucchese et al., "QuickScorer" (SIGIR 2015): each tree's leaves are bits of one long number. A number that is
above a node's threshold rules the leaves on its low side out; the lowest bit that is left in a tree is its leaf. What
the thresholds of one number rule out is looked up for all trees at once, and the rest is a few operations in C.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import reduce
from operator import and_, getitem
from typing import Final, Literal, TypeAlias

# A leaf is its value; else (which number, threshold, node when at most that, node when more).
Node: TypeAlias = "float | tuple[int, float, Node, Node]"

_Lane = tuple[int, Literal["H", "I", "Q"]]
_LANES: Final[tuple[_Lane, ...]] = ((16, "H"), (32, "I"), (64, "Q"))  # a tree's bits; as memoryview calls them


class Forest:
    """Some trees of at most 64 leaves each. Raises ValueError for one with more."""

    def __init__(self, trees: Sequence[Node]) -> None:
        leaves = max(map(_leaves, trees), default=1)
        lane = next((lane for lane in _LANES if leaves <= lane[0]), None)
        if lane is None:
            raise ValueError(f"a tree has at most 64 leaves, got {leaves}")
        self._bits, self._format = lane
        self._all = (1 << self._bits * len(trees)) - 1
        self._ones = sum(1 << self._bits * place for place in range(len(trees)))
        self._bytes = self._bits // 8 * len(trees)
        self._values: list[dict[int, float]] = [{} for _ in trees]
        rules: dict[int, list[tuple[float, int]]] = {}
        for place, tree in enumerate(trees):
            self._add(tree, place, 0, rules)
        self._numbers = sorted(rules)
        self._thresholds: list[list[float]] = []
        self._left: list[list[int]] = []
        for number in self._numbers:
            ordered = sorted(rules[number])
            left = [self._all]
            for _, mask in ordered:
                left.append(left[-1] & ~mask)
            self._thresholds.append([threshold for threshold, _ in ordered])
            self._left.append(left)

    def sum(self, numbers: Sequence[float]) -> float:
        """Of the trees' leaves for these numbers."""
        above = map(bisect_left, self._thresholds, [numbers[number] for number in self._numbers])
        left = reduce(and_, map(getitem, self._left, above), self._all)
        lowest = left & ((self._all ^ left) + self._ones)  # in each tree, which always has a bit left
        lanes = memoryview(lowest.to_bytes(self._bytes, "little")).cast(self._format)
        return sum(map(getitem, self._values, lanes))

    def _add(self, node: Node, place: int, first: int, rules: dict[int, list[tuple[float, int]]]) -> int:
        """Notes a node of the tree at this place whose first leaf has this number. How many leaves it has."""
        if isinstance(node, float):
            self._values[place][1 << first] = node
            return 1
        number, threshold, low, high = node
        lows = self._add(low, place, first, rules)
        mask = ((1 << lows) - 1) << first << self._bits * place
        rules.setdefault(number, []).append((threshold, mask))
        return lows + self._add(high, place, first + lows, rules)


def _leaves(node: Node) -> int:
    return 1 if isinstance(node, float) else _leaves(node[2]) + _leaves(node[3])
