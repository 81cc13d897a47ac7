"""Duplicates found against the false share of the hits, at every threshold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.semantic.features import features
from edge_router.semantic.guards import Comparison
from edge_router.semantic.reading import Reading
from edge_router.semantic.verifier import verdict_of
from edge_router.semantic.weighing import PairScore

Floats = npt.NDArray[np.float64]

FALSE_SHARES = (0.03, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20, 0.25, 0.30)


def scored(score: PairScore, one: Reading, other: Reading, comparison: Comparison, cosine: float) -> float:
    """The verifier's score with these weights."""
    if comparison.guard is not None:
        return 0.0
    return verdict_of(
        comparison, score.chance(features(one, other, comparison, cosine, score.words, score.unseen))
    ).score


def points(scores: Floats, labels: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Thresholds from high to low, the share of duplicates found at each, the false share of the hits."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    right = np.cumsum(labels[order])
    # Only where the score changes: a threshold cannot part equal scores.
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    last = last[ordered[last] > 0]
    hits = last + 1
    return ordered[last], right[last] / labels.sum(), 1.0 - right[last] / hits


def curve_table(scores: Mapping[str, Floats], labels: npt.NDArray[np.bool_]) -> dict[str, list[dict[str, Any]]]:
    """By ranking and false share: the most duplicates found at or below that share, and the threshold for it."""
    table: dict[str, list[dict[str, Any]]] = {}
    for name, values in scores.items():
        thresholds, found, false_share = points(values, labels)
        rows = []
        for limit in FALSE_SHARES:
            allowed = np.flatnonzero(false_share <= limit)
            at = allowed[-1] if len(allowed) else None
            rows.append(
                {
                    "false_share": limit,
                    "found": round(float(found[at]), 4) if at is not None else 0.0,
                    "threshold": round(float(thresholds[at]), 4) if at is not None else None,
                }
            )
        table[name] = rows
    return table
