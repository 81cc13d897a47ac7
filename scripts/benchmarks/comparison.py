"""Nearside beside floors and other gateways: plain calls, hits, streams, CPU and memory, in one run, in turn."""

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median, quantiles
from typing import Any

import uvloop

from scripts.benchmarks.figures import Figure, Sample, cell, figure
from scripts.benchmarks.gateways import (
    PACED,
    ROUTED,
    Ask,
    Gateway,
    Running,
    Surroundings,
    all_gateways,
    asked,
    first_answer,
    surroundings,
)
from scripts.benchmarks.load import Load, LoadError, Request, run_load
from scripts.benchmarks.peers.install import InstallError
from scripts.benchmarks.processes import cpu_s, peak_mib, split_cores
from scripts.benchmarks.quick_upstream import quick_upstream
from scripts.benchmarks.raw_load import StreamTimes, streams
from scripts.benchmarks.workerd import BenchError, stage
from scripts.benchmarks.workerd_cases import FORWARDER, SDK_HELLO

Raw = dict[str, Any]
Say = Callable[[str], None]
Track = Callable[[Sequence[Any], str], Iterator[Any]]

PACE: dict[str, Any] = {"ttft_ms": 200, "gap_ms": 10, "tokens": 50, "paced_if": PACED}
UPSTREAM = "upstream"
LITELLM, LITELLM_CACHE, NEARSIDE = "litellm", "litellm-cache", "nearside"
SPREAD_S = 0.2
MOST_S = 8
LEAST_OF_FLOOR, MOST_CPU_OF_FORWARDER, MOST_ADDED_MS = 0.7, 1.25, (5, 15)
QUICK = (SDK_HELLO, FORWARDER, NEARSIDE, LITELLM, LITELLM_CACHE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What every gateway is measured with. at_once: of streams."""

    seconds: int
    warm_up: int
    repeats: int
    connections: tuple[int, ...]
    at_once: tuple[int, ...]


def measure_comparison(*, seconds: int, warm_up: int, repeats: int, is_quick: bool, track: Track) -> Raw:
    """What `comparison_tables` makes a page of. A gateway that fails is named, with the reason."""
    gateways = [gateway for gateway in all_gateways() if gateway.name in QUICK or not is_quick]
    asked_of_each = Asked(
        seconds,
        warm_up,
        repeats,
        connections=(16,) if is_quick else (1, 16),
        at_once=(8,) if is_quick else (1, 8, 32),
    )
    measured, load = split_cores()
    stage()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, load)
    try:
        with quick_upstream(PACE) as url, surroundings(url, measured) as around:
            rows: dict[str, Raw] = {UPSTREAM: _row("the upstream itself", "uvloop", "no gateway")}
            own = Running(url, ())
            _measure_row(rows[UPSTREAM], own, Ask("bench"), None, asked_of_each)
            for gateway in track(gateways, "gateways"):
                rows[gateway.name] = _measure_gateway(gateway, around, asked_of_each)
            return {"pace": PACE, **asdict(asked_of_each), "rows": rows}
    finally:
        os.sched_setaffinity(0, before)


def _measure_gateway(gateway: Gateway, around: Surroundings, what: Asked) -> Raw:
    row = _row(gateway.says, gateway.version, gateway.why_no_hit)
    plain, hit = (asked(gateway, ask, around.upstream_url) if ask else None for ask in (gateway.plain, gateway.hit))
    try:
        with gateway.start(around) as running:
            for ask in (plain, hit):
                if ask is not None:
                    first_answer(running, ask.plain())
                    # Also waits for an answer that is stored after it was given.
                    warm = run_load(running.url, ask.plain(), connections=16, seconds=what.warm_up)
                    what = replace(what, seconds=max(what.seconds, long_enough_s(warm.p50_ms)))
            if not gateway.forwards:
                what = replace(what, at_once=())
            _measure_row(row, running, plain, hit, what)
            row["peak_rss_mib"] = sum(peak_mib(pid) for pid in running.processes())
    except (InstallError, BenchError, LoadError, OSError, RuntimeError) as exc:
        row["missing"] = str(exc)[:300]
    return row


def long_enough_s(p50_ms: float) -> int:
    """What is under way when a load ends has cost CPU and is not counted, which must not weigh on slow gateways."""
    return min(math.ceil(20 * p50_ms / 1000), MOST_S)


def _row(says: str, version: str, why_no_hit: str) -> Raw:
    return {"says": says, "version": version, "why_no_hit": why_no_hit, "loads": {}, "streams": {}, "notes": []}


def _measure_row(row: Raw, running: Running, plain: Ask | None, hit: Ask | None, what: Asked) -> None:
    asks = {name: ask for name, ask in (("plain", plain), ("hit", hit)) if ask is not None}
    for _ in range(what.repeats):
        for (name, ask), count in itertools.product(asks.items(), what.connections):
            sample = _sample(running, ask.plain(), count, what.seconds)
            row["loads"].setdefault(f"{name}-{count}", []).append(sample)
        for count in what.at_once:
            for paced in (True, False):
                with _noted(row, f"streams fail: {count} at once"):
                    name = f"{'paced' if paced else 'unpaced'}-{count}"
                    assert plain is not None
                    sample = _stream_sample(running.url, plain, paced, count)
                    row["streams"].setdefault(name, []).append(sample)


@contextlib.contextmanager
def _noted(row: Raw, what: str) -> Iterator[None]:
    """A gateway that can't stream is measured for the rest."""
    try:
        yield
    except BenchError as exc:
        if f"{what}: {exc}" not in row["notes"]:
            row["notes"].append(f"{what}: {exc}")


def _sample(running: Running, request: Request, connections: int, seconds: int) -> Raw:
    pids = running.processes()
    before_s = sum(cpu_s(pid) for pid in pids)
    seen: Load = run_load(running.url, request, connections=connections, seconds=seconds)
    used_s = sum(cpu_s(pid) for pid in pids) - before_s
    if seen.errors:
        raise BenchError(f"{seen.errors} of {seen.requests} requests failed")
    rate = seen.requests / seen.seconds
    rss = sum(peak_mib(pid) for pid in pids)
    return asdict(Sample(rate, seen.p50_ms, seen.p99_ms, 1000 * used_s / seen.requests, rss))


def _stream_sample(url: str, ask: Ask, paced: bool, count: int) -> Raw:
    """Several waves of few streams, one of many; each is begun over a fifth of a second when it is paced."""
    request = raw_request(ask.stream(paced=paced))

    async def waves() -> list[StreamTimes]:
        seen = []
        for _ in range(max(1, 4 // count)):
            seen += await streams(url, lambda: request, count=count, spread_s=SPREAD_S if paced else 0)
        return seen

    seen = uvloop.run(waves())
    broken = [each for each in seen if not each.is_whole or each.tokens == 0]
    if broken:
        raise BenchError(f"{len(broken)} of {len(seen)} were not whole")
    ttfts = [1000 * each.ttft_s for each in seen]
    totals = [1000 * each.total_s for each in seen]
    return {"ttft_p50_ms": median(ttfts), "ttft_p99_ms": quantile99(ttfts), "total_p50_ms": median(totals)}


def raw_request(request: Request) -> bytes:
    body = (request.body or "").encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head = f"POST {request.path} HTTP/1.1\r\nhost: bench\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def quantile99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]


def ratio_between(rows: dict[str, Raw], ours: str, theirs: str, our_case: str, their_case: str) -> Figure | None:
    """Requests/s, the n-th repeat against the n-th. None where one was not measured."""
    pairs = [
        [sample["requests_per_s"] for sample in rows.get(name, {}).get("loads", {}).get(case, [])]
        for name, case in ((ours, our_case), (theirs, their_case))
    ]
    if not all(pairs):
        return None
    return figure([a / b for a, b in zip(*pairs, strict=False)])


def cpu_ratio(rows: dict[str, Raw], name: str, base: str, case: str) -> Figure:
    """CPU of a request, that of `name` by that of `base`, round by round. Both have been measured."""
    pairs = zip(rows[name]["loads"][case], rows[base]["loads"][case], strict=False)
    return figure([a["cpu_ms"] / b["cpu_ms"] for a, b in pairs])


def comparison_tables(raw: Raw) -> str:
    """Markdown of the tables and of what they say. Pure."""
    rows: dict[str, Raw] = raw["rows"]
    parts = [
        "## Plain calls, passed on\n\n" + _load_table(rows, "plain"),
        "## The same prompt again, from the exact cache\n\n" + _load_table(rows, "hit") + "\n\n" + _why_no_hit(rows),
        "## What it says\n\n" + _ratios(rows),
        *(_stream_table(raw, kind) for kind in ("paced", "unpaced")),
    ]
    missing = [f"- {row['says']} ({row['version']}): {row['missing']}" for row in rows.values() if row.get("missing")]
    if missing:
        parts.append("## Not measured\n\n" + "\n".join(missing))
    return "\n\n".join(parts)


def _load_table(rows: dict[str, Raw], kind: str) -> str:
    lines = [
        "| | version | requests/s, 1 connection | p50 ms | requests/s, 16 connections | p50 ms | p99 ms "
        "| CPU s per 1,000 | peak RSS MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        one, many = (row["loads"].get(f"{kind}-{count}") for count in (1, 16))
        if not many:
            continue
        is_upstream = name == UPSTREAM
        cells = [
            row["says"],
            row["version"],
            cell(_figure(one, "requests_per_s"), 0) if one else "–",
            cell(_figure(one, "p50_ms"), 2) if one else "–",
            cell(_figure(many, "requests_per_s"), 0),
            cell(_figure(many, "p50_ms"), 2),
            cell(_figure(many, "p99_ms"), 1),
            "–" if is_upstream else cell(_figure(many, "cpu_ms"), 2),
            "–" if is_upstream else f"{max(sample['rss_mib'] for sample in many):,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _why_no_hit(rows: dict[str, Raw]) -> str:
    without = [f"- {row['says']}: – ({row['why_no_hit']})" for row in rows.values() if row["why_no_hit"]]
    return "Without a figure here:\n\n" + "\n".join(without)


def _ratios(rows: dict[str, Raw]) -> str:
    lines = []
    for ours, theirs, case, goal, text in (
        (NEARSIDE, LITELLM, "plain-16", 6, "plain calls a second of LiteLLM"),
        (ROUTED, LITELLM, "plain-16", None, "plain calls a second of LiteLLM, where the Worker chooses the model"),
        ("nearside-chain", LITELLM, "plain-16", None, "plain calls a second of LiteLLM, with cloud_fallback behind it"),
        ("cloud-fallback", LITELLM, "plain-16", None, "plain calls a second of LiteLLM, cloud_fallback alone"),
        (NEARSIDE, LITELLM_CACHE, "hit-16", 8, "cache hits a second of LiteLLM"),
        ("nearside-kv", LITELLM_CACHE, "hit-16", None, "cache hits a second of LiteLLM, from Workers KV"),
        (NEARSIDE, "portkey-node", "plain-16", None, "plain calls a second of Portkey under Node"),
        (NEARSIDE, "portkey-workerd", "plain-16", None, "plain calls a second of Portkey in workerd"),
        (NEARSIDE, "tensorzero", "plain-16", None, "plain calls a second of TensorZero"),
        (NEARSIDE, "python-forwarder", "plain-16", None, "plain calls a second of the Python forwarder"),
        (NEARSIDE, "javascript-forwarder", "plain-16", None, "plain calls a second of the JavaScript forwarder"),
    ):
        found = ratio_between(rows, ours, theirs, case, case)
        if found is not None:
            wanted = "" if goal is None else f"; the goal is {goal}: {'held' if found.median >= goal else '**missed**'}"
            cpu = cpu_ratio(rows, theirs, ours, case)
            lines.append(f"- **{cell(found, 2)} times** the {text}{wanted}. By CPU: {cell(cpu, 2)}")
    lines += _goals(rows)
    lines.append(
        "\nAll have one core, so requests a second are per core; by CPU is the time that the other takes for a request,"
        " by ours, which other work disturbs less. JavaScript and Rust are ahead of any Python gateway: the"
        " Python forwarder's row shows what CPython compiled to WebAssembly and its crossings into JavaScript"
        " cost before a line of ours has run."
    )
    return "\n".join(lines)


def _goals(rows: dict[str, Raw]) -> list[str]:
    """Those of the issue that are no comparison with another gateway."""
    lines = []
    hits = ratio_between(rows, NEARSIDE, SDK_HELLO, "hit-16", "plain-16")
    if hits is not None:
        held = "held" if hits.median >= LEAST_OF_FLOOR else "**missed**"
        lines.append(
            f"- Cache hits: **{cell(hits, 2)}** of Python hello's requests/s; the goal is {LEAST_OF_FLOOR}: {held}"
        )
    for name, says in ((NEARSIDE, "a plain call"), (ROUTED, "one whose model the Worker chooses")):
        own, floor = (rows.get(each, {}).get("loads", {}).get("plain-16") for each in (name, FORWARDER))
        if own and floor:
            cpu = cpu_ratio(rows, name, FORWARDER, "plain-16")
            held = "held" if cpu.median <= MOST_CPU_OF_FORWARDER else "**missed**"
            text = f"CPU of {says}: **{cell(cpu, 2)} times** the Python forwarder's; the goal is at most"
            lines.append(f"- {text} {MOST_CPU_OF_FORWARDER}: {held}")
    streams, direct = (rows.get(name, {}).get("streams", {}).get("paced-8") for name in (NEARSIDE, UPSTREAM))
    if streams and direct:
        pairs = list(zip(streams, direct, strict=False))
        p50, p99 = (median(a[key] - b[key] for a, b in pairs) for key in ("ttft_p50_ms", "ttft_p99_ms"))
        held = "held" if p50 <= MOST_ADDED_MS[0] and p99 <= MOST_ADDED_MS[1] else "**missed**"
        text = (
            f"TTFT added to a paced stream, 8 at once: p50 **{p50:.1f} ms**, p99 **{p99:.1f} ms**; the goal is at most"
        )
        lines.append(f"- {text} {MOST_ADDED_MS[0]} and {MOST_ADDED_MS[1]} ms: {held}")
    return lines


def _stream_table(raw: Raw, kind: str) -> str:
    pace, counts = raw["pace"], raw["at_once"]
    how = (
        f"{pace['tokens']} tokens, the first after {pace['ttft_ms']} ms, then one every {pace['gap_ms']} ms"
        if kind == "paced"
        else f"{pace['tokens']} tokens as fast as they go"
    )
    heads = [f"{count} at once: TTFT p50 / p99, total p50 ms" for count in counts]
    lines = [f"| | {' | '.join(heads)} |", f"| --- | {' | '.join('---:' for _ in counts)} |"]
    notes = []
    for row in raw["rows"].values():
        if row["streams"]:
            cells = [_stream_cell(row["streams"].get(f"{kind}-{count}")) for count in counts]
            lines.append(f"| {row['says']} | {' | '.join(cells)} |")
        elif row["notes"]:
            notes.append(f"- {row['says']}: – ({'; '.join(row['notes'])})")
    return f"## Streams, {kind}\n\n{how}; the clock is the client's.\n\n" + "\n".join([*lines, "", *notes]).strip()


def _stream_cell(samples: list[Raw] | None) -> str:
    if not samples:
        return "–"
    p50, p99, total = (median(each[key] for each in samples) for key in ("ttft_p50_ms", "ttft_p99_ms", "total_p50_ms"))
    return f"{p50:.1f} / {p99:.1f}, {total:.0f}"


def _figure(samples: Sequence[Raw], key: str) -> Figure:
    return figure([sample[key] for sample in samples])
