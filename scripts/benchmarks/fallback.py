"""Measures cloud_fallback beside LiteLLM's proxy and beside the upstream itself, into docs/benchmarks/fallback.md.

    scripts/bench_fallback                      everything
    scripts/bench_fallback --only passthrough   one part: passthrough, latency, streams, slow, batching, restart

What is measured has one core to itself, load and upstream the others. Calls are signed, logs and metrics are on.
LiteLLM comes from PyPI into a venv of its own, with one worker, a master key (it wants one) and no database. Compare
ratios: all of a part is one run.
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

import httpx
import uvloop

from edge_router.signing import Key, parse_keys, sign
from scripts.benchmarks.machine import machine_facts
from scripts.benchmarks.peers import install
from scripts.benchmarks.processes import cpu_s, peak_mib, pin, split_cores
from scripts.benchmarks.raw_load import Burst, MakeRequest, StreamTimes, burst, streams
from scripts.local.fallback_process import FallbackProcess, running_fallback
from scripts.local.ports import free_port, free_ports
from scripts.local.worker_spec import ROOT

MASTER_KEY = f"sk-{secrets.token_hex(32)}"
KEYS = f"bench:{secrets.token_hex(32)}"
OUTPUT = ROOT / "docs" / "benchmarks" / "fallback.md"
PROMPT = "What is the capital of France? " * 8
T = TypeVar("T")
CATALOG = """
[[models]]
id = "*"
tier = "cloud-fast"
context_window_tokens = 128000
input_usd_per_million = 0.15
output_usd_per_million = 0.60

