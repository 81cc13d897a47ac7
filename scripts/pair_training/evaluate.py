"""Measures the pair verifier that is shipped: hits on the written sets by kind, and its time per pair.

With DATA (JSONL, plain or gzip: {"text_a", "text_b", "label"}, "cosine" where it is known) also duplicates found and
the false share of the hits. On the pairs that it was trained on that flatters: docs/semantic-cache.md has the
cross-validated curve, and scripts/train_semantic makes it.

    scripts/eval_semantic
    scripts/eval_semantic my_pairs.jsonl --threshold 0.6
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from edge_router.semantic import weights as shipped
from edge_router.semantic.reading import read_uncached
from edge_router.semantic.verifier import (
    BALANCED_THRESHOLD,
    DEFAULT_THRESHOLD,
    LOOSE_THRESHOLD,
    PairVerifier,
    verify,
)
from edge_router.semantic.weighing import load_weights
from scripts.pair_training.cosines import cosines_of
from scripts.pair_training.curve import curve_table
from scripts.pair_training.data import LabelledPair, read_pairs
from scripts.pair_training.written import adversarial, hits, paraphrases

TIMED_RUNS = 9
TIMED_PAIRS = 3_000
CANDIDATES = 5  # that an asked text meets in use


def main() -> int:
    parser = argparse.ArgumentParser(
        "scripts/eval_semantic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", nargs="?", help="labelled pairs, JSONL or JSONL in gzip")
    parser.add_argument("--threshold", type=float, default=DEFAULT_THRESHOLD, help="default %(default)s")
    options = parser.parse_args()
    console = Console()
    if options.data is not None and not options.data.exists():
        console.print(f"no such file: {options.data}")
        return 2
    bad, same = adversarial(), paraphrases()
    console.print(_by_kind("adversarial: hits are false", bad, hits(bad, options.threshold)))
    console.print(_by_kind("paraphrases: hits are right", same, hits(same, options.threshold)))
    table = Table("threshold", "false hits", "paraphrases found", title="other thresholds")
    for name, threshold in (
        ("default", DEFAULT_THRESHOLD), ("balanced", BALANCED_THRESHOLD), ("loose", LOOSE_THRESHOLD),
    ):  # fmt: skip
        false, right = len(hits(bad, threshold)), len(hits(same, threshold))
        table.add_row(f"{name} {threshold:.2f}", f"{false} of {len(bad)}", f"{right / len(same):.0%}")
    console.print(table)
    console.print(_times("written pairs", [*bad, *same]))
    if options.data is not None:
        labelled = read_pairs(options.data)
        console.print(_times("labelled pairs", labelled[:TIMED_PAIRS]))
        console.print(_on_labelled(labelled, options.threshold))
    return 0


def _times(title: str, pairs: Sequence[LabelledPair]) -> str:
    """CPU time a pair, the best of some runs of the mean over the pairs."""
    verifier = PairVerifier(load_weights(shipped))
    texts = [(pair.text_a, pair.text_b, pair.cosine or 0.9) for pair in pairs]
    readings = [(read_uncached(a), read_uncached(b), cosine) for a, b, cosine in texts]

    def both_read() -> None:
        for a, b, cosine in texts:
            verifier.judge(read_uncached(a), read_uncached(b), cosine)

    def in_use() -> None:
        for a, b, cosine in texts[::CANDIDATES]:
            asked = read_uncached(a)
            for _ in range(CANDIDATES):
                verifier.judge(asked, read_uncached(b), cosine)

    def none_read() -> None:
        for one, other, cosine in readings:
            verifier.judge(one, other, cosine)

    in_use_pairs = len(texts[::CANDIDATES]) * CANDIDATES
    both, use, none = _best_s(both_read) / len(pairs), _best_s(in_use) / in_use_pairs, _best_s(none_read) / len(pairs)
    return (
        f"{title}: {both * 1e6:.1f} µs a pair, both texts read; {use * 1e6:.1f} µs a candidate, one text "
        f"asked and {CANDIDATES} read; {none * 1e6:.1f} µs both read before"
    )


def _best_s(work: Callable[[], None]) -> float:
    taken = []
    for _ in range(TIMED_RUNS):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def _by_kind(title: str, pairs: Sequence[LabelledPair], found: Sequence[LabelledPair]) -> Table:
    total, held = Counter(pair.kind for pair in pairs), Counter(pair.kind for pair in pairs if pair.held_out)
    hit, held_hit = Counter(pair.kind for pair in found), Counter(pair.kind for pair in found if pair.held_out)
    table = Table("kind", "pairs", "hits", "of the held out", title=title)
    for kind in total:
        table.add_row(kind, str(total[kind]), str(hit[kind]), f"{held_hit[kind]} of {held[kind]}")
    table.add_row(
        "all", str(len(pairs)), f"{len(found)} ({len(found) / len(pairs):.0%})", f"{held_hit.total()} of {held.total()}"
    )
    return table


def _on_labelled(pairs: Sequence[LabelledPair], threshold: float) -> Table:
    with Progress() as progress:
        cosines = cosines_of(pairs, progress)
    scores = np.array(
        [
            verify(pair.text_a, pair.text_b, float(cosine)).score
            for pair, cosine in track(list(zip(pairs, cosines, strict=True)), "scoring")
        ]
    )
    labels = np.array([pair.is_same for pair in pairs])
    rows = curve_table({"verifier": scores, "cosine": cosines}, labels)
    table = Table(
        "false share at most", "found", "threshold", "found by cosine", title=f"{len(pairs):,} labelled pairs"
    )
    for ours, plain in zip(rows["verifier"], rows["cosine"], strict=True):
        table.add_row(
            f"{ours['false_share']:.0%}", f"{ours['found']:.1%}", str(ours["threshold"]), f"{plain['found']:.1%}"
        )
    hit = scores >= threshold
    wrong = 1.0 - labels[hit].mean() if hit.any() else 0.0
    table.add_row(f"{wrong:.1%}", f"{labels[hit].sum() / labels.sum():.1%}", f"{threshold} as asked", "")
    return table


if __name__ == "__main__":
    sys.exit(main())
