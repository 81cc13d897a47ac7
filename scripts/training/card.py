"""The model card: what the router was trained on, how well it does on what it has not seen, and where it fails."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_router.learned import Weights
from edge_router.text_features import NAMES, SHAPES
from scripts.training.console import quality_cells
from scripts.training.fitting import Corpus
from scripts.training.metrics import Quality, quality
from scripts.training.plots import draw_calibration, draw_curves
from scripts.training.scorers import BASELINES, groups
from scripts.training.student import DEPTH
from scripts.training.validation import TEST_ONE_IN, Estimate

TEXT = Path(__file__).with_name("card.md")  # the words around the figures
_SHIPPED_ONLY = re.compile(r"<!-- shipped -->\n.*?<!-- end -->\n", re.DOTALL)
_MARK = re.compile(r"<!-- (?:shipped|end) -->\n")
WORST = 8
SMALLEST_GAP = 0.05
FEWEST_OF_SUBJECT = 40
BINS = 10

Table = tuple[str, dict[str, Quality], dict[str, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Figures:
    """All that one run of scripts/train_router measured."""

    corpus: Corpus
    only_seen: int
    weights: Weights
    folds: int
    unseen: Estimate
    test: Estimate
    subjects: Estimate | None
    left_out: dict[str, Estimate]

    def tables(self) -> Iterator[Table]:
        yield (f"{self.folds}-fold cross-validation", *self.judged(self.unseen))
        yield (f"Test split, one prompt in {TEST_ONE_IN}", *self.judged(self.test))
        if self.subjects is not None:
            yield ("Subjects not trained on", *self.judged(self.subjects))
        for name, estimate in self.left_out.items():
            yield (f"Trained without {name}", *self.judged(estimate))

    def judged(
        self, estimate: Estimate, by: str = "benchmark"
    ) -> tuple[dict[str, Quality], dict[str, dict[str, float]]]:
        rows = [self.corpus.rows[position] for position in estimate.positions]
        found: dict[str, Quality] = {}
        baselines: dict[str, dict[str, float]] = {name: {} for name in BASELINES}
        for group, members in groups(rows, by).items():
            weak, strong = [rows[i].weak or 0.0 for i in members], [rows[i].strong or 0.0 for i in members]
            whole = quality(estimate.gains[members].tolist(), weak, strong)
            if whole is None:
                continue
            found[group] = whole
            for name, score in BASELINES.items():
                area = quality([score(rows[i].prompt) for i in members], weak, strong, resamples=0)
                if area is not None:
                    baselines[name][group] = area.apgr
        return found, baselines


def write_card(figures: Figures, path: Path, *, data: str, weights_bytes: int, is_shipped: bool) -> None:
    """is_shipped: with what is true of the weights of this repository alone. Raises OSError."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    draw_curves(figures, folder / "curves.png")
    draw_calibration(calibration(figures), folder / "calibration.png")
    command = f"scripts/train_router {data}"
    words = {
        "command": command,
        "folder": path.stem,
        "weights_bytes": f"{weights_bytes / 1024:.0f}",
        "terms": f"{len(figures.weights.models[0].term_steps):,}",
        "numbers": str(len(NAMES)),
        "trees": str(max(len(model.trees) - 1 for model in figures.weights.models)),
        "depth": str(DEPTH),
        "rows": f"{len(figures.corpus.rows):,}",
        "only_seen": f"{figures.only_seen:,}",
        "folds": str(figures.folds),
        "test_one_in": str(TEST_ONE_IN),
        "data": _data(figures),
        "cross_validation": _quality(*figures.judged(figures.unseen)),
        "test": _quality(*figures.judged(figures.test)),
        "subjects": "Not measured with --quick."
        if figures.subjects is None
        else _quality(*figures.judged(figures.subjects)),
        "left_out": _left_out(figures),
        "worst": _worst(figures),
        "calibration": _markdown(
            ["score", "n", "mean score", "strong better"],
            [
                [f"{low:.2f} – {high:.2f}", f"{n:,}", f"{mean:.2f}", f"{rate:.2f}"]
                for low, high, n, mean, rate in calibration(figures)
            ],
        ),
        "thresholds": _thresholds(figures),
        "weak": f"{sum(row.weak or 0.0 for row in figures.corpus.rows) / len(figures.corpus.rows):.3f}",
        "strong": f"{sum(row.strong or 0.0 for row in figures.corpus.rows) / len(figures.corpus.rows):.3f}",
    }
    text = TEXT.read_text()
    text = _MARK.sub("", text) if is_shipped else _SHIPPED_ONLY.sub("", text)
    for name, value in words.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    path.write_text(text)


