"""Trains the pair verifier of the semantic cache and writes edge_router/semantic/weights.py.

DATA is JSONL, plain or gzip: {"text_a": ..., "text_b": ..., "label": 0 or 1}, and "cosine" where another embedder than
MiniLM is in use. Same data, same bytes. Takes some five minutes, embedding included.

    scripts/train_semantic ../shared/data/qqp_dev.jsonl.gz
    scripts/train_semantic ../shared/data/qqp_dev.jsonl.gz --quick   # 4,000 pairs, nothing written
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from sklearn.model_selection import GroupKFold  # type: ignore[import-not-found,import-untyped,unused-ignore]

from edge_router.semantic.weighing import PairScore, weights_source
from scripts.pair_training.cosines import cosines_of
from scripts.pair_training.curve import curve_table, scored
from scripts.pair_training.data import connected_components, read_pairs
from scripts.pair_training.fitting import Floats, Prepared, fit, prepared
from scripts.pair_training.plot import draw

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "edge_router/semantic/weights.py"
CURVE = ROOT / "docs/semantic-cache/curve.json"
PLOT = ROOT / "docs/semantic-cache/curve.svg"
FOLDS = 5
QUICK_PAIRS = 4_000
MAX_BYTES = 64 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        "scripts/train_semantic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="labelled pairs, JSONL or JSONL in gzip")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_PAIRS:,} pairs; writes nothing")
    options = parser.parse_args()
    console = Console(stderr=True)
    if not options.data.exists():
        console.print(f"no such file: {options.data}")
        return 2
    pairs = read_pairs(options.data)
    if options.quick:
        pairs = pairs[:QUICK_PAIRS]
    with Progress(console=console) as progress:
        cosines = cosines_of(pairs, progress)
        task = progress.add_task("reading", total=len(pairs))
        data = prepared(pairs, cosines, connected_components(pairs), lambda: progress.advance(task))
        held_out = cross_validated(data, progress, folds=2 if options.quick else FOLDS)
        rows = curve_table(held_out, data.labels)
        console.print_json(json.dumps(rows))
        if options.quick:
            return 0
        task = progress.add_task("final fit", total=1)
        weights = fit(data, np.arange(len(pairs)))
        progress.advance(task)
    digest = hashlib.sha256(options.data.read_bytes()).hexdigest()
    note = [f"{len(pairs):,} pairs of {options.data.name}, SHA-256 {digest[:16]}; cosines of all-MiniLM-L6-v2."]
    source = weights_source(weights, note)
    if len(source) > MAX_BYTES:
        console.print(f"{len(source):,} bytes of weights are more than {MAX_BYTES:,}: lower WORDS or TABLES")
        return 1
    WEIGHTS.write_text(source)
    CURVE.parent.mkdir(parents=True, exist_ok=True)
    CURVE.write_text(json.dumps({"pairs": len(pairs), "duplicates": int(data.labels.sum()), "curve": rows}, indent=1))
    draw(held_out, data.labels, PLOT)
    console.print(f"{WEIGHTS}: {len(source):,} bytes; {CURVE}; {PLOT}")
    return 0


def cross_validated(data: Prepared, progress: Progress, *, folds: int) -> dict[str, Floats]:
    """Scores of every pair by weights that saw no text of it: folds keep joined pairs together."""
    cosine = data.cosines.copy()
    verifier = np.zeros(len(cosine))
    task = progress.add_task("cross-validation", total=folds)
    for inside, outside in GroupKFold(folds).split(cosine, groups=data.groups):
        score = PairScore(fit(data, inside))
        for row in outside:
            one, other = data.readings[row]
            verifier[row] = scored(score, one, other, data.comparisons[row], float(cosine[row]))
        progress.advance(task)
    return {"verifier": verifier, "cosine": cosine}


if __name__ == "__main__":
    sys.exit(main())
