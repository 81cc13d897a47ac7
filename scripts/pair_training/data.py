"""Labelled pairs from JSONL, and folds that never share a question."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """kind: what was changed, for written pairs; empty for collected ones. cosine: where the data brings its own."""

    text_a: str
    text_b: str
    is_same: bool
    kind: str = ""
    cosine: float | None = None
    held_out: bool = False


def read_pairs(path: Path, *, is_same: bool | None = None) -> list[LabelledPair]:
    """Rows {text_a, text_b, label} or, with `is_same` given for all of them, {text_a, text_b, kind}; gzip by suffix."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in raw.decode().split("\n") if line.strip()]
    return [
        LabelledPair(
            text_a=row["text_a"],
            text_b=row["text_b"],
            is_same=bool(int(row["label"])) if is_same is None else is_same,
            kind=row.get("kind", ""),
            cosine=row.get("cosine"),
            held_out=row.get("held_out", False),
        )
        for row in rows
    ]


def connected_components(pairs: Sequence[LabelledPair]) -> list[int]:
    """One number a pair: equal for pairs joined by a chain of shared texts (compared without case and white space)."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    keys = [(_key(pair.text_a), _key(pair.text_b)) for pair in pairs]
    for key_a, key_b in keys:
        parent[root(key_a)] = root(key_b)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(key_a), len(numbers)) for key_a, _ in keys]


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
