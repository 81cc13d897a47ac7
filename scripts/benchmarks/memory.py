"""What an isolate holds after thousands of mixed requests: WebAssembly memory, JS heap, references, Python objects."""

import asyncio
import json
import os
import random
from collections.abc import Sequence
from typing import Any

import aiohttp
import httpx

from edge_router import embeddings
from scripts.benchmarks.comparison import PACE, Track
from scripts.benchmarks.gateways import Ask, Running, first_answer
from scripts.benchmarks.processes import rss_mib, split_cores, started_on
from scripts.benchmarks.quick_upstream import quick_upstream
from scripts.benchmarks.workerd import BenchError, Server, running_servers, stage
from scripts.benchmarks.workerd_cases import KEY, memory_server

Raw = dict[str, Any]
LIMIT_MIB, GOAL_MIB = 128, 100
HEAP_MIB = 36
"""What Python's memory (62 MiB when all is full) leaves of the goal. Without a limit V8 collects when it likes: here
workerd sets none, production's is 128 MB for all of the isolate.
"""
AT_ONCE = 8
SEED = 7
KINDS = {"hit": 35, "miss": 25, "stream": 15, "cut stream": 8, "error": 7, "embedding": 7, "batch": 3}
"""In a hundred. Batch: an embedding of sixteen inputs."""
CHAT_PATH, EMBEDDINGS_PATH = "/v1/chat/completions", "/v1/embeddings"


def measure_memory(*, requests: int, points: int, track: Track) -> Raw:
    """points: how often it is looked at, in equal parts of the requests."""
    measured, load = split_cores()
    stage()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, load)
    pace = {**PACE, "ttft_ms": 5, "gap_ms": 1, "paced_if": "", "embed_ms": 1}
    try:
        with (
            quick_upstream(pace) as url,
            started_on(measured, running_servers(memory_server(url), heap_mib=HEAP_MIB)) as servers,
        ):
            server = servers["nearside"]
            first_answer(Running(server.url, (server.pid,)), Ask("cloud", {"authorization": f"Bearer {KEY}"}).plain())
            kinds = random.Random(SEED).choices(list(KINDS), list(KINDS.values()), k=requests)
            held, seen = asyncio.run(_measure(server, kinds, points, track))
    finally:
        os.sched_setaffinity(0, before)
    return {"requests": requests, "kinds": seen, "points": held}


async def _measure(server: Server, kinds: Sequence[str], points: int, track: Track) -> tuple[list[Raw], dict[str, int]]:
    """One inspector session for all: workerd closes a second one."""
    seen = dict.fromkeys(KINDS, 0)
    each = -(-len(kinds) // points)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(await _inspected(session, server)) as inspector,
    ):
        held = [await _held(session, inspector, server, 0)]
        for begin in track(range(0, len(kinds), each), "memory"):
            part = kinds[begin : begin + each]
            await _ask_all(server.url, part, begin, seen)
            held.append(await _held(session, inspector, server, begin + len(part)))
    return held, seen


async def _inspected(session: aiohttp.ClientSession, server: Server) -> str:
    """The inspector's URL for our Worker: it shows miniflare's own as well."""
    async with session.get(server.inspector_url.replace("ws:", "http:") + "json") as answer:
        targets = [each for each in json.loads(await answer.text()) if each["id"].endswith(":nearside")]
    if len(targets) != 1:
        raise BenchError(f"the inspector shows {len(targets)} Workers of ours instead of one")
    return str(targets[0]["webSocketDebuggerUrl"])


