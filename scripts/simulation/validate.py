"""The model beside the local stack: the same requests at the same times through both, at known latencies.

What the stack itself adds on this machine is measured first, by requests one after the other, and given to the model.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Final

import httpx
import numpy as np

from edge_router.catalog import DEFAULT_MODELS, Model
from edge_router.settings import Region
from scripts.local.stack import REGIONS as LOCAL_REGIONS
from scripts.local.stack import Address, running_stack
from scripts.simulation.model import Simulation
from scripts.simulation.outcome import HITS, Outcome
from scripts.simulation.scenario import Caches, Cloud, Edge, Isolates, Network, Scenario, Traffic
from scripts.simulation.trace import NEVER_AGAIN, Trace, make_trace
from scripts.simulation.world import Floats, World

COLOS: Final = ("SIN", "FRA", "IAD")
RATE: Final = 2.5
SECONDS: Final = 110.0
EDGE_SHARE: Final = 0.6
EDGE_TTFT_MS, EDGE_ITL_MS = 1000.0, 50.0
CLOUD_TTFT_MS, CLOUD_ITL_MS = 2000.0, 75.0  # of the provider
REGION_RTTS_MS: Final = {"wnam": 160.0, "weur": 80.0}
CALIBRATIONS: Final = 10
MIN_TOKENS, LENGTHS = 5, 16
TOLERANCE: Final = 0.1
VARIABLES: Final = {"HEDGING": "off", "CASCADE": "off", "RATE_LIMIT": "off"}
KNOWN_MS: Final = {"edge": EDGE_TTFT_MS, "cloud": CLOUD_TTFT_MS + REGION_RTTS_MS["weur"]}


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer of the stack, in seconds."""

    ttft_s: float
    total_s: float
    is_hit: bool
    is_collapsed: bool


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the stack adds before the first token: median in seconds, and the sigma of the whole time's logarithm."""

    median_s: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    stack: float
    model: float

    @property
    def difference(self) -> float:
        return self.model / self.stack - 1 if self.stack else float(self.model != 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    rows: list[Row]
    overheads: dict[str, Overhead]
    requests: int

    @property
    def is_close(self) -> bool:
        return all(abs(row.difference) <= TOLERANCE for row in self.rows)

    def as_json(self, facts: str) -> dict[str, Any]:
        told = (f"{name} {overhead.median_s * 1000:.0f} ms" for name, overhead in self.overheads.items())
        rows = [
            {"what": row.what, "stack": row.stack, "model": row.model, "difference": row.difference}
            for row in self.rows
        ]
        return {"facts": facts, "requests": self.requests, "overheads": ", ".join(told), "rows": rows}


def compare(seed: int) -> Comparison:
    """Takes about three minutes: the stack's start, the calibration, the requests."""
    trace = validation_trace(seed)
    with running_stack(auth="open", variables=VARIABLES) as (_, address):
        _set_latencies(address)
        overheads, seen = asyncio.run(_through_stack(address, trace))
    outcome = through_model(trace, overheads, seed)
    return Comparison(_rows(seen, outcome), overheads, len(trace))


def validation_trace(seed: int) -> Trace:
    """A question has one length and goes to one side, for both are part of a cache's key."""
    scenario = _scenario({})
    trace = make_trace(scenario, World(scenario.network, COLOS), requests_per_s=RATE, duration_s=SECONDS, seed=seed)
    asked = np.where(trace.wording == NEVER_AGAIN, 10_000 + np.arange(len(trace)), trace.wording)
    levels = np.random.default_rng(seed).random(20_000)
    return replace(trace, level=levels[asked], output_tokens=MIN_TOKENS + asked % LENGTHS)


def through_model(trace: Trace, overheads: dict[str, Overhead], seed: int) -> Outcome:
    scenario = _scenario(overheads)
    rtts_s = np.array([[REGION_RTTS_MS[region.id] / 1000 for region in scenario.regions]] * len(COLOS))
    simulation = Simulation(
        scenario, World(scenario.network, COLOS), trace, requests_per_s=RATE, region_rtts_s=rtts_s, seed=seed
    )
    return simulation.run()


def _scenario(overheads: dict[str, Overhead]) -> Scenario:
    """The stack's: nothing stored yet, no propagation; one isolate for all places, so where a hit lies is all one."""
    hit, edge, cloud = (overheads.get(name, Overhead(0.0, 0.0)) for name in ("hit", "edge", "cloud"))
    return Scenario(
        traffic=Traffic(repeated_share=0.7, questions=150, wording_shares=(1.0,), new_connection_share=0.0),
        network=Network(ms_per_km=0.0, last_mile_s=0.0, backbone_sigma=0.0),
        isolates=Isolates(hit_cpu_s=0.0, miss_cpu_s=0.0, cold_start_s=0.0, memory_bytes=0),
        caches=Caches(
            begin_empty=True, kv_seen_s=0.0, kv_hot_s=hit.median_s, kv_cold_s=hit.median_s, kv_sigma=hit.sigma
        ),
        edge=Edge(share=EDGE_SHARE, ttft_sigma=edge.sigma, gpu_rtt_s=0.0),
        cloud=Cloud(ttft_sigma=cloud.sigma, slow_share=0.0),
        regions=tuple(Region(each["id"], "", each["latitude"], each["longitude"]) for each in LOCAL_REGIONS),
        models=tuple(_timed(model, edge if model.side == "edge" else cloud, hit) for model in DEFAULT_MODELS),
        warm_up_s=0.0,
    ).only("exact", "flight", "edge", "regions", "breakers")


def _timed(model: Model, overhead: Overhead, hit: Overhead) -> Model:
    """With the emulated times, and what a call costs beyond the look-up that it has in common with a hit."""
    rest_ms = max(0.0, overhead.median_s - hit.median_s) * 1000
    ttft_ms, itl_ms = (EDGE_TTFT_MS, EDGE_ITL_MS) if model.side == "edge" else (CLOUD_TTFT_MS, CLOUD_ITL_MS)
    return replace(model, declared_ttft_ms=ttft_ms + rest_ms, declared_tokens_per_s=1000 / itl_ms)


def _set_latencies(address: Address) -> None:
    wanted = [
        {"target": "ai", "ttft_ms": EDGE_TTFT_MS, "itl_ms": EDGE_ITL_MS},
        {"target": "upstream", "ttft_ms": CLOUD_TTFT_MS, "itl_ms": CLOUD_ITL_MS},
        *({"target": f"cloud:{region_id}", "rtt_ms": rtt_ms} for region_id, rtt_ms in REGION_RTTS_MS.items()),
    ]
    for each in wanted:
        httpx.post(f"{address.control_url}/latency", json=each).raise_for_status()


async def _through_stack(address: Address, trace: Trace) -> tuple[dict[str, Overhead], list[Seen]]:
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=address.url, timeout=60, limits=limits) as client:
        overheads = await _calibrated(client)
        tasks = []
        began_s = time.perf_counter()
        for index, at_s in enumerate(trace.at_s.tolist()):
            await asyncio.sleep(max(0.0, began_s + at_s - time.perf_counter()))
            tasks.append(asyncio.create_task(_asked(client, trace, index)))
        return overheads, list(await asyncio.gather(*tasks))


