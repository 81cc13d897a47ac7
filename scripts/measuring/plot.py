"""The figures as a picture: p50 and p95 of TTFT and total, a group of bars for each target."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from scripts.measuring.figures import Figures


def draw(found: Sequence[Figures], path: Path) -> None:
    """path: its ending says which format."""
    series = {
        "TTFT p50": [one.ttft.p50_s if one.ttft else 0.0 for one in found],
        "TTFT p95": [one.ttft.p95_s if one.ttft else 0.0 for one in found],
        "total p50": [one.total.p50_s if one.total else 0.0 for one in found],
        "total p95": [one.total.p95_s if one.total else 0.0 for one in found],
    }
    with mpl.rc_context({"svg.hashsalt": "nearside"}):  # the same figures make the same file
        figure = Figure(figsize=(8, 1.2 + 0.9 * len(found)), layout="constrained")
        axes = figure.subplots()
        for place, (name, values) in enumerate(series.items()):
            heights = [position + 0.2 * place for position in range(len(found))]
            bars = axes.barh(heights, [1000 * value for value in values], height=0.18, label=name)
            axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
        axes.set_yticks([position + 0.3 for position in range(len(found))], [one.label for one in found])
        axes.invert_yaxis()
        axes.set_xlabel("ms, at the client")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=4, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
