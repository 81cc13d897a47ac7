"""Measures the prompt optimizer on texts of 1 KB, made of real prompts that follow each other.

python -m scripts.optimizer_speed ../shared/data/prompts.jsonl
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_router import tokens
from edge_router.prompts.optimizer import optimize

CHARACTERS = 1024


def texts_of(prompts: Sequence[str]) -> list[str]:
    found, waiting = [], ""
    for prompt in prompts:
        waiting = f"{waiting}\n\n{prompt}" if waiting else prompt
        if len(waiting) >= CHARACTERS:
            found.append(waiting[:CHARACTERS])
            waiting = ""
    return found


def mean_s(texts: Sequence[str], repeats: int, prepare: Callable[[], None]) -> float:
    """Over the texts, of each its quickest time."""
    quickest = [float("inf")] * len(texts)
    for _ in range(repeats):
        for place, text in enumerate(texts):
            prepare()
            started_s = time.perf_counter()
            optimize(text)
            quickest[place] = min(quickest[place], time.perf_counter() - started_s)
    return sum(quickest) / len(texts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.optimizer_speed", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="JSON Lines with a field `prompt`")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    texts = texts_of([json.loads(line)["prompt"] for line in arguments.file.read_text().splitlines()])
    known = mean_s(texts, arguments.repeats, lambda: None)
    new = mean_s(texts, arguments.repeats, tokens.forget)
    print(f"{len(texts)} texts of {CHARACTERS} characters, quickest of {arguments.repeats} each, mean:")
    print(f"  words seen before {known * 1e6:.0f} µs, every word new {new * 1e6:.0f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
