"""Measures Nearside on this machine and writes the figures to docs/benchmarks.

    scripts/bench               3 rounds of 10 s a case
    scripts/bench --quick       3 rounds of 2 s a case, in less than 90 s
    scripts/bench --only memory-hit --only cache-hit-key --repeats 8 --seconds 3

Our Worker runs on workerd alone (no local stack, no proxies), beside the smallest Python and JavaScript Workers, all
in one run and in turn. Load: autocannon, on other cores than what it measures where there are two.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.benchmarks.figures import Sample, figure, markdown_table
from scripts.benchmarks.machine import machine_facts
from scripts.benchmarks.streams import GAP_MS, TOKENS, TTFT_MS, measure_streams, streams_table
from scripts.benchmarks.workerd import BenchError, measure
from scripts.benchmarks.workerd_cases import SDK_HELLO, workerd_cases
from scripts.local.worker_spec import ROOT

SECONDS, QUICK_SECONDS = 10, 2


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    command = shlex.join(["scripts/bench", *(sys.argv[1:] if argv is None else argv)])
    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    cases = [case for case in workerd_cases() if not arguments.only or case.name in arguments.only]
    facts = machine_facts()
    try:
        samples = measure(
            cases, seconds=seconds, repeats=arguments.repeats, connections=arguments.connections, say=_say
        )
    except BenchError as exc:
        print(f"scripts/bench: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.only:
        print(_only(samples))
        return 0

    try:
        stream_samples = measure_streams(
            streams=40 if arguments.quick else 160,
            concurrency=arguments.connections,
            repeats=arguments.repeats,
            say=_say,
        )
    except BenchError as exc:
        print(f"scripts/bench: {exc}", file=sys.stderr)
        return 1
    settings = {"seconds": seconds, "repeats": arguments.repeats, "connections": arguments.connections}
    table = markdown_table({case.name: case.says for case in cases}, samples, floor=SDK_HELLO)
    arguments.output.mkdir(parents=True, exist_ok=True)
    streams = streams_table(stream_samples)
    rows = {**_rows(samples), **_rows(stream_samples)}
    raw = json.dumps({"command": command, **settings, **facts, "cases": rows}, indent=2) + "\n"
    (arguments.output / "workerd.json").write_text(raw)
    (arguments.output / "workerd.md").write_text(_page(command, settings, facts, table, streams))
    print(f"{table}\n\n{streams}")
    return 0


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


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help=f"{QUICK_SECONDS} s a case")
    names = [case.name for case in workerd_cases()]
    add(
        "--only",
        action="append",
        choices=names,
        metavar="CASE",
        help=f"writes no page; may be repeated: {', '.join(names)}",
    )
    add("--seconds", type=_positive, metavar="N", help=f"of each case in each round (default: {SECONDS})")
    add("--repeats", type=_positive, default=3, metavar="N", help="rounds (default: %(default)s)")
    add("--connections", type=_positive, default=8, metavar="N", help="open at a time (default: %(default)s)")
    add("--output", type=Path, default=ROOT / "docs" / "benchmarks", metavar="DIR", help="default: docs/benchmarks")
    return parser.parse_args(argv)


def _rows(samples: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(sample) for sample in rounds] for name, rounds in samples.items()}


def _page(command: str, settings: dict[str, int], facts: dict[str, Any], table: str, streams: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"""# Nearside on workerd alone

`{command}`, {facts["date"]}, {facts["cores"]} cores of {facts["cpu"]}, {facts["system"]}, load average at the start
{facts["load_average"][0]}. {versions}.

{settings["connections"]} connections, {settings["repeats"]} rounds, {settings["seconds"]} s a case, the cases in turn.
Each cell: the median of the rounds (least–most). The floor is the first row, compared round by round. CPU is that of
the workerd process alone, which also does the work of Workers KV here (miniflare's, on SQLite); in production that
work is elsewhere. The rate limiter is off, because miniflare's costs more than all the rest.
Raw samples: [workerd.json](workerd.json).

{table}

## Streams

{settings["connections"]} at a time, {TOKENS} tokens each, the first after {TTFT_MS} ms and one every {GAP_MS} ms after
it, all from the same upstream on this machine; the edge model is a stand-in in workerd with its own pace. Added times
are against the direct stream of the same round. CPU is workerd's, for the whole stream divided by its tokens.

{streams}
"""


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