[[models]]
id = "joined"
tier = "cloud-fast"
context_window_tokens = 8191
input_usd_per_million = 0.02
output_usd_per_million = 0.0
batching = { max_items = 256, window_ms = 5 }
"""


class Bench:
    """The upstream and what stands before it, each pinned. Use `running`."""

    def __init__(self, upstream_url: str, folder: Path, cores: tuple[set[int], set[int]]) -> None:
        self.upstream_url = upstream_url
        self.folder = folder
        self.measured_cores, self.load_cores = cores

    @contextlib.contextmanager
    def fallback(self, *, port: int = 0) -> Iterator[FallbackProcess]:
        env = {
            "FALLBACK_AUTH": "keys", "FALLBACK_KEYS": KEYS, "CLOUD_MODELS_FILE": str(self.folder / "models.toml"),
            "CLOUD_NOTICE_S": "1", "CLOUD_DRAIN_S": "20", "CLOUD_BODY_TIMEOUT_S": "30",
        }  # fmt: skip
        with running_fallback(
            f"{self.upstream_url}/v1", port=port, env=env, log=self.folder / "fallback.log"
        ) as running:
            pin(running.process.pid, self.measured_cores)
            yield running

    def calls(self) -> int:
        """That have reached the upstream."""
        with urllib.request.urlopen(f"{self.upstream_url}/calls") as answer:
            return int(json.load(answer)["calls"])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench_fallback", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each burst (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="default: docs/benchmarks/fallback.md; with --only none"
    )
    arguments = parser.parse_args()
    facts = machine_facts()
    lines: list[str] = []
    for name in arguments.only or PARTS:
        print(f"{name} …", file=sys.stderr)
        lines += [f"## {name}", "", *PARTS[name](arguments.rounds, arguments.seconds), ""]
        print("\n".join(lines[-2:]), file=sys.stderr)
    command = shlex.join(["scripts/bench_fallback", *sys.argv[1:]])
    page = _page(command, facts, lines)
    print(page)
    if not arguments.only:
        arguments.output.write_text(page)
    return 0


def passthrough(rounds: int, seconds: float) -> list[str]:
    """Requests a second and CPU a request, 8 connections, plain answers."""
    rows: dict[str, list[tuple[float, float, int]]] = {"LiteLLM": [], "Nearside": []}
    with running({}) as bench, litellm(bench) as (url, pid), bench.fallback() as ours:
        with_key = _unsigned_post("/v1/chat/completions", _CHAT, f"authorization: Bearer {MASTER_KEY}\r\n")
        targets = {"LiteLLM": (url, pid, with_key), "Nearside": (ours.url, ours.process.pid, _signed)}
        for target, _, request in targets.values():
            _burst(target, request, connections=8, seconds=2)
        for _ in range(rounds):
            for name, (target, process, request) in targets.items():
                before_s = cpu_s(process)
                seen = _burst(target, request, connections=8, seconds=seconds)
                count = len(seen.latencies_s)
                rows[name].append((count / seconds, 1000 * (cpu_s(process) - before_s) / count, seen.failed))
    ratio = median(us[0] / it[0] for us, it in zip(rows["Nearside"], rows["LiteLLM"], strict=True))
    table = ["| | requests/s | CPU ms a request | failed |", "| --- | ---: | ---: | ---: |"]
    for name, samples in rows.items():
        table.append(
            f"| {name} | {median(s[0] for s in samples):,.0f} | {median(s[1] for s in samples):.2f} "
            f"| {sum(s[2] for s in samples)} |"
        )
    return [
        *table,
        "",
        f"**{ratio:.1f} times** the requests of LiteLLM {install.LITELLM}, median of {rounds} rounds.",
    ]


def latency(rounds: int, seconds: float) -> list[str]:
    """What a call takes longer than without us, one connection."""
    added: list[float] = []
    with running({}) as bench, bench.fallback() as ours:
        _burst(ours.url, _signed, connections=1, seconds=1)
        for _ in range(rounds):
            direct = _burst(bench.upstream_url, _unsigned, connections=1, seconds=seconds / 2)
            through = _burst(ours.url, _signed, connections=1, seconds=seconds / 2)
            added.append(1000 * (median(through.latencies_s) - median(direct.latencies_s)))
    return [f"Added p50 at one connection: **{median(added):.2f} ms** ({min(added):.2f}–{max(added):.2f})."]


def live_streams(rounds: int, seconds: float) -> list[str]:
    """32 streams at a time, a token every 20 ms."""
    worst: list[float] = []
    ttft: list[float] = []
    with running({"gap_ms": 20, "tokens": 100, "ttft_ms": 100}) as bench, bench.fallback() as ours:
        _streams(ours.url, _signed_stream, count=8, spread_s=0)
        for _ in range(rounds):
            direct = _streams(bench.upstream_url, _unsigned_stream, count=32, spread_s=0.5)
            through = _streams(ours.url, _signed_stream, count=32, spread_s=0.5)
            _check_whole(direct + through)
            worst.append(max(s.total_s for s in through) / max(s.total_s for s in direct))
            ttft.append(1000 * (median(s.ttft_s for s in through) - median(s.ttft_s for s in direct)))
    return [
        f"Slowest of 32 streams against the slowest direct one: **{median(worst):.3f} times** "
        f"({min(worst):.3f}–{max(worst):.3f}); TTFT p50 {median(ttft):+.1f} ms."
    ]


def slow(rounds: int, seconds: float) -> list[str]:
    """1,000 streams at a time, 10 tokens a second, on one process."""
    with running({"gap_ms": 100, "tokens": 100}) as bench, bench.fallback() as ours:
        direct = _streams(bench.upstream_url, _unsigned_stream, count=1000, spread_s=5)
        before_s, began_s = cpu_s(ours.process.pid), time.monotonic()
        through = _streams(ours.url, _signed_stream, count=1000, spread_s=5)
        busy = (cpu_s(ours.process.pid) - before_s) / (time.monotonic() - began_s)
        memory_mib = peak_mib(ours.process.pid)
    p99 = {name: 1000 * _p99([g for s in each for g in s.gaps_s]) for name, each in (("d", direct), ("t", through))}
    broken = sum(not s.is_whole for s in through)
    tokens = sum(s.tokens for s in through)
    return [
        f"1,000 streams: {broken} not whole, {tokens:,} tokens; inter-token p99 {p99['t']:.0f} ms, direct "
        f"{p99['d']:.0f} ms: **{p99['t'] - p99['d']:+.0f} ms**; peak memory **{memory_mib:.0f} MiB**; "
        f"{100 * busy:.0f} % of one core."
    ]


def batching(rounds: int, seconds: float) -> list[str]:
    """64 callers who ask for one embedding at a time, from an upstream that takes 20 ms a call."""
    table = ["| | embeddings/s | upstream calls for each | failed |", "| --- | ---: | ---: | ---: |"]
    rates = {}
    with running({"embed_ms": 20}) as bench, bench.fallback() as ours:
        for name, model in (("alone", "single"), ("joined", "joined")):
            request = _signed_post("/v1/embeddings", {"model": model, "input": "How do I reset my password?"})
            before = bench.calls()
            seen = _burst(ours.url, request, connections=64, seconds=seconds)
            count = len(seen.latencies_s)
            rates[name] = (count / seconds, (bench.calls() - before) / count)
            table.append(f"| {name} | {rates[name][0]:,.0f} | {rates[name][1]:.3f} | {seen.failed} |")
    fewer, more = rates["alone"][1] / rates["joined"][1], rates["joined"][0] / rates["alone"][0]
    return [*table, "", f"**{fewer:.0f} times** fewer upstream calls, {more:.1f} times the embeddings a second."]


def restart(rounds: int, seconds: float) -> list[str]:
    """Two regions restarted one after the other under load; callers go on to the other one before the first byte."""
    with running({"gap_ms": 20, "tokens": 100}) as bench, contextlib.ExitStack() as stack:
        ports = free_ports(2)
        regions = [stack.enter_context(bench.fallback(port=port)) for port in ports]
        outcome = asyncio.run(_restart_under_load(bench, regions, ports, stack))
    return [
        f"{outcome['plain']} plain calls and {outcome['streams']} streams during two restarts: "
        f"**{outcome['failed']} failed**, {outcome['moved']} were moved to the other region before their first byte."
    ]


PARTS: dict[str, Callable[[int, float], list[str]]] = {
    "passthrough": passthrough,
    "latency": latency,
    "streams": live_streams,
    "slow": slow,
    "batching": batching,
    "restart": restart,
}


@contextlib.contextmanager
def running(pace: dict[str, float]) -> Iterator[Bench]:
    """The upstream at this pace."""
    cores = split_cores()
    command = [sys.executable, "-m", "scripts.benchmarks.quick_upstream", json.dumps(pace)]
    with tempfile.TemporaryDirectory(prefix="nearside-bench-") as name:
        folder = Path(name)
        (folder / "models.toml").write_text(CATALOG)
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            pin(process.pid, cores[1])
            os.sched_setaffinity(0, cores[1])
            assert process.stdout is not None
            try:
                yield Bench(json.loads(process.stdout.readline())["url"], folder, cores)
            finally:
                os.sched_setaffinity(0, cores[0] | cores[1])
                process.communicate()


@contextlib.contextmanager
def litellm(bench: Bench) -> Iterator[tuple[str, int]]:
    """LiteLLM's proxy: URL and process id. Installed when it is not there."""
    program = install.litellm()
    config = bench.folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n"
        f"      api_base: {bench.upstream_url}/v1\n      api_key: none\n"
    )
    port = free_port()
    environment = {
        **os.environ,
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with (bench.folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, within_s=120)
        pin(process.pid, bench.measured_cores)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


async def _restart_under_load(
    bench: Bench, regions: list[FallbackProcess], ports: list[int], stack: contextlib.ExitStack
) -> dict[str, int]:
    outcome = {"plain": 0, "streams": 0, "failed": 0, "moved": 0}
    is_over = False

    async def caller(client: httpx.AsyncClient, number: int) -> None:
        """As the edge does it: the other region when one refuses or breaks before its first byte."""
        while not is_over:
            is_stream = number % 2 == 0
            for attempt, port in enumerate((ports[number % 4 // 2], ports[1 - number % 4 // 2])):
                body = json.dumps({"model": "bench", "messages": [], "stream": is_stream}).encode()
                headers = {**_headers("/v1/chat/completions", body), "content-type": "application/json"}
                is_good, may_move = await _ask_region(client, port, body, headers)
                if is_good or not may_move or attempt:
                    break
                outcome["moved"] += 1
            outcome["failed"] += not is_good
            outcome["streams" if is_stream else "plain"] += 1

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        callers = [asyncio.create_task(caller(client, number)) for number in range(16)]
        for number, port in enumerate(ports):
            await asyncio.sleep(2)
            regions[number].begin_to_end()
            await asyncio.to_thread(regions[number].process.wait, 60)
            regions[number] = await asyncio.to_thread(stack.enter_context, bench.fallback(port=port))
        await asyncio.sleep(2)
        is_over = True
        await asyncio.gather(*callers)
    return outcome


async def _ask_region(client: httpx.AsyncClient, port: int, body: bytes, headers: dict[str, str]) -> tuple[bool, bool]:
    """Whether the answer was good, and whether another region may be asked instead: only before its first byte."""
    has_begun = False
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with client.stream("POST", url, content=body, headers=headers) as answer:
            has_begun = answer.status_code != 503
            said = await answer.aread()
    except httpx.TransportError:
        return False, not has_begun
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    return answer.status_code == 200 and (not is_stream or _is_whole(said)), not has_begun


def _is_whole(body: bytes) -> bool:
    return body.endswith(b"data: [DONE]\n\n") and b'"error"' not in body


def _headers(path: str, body: bytes) -> dict[str, str]:
    return sign(
        _KEY, method="POST", path=path, request_id="bench", body=body, nonce=secrets.token_hex(12), now_s=time.time()
    )


def _signed_post(path: str, body: dict[str, Any]) -> MakeRequest:
    content = json.dumps(body).encode()

    def make() -> bytes:
        signed = "".join(f"{name}: {value}\r\n" for name, value in _headers(path, content).items())
        return _post(path, content, signed)

    return make


def _unsigned_post(path: str, body: dict[str, Any], headers: str = "") -> MakeRequest:
    request = _post(path, json.dumps(body).encode(), headers)
    return lambda: request


def _post(path: str, content: bytes, headers: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


_KEY: Key = parse_keys(KEYS)[0]
_CHAT: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": PROMPT}]}
_signed = _signed_post("/v1/chat/completions", _CHAT)
_unsigned = _unsigned_post("/v1/chat/completions", _CHAT)
_signed_stream = _signed_post("/v1/chat/completions", {**_CHAT, "stream": True})
_unsigned_stream = _unsigned_post("/v1/chat/completions", {**_CHAT, "stream": True})


def _burst(url: str, request: MakeRequest, *, connections: int, seconds: float) -> Burst:
    return _run(lambda: burst(url, request, connections=connections, seconds=seconds))


def _streams(url: str, request: MakeRequest, *, count: int, spread_s: float) -> list[StreamTimes]:
    return _run(lambda: streams(url, request, count=count, spread_s=spread_s))


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        return await work()

    return uvloop.run(run())


def _check_whole(seen: list[StreamTimes]) -> None:
    if not all(each.is_whole for each in seen):
        raise SystemExit("scripts/bench_fallback: a stream was not whole")


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def _wait_for(url: str, process: "subprocess.Popen[bytes]", *, within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise SystemExit(f"scripts/bench_fallback: {url} did not answer")


def _page(command: str, facts: dict[str, Any], lines: list[str]) -> str:
    text = "\n".join(lines)
    return f"""# The cloud fallback

`{command}`, {facts["date"]}, {facts["cores"]} cores of {facts["cpu"]}, {facts["system"]}, Python
{facts["versions"]["python"]}, load average at the start {facts["load_average"]}. One core for what is measured, the
others for load and upstream; calls signed, logs and metrics on.

{text}"""


if __name__ == "__main__":
    sys.exit(main())
