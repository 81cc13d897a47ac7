"""Cosines of text pairs from all-MiniLM-L6-v2's weights, kept under .cache so that a second run is quick."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from scripts.local.minilm import DIMENSIONS, PACKAGE, MiniLM, model_folder
from scripts.pair_training.data import LabelledPair

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "pair_training"
BATCH = 64
DECIMALS = 4  # padding changes a cosine by some 1e-7; rounded, the same pairs give the same bytes

Pair = tuple[str, str]


def cosines_of(pairs: Sequence[LabelledPair], progress: Progress) -> npt.NDArray[np.float64]:
    """The pairs' own cosines where the data has them for all, else MiniLM's."""
    given = [pair.cosine for pair in pairs if pair.cosine is not None]
    if given and len(given) == len(pairs):
        return np.array(given, np.float64)
    return pair_cosines([(pair.text_a, pair.text_b) for pair in pairs], progress)


def pair_cosines(pairs: Sequence[Pair], progress: Progress) -> npt.NDArray[np.float64]:
    """Shape (n,), in the order of the pairs. Cost: about 4 ms for a text never seen, nothing for a set seen before."""
    path = CACHE / f"cosines-{_digest(pairs)}.npy"
    if path.exists():
        return np.asarray(np.load(path), np.float64)
    texts = sorted({text for pair in pairs for text in pair}, key=lambda text: (len(text), text))
    row_of = {text: row for row, text in enumerate(texts)}
    rows = np.zeros((len(texts), DIMENSIONS), np.float32)
    model = MiniLM(model_folder())
    task = progress.add_task("embedding", total=len(texts))
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        rows[start : start + len(batch)] = model.embed(batch)
        progress.advance(task, len(batch))
    progress.remove_task(task)
    left = rows[[row_of[a] for a, _ in pairs]]
    right = rows[[row_of[b] for _, b in pairs]]
    cosines: npt.NDArray[np.float64] = np.round(np.einsum("nd,nd->n", left, right).astype(np.float64), DECIMALS)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(path, cosines)
    return cosines


def _digest(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256(PACKAGE.encode())
    for text_a, text_b in pairs:
        digest.update(f"{text_a}\0{text_b}\0".encode())
    return digest.hexdigest()[:16]
