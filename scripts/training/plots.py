"""Plots of the model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group train

matplotlib.use("Agg")
from matplotlib import pyplot  # type: ignore[import-not-found,import-untyped,unused-ignore]

from scripts.training.metrics import curve
from scripts.training.scorers import BASELINES, groups

if TYPE_CHECKING:
    from scripts.training.card import Figures

COLUMNS = 3
SIZE_INCHES = 3.6
RESOLUTION = 110


def draw_curves(figures: "Figures", path: Path) -> None:
    """PGR over the share of strong calls, a panel for each benchmark, from cross-validation."""
    rows = figures.corpus.rows
    panels = groups(rows)
    down = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(
        down, COLUMNS, figsize=(SIZE_INCHES * COLUMNS, SIZE_INCHES * down), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, members) in zip(axes.flat, panels.items(), strict=False):
        weak, strong = [rows[i].weak or 0.0 for i in members], [rows[i].strong or 0.0 for i in members]
        lines = {"learned": figures.unseen.gains[members].tolist()}
        lines |= {title: [score(rows[i].prompt) for i in members] for title, score in BASELINES.items()}
        for title, scores in lines.items():
            found = curve(scores, weak, strong)
            if found is not None:
                axis.plot(
                    found.shares * 100,
                    found.pgr,
                    label=f"{title} {found.apgr():.3f}",
                    linewidth=2 if title == "learned" else 1,
                    linestyle=":" if title == "random" else "-",
                )
        axis.set(title=f"{name} (n = {len(members):,})", xlabel="calls to the strong model, %", ylabel="gap recovered")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, title="APGR", title_fontsize=7)
    figure.savefig(path, dpi=RESOLUTION, metadata={"Software": None})
    pyplot.close(figure)


def draw_calibration(bins: Sequence[tuple[float, float, int, float, float]], path: Path) -> None:
    """bins: from, to, rows, mean score, share of rows where the strong model did better."""
    figure, axis = pyplot.subplots(figsize=(SIZE_INCHES * 1.3, SIZE_INCHES * 1.3), layout="constrained")
    axis.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axis.plot([mean for _, _, _, mean, _ in bins], [rate for _, _, _, _, rate in bins], marker="o")
    axis.set(xlabel="score", ylabel="strong model did better", xlim=(0, 1), ylim=(0, 1))
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=RESOLUTION, metadata={"Software": None})
    pyplot.close(figure)
