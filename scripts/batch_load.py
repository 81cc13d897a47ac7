"""Has the local stack answer a large batch while its consumer is killed and models fail, and checks every result.

Without kills and failures it also sends the same requests directly, as many at a time as the consumer answers, and
compares. No cache is used. Exit code 1 when a line was lost, doubled or out of order.

    scripts/batch_load --lines 5000 --kills 2 --failure-rate 0.1
    scripts/batch_load --lines 2000                     # throughput against direct requests
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge_router.batches.book import ENDED
from edge_router.batches.room import CONCURRENT_LINES
from scripts.local.stack import Address, Stack, running_stack

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
MODEL = "@cf/meta/llama-3.2-3b-instruct"
FAILING = ("ai", "cloud")  # both: else a failure at the edge is only answered by the cloud
POLL_S = 0.2
STALLED_S = 180.0  # without a further line
WARM_UP = 20


class LoadError(Exception):
    """The batch did not end as it should; the message says how."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The custom_ids of both result files against those of the input."""

    lost: int
    doubled: int
    unknown: int
    is_in_order: bool
    failed: int

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.doubled or self.unknown) and self.is_in_order


@dataclass(frozen=True, slots=True)
class Outcome:
    """seconds: from `POST /v1/batches` until the batch is seen to have ended. calls: that reached a model."""

    lines: int
    kills: int
    seconds: float
    calls: int
    checked: Checked


def custom_id(number: int) -> str:
    return f"line-{number:06}"


def request_body(number: int, salt: str) -> dict[str, Any]:
    """Each is another question, and none uses a cache."""
    question = f"What is item {salt}-{number}?"
    return {"model": MODEL, "use_cache": False, "max_tokens": 40, "messages": [{"role": "user", "content": question}]}


def input_file(lines: int, salt: str) -> bytes:
    requests = (
        {"custom_id": custom_id(number), "method": "POST", "url": ENDPOINT, "body": request_body(number, salt)}
        for number in range(lines)
    )
    return "".join(f"{json.dumps(request)}\n" for request in requests).encode()


def create_batch(client: httpx.Client, data: bytes) -> str:
    """The id of a batch that answers these lines."""
    sent = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("load.jsonl", data)})
    sent.raise_for_status()
    order = {"input_file_id": sent.json()["id"], "endpoint": ENDPOINT, "completion_window": "24h"}
    created = client.post("/v1/batches", json=order)
    created.raise_for_status()
    return str(created.json()["id"])