def calibration(figures: Figures) -> list[tuple[float, float, int, float, float]]:
    """Ten equal parts by score: from, to, rows, mean score, share of rows where the strong model did better."""
    scores = unseen_scores(figures)
    better = np.array([row.gain > 0 for row in figures.corpus.rows], float)
    parts = np.array_split(np.argsort(scores, kind="stable"), BINS)
    return [
        (float(scores[p].min()), float(scores[p].max()), len(p), float(scores[p].mean()), float(better[p].mean()))
        for p in parts
        if len(p)
    ]


def unseen_scores(figures: Figures) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of all rows in order, by cross-validation."""
    weights = figures.weights
    return np.asarray(1 / (1 + np.exp(-(weights.slope * figures.unseen.gains + weights.intercept))), np.float64)


def _data(figures: Figures) -> str:
    rows = figures.corpus.rows
    table = []
    for name, members in groups(rows).items():
        weak = sum(rows[i].weak or 0.0 for i in members) / len(members)
        strong = sum(rows[i].strong or 0.0 for i in members) / len(members)
        shapes = [figures.corpus.features[i].shape for i in members]
        shares = [f"{shapes.count(shape) / len(members):.0%}" for shape in SHAPES]
        table.append([name, f"{len(members):,}", f"{weak:.3f}", f"{strong:.3f}", *shares])
    return _markdown(["benchmark", "n", "weak model", "strong model", *SHAPES], table)


def _quality(found: Mapping[str, Quality], baselines: Mapping[str, Mapping[str, float]]) -> str:
    return _markdown(
        ["prompts of", "n", "APGR", "95 % CI", "CPT 50 %", "CPT 80 %", *baselines],
        [[name, *cells] for name, cells in quality_cells(found, baselines)],
    )


def _left_out(figures: Figures) -> str:
    if not figures.left_out:
        return "Not measured (one benchmark, or --quick)."
    rows = []
    for name, estimate in figures.left_out.items():
        found, baselines = figures.judged(estimate)
        for group, cells in quality_cells(found, baselines):
            rows.append([name, group, *cells])
    return _markdown(
        ["trained without", "prompts of", "n", "APGR", "95 % CI", "CPT 50 %", "CPT 80 %", *BASELINES], rows
    )


def _worst(figures: Figures) -> str:
    found, _ = figures.judged(figures.unseen, "subject")
    gaps: dict[str, list[float]] = {}
    for row in figures.corpus.rows:
        gaps.setdefault(row.subject or "(none)", []).append(row.gain)
    # Where the strong model is hardly better, or worse, the figure divides by next to nothing.
    large = [
        (q.apgr, name, q)
        for name, q in found.items()
        if q.count >= FEWEST_OF_SUBJECT and sum(gaps[name]) >= SMALLEST_GAP * q.count
    ]
    return _markdown(
        ["subject", "n", "gap", "APGR within it", "95 % CI"],
        [
            [name, f"{q.count:,}", f"{sum(gaps[name]) / q.count:.2f}", f"{q.apgr:.3f}", f"{q.low:.3f} – {q.high:.3f}"]
            for _, name, q in sorted(large, key=lambda item: item[:2])[:WORST]
        ],
    )


def _thresholds(figures: Figures) -> str:
    scores = unseen_scores(figures)
    rows = figures.corpus.rows
    weak, gain = np.array([row.weak or 0.0 for row in rows]), np.array([row.gain for row in rows])
    table = []
    for percent in (90, 80, 70, 60, 50, 40, 30, 20, 10):
        threshold = float(
            np.interp(percent / 100, np.linspace(0, 1, len(figures.weights.quantiles)), figures.weights.quantiles)
        )
        up = scores > threshold
        quality_reached = float((weak + gain * up).mean())
        recovered = float((gain * up).sum() / gain.sum()) if gain.sum() else 0.0
        table.append(
            [f"{percent} %", f"{threshold:.3f}", f"{1 - up.mean():.1%}", f"{quality_reached:.3f}", f"{recovered:.0%}"]
        )
    return _markdown(["edge_share asked", "threshold", "share kept", "mean quality", "gap recovered"], table)


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"| {' | '.join(['---'] * len(headings))} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)
