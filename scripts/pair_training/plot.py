"""Draws the curve of docs/semantic-cache.md."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure  # type: ignore[import-not-found,import-untyped,unused-ignore]

from scripts.pair_training.curve import Floats, points

MIN_FOUND = 0.02  # below it the share of false hits is that of a handful of pairs


def draw(scores: Mapping[str, Floats], labels: npt.NDArray[np.bool_], path: Path) -> None:
    """One line a ranking: false share of the hits against the share of duplicates found. Same scores, same bytes."""
    mpl.rcParams["svg.hashsalt"] = "nearside"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, values in scores.items():
        _, found, false_share = points(values, labels)
        kept = np.flatnonzero((found >= MIN_FOUND) & (false_share <= 0.4))
        kept = kept[:: max(1, len(kept) // 400)]
        axes.plot(found[kept], false_share[kept], label=name)
    axes.plot([0.45, 0.65], [0.12, 0.20], "kx", label="target")
    axes.set_xlabel("duplicates found")
    axes.set_ylabel("false share of the hits")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 0.4)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
