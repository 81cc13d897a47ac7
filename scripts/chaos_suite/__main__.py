"""Breaks the local stack part by part, under load, and judges every answer. What and how: docs/chaos.md.

    scripts/chaos --seconds 300 --seed 7          every action in turn, then in random order
    scripts/chaos --only kv --only kill-workerd   actions whose names begin so; --list shows them
    scripts/chaos --storm                         200 connections, 20,000 requests, 10 % of all calls fail

Exit codes: 0 the contract is kept, 1 it is not, 2 nothing could be run.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from scripts.chaos_suite.actions import all_actions
from scripts.chaos_suite.report import show
from scripts.chaos_suite.run import MEMORY_WARM_UP_S, WARM_UP_S, Outcome, run_chaos
from scripts.chaos_suite.storm import run_storm
from scripts.local.stack import StackError

WARM_UP_HELP = f"load without faults before (default: {WARM_UP_S:g}; from {MEMORY_WARM_UP_S:g} on memory is judged)"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    if arguments.list:
        print("\n".join(action.name for action in all_actions(has_clock=True)))
        return 0
    try:
        outcome = _run(arguments)
    except StackError as exc:
        print(f"scripts/chaos: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    show(outcome, Console(stderr=True))
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome.as_json(), indent=2) + "\n")
    return 1 if outcome.violations else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=300, help="how long to break things (default: 300)")
    add("--warm-up", type=float, default=WARM_UP_S, metavar="SECONDS", help=WARM_UP_HELP)
    add("--seed", type=int, default=1, help="of questions and of the order of actions (default: 1)")
    add("--connections", type=int, help="callers (default: 12), with --storm also connections (default: 200)")
    add("--only", action="append", metavar="NAME", help="actions whose name begins so; may be repeated")
    add("--list", action="store_true", help="the names of all actions")
    add("--storm", action="store_true", help="no actions: many connections while a share of all calls fails")
    add("--requests", type=int, default=20_000, help="of --storm (default: 20,000)")
    add("--json", type=Path, metavar="FILE", help="where to write all figures")
    arguments = parser.parse_args(argv)
    names = [action.name for action in all_actions(has_clock=True)]
    for prefix in arguments.only or []:
        if not any(name.startswith(prefix) for name in names):
            parser.error(f"no action begins with {prefix!r}; --list shows them")
    return arguments


def _run(arguments: argparse.Namespace) -> Outcome:
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("starts", total=arguments.requests if arguments.storm else arguments.seconds)

        def on_progress(name: str, done: float) -> None:
            progress.update(bar, completed=done, description=name)

        if arguments.storm:
            return run_storm(
                requests=arguments.requests,
                connections=arguments.connections or 200,
                seed=arguments.seed,
                on_progress=on_progress,
            )
        return run_chaos(
            seconds=arguments.seconds,
            seed=arguments.seed,
            callers=arguments.connections or 12,
            warm_up_s=arguments.warm_up,
            chosen=_chosen(arguments.only),
            on_action=on_progress,
        )


def _chosen(prefixes: Sequence[str] | None) -> Callable[[str], bool]:
    return lambda name: not prefixes or name.startswith(tuple(prefixes))


if __name__ == "__main__":
    sys.exit(main())
