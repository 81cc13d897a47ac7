"""What each step of a memory hit costs, and of a call that is passed on, by loops of many within workerd.

    .venv/bin/python -m scripts.benchmarks.steps [--times 2000] [--rounds 5]

CPU of the workerd process, less that of an empty loop; the least of the rounds, because what else runs on the machine
only ever adds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx

from scripts.benchmarks.processes import thread_cpu_s
from scripts.benchmarks.quick_upstream import ANSWER
from scripts.benchmarks.workerd import Server, running_servers, stage
from scripts.benchmarks.workerd_cases import CF, CHAT, WORKERS, nearside_server

STEPS = {
    "request": "read method, URL, headers and place of the request",
    "task": "a task that does not wait",
    "new_id": "a request id",
    "handle": "the gateway, from a request whose body is read to a reply, without telemetry",
    "health": "the gateway, GET /health",
    "named": "the gateway, a call passed on, its model named and answering at once",
    "routed": "the same, its model chosen among the cloud's",
    "streamed": "the gateway, a stream passed on, its model named, three chunks at once",
    "chunks": "the same, 102 chunks in two pieces",
    "stream_response": "the JavaScript Response of a stream, one piece sent into it",
    "score": "of it: the router's score",
    "optimize": "the prompt optimizer, on 1 KB of English in which it finds a little",
    "timer": "a timer that is taken back",
    "report_headers": "of each: the report as headers",
    "report_body": "of each: the report as JSON",
    "splice": "of each: the report put into the answer",
    "json_reply": "of each: the reply with all headers",
    "response": "the JavaScript Response of the reply",
    "bare_response": "for comparison: a Response without headers",
    "analytics": "a data point for Analytics Engine",
    "recorder": "a record for the metrics",
}
HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip, br",
    "accept-language": "*",
    "authorization": "Bearer nsk_bench_benchmarksbenchmarks",
    "cf-connecting-ip": "203.0.113.7",
    "cf-ipcountry": "FR",
    "cf-ray": "8f2b7c9e1a2b3c4d",
    "cf-visitor": '{"scheme":"https"}',
    "content-length": str(len(CHAT)),
    "content-type": "application/json",
    "host": "nearside.example.workers.dev",
    "user-agent": "OpenAI/Python 2.8.0",
    "x-forwarded-proto": "https",
    "x-real-ip": "203.0.113.7",
    "x-stainless-lang": "python",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=list(STEPS))
    arguments = parser.parse_args(argv)
    stage()
    costs = measure_steps(arguments.steps, times=arguments.times, rounds=arguments.rounds)
    for name, cost_us in costs.items():
        print(f"{STEPS[name]:85}{cost_us:8.1f} µs")
    return 0


def measure_steps(steps: Sequence[str], *, times: int, rounds: int) -> dict[str, float]:
    """Step -> µs of CPU, once."""
    variables = {"AUTH": "open", "CLOUD_REGIONS": [{"id": "at-once", "url": "http://127.0.0.1:9"}]}
    spec = nearside_server("steps", variables, main=WORKERS / "steps.py")
    with running_servers(spec) as servers:
        server = servers["steps"]
        facts = {
            "url": "https://nearside.example.workers.dev/v1/chat/completions",
            "method": "POST",
            "headers": HEADERS,
            "cf": CF,
            "body": CHAT,
            "answer": ANSWER.decode(),
        }
        _prepare(server, facts)
        for name in steps:  # V8 optimises the interpreter itself while it runs
            _spent_us(server, name, times)
        least_us = dict.fromkeys(["empty", *steps], float("inf"))
        for _ in range(rounds):
            for name in least_us:
                least_us[name] = min(least_us[name], _spent_us(server, name, times))
        empty_us = least_us.pop("empty")
        return {name: (spent_us - empty_us) / times for name, spent_us in least_us.items()}


def _prepare(server: Server, facts: dict[str, Any]) -> None:
    """The first request fills the cache after its answer, so this may wait."""
    for _ in range(40):
        response = httpx.post(server.url, json={"prepare": facts}, timeout=60, trust_env=False)
        if response.status_code == 200:
            return
        time.sleep(0.25)
    raise SystemExit(f"steps: no hit: {response.text}")


def _spent_us(server: Server, step: str, times: int) -> float:
    before_s = thread_cpu_s(server.pid)
    job = {"step": step, "times": times}
    response = httpx.post(server.url, json=job, timeout=120, trust_env=False)
    if response.status_code != 200:
        raise SystemExit(f"steps: {step}: {response.text}")
    return 1e6 * (thread_cpu_s(server.pid) - before_s)


if __name__ == "__main__":
    sys.exit(main())
