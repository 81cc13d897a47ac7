"""Finds what the local stack can carry, then runs it at 70 % of that and watches errors and memory: docs/chaos.md.

    scripts/soak --minutes 60 --json soak.json

Exit codes: 0 nothing unexplained and memory is flat, 1 it is not, 2 nothing could be run.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import linear_regression, mean
from typing import Any

from rich.console import Console

from scripts.chaos_suite.books import check_ledger
from scripts.chaos_suite.isolate import Held, held_at_rest, leaks
from scripts.chaos_suite.load import Load
from scripts.chaos_suite.run import chaos_stack, warm_up
from scripts.local.stack import Stack, StackError

SHARE = 0.7
RAMP_CALLERS = (2, 4, 8, 16, 32)
RAMP_S = 8.0  # at each step
MIN_GAIN = 1.1  # with twice the callers: less is no gain, so the ramp ends
WARM_UP_SHARE = 0.2  # of the run: caches and the Worker's heap grow to their size
REST_S = 15.0
MAX_GROWTH = 0.1
SAMPLES = 200
# As in a storm, a machine that is busy is no failure.
VARIABLES = {
    "EDGE_TIMEOUT_S": 20,
    "CLOUD_TIMEOUT_S": 20,
    "ANSWER_TIMEOUT_S": 60,
    "STREAM_IDLE_S": 30,
    "LEDGER_TIMEOUT_S": 10,
}


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most that was carried, by how many callers. Steps: several requests are sent together in some."""

    callers: int = 0
    steps_per_s: float = 0.0
    requests_per_s: float = 0.0


@dataclass(slots=True)
class Soak:
    """seconds, requests: after the warm-up. samples: (seconds, bytes of workerd's memory) meanwhile.

    before, after: what the isolate held after the warm-up and at the end, at rest.
    """

    capacity: Capacity = field(default_factory=Capacity)
    seconds: float = 0.0
    requests: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    samples: list[tuple[float, int]] = field(default_factory=list)
    before: Held | None = None
    after: Held | None = None

    @property
    def growth(self) -> float:
        return growth(self.samples)

    @property
    def unexplained(self) -> int:
        """Nothing fails on purpose, so an error is one as well, lawful or not."""
        served = {"exact-cache", "semantic-cache", "edge-model", "cloud", "answered"}
        errors = sum(count for name, count in self.outcomes.items() if name not in served)
        return errors + sum(self.violations.values())

    @property
    def leaks(self) -> list[str]:
        """What the isolate holds more of than it should after so many requests."""
        return [] if self.before is None or self.after is None else leaks(self.before, self.after, self.requests)

    @property
    def is_good(self) -> bool:
        return self.unexplained == 0 and self.growth <= MAX_GROWTH and not self.leaks

    def as_json(self) -> dict[str, Any]:
        facts = {slot: getattr(self, slot) for slot in self.__slots__}
        facts |= {name: facts[name] and asdict(facts[name]) for name in ("capacity", "before", "after")}
        return {**facts, "growth": self.growth, "unexplained": self.unexplained, "leaks": self.leaks}


def growth(samples: Sequence[tuple[float, int]]) -> float:
    """By how much of its mean the memory grew from the first sample to the last, along a fitted line."""
    if len(samples) < 2:
        return 0.0
    times, sizes = zip(*samples, strict=True)
    slope = linear_regression(times, sizes).slope
    return float(slope * (times[-1] - times[0]) / mean(sizes))


def run_soak(
    *, seconds: float, seed: int = 1, on_progress: Callable[[float, int], None] = lambda done_s, memory: None
) -> Soak:
    """on_progress: told the seconds so far, and workerd's memory in bytes."""
    with chaos_stack(VARIABLES) as (stack, address, keys, _):
        return asyncio.run(
            _run(stack, Load(address.url, keys, seed=seed, callers=max(RAMP_CALLERS)), seconds, on_progress)
        )


