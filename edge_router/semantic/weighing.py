"""The learned score of a pair: tables over two features each, and how they are kept as data (weights.py)."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from .features import FEATURES, Word

FORMAT: Final = 1

_LETTERS: Final = "".join(chr(code) for code in range(35, 127) if chr(code) != "\\")
_RARITY_STEP: Final = 0.15
_ODDS_STEP: Final = 0.05
_ODDS_ZERO: Final = len(_LETTERS) // 2
_SCALE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Weights:
    """words, unseen: see `features.Word`. edges: by feature, upper ends of its bins but the last.

    tables: (feature, other feature, hundredths of log odds by bin of the one and the other); the same feature twice for
    a table of one. bias: hundredths of log odds.
    """

    words: Mapping[str, Word]
    unseen: Word
    edges: tuple[tuple[float, ...], ...]
    tables: tuple[tuple[int, int, tuple[int, ...]], ...]
    bias: int


class PairScore:
    """The learned score of one set of weights. Holds nothing else: safe to share. Scope: any."""

    def __init__(self, weights: Weights) -> None:
        self.words: Final = dict(weights.words)
        self.unseen: Final = weights.unseen
        self._edges = [(at, edges) for at, edges in enumerate(weights.edges) if edges]
        alone = len(FEATURES)  # a bin that is always 0
        self._tables = [
            (one, alone, 1, table) if one == other else (one, other, len(weights.edges[other]) + 1, table)
            for one, other, table in weights.tables
        ]
        self._bias = weights.bias

    def chance(self, values: list[float]) -> float:
        """Probability of the same question by the training labels; values: in the order of FEATURES."""
        bins = [0] * (len(values) + 1)
        for at, edges in self._edges:
            bins[at] = bisect_left(edges, values[at])
        total = self._bias
        for one, other, width, table in self._tables:
            total += table[bins[one] * width + bins[other]]
        return 1.0 / (1.0 + math.exp(-total / _SCALE))


def load_weights(module: ModuleType) -> Weights:
    """Raises ValueError when the weights were made for another version of this code."""
    if module.FORMAT != FORMAT:
        raise ValueError(
            f"pair weights have format {module.FORMAT}, this code reads {FORMAT}; run scripts/train_semantic"
        )
    if tuple(module.FEATURES.split()) != FEATURES:
        raise ValueError("pair weights were trained on other features; run scripts/train_semantic")
    unseen = _decoded(module.UNSEEN)
    return Weights(
        words={entry[:-4]: _decoded(entry[-4:]) for entry in module.WORDS.split(" ") if entry},
        unseen=unseen,
        edges=tuple(tuple(float(edge) for edge in line.split()) for line in module.EDGES.split("\n")),
        tables=tuple(_table(line) for line in module.TABLES.splitlines()),
        bias=module.BIAS,
    )


def _table(line: str) -> tuple[int, int, tuple[int, ...]]:
    one, other, *values = map(int, line.split())
    return one, other, tuple(values)


def _decoded(letters: str) -> Word:
    rare, *odds = map(_LETTERS.index, letters)
    one, both, token = ((level - _ODDS_ZERO) * _ODDS_STEP for level in odds)
    return rare * _RARITY_STEP, one, both, token


def _encoded(word: Word) -> str:
    levels = [round(word[0] / _RARITY_STEP), *(round(odds / _ODDS_STEP) + _ODDS_ZERO for odds in word[1:])]
    return "".join(_LETTERS[min(max(level, 0), len(_LETTERS) - 1)] for level in levels)


def encoded_words(words: Mapping[str, Word], unseen: Word) -> tuple[dict[str, Word], Word]:
    """The words as they come back from a weights file."""
    return {name: _decoded(_encoded(word)) for name, word in words.items()}, _decoded(_encoded(unseen))


def weights_source(weights: Weights, note: Iterable[str]) -> str:
    """The text of a weights file: weights.py."""
    words = [name + _encoded(word) for name, word in sorted(weights.words.items())]
    edges = [
        " ".join(f"{edge:g}" if f"{edge:g}" == f"{edge:.5g}" else f"{edge:.5g}" for edge in each)
        for each in weights.edges
    ]
    tables = [f"{one} {other} {' '.join(map(str, values))}" for one, other, values in weights.tables]
    lines = [
        '"""Weights of the pair verifier, written by scripts/train_semantic; not to be edited.',
        "",
        *note,
        '"""',
        "# ruff: noqa: E501",
        "",
        f"FORMAT = {FORMAT}",
        f'FEATURES = "{" ".join(FEATURES)}"',
        f"BIAS = {weights.bias}",
        f'UNSEEN = "{_encoded(weights.unseen)}"',
        "WORDS = (",
        *(f'    "{chunk} "' for chunk in _wrapped(words)),
        ")",
        'EDGES = """' + "\n".join(edges) + '"""',
        'TABLES = """' + "\n".join(tables) + '"""',
    ]
    return "\n".join(lines) + "\n"


def _wrapped(words: list[str]) -> Iterable[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) > 2_000:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line
