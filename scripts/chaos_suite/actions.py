"""What goes wrong while the load runs: one action at a time, each with its end."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx

from scripts.chaos_suite.books import check_ledger, start_anew
from scripts.chaos_suite.clock import Clock
from scripts.chaos_suite.load import Load
from scripts.local.stack import REGIONS, Address, Stack

# The kinds of faults (scripts/local/faults.py) that each target gets: late, failing, garbage, broken off.
FAULTS: dict[str, tuple[str, ...]] = {
    "kv": ("slow", "error", "malformed", "timeout"),
    "ai": ("slow", "error", "malformed", "cut", "stall", "truncated", "html-error", "timeout"),
    "embed": ("slow", "error", "malformed"),
    "vectorize": ("slow", "error", "malformed", "timeout"),
    "do": ("slow", "error", "malformed", "cut", "timeout"),
    "ledger": ("slow", "error", "malformed", "timeout"),
    "cloud": ("slow", "error", "malformed", "cut", "stall"),
    "upstream": ("refuse", "slow", "429", "malformed", "cut", "empty-stream"),
}
SHARE_RATE = 0.5  # half of the calls: the other half shows what a fault does to its neighbours
CLOCK_JUMPS_S = (3_600, -3_600, 40 * 86_400)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the actions take place."""

    stack: Stack
    address: Address
    load: Load
    clock: Clock | None


@dataclass(frozen=True, slots=True)
class Action:
    """name: `<what>-<how>`, for --only. go: something is wrong from its beginning to its end."""

    name: str
    go: Callable[[Site], AbstractAsyncContextManager[None]]


def all_actions(*, has_clock: bool) -> list[Action]:
    """In the order of this file. has_clock: whether workerd's clock can be moved here."""
    actions = [Action(f"kill-{region['id']}", partial(_region_killed, region_id=region["id"])) for region in REGIONS]
    actions.append(Action("kill-emulators", _emulators_killed))
    actions.append(Action("kill-workerd", _worker_killed))
    if sys.platform == "linux":
        actions.append(Action("disk-full", _disk_full))
    if has_clock:
        actions += [Action(f"clock-{jump:+d}s", partial(_clock_moved, by_s=jump)) for jump in CLOCK_JUMPS_S]
    for target, kinds in FAULTS.items():
        actions += [Action(f"{target}-{kind}", partial(_faulty, target=target, kind=kind)) for kind in kinds]
    return actions


def in_turn(actions: list[Action], seed: int) -> Iterator[Action]:
    """Without end: each once in its order, then each once in random order, again and again."""
    yield from actions
    shuffled = random.Random(seed)
    while True:
        yield from shuffled.sample(actions, len(actions))


@asynccontextmanager
async def _region_killed(site: Site, *, region_id: str) -> AsyncIterator[None]:
    await asyncio.to_thread(site.stack.kill_region, region_id)
    try:
        yield
    finally:
        site.stack.start_region(region_id)


@asynccontextmanager
async def _emulators_killed(site: Site) -> AsyncIterator[None]:
    await asyncio.to_thread(site.stack.kill_emulator)
    try:
        yield
    finally:
        await asyncio.to_thread(site.stack.start_emulator)


@asynccontextmanager
async def _worker_killed(site: Site) -> AsyncIterator[None]:
    with site.load.worker_down():
        await asyncio.to_thread(site.stack.restart_worker)
    yield


@asynccontextmanager
async def _disk_full(site: Site) -> AsyncIterator[None]:
    site.stack.limit_worker_files(0)
    try:
        yield
    finally:
        site.stack.limit_worker_files(None)


@asynccontextmanager
async def _clock_moved(site: Site, *, by_s: int) -> AsyncIterator[None]:
    assert site.clock is not None
    now = datetime.now(UTC)
    if (now + timedelta(seconds=by_s)).month == now.month:
        site.clock.move(by_s)
        try:
            yield
        finally:
            site.clock.move(0)
        return
    # Other books: the ledger is looked at before, and counted from anew afterwards.
    async with site.load.paused():
        for phrase in (await check_ledger(site.load))[1]:
            site.load.record.add_breach(phrase, site.load.doing)
        site.clock.move(by_s)
    try:
        yield
    finally:
        async with site.load.paused():
            site.clock.move(0)
            await start_anew(site.load)


@asynccontextmanager
async def _faulty(site: Site, *, target: str, kind: str) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=site.address.control_url, timeout=30, trust_env=False) as control:
        fault = {"target": target, "kind": kind, "rate": SHARE_RATE}
        (await control.post("/faults", json=fault)).raise_for_status()
        try:
            yield
        finally:
            (await control.delete("/faults")).raise_for_status()