async def _calibrated(client: httpx.AsyncClient) -> dict[str, Overhead]:
    overheads = {}
    for side in ("edge", "cloud"):
        seen = [await _ask(client, f"Calibration {side} {n}", side, MIN_TOKENS, "FRA") for n in range(CALIBRATIONS)]
        overheads[side] = _overhead([each.ttft_s for each in seen], KNOWN_MS[side] / 1000)
    hits = [await _ask(client, f"Calibration edge {n}", "edge", MIN_TOKENS, "FRA") for n in range(CALIBRATIONS)]
    overheads["hit"] = _overhead([each.ttft_s for each in hits if each.is_hit], 0.0)
    return overheads


def _overhead(times_s: Sequence[float], known_s: float) -> Overhead:
    settled = times_s[2:]  # the first ones open connections and learn the way
    median_s = float(np.median(settled))
    return Overhead(max(0.0, median_s - known_s), float(np.std([log(each / median_s) for each in settled])))


async def _asked(client: httpx.AsyncClient, trace: Trace, index: int) -> Seen:
    wording = int(trace.wording[index])
    text = f"Tell me about word {wording}" if wording != NEVER_AGAIN else f"Tell me about my own case {index}"
    side = "edge" if trace.level[index] < EDGE_SHARE else "cloud"
    return await _ask(client, text, side, int(trace.output_tokens[index]), COLOS[trace.colo[index]])


async def _ask(client: httpx.AsyncClient, text: str, side: str, max_tokens: int, colo: str) -> Seen:
    messages = [{"role": "user", "content": text}]
    body = {"model": side, "stream": True, "max_tokens": max_tokens, "messages": messages}
    continent = {"SIN": "AS", "FRA": "EU", "IAD": "NA"}[colo]
    cf = json.dumps({"colo": colo, "continent": continent, "clientTcpRtt": 20})
    began_s = time.perf_counter()
    ttft_s = None
    async with client.stream(
        "POST", "/v1/chat/completions", json=body, headers={"nearside-emulate-cf": cf}
    ) as response:
        response.raise_for_status()
        status = response.headers.get("cache-status", "")
        async for line in response.aiter_lines():
            if ttft_s is None and _has_content(line):
                ttft_s = time.perf_counter() - began_s
    if ttft_s is None:
        raise RuntimeError(f"no content from {side} for {text!r}")
    is_hit = response.headers["nearside-served-by"] == "exact-cache"
    return Seen(ttft_s, time.perf_counter() - began_s, is_hit, "collapsed" in status)


def _has_content(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: ")).get("choices") or []
    return any(choice.get("delta", {}).get("content") for choice in choices)


def _rows(seen: Sequence[Seen], outcome: Outcome) -> list[Row]:
    rows = [
        Row("hit rate, shared calls included", _share(seen), outcome.share(*HITS)),
    ]
    stack_missed = np.array([not each.is_hit and not each.is_collapsed for each in seen])
    model_missed = ~np.isin(outcome.tier, HITS)
    for name, stack, model in (
        ("TTFT", np.array([each.ttft_s for each in seen]), outcome.ttft_s),
        ("total", np.array([each.total_s for each in seen]), outcome.total_s),
    ):
        rows += _percentile_rows(name, stack, model)
        rows += _percentile_rows(f"{name} of misses", stack[stack_missed], model[model_missed])
    return rows


def _percentile_rows(name: str, stack: Floats, model: Floats) -> list[Row]:
    return [
        Row(f"{name} p{percent}, s", float(np.percentile(stack, percent)), float(np.percentile(model, percent)))
        for percent in (50, 90, 95)
    ]


def _share(seen: Sequence[Seen]) -> float:
    return float(np.mean([each.is_hit or each.is_collapsed for each in seen]))
