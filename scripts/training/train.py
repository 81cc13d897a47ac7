"""Trains the learned router from a JSON Lines file; writes its weights, its model card and plots.

    scripts/train_router ../shared/data/router_train.jsonl.gz                  the weights that are shipped
    scripts/train_router my_logs.jsonl --output my_weights.py --card my_card/router.md
    scripts/train_router my_logs.jsonl --quick                                 few folds, rough figures
    scripts/train_router --from-feedback export.jsonl                          the shipped weights, adjusted

Each line: {"prompt": "…", "weak_score": 0, "strong_score": 1, "benchmark": "…", "subject": "…"}. The scores say how
good the weak and the strong model's answers were, usually 0 to 1; a thousand rows are a good start. Rows without scores
only show what prompts look like. benchmark names rows that one pair of models answered; it may be missing.
The same rows give the same weights, byte for byte. Exit codes: 0 done, 2 nothing could be done.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from edge_router.learned import WeightsRejected, shipped_weights
from scripts.training.card import Figures, write_card
from scripts.training.console import CannotRun, console, progress, quality_table, rows_of
from scripts.training.feedback import CannotLearn, learn, read_ratings
from scripts.training.fitting import calibrated, models_of, read_corpus, sampled
from scripts.training.rows import Row, prompt_key
from scripts.training.student import TREES
from scripts.training.validation import FOLDS, by_fold, left_out_names, test_split, without
from scripts.training.weights_module import TooLarge, source_of

ROOT = Path(__file__).resolve().parents[2]
SHIPPED_CARD = ROOT / "docs" / "router.md"
FEWEST_ROWS = 20
QUICK_FOLDS = 3
QUICK_TREES = 24


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        (_adjust if arguments.from_feedback else _run)(arguments)
    except (CannotRun, CannotLearn, TooLarge, WeightsRejected) as exc:
        print(f"scripts/train_router: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"scripts/train_router: cannot write {exc.filename}: {exc.strerror}", file=sys.stderr)
        return 2
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/train_router", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", type=Path, nargs="?", metavar="DATA.jsonl[.gz]", help="prompts with scores")
    add("--from-feedback", type=Path, metavar="EXPORT.jsonl", help="of GET /v1/feedback/export; needs no prompts")
    add("--output", type=Path, metavar="WEIGHTS.py", default=ROOT / "edge_router" / "router_weights.py")
    add("--card", type=Path, metavar="CARD.md", default=SHIPPED_CARD, help="plots go beside it")
    add("--quick", action="store_true", help="3 folds, smaller trees, no out-of-domain figures")
    arguments = parser.parse_args(argv)
    if (arguments.file is None) == (arguments.from_feedback is None):
        parser.error("give either DATA.jsonl or --from-feedback EXPORT.jsonl")
    return arguments


def _run(arguments: argparse.Namespace) -> None:
    errors, out = console(stderr=True), console(stderr=False)
    rows = rows_of(arguments.file, errors)
    scored = [row for row in rows if row.has_scores]
    if len(scored) < FEWEST_ROWS:
        raise CannotRun(f"{arguments.file} has {len(scored)} rows with scores; at least {FEWEST_ROWS} are needed")
    figures = _trained(scored, only_seen(rows), errors, quick=arguments.quick)
    source = source_of(figures.weights)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(source)
    arguments.card.parent.mkdir(parents=True, exist_ok=True)
    is_shipped = arguments.card.resolve() == SHIPPED_CARD
    write_card(figures, arguments.card, data=arguments.file.name, weights_bytes=len(source), is_shipped=is_shipped)
    for title, found, baselines in figures.tables():
        out.print(quality_table(title, found, baselines))
    out.print(f"{arguments.output}: {len(source):,} bytes; {arguments.card}", soft_wrap=True, highlight=False)


def _adjust(arguments: argparse.Namespace) -> None:
    try:
        rows = read_ratings(arguments.from_feedback)
    except OSError as exc:
        raise CannotRun(f"cannot read {exc.filename}: {exc.strerror}") from exc
    learned = learn(shipped_weights(), rows)
    source = source_of(learned.weights)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(source)
    before, level, words = learned.losses
    out = console(stderr=False)
    out.print(f"{learned.rows:,} answers of the edge, {learned.failed:,} of them bad; {learned.words:,} words adjusted")
    out.print(
        f"log loss on answers not learned from: {before:.4f} before, {level:.4f} by level, {words:.4f} by words too"
    )
    out.print(f"{arguments.output}: {len(source):,} bytes", soft_wrap=True, highlight=False)


def only_seen(rows: Sequence[Row]) -> list[Row]:
    """Rows without scores whose prompt is not in a row with scores: no estimate may have read its own test prompts."""
    known = {prompt_key(row.prompt) for row in rows if row.has_scores}
    return [row for row in rows if not row.has_scores and prompt_key(row.prompt) not in known]


def _trained(scored: list[Row], only_seen: list[Row], errors: Console, *, quick: bool) -> Figures:
    folds, trees = (QUICK_FOLDS, QUICK_TREES) if quick else (FOLDS, TREES)
    corpus, extra = read_corpus(sampled(scored), only_seen)
    names = [] if quick else left_out_names(corpus)
    with progress(errors) as bar:
        task = bar.add_task("training", total=2 + folds + (0 if quick else folds + len(names)))

        def done() -> None:
            bar.advance(task)

        unseen = by_fold(corpus, extra, folds=folds, by_subject=False, trees=trees, done=done)
        weights = calibrated(models_of(corpus, extra, trees=trees), unseen.gains, corpus.rows)
        done()
        test = test_split(corpus, extra, trees=trees)
        done()
        subjects = None if quick else by_fold(corpus, extra, folds=folds, by_subject=True, trees=trees, done=done)
        left_out = {}
        for name in names:
            left_out[name] = without(corpus, extra, name, trees=trees)
            done()
    return Figures(corpus, len(extra.rows), weights, folds, unseen, test, subjects, left_out)


if __name__ == "__main__":
    sys.exit(main())
