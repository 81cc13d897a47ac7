"""CPU and requests/s of our Worker against the size of a request, and of what an isolate holds, each with its fit."""

import json
import os
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import uvloop

from edge_router.auth import hash_secret
from scripts.benchmarks.comparison import PACE, Track, raw_request
from scripts.benchmarks.figures import Fit, fit_power
from scripts.benchmarks.gateways import Ask, Running, first_answer
from scripts.benchmarks.load import Request, run_load
from scripts.benchmarks.processes import cpu_s, split_cores, started_on
from scripts.benchmarks.quick_upstream import quick_upstream
from scripts.benchmarks.raw_load import streams
from scripts.benchmarks.workerd import BenchError, running_servers, stage
from scripts.benchmarks.workerd_cases import SECRET, growth_server

Raw = dict[str, Any]
CONNECTIONS = 8
PATH = "/v1/chat/completions"
MOST_TENANTS = 300
SIZES = {
    "messages": (1, 5, 20, 50, 100, 200),
    "bytes": (100, 1_000, 10_000, 50_000, 100_000, 200_000),
    "hit-bytes": (100, 1_000, 10_000, 50_000, 100_000, 200_000),
    "entries": (1, 10, 100, 300, 1_000),
    "tenants": (1, 3, 10, 30, 100, 300),
    "streams": (1, 2, 4, 8, 16, 32),
}
SAYS = {
    "messages": ("a plain call, by its messages of 40 bytes", "messages"),
    "bytes": ("a plain call, by its prompt", "bytes"),
    "hit-bytes": ("a cache hit, by its prompt", "bytes"),
    "entries": ("a cache hit, by the entries asked for in turn", "entries"),
    "tenants": ("a cache hit, by the tenants that ask in turn", "tenants"),
    "streams": ("a stream of 50 tokens, by the streams at once", "streams"),
}
UNCACHED = ("messages", "bytes")
LINEAR = 1.1
"""A slope above it is worse than linear; the rest is what measuring leaves uncertain."""


def measure_growth(*, seconds: int, repeats: int, is_quick: bool, track: Track) -> Raw:
    measured, load = split_cores()
    stage()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, load)
    keys = {
        f"key:bench{n}": json.dumps({"tenant": f"bench{n}", "hashes": [hash_secret(SECRET)]})
        for n in range(MOST_TENANTS)
    }
    try:
        with (
            quick_upstream(PACE) as url,
            started_on(measured, running_servers(growth_server(url, keys))) as servers,
        ):
            server = Running(servers["nearside"].url, (servers["nearside"].pid,))
            first_answer(server, _request("messages", 1))
            run_load(server.url, _request("messages", 1), connections=CONNECTIONS, seconds=1 if is_quick else 3)
            steps = [
                (name, size)
                for name, sizes in SIZES.items()
                for size in (sizes[::2] if is_quick and len(sizes) > 4 else sizes)
            ]
            points: dict[str, list[Raw]] = {name: [] for name in SIZES}
            for name, size in track(steps, "growth"):
                points[name].append(_point(server, name, size, seconds, repeats))
    finally:
        os.sched_setaffinity(0, before)
    series = [
        {"name": name, "says": SAYS[name][0], "unit": SAYS[name][1], "points": each} for name, each in points.items()
    ]
    return {"series": series}


def _point(server: Running, name: str, size: int, seconds: int, repeats: int) -> Raw:
    once: Callable[[], tuple[int, float]]
    if name == "streams":
        once = lambda: _streams_once(server, size)  # noqa: E731
    else:
        request = _request(name, size)
        if name not in UNCACHED:
            _fill(server, request)
        once = lambda: _load_once(server, request, seconds)  # noqa: E731
    samples = []
    for _ in range(repeats):
        before_s = cpu_s(server.pids[0])
        requests, took_s = once()
        samples.append((1000 * (cpu_s(server.pids[0]) - before_s) / requests, requests / took_s))
    return {
        "size": size,
        "cpu_ms": median([cpu for cpu, _ in samples]),
        "requests_per_s": median([rate for _, rate in samples]),
        "samples": samples,
    }


def _fill(server: Running, request: Request) -> None:
    """The caches: each load begins with the first variant, so only a load that comes to the last one fills all."""
    seconds, requests = 1, 0
    while requests < request.variants:
        requests, _ = _load_once(server, request, seconds)
        seconds *= 2


def _load_once(server: Running, request: Request, seconds: int) -> tuple[int, float]:
    seen = run_load(server.url, request, connections=CONNECTIONS, seconds=seconds)
    if seen.errors:
        raise BenchError(f"{seen.errors} of {seen.requests} requests failed")
    return seen.requests, seen.seconds


def _streams_once(server: Running, count: int) -> tuple[int, float]:
    """CPU is for each stream; what it shares with the others makes it less, if anything."""
    ask = Ask("cloud", _auth("bench0"), {"use_cache": False})
    request = raw_request(ask.stream(paced=True))
    waves = max(1, 16 // count)

    async def run() -> int:
        whole = 0
        for _ in range(waves):
            whole += sum(
                each.is_whole for each in await streams(server.url, lambda: request, count=count, spread_s=0.2)
            )
        return whole

    if uvloop.run(run()) != count * waves:
        raise BenchError("a stream was not whole")
    return count * waves, waves * (PACE["ttft_ms"] + PACE["gap_ms"] * PACE["tokens"]) / 1000


def _request(name: str, size: int) -> Request:
    """The request of this series and size."""
    text, count, variants, cached, tenant = "Say it again, please, word after word. ", 1, 1, True, "bench0"
    if name == "messages":
        count, cached = size, False
    elif name in ("bytes", "hit-bytes"):
        text, cached = (text * (size // len(text) + 1))[:size], name == "hit-bytes"
    elif name == "entries":
        text, variants = text + "{n}", size
    elif name == "tenants":
        tenant, variants = "bench{n}", size
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n in range(count)]
    body = {"model": "cloud", "messages": messages, "use_cache": cached}
    return Request(
        PATH, json.dumps(body, separators=(",", ":")), {"content-type": "application/json", **_auth(tenant)}, variants
    )


def _auth(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer nsk_{tenant}_{SECRET}"}


def fits(points: Sequence[Raw]) -> tuple[Fit, Fit]:
    """(over all sizes, over the three largest, where what every request costs weighs least)"""
    pairs = [(point["size"], point["cpu_ms"]) for point in points]
    return fit_power(pairs), fit_power(pairs[-3:])


def growth_tables(raw: Raw) -> str:
    """Markdown. Pure."""
    lines = [
        "CPU of workerd a request is fitted with size^slope: 0 is no growth, 1 linear. The second slope is that of the"
        " three largest sizes, where what every request costs weighs least.",
        "",
        "| | slope | R² | slope of the largest | R² | worse than linear |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for series in raw["series"]:
        whole, tail = fits(series["points"])
        is_worse = max(whole.slope, tail.slope) > LINEAR
        cells = [series["says"], f"{whole.slope:.2f}", f"{whole.r2:.2f}", f"{tail.slope:.2f}", f"{tail.r2:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {'**yes**' if is_worse else 'no'} |")
    for series in raw["series"]:
        lines += ["", f"## {series['says'].capitalize()}", "", f"| {series['unit']} | CPU ms | requests/s |"]
        lines.append("| ---: | ---: | ---: |")
        lines += [
            f"| {point['size']:,} | {point['cpu_ms']:.2f} | {point['requests_per_s']:,.0f} |"
            for point in series["points"]
        ]
    return "\n".join(lines)
