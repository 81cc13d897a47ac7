"""What hedging does to the time to the first token when 5 % of a provider's calls take 3 s.

    python -m scripts.hedging                 # two runs of 1,000 streams on the local stack: about three minutes
    python -m scripts.hedging --calls 300     # shorter, with a p99 of few samples

The real Worker, two real cloud_fallback processes and the emulated provider; every call is a stream of its own. The
first run has `HEDGING` off, the second on, with the same seed of faults.
"""

import argparse
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import httpx

from scripts.local.stack import running_stack

SLOW_SHARE = 0.05
RTT_MS = 100  # of both regions
WARM_UP_CALLS = 30  # until it is known what is late; not measured
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Run:
    """Times to the first token in seconds, and how many calls reached the provider for how many requests."""

    ttfts_s: list[float]
    upstream_calls: int
    cancelled: int
    failed: int

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.ttfts_s)
        return ordered[ceil(share * len(ordered)) - 1] * 1000

    @property
    def extra_calls(self) -> float:
        """More calls than requests, as a share."""
        return self.upstream_calls / len(self.ttfts_s) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000, help="per run (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="callers (default: %(default)s)")
    arguments = parser.parse_args()
    off, on = (measure(each, arguments.calls, arguments.concurrency) for each in ("off", "on"))
    print("| hedging | p50 ms | p95 ms | p99 ms | calls to the provider | cancelled | failed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, run in (("off", off), ("on", on)):
        times = " | ".join(f"{run.percentile_ms(share):.0f}" for share in (0.5, 0.95, 0.99))
        print(f"| {name} | {times} | {run.upstream_calls} (+{run.extra_calls:.1%}) | {run.cancelled} | {run.failed} |")
    print(f"p99 falls by {1 - on.percentile_ms(0.99) / off.percentile_ms(0.99):.0%}")


def measure(hedging: Literal["on", "off"], calls: int, concurrency: int) -> Run:
    """One run on a stack of its own."""
    variables = {"HEDGING": hedging}
    with (
        running_stack(auth="open", variables=variables) as (_, address),
        httpx.Client(base_url=address.control_url) as control,
        ThreadPoolExecutor(concurrency) as callers,
    ):
        control.post("/latency", json={"target": "cloud", "rtt_ms": RTT_MS}).raise_for_status()
        list(callers.map(lambda n: ask(address.url, n), range(WARM_UP_CALLS)))
        control.post("/reset", json={}).raise_for_status()
        control.post("/faults", json={"target": "upstream", "kind": "slow", "rate": SLOW_SHARE}).raise_for_status()
        results = list(callers.map(lambda n: ask(address.url, n), range(calls)))
        counters: dict[str, Any] = control.get("/counters").json()
    times = [ttft_s for ttft_s in results if ttft_s is not None]
    return Run(times, counters["upstream"], counters["cancelled"]["upstream"], calls - len(times))


def ask(url: str, number: int) -> float | None:
    """Seconds to the first content of one stream, None when it failed."""
    if not hasattr(_local, "client"):
        _local.client = httpx.Client(timeout=60)
    body = {
        "model": "cloud",
        "stream": True,
        "max_tokens": 3,
        "messages": [{"role": "user", "content": f"Explain item {number}-{time.time_ns()} step by step"}],
    }
    started_s = time.perf_counter()
    ttft_s = None
    with _local.client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if ttft_s is None and _has_content(line):
                ttft_s = time.perf_counter() - started_s
            if '"finish_reason":"error"' in line:
                return None
    return ttft_s


def _has_content(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return any(choice["delta"].get("content") for choice in choices)


if __name__ == "__main__":
    main()
