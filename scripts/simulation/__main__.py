"""Simulates the gateway at internet scale: latency, hit rate, cost and load, with and without each strategy.

    scripts/simulate --quick                       one minute: 10 to 100,000 requests/s, everything against nothing
    scripts/simulate --rate 1000 --ablation        one rate, each strategy left out in turn
    scripts/simulate --scenario mine.toml --json out.json
                                                   other assumptions: [edge] share = 0.9
    scripts/simulate --rate 100 --without edge,hedging

A model, not a measurement: what it assumes, and where from, is in docs/simulation.md. The same arguments give the same
figures. Exit codes: 0 done, 2 a scenario or an argument that can't be used.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scripts.simulation import tables
from scripts.simulation.runner import QUICK_REQUESTS, RATES, REQUESTS, Cell, ablation, summary_of
from scripts.simulation.scenario import STRATEGIES, Scenario, ScenarioError, read_scenario

PLAIN_WIDTH = 140  # where no terminal says how wide it is


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        scenario = _scenario(arguments)
    except ScenarioError as exc:
        print(f"scripts/simulate: {exc}", file=sys.stderr)
        return 2
    cells = _cells(arguments, scenario)
    results = list(zip(cells, run_all(cells, arguments.processes), strict=True))
    rows = [tables.row(cell.requests_per_s, cell.name, summary) for cell, summary in results]
    _console().print(tables.terminal(rows))
    if arguments.json:
        told = [
            {"requests_per_s": cell.requests_per_s, "strategies": cell.name, "seed": cell.seed, **summary}
            for cell, summary in results
        ]
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def run_all(cells: Sequence[Cell], processes: int) -> list[dict[str, Any]]:
    """Summaries in the order of the cells, with a progress bar."""
    console = _console(stderr=True)
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        # Spawned, not forked: the progress bar has a thread.
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        task = progress.add_task("", total=len(cells))
        futures = {pool.submit(summary_of, cell): number for number, cell in enumerate(cells)}
        done: dict[int, dict[str, Any]] = {}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            progress.advance(task)
    return [done[number] for number in range(len(cells))]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--rate",
        type=_rate,
        action="append",
        metavar="N",
        help="requests/s; may be given again (default: 10 to 100,000)",
    )
    add("--ablation", action="store_true", help="also leave each strategy out in turn")
    add(
        "--without",
        type=_strategies,
        default=(),
        metavar="A,B",
        help=f"strategies to leave out: {', '.join(STRATEGIES)}",
    )
    add("--scenario", type=Path, metavar="FILE.toml", help="other assumptions, by section and field")
    add("--quick", action="store_true", help=f"{QUICK_REQUESTS:,} requests a run instead of {REQUESTS:,}: a rough p99")
    add("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")
    add("--json", type=Path, metavar="OUT.json", help="write every figure")
    add("--processes", type=int, default=os.cpu_count(), metavar="N", help="at once (default: %(default)s)")
    return parser.parse_args(argv)


def _scenario(arguments: argparse.Namespace) -> Scenario:
    scenario = Scenario()
    if arguments.scenario:
        scenario = read_scenario(arguments.scenario, scenario)
    return scenario.without(*arguments.without)


def _cells(arguments: argparse.Namespace, scenario: Scenario) -> list[Cell]:
    requests = QUICK_REQUESTS if arguments.quick else REQUESTS
    variants = ablation(scenario)
    if not arguments.ablation:
        variants = {name: variants[name] for name in ("all", "none")}
    return [
        Cell(name, variant, rate, requests, arguments.seed)
        for rate in arguments.rate or RATES
        for name, variant in variants.items()
    ]


def _rate(text: str) -> float:
    rate = float(text)
    if not 0.1 <= rate <= 10_000_000:
        raise argparse.ArgumentTypeError(f"must be 0.1 to 10,000,000 requests/s, got {text}")
    return rate


def _strategies(text: str) -> Iterable[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in STRATEGIES:
            raise argparse.ArgumentTypeError(f"there is no strategy {name!r}; use some of: {', '.join(STRATEGIES)}")
    return names


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PLAIN_WIDTH)


if __name__ == "__main__":
    sys.exit(main())
