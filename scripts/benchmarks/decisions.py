"""What one decision costs on CPython and in workerd, features included, by loops of many.

    .venv/bin/python -m scripts.benchmarks.decisions [--prompts FILE.jsonl]

--prompts: {"prompt": "…"} a line; then the spread over them is told as well (CPython).
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

from scripts.benchmarks.workerd import running_servers, stage
from scripts.benchmarks.workerd_cases import STAGED, WORKERS, server, vendored_modules
from scripts.benchmarks.workers.decision_loop import run
from scripts.local.worker_spec import DEVELOPMENT_FLAGS, ROOT

ROUNDS = 7
PROMPT = (
    "I am planning a trip through the north of Norway with two friends in early March and we would like to see the"
    " northern lights, go skiing for about three days and spend less than 2,500 euros each. Which towns should we stay"
    " in, how do we get from one to the next without a car, and what should we book now rather than later?"
)
TEXTS = {
    "60 words": PROMPT,
    "200 KB of words": "lorem ipsum dolor sit amet 12 " * 7000,
    "200 KB of letters and digits": "a1b2c3" * 33_000,
    "200 KB of sentences of a letter": "A b. C d? " * 20_000,
    "200 KB of options": "\nA) yes no" * 20_000,
    "26 options and a long question": "a1b2 " * 700 + "".join(f"\n{chr(65 + i)}) word a1 b2" for i in range(26)),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path)
    arguments = parser.parse_args(argv)
    stage()
    with running_servers(_servers()) as servers:
        url = servers["decision"].url

        def in_workerd(what: str, text: str, times: int) -> None:
            job = {"what": what, "text": text, "times": times}
            httpx.post(url, json=job, timeout=120, trust_env=False).raise_for_status()

        print(f"{'':40}{'CPython':>12}{'workerd':>12}{'ratio':>8}")
        for what, name, text, times in _cases():
            own_us, theirs_us = _alternately([run, in_workerd], what, text, times)
            print(f"{what + ', ' + name:40}{own_us:10.0f} µs{theirs_us:10.0f} µs{theirs_us / own_us:8.2f}")
    if arguments.prompts:
        _spread([json.loads(line)["prompt"] for line in arguments.prompts.read_text().splitlines()])
    return 0


def _cases() -> Iterator[tuple[str, str, str, int]]:
    yield "load", "the weights", "", 50
    for name, text in TEXTS.items():
        yield "score", name, text, 2000 if name == "60 words" else 200
    yield "decide", "60 words", PROMPT, 2000


def _alternately(loops: Sequence[Callable[[str, str, int], None]], what: str, text: str, times: int) -> list[float]:
    """µs of one call in each, the best of the rounds: what else runs on the machine only ever adds."""
    best_us = [float("inf")] * len(loops)
    for _ in range(ROUNDS):
        for place, loop in enumerate(loops):
            spent_s = [_timed(loop, what, text, count) for count in (0, times)]
            best_us[place] = min(best_us[place], 1e6 * (spent_s[1] - spent_s[0]) / times)
    return best_us


def _timed(loop: Callable[[str, str, int], None], what: str, text: str, times: int) -> float:
    start_s = time.perf_counter()
    loop(what, text, times)
    return time.perf_counter() - start_s


def _spread(prompts: list[str]) -> None:
    each_us = [min(1e6 * _timed(run, "decide", prompt, 1) for _ in range(ROUNDS)) for prompt in prompts]
    p99_us = quantiles(each_us, n=100)[98]
    print(f"decide, {len(prompts)} prompts, best of {ROUNDS}: p50 {median(each_us):.0f} µs, p99 {p99_us:.0f} µs")


def _servers() -> dict[str, Any]:
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    core = [(path, str(path.relative_to(STAGED))) for path in sorted((STAGED / "edge_router").rglob("*.py"))]
    ours = [(WORKERS / name, name) for name in ("decision.py", "decision_loop.py")]
    modules = [{"type": "PythonModule", "path": name, "file": str(path)} for path, name in (*ours, *core)]
    vendored = vendored_modules(config.get("python_modules", {}).get("exclude", []))
    flags = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    options = {"compatibilityFlags": flags}
    return {
        "compatibilityDate": config["compatibility_date"],
        "servers": [server("decision", WORKERS, [*modules, *vendored], options=options)],
    }


if __name__ == "__main__":
    sys.exit(main())