async def _run(stack: Stack, load: Load, seconds: float, on_progress: Callable[[float, int], None]) -> Soak:
    soak = Soak()
    await warm_up(load)
    soak.capacity = await _capacity(load)
    load.doing = "soak"
    async with load.client() as client:
        await _ask_steadily(stack, load, soak.capacity, WARM_UP_SHARE * seconds, on_progress)
        soak.before = await held_at_rest(client, after_s=REST_S)
        asked_before, started_s = load.record.requests, time.monotonic()
        rest_s = (1 - WARM_UP_SHARE) * seconds
        soak.samples = await _ask_steadily(stack, load, soak.capacity, rest_s, on_progress)
        soak.seconds = time.monotonic() - started_s
        soak.requests = load.record.requests - asked_before
        soak.after = await held_at_rest(client, after_s=REST_S)
    _, found = await check_ledger(load)
    for phrase in found:
        load.record.add_breach(phrase, "end")
    soak.outcomes, soak.violations = dict(load.record.outcomes), dict(load.record.broken)
    soak.examples = load.record.examples
    return soak


async def _ask_steadily(
    stack: Stack, load: Load, capacity: Capacity, seconds: float, on_progress: Callable[[float, int], None]
) -> list[tuple[float, int]]:
    """(seconds, bytes of workerd's memory), while the share of the capacity is asked for."""
    samples, started_s, stop = [], time.monotonic(), asyncio.Event()
    interval_s = capacity.callers / (SHARE * capacity.steps_per_s)
    asking = asyncio.create_task(load.keep_asking(stop, callers=capacity.callers, interval_s=interval_s))
    while (now_s := time.monotonic() - started_s) < seconds and not asking.done():
        samples.append((now_s, stack.worker_memory_bytes()))
        on_progress(*samples[-1])
        await asyncio.wait([asking], timeout=seconds / SAMPLES)
    stop.set()
    await asking
    return samples


async def _capacity(load: Load) -> Capacity:
    """By twice as many callers each time, who ask without a pause, until that brings little."""
    best = Capacity()
    for callers in RAMP_CALLERS:
        load.doing = f"ramp with {callers}"
        steps, requests, started_s = load.steps, load.record.requests, time.monotonic()
        stop = asyncio.Event()
        asking = asyncio.create_task(load.keep_asking(stop, callers=callers))
        await asyncio.wait([asking], timeout=RAMP_S)
        stop.set()
        await asking
        took_s = time.monotonic() - started_s
        found = Capacity(callers, (load.steps - steps) / took_s, (load.record.requests - requests) / took_s)
        gain = found.steps_per_s / (best.steps_per_s or 1e-9)
        best = max(best, found, key=lambda each: each.steps_per_s)
        if gain < MIN_GAIN:
            break
    return best


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="default: 60")
    parser.add_argument("--seed", type=int, default=1, help="of the questions (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        with console.status("ramp") as status:

            def on_progress(done_s: float, memory: int) -> None:
                status.update(f"{done_s:.0f} of {60 * arguments.minutes:.0f} s, workerd {memory >> 20} MiB")

            soak = run_soak(seconds=60 * arguments.minutes, seed=arguments.seed, on_progress=on_progress)
    except StackError as exc:
        print(f"scripts/soak: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        arguments.json.write_text(json.dumps(soak.as_json(), indent=2) + "\n")
    sizes = [size >> 20 for _, size in soak.samples] or [0]
    capacity = f"{soak.capacity.requests_per_s:.1f} requests/s with {soak.capacity.callers} callers"
    console.print(f"capacity {capacity}, run at {SHARE:.0%} of it for {soak.seconds:.0f} s")
    console.print(f"{soak.requests} requests, {soak.unexplained} unexplained errors: {soak.violations or 'none'}")
    console.print(f"workerd {sizes[0]} MiB after warm-up, {sizes[-1]} MiB at the end, along a line {soak.growth:+.1%}")
    console.print(f"the isolate held {soak.before}, at the end {soak.after}: {soak.leaks or 'no leak'}", markup=False)
    for name, count in soak.outcomes.items():
        console.print(f"  {name}: {count}", markup=False)
    for example in soak.examples:
        console.print(f"  {example}", markup=False)
    return 0 if soak.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
