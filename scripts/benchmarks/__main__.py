"""Measures Nearside on this machine, beside floors and other gateways, and writes the figures to docs/benchmarks.

    scripts/bench                      everything, about half an hour
    scripts/bench --quick              3 minutes: the parts comparison and memory in short; rough figures
    scripts/bench --only comparison    one part; may be repeated
    scripts/bench --only memory-hit --only cache-hit-key --repeats 8 --seconds 3    cases of the part workerd alone

Parts: workerd (our Worker and the floors of the runtime), comparison (LiteLLM, Portkey, TensorZero), start (cold
starts, bundle), memory (the isolate after thousands of requests), growth (CPU against the size of a request). What is
measured has a core of its own, where there are two. docs/benchmarks/README.md says what each figure means.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from scripts.benchmarks import plots
from scripts.benchmarks.cold_start import cold_start_tables, measure_cold_start
from scripts.benchmarks.comparison import comparison_tables, measure_comparison
from scripts.benchmarks.figures import Sample, figure, markdown_table
from scripts.benchmarks.growth import growth_tables, measure_growth
from scripts.benchmarks.load import LoadError, load_tool
from scripts.benchmarks.machine import machine_facts
from scripts.benchmarks.memory import measure_memory, memory_tables
from scripts.benchmarks.streams import GAP_MS, TOKENS, TTFT_MS, measure_streams, streams_table
from scripts.benchmarks.workerd import BenchError, measure
from scripts.benchmarks.workerd_cases import SDK_HELLO, Case, workerd_cases
from scripts.local.worker_spec import ROOT

CONSOLE = Console(stderr=True)
GROWTH_S = 1
WARM_UP_S = 3
BUSY = 1.0
"""A load average of before the start that makes figures rough."""
QUICK_CASES = (SDK_HELLO, "python-kv", "cache-hit", "memory-hit")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for each figure."""

    seconds: int
    warm_up: int
    repeats: int
    connections: int
    is_quick: bool


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    command = shlex.join(["scripts/bench", *(sys.argv[1:] if argv is None else argv)])
    effort = Effort(
        seconds=arguments.seconds or (1 if arguments.quick else 2),
        warm_up=WARM_UP_S,
        repeats=arguments.repeats or (1 if arguments.quick else 3),
        connections=arguments.connections,
        is_quick=arguments.quick,
    )
    facts = machine_facts()  # before anything of ours makes the machine busy
    asked = arguments.only or list(QUICK_PARTS if effort.is_quick else PARTS)
    cases = [case for case in workerd_cases() if case.name in asked]
    failed = []
    if cases:
        try:
            print(_only(_samples(cases, effort)))
        except BenchError as exc:
            CONSOLE.print(f"scripts/bench: {exc}", style="red", markup=False)
            failed.append("cases")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in (part for part in asked if part in PARTS):
        began_s = time.monotonic()
        try:
            raw, page = PARTS[name](effort, arguments.output)
        except KeyboardInterrupt:
            return 130
        except Exception as exc:  # whatever it is, the other parts are measured
            CONSOLE.print(f"scripts/bench: {name}: {exc}", style="red", markup=False)
            if not isinstance(exc, (BenchError, LoadError)):
                CONSOLE.print_exception()
            failed.append(name)
            continue
        written = {"command": command, **asdict(effort), **facts, "load_tool": load_tool(), **raw}
        (arguments.output / f"{name}.json").write_text(json.dumps(written, indent=1) + "\n")
        (arguments.output / f"{name}.md").write_text(_page(name, command, effort, facts, page))
        print(page)
        CONSOLE.print(f"{name} took {time.monotonic() - began_s:.0f} s")
    return 1 if failed else 0


def _workerd(effort: Effort, output: Path) -> tuple[dict[str, Any], str]:
    cases = [case for case in workerd_cases() if case.name in QUICK_CASES or not effort.is_quick]
    samples = _samples(cases, effort)
    stream_samples = (
        {}
        if effort.is_quick
        else measure_streams(streams=48, concurrency=effort.connections, repeats=effort.repeats, say=_say)
    )
    table = markdown_table({case.name: case.says for case in cases}, samples, floor=SDK_HELLO)
    page = f"""# Nearside on workerd alone

{effort.connections} connections of autocannon, the cases in turn. The floor is the first row, compared round by round.
CPU is that of the workerd process alone, which also does the work of Workers KV here (miniflare's, on SQLite); in
production that work is elsewhere. The rate limiter is off, because miniflare's costs more than all the rest.

{table}"""
    if stream_samples:
        page += f"""

## Streams

{effort.connections} at a time, {TOKENS} tokens each, the first after {TTFT_MS} ms and one every {GAP_MS} ms after
it, all from the same upstream on this machine; the edge model is a stand-in in workerd with its own pace. Added times
are against the direct stream of the same round. CPU is workerd's, for the whole stream divided by its tokens.

{streams_table(stream_samples)}"""
    return {"cases": {**_rows(samples), **_rows(stream_samples)}}, page


