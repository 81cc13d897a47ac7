"""One run of chaos against a stack of its own: load, actions, and what must be true at the end."""

import asyncio
import contextlib
import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from edge_router.auth import hash_secret
from scripts.chaos_suite.actions import Action, Site, all_actions, in_turn
from scripts.chaos_suite.books import COUNTED, RECOVERY_S, check_ledger
from scripts.chaos_suite.clock import Clock, make_clock
from scripts.chaos_suite.isolate import Held, counted_worker, held_at_rest, leaks
from scripts.chaos_suite.judge import Asked, breaches, cost_nano_usd
from scripts.chaos_suite.load import Load, Record
from scripts.chaos_suite.questions import Step, repeated
from scripts.fault_matrix.transcript import Transcript
from scripts.local.stack import Address, Stack, running_stack

TENANTS: Mapping[str, Mapping[str, Any]] = {
    COUNTED: {"budget": {"usd_day": 1000, "tokens_month": 10**10}},
    "basil": {},
}
# Production's limits in proportion, but short, so that an action that lasts seconds leads somewhere.
VARIABLES: Mapping[str, Any] = {
    "EDGE_TIMEOUT_S": 3,
    "CLOUD_TIMEOUT_S": 4,
    "ANSWER_TIMEOUT_S": 15,
    "STREAM_IDLE_S": 3,
    "HEARTBEAT_S": 1,
    "SEMANTIC_TIMEOUT_S": 1,
}
# V8 collects when it must. Here workerd sets no limit; in production all of an isolate, Python's 64 MiB among it, has
# 128 MB.
HEAP_LIMIT = {"MINIFLARE_WORKERD_V8_FLAGS": "--max-heap-size=64"}
WARM_UP_S = 4.0
GAP_S = 0.5  # between two actions: what one broke must work again under the next
MEMORY_RATIO = 1.2
# Of resident memory: until then it grows under any load, because V8 and workerd take what they may have before they
# give anything back. docs/chaos.md, "Memory".
MEMORY_WARM_UP_S = 120.0
REST_BEFORE_S, REST_S = 3.0, 15.0


@dataclass(slots=True)
class Outcome:
    """What a run found. memory_*: of workerd, in bytes, after the warm-up and at the end; held_*: in the isolate."""

    seconds: float = 0.0
    actions: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    record: Record = field(default_factory=Record)
    ledger: dict[str, Any] = field(default_factory=dict)
    memory_before: int = 0
    memory_after: int = 0
    held_before: Held | None = None
    held_after: Held | None = None

    @property
    def violations(self) -> int:
        return sum(self.record.broken.values())

    def as_json(self) -> dict[str, Any]:
        facts = {slot: getattr(self, slot) for slot in self.__slots__}
        record = {slot: getattr(self.record, slot) for slot in self.record.__slots__ if slot != "took_s"}
        record["took_s"] = self.record.percentiles_s()
        facts |= {name: facts[name] and asdict(facts[name]) for name in ("held_before", "held_after")}
        return {**facts, "record": record, "violations": self.violations}


@contextlib.contextmanager
def chaos_stack(
    variables: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Stack, Address, dict[str, Any], Clock | str]]:
    """(stack, address, headers of each tenant, the clock or why there is none)."""
    keys, records = {}, {}
    for number, (tenant, facts) in enumerate(TENANTS.items()):
        key_id, secret = f"chaos{number}", secrets.token_hex(24)
        keys[tenant] = {"authorization": f"Bearer nsk_{key_id}_{secret}"}
        records[f"key:{key_id}"] = json.dumps({"tenant": tenant, "hashes": [hash_secret(secret)], **facts})
    with tempfile.TemporaryDirectory(prefix="nearside-clock-") as folder:
        clock = make_clock(Path(folder))
        with running_stack(
            auth="keys",
            records=records,
            variables={**VARIABLES, **(variables or {})},
            config=counted_worker(),
            runtime_variables={**HEAP_LIMIT, **(clock.variables if isinstance(clock, Clock) else {})},
        ) as (stack, address):
            yield stack, address, keys, clock


def run_chaos(
    *,
    seconds: float,
    seed: int,
    callers: int,
    chosen: Callable[[str], bool],
    warm_up_s: float = WARM_UP_S,
    on_action: Callable[[str, float], None] = lambda name, done_s: None,
) -> Outcome:
    """chosen: whether an action of that name takes place. on_action: told each as it begins, and the seconds so far.

    seconds: longer if some action has not had its turn by then. warm_up_s: from MEMORY_WARM_UP_S on, resident memory
    is judged.
    """
    with chaos_stack() as (stack, address, keys, clock):
        has_clock = isinstance(clock, Clock)
        actions = [action for action in all_actions(has_clock=has_clock) if chosen(action.name)]
        load = Load(address.url, keys, seed=seed, callers=callers)
        site = Site(stack, address, load, clock if isinstance(clock, Clock) else None)
        outcome = asyncio.run(_run(site, actions, seconds=seconds, seed=seed, warm_up_s=warm_up_s, on_action=on_action))
        outcome.skipped = [clock] if isinstance(clock, str) else []
        return outcome


