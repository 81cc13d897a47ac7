"""Adjusts the shipped router by ratings and escalations, `GET /v1/feedback/export`: hashes of words, no text.

What is learned of a question is whether the edge's answer did. Only the words that the weights know already can get
another weight: of the others nothing but hashes is kept, and the router looks up words.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.feedback_records import hashed_terms
from edge_router.learned import WEIGHT_STEPS, ShapeModel, Weights, logistic

Array = npt.NDArray[np.float64]

FEWEST_ROWS = 200
FEWEST_OF_A_KIND = 20
FOLDS = 5
MOST_WORDS = 1000
FEWEST_USES = 5  # a word in fewer questions is noise
WORD_DOUBT = 10.0  # ridge on the words; on slope and intercept a tenth
STEPS = 15
SMALLEST_SLOPE = 0.1


class CannotLearn(Exception):
    """The message says why."""


@dataclass(frozen=True, slots=True)
class Rated:
    """score: the router's, when it decided. words: hashes. failed: the edge's answer did not do."""

    score: float
    words: frozenset[int]
    failed: bool


@dataclass(frozen=True, slots=True)
class Learned:
    """losses: mean log loss on answers that were not learned from: before, with another level, with words as well."""

    weights: Weights
    rows: int
    failed: int
    words: int
    losses: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Fit:
    slope: float
    intercept: float
    words: Array

    def logits(self, scores: Array, uses: Array) -> Array:
        return np.clip(self.slope * scores + self.intercept + uses @ self.words, -30, 30)


def read_ratings(path: Path) -> list[Rated]:
    """Answers of the edge with a rating, and those that were escalated; other lines are passed over.

    Raises OSError when it cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        return [rated for line in lines if (rated := _rated(line)) is not None]


def learn(weights: Weights, rows: Sequence[Rated]) -> Learned:
    """Another level when that alone predicts better, other weights of words when they help as well.

    Raises CannotLearn when there is too little, or nothing is better on answers that were not learned from.
    """
    failed = sum(row.failed for row in rows)
    if len(rows) < FEWEST_ROWS or not FEWEST_OF_A_KIND <= failed <= len(rows) - FEWEST_OF_A_KIND:
        raise CannotLearn(
            f"{len(rows)} rated or escalated answers of the edge, {failed} of them bad;"
            f" at least {FEWEST_ROWS} are needed, and {FEWEST_OF_A_KIND} of each kind"
        )
    known = {hashed_terms([term])[0]: term for term in weights.models[0].term_steps}
    used = Counter(word for row in rows for word in row.words if word in known)
    words = [word for word, uses in used.most_common(MOST_WORDS) if uses >= FEWEST_USES]
    scores = np.array([_logit(row.score) for row in rows])
    outcomes = np.array([row.failed for row in rows], float)
    uses = _uses(rows, words, known)
    nothing = np.zeros((len(rows), 0))
    before = _losses(_Fit(1.0, 0.0, np.zeros(0)).logits(scores, nothing), outcomes)
    level, all_of_it = _unseen_losses(scores, nothing, outcomes), _unseen_losses(scores, uses, outcomes)
    with_words = _is_better(all_of_it, level)
    if not _is_better(all_of_it if with_words else level, before):
        raise CannotLearn(f"nothing predicts better than the present weights (log loss {before.mean():.4f})")
    fit = _fitted(scores, uses if with_words else nothing, outcomes)
    changes = {known[word]: float(change) for word, change in zip(words, fit.words, strict=False)}
    losses = (float(before.mean()), float(level.mean()), float(all_of_it.mean()))
    return Learned(_adjusted(weights, fit, changes), len(rows), failed, len(changes), losses)


def _rated(line: str) -> Rated | None:
    try:
        row: Any = json.loads(line)
        score, words, rating = float(row["score"]), frozenset(map(int, row["features"])), row["rating"]
        escalated, is_edge = bool(row["escalated"]), row["served_by"] == "edge-model"
    except (ValueError, TypeError, KeyError):
        return None
    if not words or not 0 <= score <= 1 or not (escalated or (is_edge and rating in ("good", "bad"))):
        return None  # a rating of the cloud's answer says nothing of the edge's
    return Rated(score, words, escalated or rating == "bad")


def _uses(rows: Sequence[Rated], words: Sequence[int], known: Iterable[int]) -> Array:
    """What a word's weight is multiplied with in each question: as in `ShapeModel.gain`."""
    place = {word: column for column, word in enumerate(words)}
    known = set(known)
    uses = np.zeros((len(rows), len(words)))
    for line, row in enumerate(rows):
        found = row.words & known
        for word in found & place.keys():
            uses[line, place[word]] = len(found) ** -0.5
    return uses


def _unseen_losses(scores: Array, uses: Array, outcomes: Array) -> Array:
    """Log loss of each answer by a fit that has not seen it."""
    folds = np.arange(len(scores)) % FOLDS
    losses = np.zeros(len(scores))
    for fold in range(FOLDS):
        kept, out = folds != fold, folds == fold
        fit = _fitted(scores[kept], uses[kept], outcomes[kept])
        losses[out] = _losses(fit.logits(scores[out], uses[out]), outcomes[out])
    return losses


def _is_better(losses: Array, others: Array) -> bool:
    """By more than twice the standard error of the difference: a new level by chance is no progress."""
    less = others - losses
    return bool(less.mean() > 2 * less.std() / len(less) ** 0.5)


def _fitted(scores: Array, uses: Array, outcomes: Array) -> _Fit:
    """Logistic regression by Newton's method, held near the present weights by a ridge."""
    design = np.column_stack([scores, np.ones_like(scores), uses])
    start = np.zeros(design.shape[1])
    start[0] = 1.0
    doubt = np.full(len(start), WORD_DOUBT)
    doubt[:2] = WORD_DOUBT / 10
    values = start.copy()
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-np.clip(design @ values, -30, 30)))
        slope = design.T @ (outcomes - likely) - doubt * (values - start)
        bend = (design * (likely * (1 - likely))[:, None]).T @ design + np.diag(doubt)
        values = values + np.linalg.solve(bend, slope)
    return _Fit(max(float(values[0]), SMALLEST_SLOPE), float(values[1]), values[2:])


def _losses(logits: Array, outcomes: Array) -> Array:
    losses: Array = np.logaddexp(0, logits) - outcomes * logits
    return losses


def _adjusted(weights: Weights, fit: _Fit, changes: dict[str, float]) -> Weights:
    """The same shares of traffic stay at the edge: the percentiles move with the level."""
    slope = fit.slope * weights.slope
    changes = {term: change / slope for term, change in changes.items()}
    return replace(
        weights,
        models=tuple(_with_words(model, changes) for model in weights.models),
        slope=round(slope, 6),
        intercept=round(fit.slope * weights.intercept + fit.intercept, 6),
        quantiles=tuple(round(logistic(fit.slope * _logit(score) + fit.intercept), 6) for score in weights.quantiles),
    )


def _with_words(model: ShapeModel, changes: dict[str, float]) -> ShapeModel:
    values = {term: step * model.term_scale + changes.get(term, 0.0) for term, step in model.term_steps.items()}
    scale = max(map(abs, values.values()), default=0.0) / WEIGHT_STEPS or 1.0
    return replace(model, term_scale=scale, term_steps={term: round(value / scale) for term, value in values.items()})


def _logit(score: float) -> float:
    inside = min(max(score, 1e-6), 1 - 1e-6)
    return log(inside / (1 - inside))
