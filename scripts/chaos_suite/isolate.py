"""What the isolate holds: counted inside it, by an entry module that is not deployed."""

import asyncio
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from scripts.local.worker_spec import ROOT

_ENTRY = ROOT / "scripts" / "benchmarks" / "workers" / "memory_entry.py"
_PATH = "/bench/memory"
_STAGED, _COUNTED = ROOT / "build" / "worker", ROOT / "build" / "counted"
# Objects of JavaScript that Python refers to are let go when V8 collects, which it does when it likes: under steady
# load their number goes up and down.
MAX_WAITING = 500
MAX_STRANDED = 10  # asyncio tasks: a request or an object that workerd ends by force leaves what waited in it behind
MAX_NUMBERS = 80  # such a one knows up to eight: its stream, what holds it, its timers, what it waits for
MAX_LEAKED_SHARE = 0.1  # of the requests
MAX_WASM_RATIO = 1.25  # it grows by a fifth at a time, for the most that was in flight at once, and never shrinks
FULL_MIB = 80  # with the memory cache (8 MiB) and all other bounded tables full: docs/benchmarks/memory.md


@dataclass(frozen=True, slots=True)
class Held:
    """After a collection of Python's garbage; JavaScript's is V8's own affair.

    js_references: JavaScript objects that Python refers to, by proxies above all. border_numbers: what
    src/adapters/border.py knows by a number, in either language. tasks: of asyncio, not done yet; in what they wait.
    """

    js_references: int
    border_numbers: int
    tasks: tuple[str, ...]
    python_objects: int
    wasm_mib: float


def counted_worker() -> Mapping[str, Any]:
    """Sections of wrangler.toml, for a Worker that tells what its isolate holds. Puts its code where they say."""
    subprocess.run([str(ROOT / "scripts" / "stage")], check=True)
    shutil.rmtree(_COUNTED, ignore_errors=True)
    shutil.copytree(_STAGED, _COUNTED)
    shutil.copy(_ENTRY, _COUNTED)
    return {"main": str((_COUNTED / _ENTRY.name).relative_to(ROOT)), "build": {}}


async def held(client: httpx.AsyncClient) -> Held:
    """Now."""
    response = await client.get(_PATH)
    response.raise_for_status()
    told = response.json()
    return Held(**{**told, "tasks": tuple(told["tasks"])})


async def held_at_rest(client: httpx.AsyncClient, *, after_s: float) -> Held:
    """When nobody has asked for so long: what answers left running ends, and workerd lets a Durable Object go 10 s
    after its last call.
    """
    await asyncio.sleep(after_s)
    return await held(client)


def leaks(before: Held, after: Held, requests: int) -> list[str]:
    """What stayed of the requests between the two and must not."""
    found = []
    if len(after.tasks) > len(before.tasks) + MAX_STRANDED:
        found.append(f"asyncio tasks: {len(before.tasks)}, then {len(after.tasks)}: {', '.join(after.tasks)}")
    if after.js_references > before.js_references + MAX_WAITING + MAX_LEAKED_SHARE * requests:
        found.append(f"references to JavaScript: {before.js_references}, then {after.js_references}")
    if after.border_numbers > before.border_numbers + MAX_NUMBERS:
        found.append(f"numbers at the border: {before.border_numbers}, then {after.border_numbers}")
    if after.wasm_mib > max(before.wasm_mib * MAX_WASM_RATIO, FULL_MIB):
        found.append(f"Python's memory: {before.wasm_mib:.0f} MiB, then {after.wasm_mib:.0f}")
    return found
