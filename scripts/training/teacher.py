"""What the small run-time model is taught by: kernel ridge regression on words, parts of words and numbers.

The target is strong_score - weak_score without the level of its benchmark, which depends on the pair of models compared
and says nothing of the prompt. Prompts of one shape share most of what is learned, all prompts share the rest.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group train
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-not-found,import-untyped,unused-ignore]
from sklearn.feature_extraction.text import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    TfidfVectorizer,
)

from edge_router.text_features import SHAPES, TextFeatures

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Chosen by cross-validation on the 80 % of the rows that are not the test split: docs/router.md, "Training".
SHARED = 0.3  # weight of what all shapes have in common
RIDGE = 30.0
RBF_WIDTH = 0.5
LINEAR = 0.3  # of the numbers, beside the RBF
WORDS = (1, 2)  # words in a row
WORD_TEXTS = 2  # a word in fewer texts is left out
PARTS = (2, 5)  # characters of a part of a word
PART_TEXTS = 3
MOST_PARTS = 200_000
CLIP = 4.0  # standard deviations
LEVEL_RIDGE = 5.0  # rows' worth of doubt that a shape differs from the others
MAX_ROWS = 12_000  # the kernel is rows x rows


@dataclass(frozen=True, slots=True)
class Scaling:
    """Numbers to standard deviations; a column that never changes is left out."""

    mean: Array
    deviation: Array
    kept: Mask

    @classmethod
    def of(cls, numbers: Array) -> "Scaling":
        deviation = numbers.std(axis=0)
        kept = deviation > 1e-6
        return cls(numbers.mean(axis=0)[kept], deviation[kept], kept)

    def apply(self, numbers: Array) -> Array:
        scaled: Array = np.clip((numbers[:, self.kept] - self.mean) / self.deviation, -CLIP, CLIP)
        return scaled / math.sqrt(max(1, scaled.shape[1]))


@dataclass(frozen=True, slots=True)
class Teacher:
    """word_weights: one row a shape, for rows of `word_matrix`."""

    word_weights: Array
    levels: Array
    whole: Scaling
    scalings: tuple[Scaling | None, ...]
    numbers: Array
    shapes: npt.NDArray[np.int64]
    alpha: Array

    def numbers_part(self, shape: int, numbers: Array) -> Array:
        """What the numbers alone say of prompts of this shape."""
        weight = self.alpha
        total = SHARED * (_rbf(self.whole.apply(numbers), self.whole.apply(self.numbers)) @ weight)
        scaling = self.scalings[shape]
        if scaling is None:
            return total
        mine = self.shapes == shape
        left, right = scaling.apply(numbers), scaling.apply(self.numbers[mine])
        within: Array = (_rbf(left, right) + LINEAR * (left @ right.T)) @ weight[mine]
        return total + (1 - SHARED) * within


def vocabulary_of(texts: Sequence[TextFeatures], *, at_least: int, most: int) -> dict[str, int]:
    """The commonest terms that at least so many of the texts have, to their column."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.terms())
    kept = sorted((term for term, count in counts.items() if count >= at_least), key=lambda term: (-counts[term], term))
    return {term: column for column, term in enumerate(sorted(kept[:most]))}


def term_matrix(texts: Sequence[TextFeatures], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """A row of norm 1 for each text that has a known term."""
    columns = [[vocabulary[term] for term in text.terms() if term in vocabulary] for text in texts]
    lengths = np.array([len(row) for row in columns])
    values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths)
    indices = np.fromiter((column for row in columns for column in row), dtype=np.int64, count=int(lengths.sum()))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((values, indices, starts), shape=(len(texts), len(vocabulary)))


def word_matrix(prompts: Sequence[str]) -> sparse.csr_matrix:
    """Words and pairs, and runs of characters within words, so that related words get related rows. By
    TF-IDF, each a row of norm 1.
    """
    words = TfidfVectorizer(ngram_range=WORDS, min_df=WORD_TEXTS if len(prompts) > WORD_TEXTS else 1, sublinear_tf=True)
    parts = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=PARTS,
        min_df=PART_TEXTS if len(prompts) > PART_TEXTS else 1,
        max_features=MOST_PARTS,
        sublinear_tf=True,
    )
    # The word keeps a file of prompts without any from being an error.
    texts = [f"{prompt} aa" for prompt in prompts]
    return sparse.hstack([words.fit_transform(texts), parts.fit_transform(texts)]).tocsr()


def number_matrix(texts: Sequence[TextFeatures]) -> Array:
    return np.array([text.numbers for text in texts], dtype=np.float64)


def shape_codes(texts: Sequence[TextFeatures]) -> npt.NDArray[np.int64]:
    return np.array([SHAPES.index(text.shape) for text in texts], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Examples:
    """What is learned from, one row a prompt. products: of the rows of words. gains: strong_score - weak_score."""

    words: sparse.csr_matrix
    products: npt.NDArray[np.float32] | None
    numbers: Array
    shapes: npt.NDArray[np.int64]
    benchmarks: Sequence[str]
    gains: Array


def fit(examples: Examples) -> Teacher:
    words, numbers, shapes = examples.words, examples.numbers, examples.shapes
    products = (words @ words.T).toarray() if examples.products is None else examples.products
    fitted, level = levels(examples.benchmarks, shapes, examples.gains)
    whole = Scaling.of(numbers)
    same = shapes[:, None] == shapes[None, :]
    kernel = np.where(same, products, SHARED * products).astype(np.float64)
    scaled = whole.apply(numbers)
    kernel += SHARED * _rbf(scaled, scaled)
    scalings: list[Scaling | None] = []
    for shape in range(len(SHAPES)):
        rows = np.flatnonzero(shapes == shape)
        if not rows.size:
            scalings.append(None)
            continue
        scaling = Scaling.of(numbers[rows])
        scaled = scaling.apply(numbers[rows])
        kernel[np.ix_(rows, rows)] += (1 - SHARED) * (_rbf(scaled, scaled) + LINEAR * (scaled @ scaled.T))
        scalings.append(scaling)
    kernel[np.diag_indices_from(kernel)] += RIDGE
    alpha: Array = cho_solve(
        cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False), examples.gains - fitted
    )
    return Teacher(
        _weights(words, shapes, alpha),
        level,
        whole,
        tuple(scalings),
        numbers,
        shapes,
        alpha,
    )


def _weights(matrix: sparse.csr_matrix, shapes: npt.NDArray[np.int64], alpha: Array) -> Array:
    shared = matrix.T @ alpha
    return np.array(
        [
            SHARED * shared + (1 - SHARED) * (matrix[shapes == shape].T @ alpha[shapes == shape])
            for shape in range(len(SHAPES))
        ]
    )


def levels(benchmarks: Sequence[str], shapes: npt.NDArray[np.int64], gains: Array) -> tuple[Array, Array]:
    """Each row's mean gain by benchmark + shape, and the shapes' share of it."""
    names = sorted(set(benchmarks))
    design = np.zeros((len(gains), len(names) + len(SHAPES)))
    design[np.arange(len(gains)), [names.index(name) for name in benchmarks]] = 1
    design[np.arange(len(gains)), len(names) + shapes] = 1
    doubt = np.diag([1e-3] * len(names) + [LEVEL_RIDGE] * len(SHAPES))
    solved = np.asarray(np.linalg.solve(design.T @ design + doubt, design.T @ gains), dtype=np.float64)
    fitted: Array = design @ solved
    return fitted, solved[len(names) :]


def _rbf(left: Array, right: Array) -> Array:
    distance = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * (left @ right.T)
    out: Array = np.exp(-RBF_WIDTH * distance)
    return out
