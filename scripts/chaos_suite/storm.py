"""Many connections while a share of all calls behind the gateway fails, each in another way."""

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx

from scripts.chaos_suite.isolate import held_at_rest
from scripts.chaos_suite.load import Load
from scripts.chaos_suite.run import REST_BEFORE_S, Outcome, chaos_stack, check_end, warm_up
from scripts.local.stack import Address, Stack

FAULT_RATE = 0.1
# One rule after the other is drawn, so that the share of a target's calls that fail is FAULT_RATE.
KINDS: Mapping[str, tuple[str, ...]] = {
    "ai": ("error", "cut", "malformed", "truncated", "429"),
    "embed": ("error", "malformed"),
    "upstream": ("error", "cut", "malformed", "early-end", "429-retry-after"),
    "cloud": ("refuse", "cut", "503", "html-error"),
    "kv": ("error", "malformed"),
    "do": ("error", "cut"),
    "ledger": ("error", "malformed"),
    "vectorize": ("error", "malformed"),
}
# Under this load on a small machine a queue is no failure: judged is what comes back, not when.
VARIABLES = {
    "EDGE_TIMEOUT_S": 30,
    "CLOUD_TIMEOUT_S": 30,
    "ANSWER_TIMEOUT_S": 60,
    "STREAM_IDLE_S": 30,
    "LEDGER_TIMEOUT_S": 10,
}


def run_storm(
    *, requests: int, connections: int, seed: int, on_progress: Callable[[str, float], None] = lambda name, done: None
) -> Outcome:
    """on_progress: told a name and the requests so far."""
    with chaos_stack(VARIABLES) as (stack, address, keys, _):
        load = Load(address.url, keys, seed=seed, callers=connections, connections=connections)
        return asyncio.run(_run(stack, address, load, requests, on_progress))


async def _run(
    stack: Stack, address: Address, load: Load, requests: int, on_progress: Callable[[str, float], None]
) -> Outcome:
    outcome = Outcome(record=load.record)
    await warm_up(load)
    async with load.client() as client:
        outcome.held_before = await held_at_rest(client, after_s=REST_BEFORE_S)
    outcome.memory_before = stack.worker_memory_bytes()
    started_s = time.monotonic()
    async with httpx.AsyncClient(base_url=address.control_url, timeout=30, trust_env=False) as control:
        for target, kinds in KINDS.items():
            for place, kind in enumerate(kinds):
                rate = FAULT_RATE / len(kinds) / (1 - FAULT_RATE * place / len(kinds))
                (await control.post("/faults", json={"target": target, "kind": kind, "rate": rate})).raise_for_status()
        load.doing = "storm"
        asking = asyncio.create_task(load.keep_asking(asyncio.Event(), max_requests=requests))
        while not asking.done():
            on_progress("storm", load.record.requests)
            await asyncio.wait([asking], timeout=1)
        await asking
        (await control.delete("/faults")).raise_for_status()
    outcome.seconds = time.monotonic() - started_s
    await check_end(stack, load, outcome, has_memory_limit=False)
    return outcome
