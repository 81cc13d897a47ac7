"""From rows to weights: teacher, student, calibration. Deterministic: same rows, same weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group train

from edge_router import text_features
from edge_router.learned import ShapeModel, Weights
from edge_router.text_features import SHAPES, TextFeatures
from scripts.training import teacher as teaching
from scripts.training.metrics import curve
from scripts.training.rows import Row, fold_of
from scripts.training.student import distil

Array = npt.NDArray[np.float64]

MOST_TERMS = 8000
TERM_TEXTS = 4  # a term in fewer texts is noise; 2 where there are few texts
FEW_TEXTS = 1000
QUANTILES = 101
NEWTON_STEPS = 25
SLOPE_DOUBT = 1.0  # ridge of the calibration: keeps it finite where a few rows are split perfectly


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows with what is read of them, so that many fits read each prompt once.

    words: of `teaching.word_matrix`; products: their dot products, pair by pair, or None where nobody needs them.
    """

    rows: list[Row]
    features: list[TextFeatures]
    words: sparse.csr_matrix
    products: npt.NDArray[np.float32] | None

    def select(self, kept: Sequence[bool]) -> "Corpus":
        places = np.flatnonzero(kept)
        return Corpus(
            [self.rows[place] for place in places],
            [self.features[place] for place in places],
            self.words[places],
            None if self.products is None else self.products[np.ix_(places, places)],
        )


def read_corpus(scored: Sequence[Row], only_seen: Sequence[Row]) -> tuple[Corpus, Corpus]:
    """The rows with scores and those without."""
    words = teaching.word_matrix([row.prompt for row in (*scored, *only_seen)])
    texts = [text_features.read(row.prompt) for row in (*scored, *only_seen)]
    count = len(scored)
    products = (words[:count] @ words[:count].T).toarray().astype(np.float32)
    return (
        Corpus(list(scored), texts[:count], words[:count], products),
        Corpus(list(only_seen), texts[count:], words[count:], None),
    )


def models_of(corpus: Corpus, extra: Corpus, *, trees: int) -> list[ShapeModel]:
    """corpus: rows with scores. extra: rows without."""
    texts = [*corpus.features, *extra.features]
    at_least = TERM_TEXTS if len(texts) >= FEW_TEXTS else 2
    vocabulary = teaching.vocabulary_of(texts, at_least=at_least, most=MOST_TERMS)
    numbers, shapes = teaching.number_matrix(texts), teaching.shape_codes(texts)
    count = len(corpus.rows)
    teacher = teaching.fit(
        teaching.Examples(
            corpus.words,
            corpus.products,
            numbers[:count],
            shapes[:count],
            [row.benchmark for row in corpus.rows],
            np.array([row.gain for row in corpus.rows]),
        )
    )
    words = sparse.vstack([corpus.words, extra.words]).tocsr()
    return distil(teacher, texts, vocabulary, words, trees=trees)


def gains_of(models: Sequence[ShapeModel], texts: Sequence[TextFeatures]) -> Array:
    by_shape = dict(zip(SHAPES, models, strict=True))
    return np.array([by_shape[text.shape].gain(text) for text in texts])


def calibrated(models: Sequence[ShapeModel], unseen_gains: Array, rows: Sequence[Row]) -> Weights:
    """unseen_gains: of each row, by models that were not trained on it."""
    slope, intercept = logistic_fit(unseen_gains, np.array([float(row.gain > 0) for row in rows]))
    scores = 1 / (1 + np.exp(-(slope * unseen_gains + intercept)))
    kept = np.linspace(0, 1, QUANTILES)
    quantiles = np.quantile(scores, kept)
    found = curve(list(scores), [row.weak or 0.0 for row in rows], [row.strong or 0.0 for row in rows])
    recovered = [1 - float(share) if found is None else found.at(1 - float(share)) for share in kept]
    return Weights(
        tuple(models),
        slope,
        intercept,
        tuple(round(float(value), 6) for value in quantiles),
        tuple(round(value, 4) for value in recovered),
    )


def logistic_fit(values: Array, happened: Array) -> tuple[float, float]:
    """Slope and intercept of P(happened | value), by Newton's method. The slope is above 0: no order changes."""
    deviation = float(values.std()) or 1.0
    design = np.column_stack([(values - values.mean()) / deviation, np.ones_like(values)])
    weight = np.zeros(2)
    doubt = np.diag([SLOPE_DOUBT, SLOPE_DOUBT])
    for _ in range(NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(design @ weight, -30, 30)))
        slope = design.T @ (happened - likely) - doubt @ weight
        bend = (design * (likely * (1 - likely))[:, None]).T @ design + doubt
        weight = weight + np.linalg.solve(bend, slope)
    scaled = max(float(weight[0]), 0.01)
    return round(scaled / deviation, 6), round(float(weight[1]) - scaled * float(values.mean()) / deviation, 6)


def sampled(rows: Sequence[Row]) -> list[Row]:
    """All rows, or of very many a fixed sample: the teacher's cost is their square and more."""
    if len(rows) <= teaching.MAX_ROWS:
        return list(rows)
    share = int(1e6 * teaching.MAX_ROWS / len(rows))
    return [row for row in rows if fold_of(row, 1_000_000, salt="sample") < share]
