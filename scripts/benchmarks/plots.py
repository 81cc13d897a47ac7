"""The pictures of the pages, as SVG on a light ground."""

import itertools
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from scripts.benchmarks.imports import by_package

Raw = dict[str, Any]
UNPLOTTED = ("upstream", "javascript-hello", "python-hello-sdk")
"""They pass nothing on."""
OURS, OTHERS = "#1f6feb", "#8c959f"
# The same samples make the same file.
mpl.rcParams["svg.hashsalt"] = "nearside"
mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False


def comparison(raw: Raw, path: Path) -> None:
    """Plain calls and hits a second, and CPU for a plain call; logarithms, as some are a hundred times others."""
    rows = raw["rows"]
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    for axis, case, key, title in (
        (axes[0], "plain-16", "requests_per_s", "plain calls a second, one core"),
        (axes[1], "plain-16", "cpu_ms", "CPU ms a plain call"),
        (axes[2], "hit-16", "requests_per_s", "exact-cache hits a second, one core"),
    ):
        bars = {
            row["says"]: median(sample[key] for sample in row["loads"][case])
            for name, row in rows.items()
            if row["loads"].get(case) and name not in UNPLOTTED
        }
        _bars(axis, bars, title)
        axis.set_xscale("log")
        axis.set_xlim(min(bars.values()) / 3, max(bars.values()) * 4)
    _save(figure, path)


def cold_start(raw: Raw, path: Path) -> None:
    """Beside it what our Worker imports, by package."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.2))
    bars = {
        row["says"]: median(start["seconds"] for start in row["starts"])
        for row in raw["rows"].values()
        if row["starts"]
    }
    _bars(axes[0], bars, "launch to first answer, s (no snapshot)")
    packages = by_package(raw["imports"]["modules"])
    _bars(axes[1], {name: cpu_ms for name, (_, cpu_ms) in packages[:10]}, "CPU ms of our Worker's imports, by package")
    _save(figure, path)


def memory(raw: Raw, path: Path) -> None:
    figure, axis = plt.subplots(figsize=(8, 4))
    requests = [point["requests"] for point in raw["points"]]
    for key, label in (("total_mib", "WebAssembly memory and JS heap"), ("wasm_mib", "WebAssembly memory")):
        axis.plot(requests, [point[key] for point in raw["points"]], marker="o", label=label)
    axis.axhline(128, color="#d1242f", linestyle="--", label="limit of an isolate")
    axis.set(xlabel="requests answered", ylabel="MiB", ylim=(0, 140))
    axis.legend(frameon=False)
    _save(figure, path)


def growth(raw: Raw, path: Path) -> None:
    """Sizes are drawn as their logarithms, CPU is not: what doubles is twice as high."""
    rows = -(-len(raw["series"]) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(13, 3.6 * rows), squeeze=False)
    for axis, series in itertools.zip_longest(axes.flat, raw["series"]):
        if series is None:
            axis.remove()
            continue
        sizes = [point["size"] for point in series["points"]]
        axis.semilogx(sizes, [point["cpu_ms"] for point in series["points"]], marker="o", color=OURS)
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        axis.set_xticks([], minor=True)
        axis.set_ylim(bottom=0)
        axis.set(xlabel=series["unit"], ylabel="CPU ms", title=series["says"])
        axis.title.set_fontsize(10)
    _save(figure, path)


def _bars(axis: Axes, bars: dict[str, float], title: str) -> None:
    names = [name.replace("**", "") for name in bars]
    colours = [OURS if "Nearside" in name else OTHERS for name in bars]
    drawn = axis.barh(names, list(bars.values()), color=colours)
    axis.bar_label(drawn, fmt=_number, padding=3, fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    axis.margins(x=0.15)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)
