"""Fits the pair score: log odds of single words first, then boosted trees of two features, folded into tables."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-not-found,import-untyped,unused-ignore]
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-not-found,import-untyped,unused-ignore]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found,import-untyped,unused-ignore]
from sklearn.model_selection import GroupKFold  # type: ignore[import-not-found,import-untyped,unused-ignore]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-not-found,import-untyped,unused-ignore]

from edge_router.semantic.features import FEATURES, Word, features
from edge_router.semantic.guards import Comparison, compare
from edge_router.semantic.reading import Reading, read_uncached
from edge_router.semantic.weighing import Weights, encoded_words
from scripts.pair_training.data import LabelledPair

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

WORDS = 3_700  # the table's size is what limits it: 64 KiB in all
MIN_PAIRS = 8
RARITY_MIN_TEXTS = 6
WORD_STRENGTH = 0.1  # inverse regularisation
INNER_FOLDS = 5
BINS = 16
TREES = 500
LEARNING_RATE = 0.05
LEAVES = 10
BAGS = 5  # boosted sets whose mean is kept; once folded they cost nothing
FEATURES_PER_SPLIT = 0.6
TABLES = 32
SCALE = 100  # table entries are hundredths of log odds
_SCORED = ("unmatched_score", "shared_score", "token_score")
_UNWRITABLE = set(' "\\\n\t\r\v\f\x1c\x1d\x1e\x1f')
_DENSE = [at for at, name in enumerate(FEATURES) if name not in _SCORED]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pairs as the verifier reads them; labels and groups (pairs that share a text) as arrays."""

    readings: list[tuple[Reading, Reading]]
    comparisons: list[Comparison]
    cosines: Floats
    labels: npt.NDArray[np.bool_]
    groups: Indices


def prepared(
    pairs: Sequence[LabelledPair], cosines: Floats, groups: Sequence[int], step: Callable[[], None]
) -> Prepared:
    readings = []
    comparisons = []
    for pair in pairs:
        one, other = read_uncached(pair.text_a), read_uncached(pair.text_b)
        readings.append((one, other))
        comparisons.append(compare(one, other))
        step()
    labels = np.array([pair.is_same for pair in pairs])
    return Prepared(readings, comparisons, cosines, labels, np.array(groups, np.int64))


