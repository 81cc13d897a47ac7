"""Honest estimates: every score comes from a model that never saw the prompt, its subject or its benchmark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.training.fitting import Array, Corpus, gains_of, models_of
from scripts.training.rows import fold_of
from scripts.training.teacher import levels, shape_codes

TEST_ONE_IN = 5
FOLDS = 5
SMALLEST_BENCHMARK = 200  # rows of a benchmark that is left out as a whole


@dataclass(frozen=True, slots=True)
class Estimate:
    """positions: of the rows that were scored; gains: their raw scores."""

    positions: list[int]
    gains: Array


def test_split(corpus: Corpus, extra: Corpus, *, trees: int) -> Estimate:
    """A fifth of the prompts, by the hash of their words; nothing was chosen on it."""
    return _estimate(corpus, extra, [fold_of(row, TEST_ONE_IN) != 0 for row in corpus.rows], trees)


def by_fold(
    corpus: Corpus, extra: Corpus, *, folds: int, by_subject: bool, trees: int, done: Callable[[], None]
) -> Estimate:
    """Cross-validation: each row scored by the one model of `folds` that was not trained on its fold.

    The levels of the four shapes come from all rows. A fold's own would be low where the fold left out is high, and
    the pooled order of all folds would look worse than any of the models is.
    """
    _, level = levels([row.benchmark for row in corpus.rows], shape_codes(corpus.features), _gains(corpus))
    codes = [fold_of(row, folds, salt="fold", by_subject=by_subject) for row in corpus.rows]
    gains = np.zeros(len(codes))
    for fold in range(folds):
        part = _estimate(corpus, extra, [code != fold for code in codes], trees, level)
        gains[part.positions] = part.gains
        done()
    return Estimate(list(range(len(codes))), gains)


def left_out_names(corpus: Corpus) -> list[str]:
    counts: dict[str, int] = {}
    for row in corpus.rows:
        counts[row.benchmark] = counts.get(row.benchmark, 0) + 1
    large = sorted(name for name, count in counts.items() if count >= SMALLEST_BENCHMARK)
    return large if len(counts) > 1 else []


def without(corpus: Corpus, extra: Corpus, name: str, *, trees: int) -> Estimate:
    """A benchmark scored by a model trained on the others, also without their rows whose subject has its name."""
    learned_from = [name not in (row.benchmark, row.subject) for row in corpus.rows]
    estimate = _estimate(corpus, extra, learned_from, trees)
    kept = [index for index, position in enumerate(estimate.positions) if corpus.rows[position].benchmark == name]
    return Estimate([estimate.positions[index] for index in kept], estimate.gains[kept])


def _estimate(
    corpus: Corpus,
    extra: Corpus,
    learned_from: Sequence[bool],
    trees: int,
    level: Array | None = None,
) -> Estimate:
    positions = [position for position, learned in enumerate(learned_from) if not learned]
    if not any(learned_from):
        return Estimate(positions, np.zeros(len(positions)))
    models = models_of(corpus.select(learned_from), extra, trees=trees)
    if level is not None:
        kept = corpus.select(learned_from)
        _, own = levels([row.benchmark for row in kept.rows], shape_codes(kept.features), _gains(kept))
        models = [replace(model, level=model.level + float(d)) for model, d in zip(models, level - own, strict=True)]
    return Estimate(positions, gains_of(models, [corpus.features[position] for position in positions]))


def _gains(corpus: Corpus) -> Array:
    return np.array([row.gain for row in corpus.rows])
