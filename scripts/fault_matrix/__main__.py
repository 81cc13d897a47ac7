"""Runs every fault of the emulators through the gateway, checks what the caller sees and writes the matrix.

    scripts/faults                                      its own stack, with short deadlines -> docs/fault-matrix.md
    scripts/faults --only stall --only cut              some kinds, on the terminal
    scripts/dev --no-auth, then
    scripts/faults --url http://127.0.0.1:8787 --control http://127.0.0.1:8788

Exit codes: 0 the law is kept, 1 it is not, 2 nothing could be run.
"""

import argparse
import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scripts.benchmarks.machine import machine_facts
from scripts.fault_matrix.cases import FAULTS, Fault, lanes
from scripts.fault_matrix.page import Run, fault_matrix, summary
from scripts.fault_matrix.runner import CLOUD_VARIABLES, SHORT_LIMITS, CannotRun, Result, Runner
from scripts.local.stack import StackError, running_stack
from scripts.local.worker_spec import ROOT

PAGE = ROOT / "docs" / "fault-matrix.md"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    command = shlex.join(["scripts/faults", *(sys.argv[1:] if argv is None else argv)])
    faults = _chosen(arguments.only)
    facts = machine_facts()
    started_s = time.perf_counter()
    try:
        results = _run(arguments, faults)
    except (CannotRun, StackError) as exc:
        print(f"scripts/faults: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130

    took_s = time.perf_counter() - started_s
    limits = None if arguments.url else SHORT_LIMITS
    page = fault_matrix(results, Run(command, took_s, limits, facts))
    output = arguments.output or (None if arguments.only else PAGE)
    if output is None:
        print(page)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page)
    for result in results:
        if result.violations:
            print(f"{result.case.name}: {'; '.join(result.violations)}", file=sys.stderr)
    print(summary(results, took_s), file=sys.stderr)
    return 1 if any(result.violations for result in results) else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", help="a running gateway of scripts/dev, instead of an own stack; long deadlines take their time")
    add("--control", help="the control port of that stack")
    add("--key", default=os.environ.get("NEARSIDE_KEY"), help="API key (default: NEARSIDE_KEY)")
    add("--only", action="append", choices=[*dict.fromkeys(name for f in FAULTS for name in (f.kind, f.id))],
        metavar="KIND", help="this kind of fault, or this row; may be repeated")  # fmt: skip
    add("--output", type=Path, metavar="FILE.md", help=f"default: {PAGE.relative_to(ROOT)}, with --only the terminal")
    arguments = parser.parse_args(argv)
    if bool(arguments.url) != bool(arguments.control):
        parser.error("--url and --control belong together")
    return arguments


def _chosen(only: Sequence[str] | None) -> list[Fault]:
    return [fault for fault in FAULTS if not only or fault.kind in only or fault.id in only]


def _run(arguments: argparse.Namespace, faults: Sequence[Fault]) -> list[Result]:
    with ExitStack() as stack:
        url, control_url = arguments.url, arguments.control
        if url is None:
            _, address = stack.enter_context(
                running_stack(auth="open", variables=SHORT_LIMITS, cloud_variables=CLOUD_VARIABLES)
            )
            url, control_url = address.url, address.control_url
        progress = stack.enter_context(_progress())
        total = sum(len(group.cases) for groups in lanes(faults).values() for group in groups)
        bar = progress.add_task("", total=total)

        def advance(result: Result) -> None:
            progress.update(bar, advance=1, description=result.case.fault.id)

        runner = Runner(url, control_url, key=arguments.key, on_result=advance)
        return asyncio.run(runner.run(faults))


def _progress() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    sys.exit(main())
