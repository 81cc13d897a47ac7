"""Simulates the gateway at internet scale: latency, hit rate, cost and load, with and without each strategy.

    scripts/simulate --quick                       one minute: 10 to 100,000 requests/s, everything against nothing
    scripts/simulate --rate 1000 --ablation        one rate, each strategy left out in turn
    scripts/simulate --scenario mine.toml --json out.json
                                                   other assumptions: [edge] share = 0.9
    scripts/simulate --rate 100 --without edge,hedging
    scripts/simulate --validate                    the model beside the local stack, three minutes
    scripts/simulate --page                        every rate and strategy, failures: docs/simulation.md

A model, not a measurement: what it assumes, and where from, is in docs/simulation.md. The same arguments give the same
figures. Exit codes: 0 done, 1 the stack differs by more than 10 %, 2 a scenario or an argument that can't be used.
"""

import argparse
import datetime
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
from scripts.simulation.failures import RATE, failure_cases
from scripts.simulation.failures import REQUESTS as FAILURE_REQUESTS
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
    if arguments.validate:
        return _validate(arguments)
    if arguments.page:
        return _write_page(scenario, arguments)
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


def _write_page(scenario: Scenario, arguments: argparse.Namespace) -> int:
    from scripts.simulation import page  # matplotlib takes its time

    requests = QUICK_REQUESTS if arguments.quick else REQUESTS
    cells = [
        Cell(name, variant, rate, requests, arguments.seed)
        for rate in RATES
        for name, variant in ablation(scenario).items()
    ]
    failing = [
        Cell(name, variant, RATE, FAILURE_REQUESTS, arguments.seed) for name, variant in failure_cases(scenario).items()
    ]
    summaries = run_all([*cells, *failing], arguments.processes)
    results = {(cell.requests_per_s, cell.name): summary for cell, summary in zip(cells, summaries, strict=False)}
    cases = {cell.name: summary for cell, summary in zip(failing, summaries[len(cells) :], strict=True)}
    told = {"runs": [[*key, summary] for key, summary in results.items()], "failures": cases}
    page.FOLDER.mkdir(exist_ok=True)
    (page.FOLDER / "results.json").write_text(json.dumps(told) + "\n")
    facts = f"{datetime.date.today()}, {requests:,} measured requests a run, seed {arguments.seed}"
    page.write_page(results, cases, scenario, facts)
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from scripts.simulation import page, validate  # so that nothing else needs what the stack needs

    comparison = validate.compare(arguments.seed)
    facts = f"{datetime.date.today()}, {os.cpu_count()} cores at load {os.getloadavg()[0]:.1f}, seed {arguments.seed}"
    told = comparison.as_json(facts)
    page.FOLDER.mkdir(exist_ok=True)
    page.VALIDATION.write_text(json.dumps(told, indent=1) + "\n")
    print(f"{comparison.requests} requests; the stack itself adds {told['overheads']}")
    for row in comparison.rows:
        print(f"{row.what:32} stack {row.stack:8.4f}   model {row.model:8.4f}   {row.difference:+7.1%}")
    print("within 10 %" if comparison.is_close else "NOT within 10 %")
    return 0 if comparison.is_close else 1


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
    add("--validate", action="store_true", help="compare with the local stack; the page then tells it")
    add("--page", action="store_true", help="run all and write docs/simulation.md; about 20 minutes")
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
