"""Scores the prompts of a JSON Lines file with the shipped router; prints how well that would have routed them.

    scripts/eval_router held_back.jsonl.gz --scores scores.jsonl
    scripts/eval_router held_back.jsonl --by subject

Each line: {"prompt": "…", "weak_score": 0, "strong_score": 1, "benchmark": "…", "subject": "…"}; all but the prompt may
be missing. Rows without scores are scored but cannot be judged. APGR and CPT are RouteLLM's (arXiv 2406.18665); APGR is
0.5 at random, and CPT 50 % is the share of calls to the strong model that recovers half of the gap.
--scores writes {"score": x} for each row in the order of the file, without the lines that were skipped; the higher, the
more the strong model is needed.
Exit codes: 0 done, 2 nothing could be done.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from edge_router.learned import LearnedRouter, WeightsRejected, shipped
from scripts.training.console import CannotRun, console, progress, quality_table, rows_of
from scripts.training.metrics import Quality, quality
from scripts.training.rows import Row
from scripts.training.scorers import BASELINES, groups


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        _run(arguments)
    except CannotRun as exc:
        print(f"scripts/eval_router: {exc}", file=sys.stderr)
        return 2
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/eval_router", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE.jsonl[.gz]", help="prompts, with or without scores")
    add("--scores", type=Path, metavar="OUT.jsonl", help='write {"score": x} for each row, in order')
    add(
        "--by", choices=("benchmark", "subject"), default="benchmark", help="a line of the table for each (%(default)s)"
    )
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> None:
    errors, out = console(stderr=True), console(stderr=False)
    rows = rows_of(arguments.file, errors)
    try:
        router = shipped()
    except WeightsRejected as exc:
        raise CannotRun(str(exc)) from exc
    with progress(errors) as bar:
        scores, times_us = _scored(router, rows, bar.track)
    if arguments.scores:
        _write(arguments.scores, scores)
    positions = groups(rows, arguments.by)
    if not positions:
        out.print("No row has weak_score and strong_score: scored, but there is nothing to judge the scores by.")
    else:
        out.print(_table(rows, scores, positions))
    slowest = quantiles(times_us, n=100)[98] if len(times_us) > 1 else times_us[0]
    out.print(f"{len(rows):,} prompts, {median(times_us):.0f} µs each at the median, {slowest:.0f} µs at p99")


def _scored(router: LearnedRouter, rows: Sequence[Row], track: Any) -> tuple[list[float], list[float]]:
    """Scores, and the time each took in µs."""
    scores, times_us = [], []
    for row in track(rows, description="scoring"):
        start_s = time.perf_counter()
        scores.append(router.score(row.prompt))
        times_us.append(1e6 * (time.perf_counter() - start_s))
    return scores, times_us


def _table(rows: Sequence[Row], scores: Sequence[float], positions: dict[str, list[int]]) -> Any:
    found: dict[str, Quality] = {}
    baselines: dict[str, dict[str, float]] = {name: {} for name in BASELINES}
    for group, members in positions.items():
        weak, strong = [rows[i].weak or 0.0 for i in members], [rows[i].strong or 0.0 for i in members]
        whole = quality([scores[i] for i in members], weak, strong)
        if whole is None:
            continue
        found[group] = whole
        for name, score in BASELINES.items():
            area = quality([score(rows[i].prompt) for i in members], weak, strong, resamples=0)
            if area is not None:
                baselines[name][group] = area.apgr
    return quality_table("The shipped router, and the APGR of others", found, baselines)


def _write(path: Path, scores: Sequence[float]) -> None:
    try:
        path.write_text("".join(f"{json.dumps({'score': score})}\n" for score in scores))
    except OSError as exc:
        raise CannotRun(f"cannot write {path}: {exc.strerror}") from exc


if __name__ == "__main__":
    sys.exit(main())
