"""Reads rows of prompts with how well a weak and a strong model answered them, one JSON object a line."""

import gzip
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

NO_BENCHMARK = "log"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Row:
    """weak, strong: how good the answers were, usually in [0, 1]; both None in a row that only shows a prompt."""

    line: int
    prompt: str
    benchmark: str = NO_BENCHMARK
    subject: str = ""
    weak: float | None = None
    strong: float | None = None

    @property
    def gain(self) -> float:
        """Only of a row with scores."""
        return (self.strong or 0.0) - (self.weak or 0.0)

    @property
    def has_scores(self) -> bool:
        return self.weak is not None


@dataclass(frozen=True, slots=True)
class BrokenLine:
    number: int
    problem: str


def read_rows(path: Path) -> Iterator[Row | BrokenLine]:
    """In the order of the file; blank lines are passed over. Raises OSError when it cannot be read."""
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _row(number, line)


def fold_of(row: Row, folds: int, *, salt: str = "", by_subject: bool = False) -> int:
    """The same for prompts that differ only in case, spaces or punctuation, wherever and whenever they are read."""
    key = row.subject if by_subject and row.subject else prompt_key(row.prompt)
    return int.from_bytes(sha256(f"{salt}{key}".encode("utf-8", "replace")).digest()[:4]) % folds


def prompt_key(prompt: str) -> str:
    return " ".join(_WORD.findall(prompt.lower()))


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _row(number: int, line: str) -> Row | BrokenLine:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return BrokenLine(number, "not JSON")
    if not isinstance(value, dict):
        return BrokenLine(number, "not a JSON object")
    prompt = value.get("prompt")
    if not isinstance(prompt, str):
        return BrokenLine(number, '"prompt" is not a string')
    weak, strong = value.get("weak_score"), value.get("strong_score")
    if (weak is None) != (strong is None):
        return BrokenLine(number, "has one of weak_score and strong_score without the other")
    if weak is not None and not (_is_number(weak) and _is_number(strong)):
        return BrokenLine(number, "weak_score and strong_score are not numbers")
    benchmark, subject = value.get("benchmark"), value.get("subject")
    return Row(
        line=number,
        prompt=prompt,
        benchmark=str(benchmark) if benchmark else NO_BENCHMARK,
        subject=str(subject) if subject else "",
        weak=None if weak is None else float(weak),
        strong=None if strong is None else float(strong),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