def _samples(cases: Sequence[Case], effort: Effort) -> dict[str, list[Sample]]:
    return measure(
        cases,
        seconds=effort.seconds,
        warm_up=effort.warm_up,
        repeats=effort.repeats,
        connections=effort.connections,
        say=_say,
    )


def _only(samples: Mapping[str, Sequence[Sample]]) -> str:
    """A line a case; of those after the first also how much more CPU each took, round by round."""
    first, *_ = samples.values()
    lines = []
    for name, rounds in samples.items():
        cpu = figure([sample.cpu_ms for sample in rounds])
        more = figure([sample.cpu_ms - base.cpu_ms for sample, base in zip(rounds, first, strict=True)])
        added = "" if rounds is first else f", {more.median:+.3f} ({more.least:+.3f} to {more.most:+.3f})"
        lines.append(f"{name}: CPU {cpu.median:.3f} ms a request ({cpu.least:.3f} to {cpu.most:.3f}){added}")
    return "\n".join(lines)


def _comparison(effort: Effort, output: Path) -> tuple[dict[str, Any], str]:
    raw = measure_comparison(
        seconds=effort.seconds,
        warm_up=effort.warm_up,
        repeats=effort.repeats,
        is_quick=effort.is_quick,
        track=_track,
    )
    plots.comparison(raw, output / "comparison.svg")
    return raw, f"# Nearside beside other gateways\n\n![](comparison.svg)\n\n{comparison_tables(raw)}"


def _start(effort: Effort, output: Path) -> tuple[dict[str, Any], str]:
    raw = measure_cold_start(repeats=effort.repeats, is_quick=effort.is_quick, track=_track)
    plots.cold_start(raw, output / "start.svg")
    return raw, f"# Cold start\n\n![](start.svg)\n\n{cold_start_tables(raw)}"


def _memory(effort: Effort, output: Path) -> tuple[dict[str, Any], str]:
    raw = measure_memory(requests=500 if effort.is_quick else 10_000, points=3 if effort.is_quick else 10, track=_track)
    plots.memory(raw, output / "memory.svg")
    return raw, f"# Memory of an isolate\n\n![](memory.svg)\n\n{memory_tables(raw)}"


def _growth(effort: Effort, output: Path) -> tuple[dict[str, Any], str]:
    raw = measure_growth(seconds=GROWTH_S, repeats=effort.repeats, is_quick=effort.is_quick, track=_track)
    plots.growth(raw, output / "growth.svg")
    return raw, f"# Growth\n\n![](growth.svg)\n\n{growth_tables(raw)}"


PARTS: dict[str, Callable[[Effort, Path], tuple[dict[str, Any], str]]] = {
    "workerd": _workerd,
    "comparison": _comparison,
    "start": _start,
    "memory": _memory,
    "growth": _growth,
}
QUICK_PARTS = ("comparison", "memory")  # the first cases of workerd are rows of comparison, too


def _page(name: str, command: str, effort: Effort, facts: dict[str, Any], page: str) -> str:
    """The page with what every figure carries behind its title."""
    title, _, rest = page.partition("\n")
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return f"""{title}

`{command}`, {facts["date"]}, {facts["cores"]} cores of {facts["cpu"]}, {facts["system"]}, load average at the start
{facts["load_average"][0]}. {versions}; load by {load_tool()} where not said otherwise.

{_rounds(name, effort)} A cell is the median of the rounds, (least–most) behind it.
[How it is measured](README.md); raw samples: [{name}.json]({name}.json).
{_warning(facts)}{rest}
"""


def _warning(facts: dict[str, Any]) -> str:
    return "" if facts["load_average"][0] < BUSY else "\n**Other work ran beside this: rough figures.**\n"


def _rounds(name: str, effort: Effort) -> str:
    seconds = {"workerd": effort.seconds, "comparison": effort.seconds, "growth": GROWTH_S}.get(name)
    if name == "memory":
        return "One round."
    return f"{effort.repeats} round{'s' * (effort.repeats > 1)}{f' of {seconds} s a case' if seconds else ''}."


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="1 round of 1 s, fewer parts, gateways, cases and sizes")
    names = [*PARTS, *(case.name for case in workerd_cases())]
    add(
        "--only",
        action="append",
        choices=names,
        metavar="PART|CASE",
        help=f"may be repeated; cases of workerd write no page: {', '.join(names)}",
    )
    add("--seconds", type=_positive, metavar="N", help="of each case in each round (default: 2)")
    add("--repeats", type=_positive, metavar="N", help="rounds (default: 3)")
    add("--connections", type=_positive, default=8, metavar="N", help="of the part workerd (default: %(default)s)")
    add("--output", type=Path, default=ROOT / "docs" / "benchmarks", metavar="DIR", help="default: docs/benchmarks")
    return parser.parse_args(argv)


def _rows(samples: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(sample) for sample in rounds] for name, rounds in samples.items()}


def _track(steps: Sequence[Any], text: str) -> Iterator[Any]:
    return iter(track(steps, description=text, console=CONSOLE))


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
