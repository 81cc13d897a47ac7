"""The pairs written by hand: tests/data/semantic_adversarial.jsonl and tests/data/semantic_paraphrases.jsonl."""

from collections.abc import Sequence
from pathlib import Path

from edge_router.semantic.verifier import is_same, verify
from scripts.pair_training.data import LabelledPair, read_pairs

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "data"


def adversarial() -> list[LabelledPair]:
    """Nearly the same words, another question."""
    return read_pairs(FOLDER / "semantic_adversarial.jsonl", is_same=False)


def paraphrases() -> list[LabelledPair]:
    """Other words, the same question."""
    return read_pairs(FOLDER / "semantic_paraphrases.jsonl", is_same=True)


def hits(pairs: Sequence[LabelledPair], threshold: float, *, shift: float = 0.0) -> list[LabelledPair]:
    """Those whose stored answer would be given. shift: added to each cosine, as another embedder might."""
    return [
        pair
        for pair in pairs
        if is_same(verify(pair.text_a, pair.text_b, min(1.0, (pair.cosine or 0.0) + shift)), threshold)
    ]