async def _run(
    site: Site,
    actions: list[Action],
    *,
    seconds: float,
    seed: int,
    warm_up_s: float,
    on_action: Callable[[str, float], None],
) -> Outcome:
    load, outcome = site.load, Outcome(record=site.load.record)
    await warm_up(load, warm_up_s)
    async with load.client() as client:
        outcome.held_before = await held_at_rest(client, after_s=REST_BEFORE_S)
    stop = asyncio.Event()
    asking = asyncio.create_task(load.keep_asking(stop))
    outcome.memory_before = site.stack.worker_memory_bytes()
    started_s = time.monotonic()
    hold_s = max(0.5, min(8.0, seconds / max(1, len(actions)) - GAP_S))
    for action in in_turn(actions, seed):
        is_over = time.monotonic() - started_s >= seconds and len(outcome.actions) == len(actions)
        if is_over or asking.done():
            break
        on_action(action.name, time.monotonic() - started_s)
        load.doing = action.name
        async with action.go(site):
            await asyncio.sleep(hold_s)
        load.doing = f"after {action.name}"
        outcome.actions[action.name] = outcome.actions.get(action.name, 0) + 1
        await asyncio.sleep(GAP_S)
    on_action("end", seconds)
    stop.set()
    await asking
    outcome.seconds = time.monotonic() - started_s
    await check_end(site.stack, load, outcome, has_memory_limit=warm_up_s >= MEMORY_WARM_UP_S)
    return outcome


async def warm_up(load: Load, seconds: float = WARM_UP_S) -> None:
    """While nothing fails: learns what can't be computed, and lets the Worker's memory grow to its size."""
    load.doing = "warm-up"
    await load.learn_vectors()
    stop = asyncio.Event()
    asking = asyncio.create_task(load.keep_asking(stop))
    await asyncio.wait([asking], timeout=seconds)
    stop.set()
    await asking


async def check_end(stack: Stack, load: Load, outcome: Outcome, *, has_memory_limit: bool) -> None:
    """What must be true once everything is well again; adds to the record what is not."""
    load.doing = "end"
    await _check_repeated(load, load.keys)
    outcome.ledger, found = await check_ledger(load)
    async with load.client() as client:
        outcome.held_after = await held_at_rest(client, after_s=REST_S)
    if outcome.held_before is not None:
        found += leaks(outcome.held_before, outcome.held_after, load.record.requests)
    outcome.memory_after = stack.worker_memory_bytes()
    if has_memory_limit and outcome.memory_after > outcome.memory_before * MEMORY_RATIO:
        found.append(f"memory went from {outcome.memory_before >> 20} to {outcome.memory_after >> 20} MiB")
    for phrase in found:
        load.record.add_breach(phrase, "end")


async def _check_repeated(load: Load, keys: Mapping[str, Mapping[str, str]]) -> None:
    """Every question that was asked again and again must get its answer now: nothing broken has stayed."""
    async with load.client() as client:
        for tenant, headers in keys.items():
            for question in repeated(tenant, load.run):
                asked = Asked(Step("plain", (tenant,), (question,)), tenant, load.run, is_stream=False, was_asked=True)
                transcript = await _answered(client, question.body(stream=False), headers)
                load.record.requests += 1
                load.record.told_nano[tenant] += cost_nano_usd(transcript)
                found = breaches(asked, transcript, {})
                if transcript.status != 200:
                    found = [f"no answer within {RECOVERY_S:g} s after everything was well again"]
                for phrase in found:
                    load.record.add_breach(phrase, f"[end] {tenant} {question.model}")


async def _answered(client: httpx.AsyncClient, body: Mapping[str, Any], headers: Mapping[str, str]) -> Transcript:
    """The answer as soon as there is one: breakers and regions take a moment to come back."""
    deadline_s = time.monotonic() + RECOVERY_S
    while True:
        request_id = "chaos-end"
        response = await client.post("/v1/chat/completions", json=body, headers={**headers, "x-request-id": request_id})
        if response.status_code == 200 or time.monotonic() > deadline_s:
            return Transcript(request_id, response.status_code, dict(response.headers), response.content)
        await asyncio.sleep(0.5)
