"""The small run-time model that says what the teacher says: its term weights as bytes, its numbers part as trees."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group train
from sklearn.ensemble import (  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group train
    GradientBoostingRegressor,
)
from sklearn.linear_model import Ridge  # type: ignore[import-not-found,import-untyped,unused-ignore]

from edge_router.forest import Node
from edge_router.learned import WEIGHT_STEPS, ShapeModel
from edge_router.text_features import SHAPES, TextFeatures
from scripts.training.teacher import Array, Teacher, number_matrix, shape_codes, term_matrix

TREES = 64
DEPTH = 4
LEARNING_RATE = 0.2
COLUMNS_TRIED = 0.35  # of the numbers, at each split
SMALLEST_LEAF = 20
WORDS_RIDGE = 0.3
OTHER_SHAPES = 0.3  # weight of a prompt of another shape, when words are fitted
EXAMPLES = 6000  # for the trees of one shape; real prompts first, then mixtures of two
MOST_REAL = 5000
SWAPPED = 0.25  # of the numbers of a mixture come from the other prompt
SEED = 0


def distil(
    teacher: Teacher,
    texts: Sequence[TextFeatures],
    vocabulary: dict[str, int],
    words: sparse.csr_matrix,
    *,
    trees: int = TREES,
) -> list[ShapeModel]:
    """One model a shape. texts: any prompts, with scores or without. words: of the same, for the teacher."""
    terms, numbers, shapes = term_matrix(texts, vocabulary), number_matrix(texts), shape_codes(texts)
    models = []
    for shape in range(len(SHAPES)):
        # Parts of words and rare ones take too long to look up at run time: what they say is put into the common words.
        in_words = Ridge(alpha=WORDS_RIDGE, solver="sparse_cg", tol=1e-6).fit(
            terms,
            words @ teacher.word_weights[shape],
            sample_weight=np.where(shapes == shape, 1.0, OTHER_SHAPES),
        )
        scale, steps = _quantised(in_words.coef_)
        models.append(
            ShapeModel(
                level=float(teacher.levels[shape] + in_words.intercept_),
                term_scale=scale,
                term_steps=dict(zip(vocabulary, steps, strict=True)),
                trees=_trees(teacher, shape, _examples(numbers, shapes, shape), trees),
            )
        )
    return models


def _quantised(weights: Array) -> tuple[float, list[int]]:
    scale = float(np.abs(weights).max(initial=0.0)) / WEIGHT_STEPS or 1.0
    return scale, [int(step) for step in np.rint(weights / scale)]


def _examples(numbers: Array, shapes: npt.NDArray[np.int64], shape: int) -> Array:
    real = numbers[shapes == shape]
    if not len(real):
        real = numbers
    generator = np.random.default_rng(SEED)
    if len(real) > MOST_REAL:
        real = real[np.sort(generator.choice(len(real), MOST_REAL, replace=False))]
    count = EXAMPLES - len(real)
    mixed = real[generator.integers(len(real), size=count)]
    others = real[generator.integers(len(real), size=count)]
    return np.vstack([real, np.where(generator.random(mixed.shape) < SWAPPED, others, mixed)])


def _trees(teacher: Teacher, shape: int, examples: Array, count: int) -> tuple[Node, ...]:
    target = teacher.numbers_part(shape, examples)
    boosted = GradientBoostingRegressor(
        n_estimators=count,
        learning_rate=LEARNING_RATE,
        max_depth=DEPTH,
        min_samples_leaf=SMALLEST_LEAF,
        max_features=COLUMNS_TRIED,
        random_state=SEED,
    ).fit(examples, target)
    start = float(target.mean())
    return (float(np.float32(start)), *(_node(tree.tree_, 0) for tree in boosted.estimators_[:, 0]))


def _node(tree: "_Tree", at: int) -> Node:
    if tree.children_left[at] < 0:
        return float(np.float32(LEARNING_RATE * tree.value[at, 0, 0]))
    return (
        int(tree.feature[at]),
        float(np.float32(tree.threshold[at])),
        _node(tree, tree.children_left[at]),
        _node(tree, tree.children_right[at]),
    )


class _Tree:
    """What is read of scikit-learn's tree."""

    children_left: Sequence[int]
    children_right: Sequence[int]
    feature: Sequence[int]
    threshold: Sequence[float]
    value: Array