async def _ask_all(url: str, kinds: Sequence[str], begin: int, seen: dict[str, int]) -> None:
    queue = iter(enumerate(kinds, begin))
    async with httpx.AsyncClient(
        base_url=url, timeout=60, trust_env=False, headers={"authorization": f"Bearer {KEY}"}
    ) as client:

        async def caller() -> None:
            for number, kind in queue:
                await _ask(client, kind, number)
                seen[kind] += 1

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def _ask(client: httpx.AsyncClient, kind: str, number: int) -> None:
    """Raises BenchError when the answer is not what this kind gets."""
    if kind in ("embedding", "batch"):
        texts = [f"text {number} {n}" for n in range(16 if kind == "batch" else 1)]
        body: Raw = {"model": embeddings.MODEL, "input": texts}
        answer = await client.post(EMBEDDINGS_PATH, json=body)
        _expect(answer, 200, kind)
        return
    question = "always the same" if kind == "hit" else f"question {number}"
    body = {"model": "cloud", "messages": [{"role": "user", "content": question}]}
    if kind == "error":
        _expect(await client.post(CHAT_PATH, json={**body, "messages": "none"}), 400, kind)
    elif "stream" in kind:
        async with client.stream("POST", CHAT_PATH, json={**body, "stream": True}) as answer:
            _expect(answer, 200, kind)
            async for _ in answer.aiter_raw():
                if kind == "cut stream":
                    return
    else:
        _expect(await client.post(CHAT_PATH, json=body), 200, kind)


def _expect(answer: httpx.Response, status: int, kind: str) -> None:
    if answer.status_code != status:
        text = answer.text[:300] if answer.is_closed else ""
        raise BenchError(f"{kind}: {answer.status_code} instead of {status} {text}")


async def _held(
    session: aiohttp.ClientSession, inspector: aiohttp.ClientWebSocketResponse, server: Server, requests: int
) -> Raw:
    """After what answers left running had time to end. workerd collects no JS on demand: its heap is with garbage."""
    await asyncio.sleep(1.5)
    async with session.get(f"{server.url}/bench/memory") as answer:
        held: Raw = json.loads(await answer.text())
    await inspector.send_json({"id": requests + 1, "method": "Runtime.getHeapUsage"})
    heap_mib = (await _reply(inspector, requests + 1))["usedSize"] / 2**20
    return {
        "requests": requests,
        **held,
        "js_heap_mib": heap_mib,
        "total_mib": held["wasm_mib"] + heap_mib,
        "rss_mib": rss_mib(server.pid),
    }


async def _reply(inspector: aiohttp.ClientWebSocketResponse, number: int) -> Raw:
    while True:
        try:
            message = await inspector.receive_json(timeout=30)
        except (TimeoutError, TypeError) as exc:
            raise BenchError("the inspector does not answer") from exc
        if message.get("id") == number:
            found: Raw = message.get("result", {})
            return found


def memory_tables(raw: Raw) -> str:
    """Markdown. Pure."""
    points: list[Raw] = raw["points"]
    first, last = points[0], points[-1]
    mix = ", ".join(f"{count:,} × {kind}" for kind, count in raw["kinds"].items())
    lines = [
        f"{raw['requests']:,} requests to one isolate, {AT_ONCE} at a time: {mix}. A cut stream is left after its first"
        " bytes; a batch is an embedding of sixteen inputs. Python's side is read after a collection, by an entry"
        " module that is not deployed, the JS heap by V8's inspector, garbage included. V8 may take"
        f" {HEAP_MIB} MiB (`--max-heap-size`): an isolate that needs more dies, and a limit is what makes V8 collect,"
        " as production's does.",
        "",
        "| requests | WebAssembly MiB | JS heap MiB | together MiB | JS references of Python | Python objects "
        "| RSS of workerd MiB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {p['requests']:,} | {p['wasm_mib']:.1f} | {p['js_heap_mib']:.1f} | {p['total_mib']:.1f} "
        f"| {p['js_references']:,} | {p['python_objects']:,} | {p['rss_mib']:.0f} |"
        for p in points
    ]
    warm = points[len(points) // 2]
    most = max(point["total_mib"] for point in points)
    lines += [
        "",
        f"- Most: **{most:.1f} MiB** of {LIMIT_MIB}; the goal is under {GOAL_MIB}:"
        f" {'held' if most < GOAL_MIB else '**missed**'}.",
        f"- From request {warm['requests']:,} to the last: {last['total_mib'] - warm['total_mib']:+.1f} MiB,"
        f" {last['js_references'] - warm['js_references']:+,} references,"
        f" {last['python_objects'] - warm['python_objects']:+,} Python objects"
        f" (from the first: {last['total_mib'] - first['total_mib']:+.1f} MiB). The memory cache (8 MiB), which these"
        " requests fill, is within.",
    ]
    return "\n".join(lines)