def fit(data: Prepared, rows: Indices, *, trees: int = TREES, tables: int = TABLES) -> Weights:
    """Weights from the pairs `rows` alone."""
    rarity, rarest = _rarities(data, rows)
    dense = _matrix(
        data, rows, {word: (value, 0.0, 0.0, 0.0) for word, value in rarity.items()}, (rarest, 0.0, 0.0, 0.0)
    )
    scored = np.zeros((len(rows), 3))
    for inside, outside in GroupKFold(INNER_FOLDS).split(rows, groups=data.groups[rows]):
        found, unseen = _fit_words(data, rows[inside], dense[inside], rarity, rarest)
        scored[outside] = _matrix(data, rows[outside], found, unseen)[:, -3:]
    words, unseen = _fit_words(data, rows, dense, rarity, rarest)
    dense[:, -3:] = scored
    labels = data.labels[rows]
    every = [[one, other] for one in range(len(FEATURES)) for other in range(one + 1, len(FEATURES))]
    chosen = _strongest(_boosted(dense, labels, every, max(trees // 2, 50)), dense, tables)
    edges, folded, bias = _folded([_boosted(dense, labels, chosen, trees, seed=seed) for seed in range(BAGS)])
    return Weights(words=words, unseen=unseen, edges=edges, tables=folded, bias=bias)


def _rarities(data: Prepared, rows: Indices) -> tuple[dict[str, float], float]:
    texts: Counter[str] = Counter()
    for row in rows:
        for reading in data.readings[row]:
            texts.update(reading.bag)
    total = 2 * len(rows)
    known = {word: -math.log(count / total) for word, count in texts.items() if count >= RARITY_MIN_TEXTS}
    return known, -math.log(RARITY_MIN_TEXTS / 2 / total)


def _matrix(data: Prepared, rows: Indices, words: dict[str, Word], unseen: Word) -> Floats:
    return np.array(
        [_features_of(data, int(row), words, unseen) for row in rows],
        np.float64,
    )


def _features_of(data: Prepared, row: int, words: dict[str, Word], unseen: Word) -> list[float]:
    one, other = data.readings[row]
    return features(one, other, data.comparisons[row], float(data.cosines[row]), words, unseen)


def _signs(data: Prepared, row: int) -> list[str]:
    """The words of a pair by the part they play: u in one text alone, s in both, t a token in one text alone."""
    one, other = data.readings[row]
    comparison = data.comparisons[row]
    return [
        *(f"u{word}" for word in (*comparison.left, *comparison.right)),
        *(f"s{word}" for word in comparison.shared),
        *(f"t{token}" for token in sorted(set(one.tokens) ^ set(other.tokens))),
    ]


def _fit_words(
    data: Prepared, rows: Indices, dense: Floats, rarity: dict[str, float], rarest: float
) -> tuple[dict[str, Word], Word]:
    """Log odds by word, beside the dense features so that they say only what those do not; quantised as stored."""
    signs = [_signs(data, row) for row in rows]
    pairs = Counter(sign for each in signs for sign in set(each))
    columns = {sign: at for at, sign in enumerate(sorted(sign for sign, count in pairs.items() if count >= MIN_PAIRS))}
    unknown = len(columns)
    at_row: list[int] = []
    at_column: list[int] = []
    for row, each in enumerate(signs):
        for sign in each:
            column = columns.get(sign, unknown if sign[0] == "u" else -1)
            if column >= 0:
                at_row.append(row)
                at_column.append(column)
    counts = sparse.csr_matrix((np.ones(len(at_row)), (at_row, at_column)), shape=(len(rows), unknown + 1))
    scaled = sparse.csr_matrix(StandardScaler().fit_transform(dense[:, _DENSE]))
    model = LogisticRegression(C=WORD_STRENGTH, solver="liblinear", max_iter=200, random_state=0)
    model.fit(sparse.hstack([scaled, counts]).tocsr(), data.labels[rows])
    weights = model.coef_[0][len(_DENSE) :]
    of = {sign: float(weights[column]) for sign, column in columns.items()}
    names = {sign[1:] for sign in of} | set(rarity)
    unseen: Word = (rarest, float(weights[unknown]), 0.0, 0.0)

    def entry(name: str) -> Word:
        return (
            rarity.get(name, rarest),
            of.get(f"u{name}", unseen[1]),
            of.get(f"s{name}", 0.0),
            of.get(f"t{name}", 0.0),
        )

    def weight(name: str) -> float:
        """How much the score would change over the data were the word not in the table."""
        rare, one, both, token = entry(name)
        return (
            pairs[f"u{name}"] * (abs(one - unseen[1]) + 0.1 * abs(rare - rarest))
            + pairs[f"s{name}"] * (abs(both) + 0.1 * abs(rare - rarest))
            + pairs[f"t{name}"] * abs(token)
        )

    kept = sorted(sorted(names), key=weight, reverse=True)[:WORDS]
    return encoded_words({name: entry(name) for name in kept if name.isascii() and not set(name) & _UNWRITABLE}, unseen)


def _boosted(
    matrix: Floats, labels: npt.NDArray[np.bool_], pairs: list[list[int]], trees: int, *, seed: int = 0
) -> Any:
    model = HistGradientBoostingClassifier(
        max_iter=trees,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=40,
        max_bins=BINS,
        l2_regularization=1.0,
        interaction_cst=pairs,
        early_stopping=False,
        max_features=FEATURES_PER_SPLIT,
        random_state=seed,
    )
    return model.fit(matrix, labels)


def _tree_tables(model: Any) -> tuple[list[Floats], dict[tuple[int, int], Floats]]:
    """The sum of the trees as tables. The way to a leaf asks for two features at most: a box in their table of bins."""
    edges = [np.asarray(each, np.float64) for each in model._bin_mapper.bin_thresholds_]
    tables: dict[tuple[int, int], Floats] = {}
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        open_nodes: list[tuple[int, dict[int, tuple[int, int]]]] = [(0, {})]
        while open_nodes:
            at, box = open_nodes.pop()
            node = nodes[at]
            if not node["is_leaf"]:
                feature, last = int(node["feature_idx"]), int(node["bin_threshold"])
                low, high = box.get(feature, (0, len(edges[feature]) + 1))
                open_nodes.append((int(node["left"]), {**box, feature: (low, min(high, last + 1))}))
                open_nodes.append((int(node["right"]), {**box, feature: (max(low, last + 1), high)}))
                continue
            used = sorted(box)
            one, other = used[0], used[-1]
            size_other = len(edges[other]) + 1 if one != other else 1
            table = tables.setdefault((one, other), np.zeros((len(edges[one]) + 1, size_other)))
            columns = slice(*box[other]) if one != other else slice(None)
            table[slice(*box[one]), columns] += node["value"]
    return edges, tables


def _strongest(model: Any, matrix: Floats, count: int) -> list[list[int]]:
    """The pairs of features whose tables move the score most; every feature kept may also stand alone."""
    edges, tables = _tree_tables(model)
    binned = [np.searchsorted(edges[at], matrix[:, at], side="left") for at in range(matrix.shape[1])]
    spread = {
        (one, other): float(np.std(table[binned[one], binned[other] if one != other else 0]))
        for (one, other), table in tables.items()
        if one != other
    }
    chosen = sorted(sorted(spread), key=lambda pair: spread[pair], reverse=True)[:count]
    paired = {feature for pair in chosen for feature in pair}
    # Named alone, or scikit-learn would let all the features left out meet each other.
    return [
        *(list(pair) for pair in chosen),
        *([feature] for feature in range(matrix.shape[1]) if feature not in paired),
    ]


def _folded(
    models: list[Any],
) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[int, int, tuple[int, ...]], ...], int]:
    edges, _ = _tree_tables(models[0])
    summed: dict[tuple[int, int], Floats] = {}
    for model in models:  # the bins are the data's, so they are the same for all
        for pair, table in _tree_tables(model)[1].items():
            summed[pair] = summed[pair] + table if pair in summed else table
    tables = {pair: table / len(models) for pair, table in summed.items()}
    alone = {one: table for (one, other), table in tables.items() if one == other}
    folded: dict[tuple[int, int], Floats] = {}
    for (one, other), table in sorted(tables.items()):
        if one != other:
            if one in alone:
                table = table + alone.pop(one)
            if other in alone:
                table = table + alone.pop(other).T
            folded[one, other] = table
    for one, table in alone.items():
        folded[one, one] = table
    used = {feature for pair in folded for feature in pair}
    bias = round(float(models[0]._baseline_prediction.ravel()[0]) * SCALE)
    return (
        tuple(tuple(float(f"{edge:.5g}") for edge in each) if at in used else () for at, each in enumerate(edges)),
        tuple(
            (one, other, tuple(int(value) for value in np.rint(table * SCALE).ravel()))
            for (one, other), table in sorted(folded.items())
        ),
        bias,
    )