def read_batch(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    response = client.get(f"/v1/batches/{batch_id}")
    response.raise_for_status()
    batch: dict[str, Any] = response.json()
    return batch


def read_results(client: httpx.Client, batch: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The lines of the output and of the error file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ("output_file_id", "error_file_id"):
        text = ""
        if batch[name] is not None:
            response = client.get(f"/v1/files/{batch[name]}/content")
            response.raise_for_status()
            text = response.text
        found[name] = [json.loads(line) for line in text.splitlines()]
    return found


def check_results(lines: int, results: dict[str, list[dict[str, Any]]]) -> Checked:
    expected = {custom_id(number) for number in range(lines)}
    files = [[result["custom_id"] for result in file] for file in results.values()]
    counts = Counter(name for file in files for name in file)
    return Checked(
        lost=len(expected - counts.keys()),
        doubled=sum(count - 1 for count in counts.values()),
        unknown=len(counts.keys() - expected),
        is_in_order=all(file == sorted(file) for file in files),
        failed=len(results["error_file_id"]),
    )


def run_batch(
    stack: Stack, address: Address, client: httpx.Client, lines: int, *, kills: int, progress: Progress
) -> Outcome:
    """kills: of workerd, spread evenly over the lines. Raises LoadError."""
    data = input_file(lines, f"batch-{time.time_ns()}")
    due = [lines * (number + 1) // (kills + 1) for number in range(kills)]
    before = _model_calls(address)
    began_s = moved_s = time.monotonic()
    batch_id = create_batch(client, data)
    bar, done = progress.add_task("batch", total=lines), 0
    while (batch := read_batch(client, batch_id))["status"] not in ENDED:
        counts = batch["request_counts"]
        ready = counts["completed"] + counts["failed"]
        if ready != done:
            done, moved_s = ready, time.monotonic()
            progress.update(bar, completed=done)
        if due and done >= due[0]:
            due.pop(0)
            stack.restart_worker()
            moved_s = time.monotonic()
        if time.monotonic() - moved_s > STALLED_S:
            raise LoadError(f"nothing happened for {STALLED_S:g} s: {batch['status']}, {counts}")
        time.sleep(POLL_S)
    seconds = time.monotonic() - began_s
    progress.update(bar, completed=lines)
    if batch["status"] != "completed":
        raise LoadError(f"the batch is {batch['status']}: {batch['errors']}")
    if due:
        raise LoadError(f"the batch ended before {len(due)} of {kills} kills: ask for more lines")
    checked = check_results(lines, read_results(client, batch))
    return Outcome(lines, kills, seconds, _model_calls(address) - before, checked)


def run_directly(address: Address, lines: int, *, concurrency: int, progress: Progress) -> float:
    """Seconds for the same requests, so many at a time, each sent by itself. Raises LoadError."""
    salt = f"direct-{time.time_ns()}"
    bodies = iter([request_body(number, salt) for number in range(lines)])
    bar = progress.add_task("directly", total=lines)

    async def ask(client: httpx.AsyncClient) -> None:
        for body in bodies:
            response = await client.post(ENDPOINT, json=body)
            if response.status_code != 200:
                raise LoadError(f"a direct request was answered with {response.status_code}")
            progress.advance(bar)

    async def ask_all() -> float:
        async with httpx.AsyncClient(base_url=address.url, timeout=120) as client:
            began_s = time.monotonic()
            await asyncio.gather(*(ask(client) for _ in range(concurrency)))
            return time.monotonic() - began_s

    return asyncio.run(ask_all())


def _model_calls(address: Address) -> int:
    counters = httpx.get(f"{address.control_url}/counters", timeout=10).json()
    return int(counters["ai"]) + sum(int(count) for count in counters["cloud"].values())


def _measure(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The figures of one run. Raises LoadError."""
    variables = {"BATCH_RETRY_S": 0.5, "BATCH_LEASE_S": arguments.lease_s, "SINGLE_FLIGHT": "off"}
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with running_stack(auth="open", variables=variables) as (stack, address):
        if arguments.model_ms:
            latency = {"target": "ai", "ttft_ms": arguments.model_ms}
            httpx.post(f"{address.control_url}/latency", json=latency).raise_for_status()
        with Progress(*columns, console=console) as progress, httpx.Client(base_url=address.url, timeout=120) as client:
            run_directly(address, WARM_UP, concurrency=arguments.concurrency, progress=progress)
            if arguments.failure_rate or arguments.kills:
                _fail(address, arguments.failure_rate)
                outcome = run_batch(stack, address, client, arguments.lines, kills=arguments.kills, progress=progress)
                return {"batch": _figures(outcome)}
            batches, directs = [], []
            for _ in range(arguments.rounds):  # in turn: the machine is not always as fast
                batches.append(run_batch(stack, address, client, arguments.lines, kills=0, progress=progress))
                directs.append(
                    run_directly(address, arguments.lines, concurrency=arguments.concurrency, progress=progress)
                )
    ratios = [direct_s / batch.seconds for batch, direct_s in zip(batches, directs, strict=True)]
    return {
        "batch": _figures(max(batches, key=lambda batch: (not batch.checked.is_right, batch.seconds))),
        "rounds": [
            {
                "batch_per_s": round(arguments.lines / batch.seconds, 1),
                "direct_per_s": round(arguments.lines / direct_s, 1),
                "ratio": round(ratio, 3),
            }
            for batch, direct_s, ratio in zip(batches, directs, ratios, strict=True)
        ],
        "concurrency": arguments.concurrency,
        "model_ms": arguments.model_ms,
    }


def _fail(address: Address, rate: float) -> None:
    for target in FAILING if rate else ():
        fault = {"target": target, "kind": "503", "rate": rate}
        httpx.post(f"{address.control_url}/faults", json=fault).raise_for_status()


def _figures(outcome: Outcome) -> dict[str, Any]:
    per_s = round(outcome.lines / outcome.seconds, 1)
    seconds = round(outcome.seconds, 1)
    return {**asdict(outcome), "seconds": seconds, "per_s": per_s, "is_right": outcome.checked.is_right}


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/batch_load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=_from(1), default=1000, help="default: 1000")
    parser.add_argument("--kills", type=_from(0), default=0, help="of workerd, while it works on the batch")
    parser.add_argument("--failure-rate", type=float, default=0.0, help="share of model calls that fail, 0 to 0.9")
    parser.add_argument("--concurrency", type=_from(1), default=CONCURRENT_LINES, help="of the direct requests")
    parser.add_argument("--rounds", type=_from(1), default=3, help="of batch and direct requests in turn; default: 3")
    parser.add_argument("--model-ms", type=_from(0), default=0, help="until the simulated model answers; default: 0")
    parser.add_argument("--lease-s", type=_from(1), default=20, help="BATCH_LEASE_S; default: 20")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.failure_rate <= 0.9:
        parser.error("--failure-rate is 0 to 0.9")
    return arguments


def _from(least: int) -> Any:
    def number(text: str) -> int:
        if not (text.isdecimal() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on")
        return int(text)

    return number


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parsed(argv)
    console = Console(stderr=True)
    try:
        figures = _measure(arguments, console)
    except LoadError as exc:
        console.print(f"[red]{exc}[/]")
        return 1
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        Console().print(figures)
    return 0 if figures["batch"]["is_right"] else 1


if __name__ == "__main__":
    sys.exit(main())
