"""What single flight gives a crowd and costs a caller alone, on the local stack. Figures: docs/single-flight.md.

.venv/bin/python -m scripts.benchmarks.flights
"""

import argparse
import asyncio
import statistics
import time
from contextlib import ExitStack
from typing import Any

import httpx

from scripts.benchmarks.machine import machine_facts
from scripts.local.stack import Address, running_stack

PATH = "/v1/chat/completions"
WARM_UP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=100, help="of the crowd")
    parser.add_argument("--requests", type=int, default=150, help="of the caller alone, with and without flights")
    asked = parser.parse_args()
    print(machine_facts())
    with ExitStack() as running:
        addresses = {
            policy: running.enter_context(
                running_stack(auth="open", variables={"SINGLE_FLIGHT": policy, "MEMORY_CACHE_MIB": 0})
            )[1]
            for policy in ("off", "cloud")
        }
        for stream in (False, True):
            for ttft_ms in (0, 1000):
                calls, took_s = asyncio.run(_crowd(addresses["cloud"], asked.callers, stream, ttft_ms))
                print(f"crowd of {asked.callers}, {_form(stream)}, TTFT {ttft_ms} ms: {calls} calls, {took_s:.1f} s")
        for stream in (False, True):
            for policy, times_ms in _alone(addresses, asked.requests, stream).items():
                p90_ms = statistics.quantiles(times_ms, n=10)[-1]
                print(f"alone, {_form(stream)}, {policy}: p50 {statistics.median(times_ms):.1f}, p90 {p90_ms:.1f} ms")


async def _crowd(address: Address, callers: int, stream: bool, ttft_ms: int) -> tuple[int, float]:
    """(calls that reached the provider, seconds until all had their answer)"""
    limits = httpx.Limits(max_connections=callers)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        await client.post(f"{address.control_url}/latency", json={"target": "upstream", "ttft_ms": ttft_ms})
        await client.post(f"{address.control_url}/reset", json={})
        body, began_s = _body(stream), time.perf_counter()
        answers = await asyncio.gather(*(client.post(address.url + PATH, json=body) for _ in range(callers)))
        took_s = time.perf_counter() - began_s
        for answer in answers:
            answer.raise_for_status()
        calls = (await client.get(f"{address.control_url}/counters")).json()["upstream"]
        await client.post(f"{address.control_url}/latency", json={"target": "upstream", "ttft_ms": 0})
    return calls, took_s


def _alone(addresses: dict[str, Address], requests: int, stream: bool) -> dict[str, list[float]]:
    """Milliseconds of each answer by policy. Both are asked in turns: what else the machine does hits both."""
    times_ms: dict[str, list[float]] = {policy: [] for policy in addresses}
    with httpx.Client(timeout=30) as client:
        for number in range(requests + WARM_UP):
            for policy, address in addresses.items():
                began_s = time.perf_counter()
                client.post(address.url + PATH, json=_body(stream)).raise_for_status()
                if number >= WARM_UP:
                    times_ms[policy].append((time.perf_counter() - began_s) * 1000)
    return times_ms


def _body(stream: bool) -> dict[str, Any]:
    """A question for the cloud that nobody has asked."""
    prompt = f"Explain item {time.time_ns()} step by step"
    return {"model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": prompt}]}


def _form(stream: bool) -> str:
    return "streams" if stream else "plain"


if __name__ == "__main__":
    main()
