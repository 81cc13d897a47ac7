"""What a stream costs on its way through the Worker: added time to the first token, and CPU for each chunk.

The same paced upstream is asked directly, through the smallest Python forwarder, and through our Worker, in turn; the
clocks are the client's. A stream of the edge model, which is rewritten chunk by chunk, is measured for its CPU.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import httpx

from scripts.benchmarks.processes import cpu_s, pin, split_cores
from scripts.benchmarks.workerd import NODE, BenchError, running_servers, stage
from scripts.benchmarks.workerd_cases import FORWARDER, STREAMS, stream_servers

TTFT_MS, GAP_MS, TOKENS = 100, 10, 60
DIRECT, EDGE = "direct", "edge-model"
NATIVE_MODEL = "@cf/ibm-granite/granite-4.0-h-micro"  # speaks the shape that the stand-in does
SAYS = {
    DIRECT: "the upstream itself",
    FORWARDER: "Python forwarder, no Python per chunk",
    STREAMS: "Nearside, stream of the cloud",
    EDGE: "Nearside, stream of the edge model",
}


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One target in one round. cpu_ms_per_chunk: of workerd, the request's own cost included; None without one."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    total_p50_ms: float
    cpu_ms_per_chunk: float | None


def measure_streams(
    *, streams: int, concurrency: int, repeats: int, say: Callable[[str], None]
) -> dict[str, list[StreamSample]]:
    """Target -> one sample a round. Raises BenchError."""
    measured_cores, load_cores = split_cores()
    say("starting the paced upstream and the Workers …")
    stage()
    with _paced_upstream(load_cores) as upstream_url, running_servers(stream_servers(upstream_url)) as servers:
        for server in servers.values():
            pin(server.pid, measured_cores)
        targets = {
            DIRECT: (upstream_url, "cloud", None),
            FORWARDER: (servers[FORWARDER].url, "cloud", servers[FORWARDER].pid),
            STREAMS: (servers[STREAMS].url, "cloud", servers[STREAMS].pid),
            EDGE: (servers[STREAMS].url, NATIVE_MODEL, servers[STREAMS].pid),
        }
        for url, model, _ in targets.values():
            asyncio.run(_run(url, model, streams=concurrency * 2, concurrency=concurrency))
        samples: dict[str, list[StreamSample]] = {name: [] for name in targets}
        for round_number in range(1, repeats + 1):
            for name, (url, model, pid) in targets.items():
                before_s = cpu_s(pid) if pid else 0.0
                times = asyncio.run(_run(url, model, streams=streams, concurrency=concurrency))
                cpu_ms = 1000 * (cpu_s(pid) - before_s) / (streams * TOKENS) if pid else None
                samples[name].append(_sample(times, cpu_ms))
                say(f"round {round_number} of {repeats}: {name} TTFT p50 {samples[name][-1].ttft_p50_ms:.1f} ms")
        return samples


def streams_table(samples: dict[str, list[StreamSample]]) -> str:
    """One row a target; added times are against the direct stream of the same round."""
    lines = [
        "| stream through | TTFT p50 ms | added p50 ms | added p99 ms | total p50 ms | CPU ms a chunk |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rounds in samples.items():
        pairs = list(zip(rounds, samples[DIRECT], strict=True))
        same_upstream = name != EDGE
        p50 = f"{median(r.ttft_p50_ms - d.ttft_p50_ms for r, d in pairs):.1f}" if same_upstream else "–"
        p99 = f"{median(r.ttft_p99_ms - d.ttft_p99_ms for r, d in pairs):.1f}" if same_upstream else "–"
        cpu = [r.cpu_ms_per_chunk for r in rounds if r.cpu_ms_per_chunk is not None]
        cells = [
            SAYS[name],
            f"{median(r.ttft_p50_ms for r in rounds):.1f}",
            p50,
            p99,
            f"{median(r.total_p50_ms for r in rounds):.0f}",
            f"{median(cpu):.3f}" if cpu else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _sample(times: list[tuple[float, float]], cpu_ms: float | None) -> StreamSample:
    ttfts = [ttft for ttft, _ in times]
    return StreamSample(median(ttfts), quantiles(ttfts, n=100)[98], median(total for _, total in times), cpu_ms)


async def _run(url: str, model: str, *, streams: int, concurrency: int) -> list[tuple[float, float]]:
    """(TTFT, total) in ms of each stream, `concurrency` callers one stream after the other.

    Callers start evenly spread over one stream's length: all at once would measure their queue for one core.
    """
    period_s = (TTFT_MS + GAP_MS * TOKENS) / 1000
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:

        async def caller(number: int) -> list[tuple[float, float]]:
            await asyncio.sleep(number * period_s / concurrency)
            return [await _stream(client, model) for _ in range(streams // concurrency)]

        times = await asyncio.gather(*(caller(number) for number in range(concurrency)))
        return [pair for own in times for pair in own]


async def _stream(client: httpx.AsyncClient, model: str) -> tuple[float, float]:
    messages = [{"role": "user", "content": "Count."}]
    body = {"model": model, "stream": True, "use_cache": False, "messages": messages}
    started_s = time.perf_counter()
    first_s, rest = None, b""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise BenchError(f"a stream was answered with {response.status_code}")
        async for data in response.aiter_raw():
            if first_s is None and b"token" in data:
                first_s = time.perf_counter()
            rest = data[-64:] if len(data) >= 64 else (rest + data)[-64:]
    if first_s is None or not rest.endswith(b"data: [DONE]\n\n"):
        raise BenchError("a stream was not whole")
    return (first_s - started_s) * 1000, (time.perf_counter() - started_s) * 1000


@contextmanager
def _paced_upstream(cores: set[int]) -> Iterator[str]:
    pace = json.dumps({"ttftMs": TTFT_MS, "gapMs": GAP_MS, "tokens": TOKENS})
    command = [str(NODE), str(Path(__file__).parent / "paced_upstream.mjs"), pace]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pin(process.pid, cores)
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.communicate()
