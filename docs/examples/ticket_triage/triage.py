"""Twenty support tickets, one structured call each instead of three; then the same ones again, from the cache.

    python -m docs.examples.ticket_triage.triage                        with scripts/dev running
    NEARSIDE_KEY=nsk_… python -m docs.examples.ticket_triage.triage --url https://nearside.example.workers.dev
    python -m docs.examples.ticket_triage.triage --json totals.json

Four ways of doing the same work, each with its totals: three calls a ticket (category, summary, answer), one call with
a verbose prompt, one with a concise prompt, and that once more.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_router.client import AsyncClient, ClientError, Completion

TICKETS = Path(__file__).with_name("tickets.jsonl")
CATEGORIES = ["billing", "technical_support", "account_access", "general_inquiry"]
FIELDS = ["category", "priority", "sentiment", "summary", "answer"]
SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": CATEGORIES},
        "priority": {"type": "string", "enum": ["low", "normal", "high", "urgent"]},
        "sentiment": {"type": "string", "enum": ["positive", "neutral", "negative"]},
        "summary": {"type": "string", "description": "one short sentence"},
        "answer": {"type": "string", "description": "to the customer, at most three sentences"},
    },
    "required": FIELDS,
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "triage", "strict": True, "schema": SCHEMA}}

CONCISE = "Triage the support ticket. Fill in the fields, nothing else."
VERBOSE = f"""You are an expert assistant working with a customer support operations team. Your task is to carefully
analyze the incoming support message and to determine which category best applies to it. The available categories are
{", ".join(CATEGORIES)}. Please read the customer's message thoroughly and think carefully before
deciding. Then determine how urgent the matter is, and whether the customer sounds positive, neutral or negative. After
that, please write a short summary of the message which downstream systems can use, and a polite answer to the customer.
Please make sure that your output is complete, concise and helpful, and that it follows the requested format exactly."""
THREE = (
    f"Classify the support ticket into one of: {', '.join(CATEGORIES)}. Return only the label.",
    "Summarize the support ticket in one short sentence.",
    "Answer the support ticket politely in at most three sentences.",
)


@dataclass(slots=True)
class Totals:
    """What one way of working through all tickets came to. latency_s: of the calls, on average; failed: of tickets."""

    way: str
    calls: int = 0
    hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cost_avoided_usd: float = 0.0
    latency_s: float = 0.0
    took_s: float = 0.0
    failed: int = 0
    categories: dict[str, int] = field(default_factory=dict)

    def add(self, done: Completion) -> None:
        """Tokens of a hit were paid for before, so they don't count."""
        self.latency_s = (self.latency_s * self.calls + done.total_s) / (self.calls + 1)
        self.calls += 1
        self.cost_usd += done.report.cost_usd or 0.0
        self.cost_avoided_usd += done.report.cost_avoided_usd or 0.0
        if done.report.is_cached:
            self.hits += 1
        else:
            self.input_tokens += done.input_tokens
            self.output_tokens += done.output_tokens


Work = Callable[[str], Awaitable[tuple[str, list[Completion]]]]


def structured(client: AsyncClient, instructions: str) -> Work:
    """One call that answers everything; the category, and what was asked for it. Raises ClientError, ValueError."""

    async def work(ticket: str) -> tuple[str, list[Completion]]:
        messages = [{"role": "system", "content": instructions}, {"role": "user", "content": ticket}]
        done = await client.chat(messages, response_format=RESPONSE_FORMAT, max_tokens=300)
        return check(json.loads(done.text))["category"], [done]

    return work


def in_three_calls(client: AsyncClient) -> Work:
    """What one structured call replaces."""

    async def work(ticket: str) -> tuple[str, list[Completion]]:
        done = []
        for instructions in THREE:
            messages = [{"role": "system", "content": instructions}, {"role": "user", "content": ticket}]
            done.append(await client.chat(messages, max_tokens=150))
        return done[0].text.strip(), done

    return work


def check(triaged: Any) -> dict[str, str]:
    """Structured output is checked all the same. Raises ValueError."""
    if not isinstance(triaged, dict) or set(triaged) != set(FIELDS):
        raise ValueError("not the fields that were asked for")
    if triaged["category"] not in CATEGORIES:
        raise ValueError("no such category")
    return triaged


async def run(way: str, work: Work, tickets: Sequence[str], concurrency: int) -> Totals:
    """All tickets, `concurrency` at a time. The client waits and tries again when it is told to slow down."""
    totals, places, categories = Totals(way), asyncio.Semaphore(concurrency), Counter[str]()

    async def one(ticket: str) -> None:
        async with places:
            try:
                category, done = await work(ticket)
            except (ClientError, ValueError) as exc:
                print(f"a ticket failed: {exc}", file=sys.stderr)
                totals.failed += 1
                return
        categories[category if category in CATEGORIES else "(no label)"] += 1
        for completion in done:
            totals.add(completion)

    started_s = time.perf_counter()
    await asyncio.gather(*map(one, tickets))
    totals.took_s = time.perf_counter() - started_s
    totals.categories = dict(categories.most_common())
    return totals


async def triage(url: str, key: str | None, concurrency: int) -> list[Totals]:
    tickets = [json.loads(line)["ticket"] for line in TICKETS.read_text(encoding="utf-8").splitlines()]
    async with AsyncClient(url, key=key) as client:
        return [
            await run("three calls", in_three_calls(client), tickets, concurrency),
            await run("verbose", structured(client, VERBOSE), tickets, concurrency),
            await run("concise", structured(client, CONCISE), tickets, concurrency),
            await run("concise again", structured(client, CONCISE), tickets, concurrency),
        ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8787", help="the gateway (default: %(default)s)")
    parser.add_argument("--key", default=os.environ.get("NEARSIDE_KEY"), help="API key (default: NEARSIDE_KEY)")
    parser.add_argument("--concurrency", type=int, default=5, metavar="N", help="tickets at a time (default: 5)")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="the totals for programs")
    arguments = parser.parse_args(argv)
    found = asyncio.run(triage(arguments.url, arguments.key, arguments.concurrency))
    print(f"{'':14} {'calls':>5} {'hits':>5} {'in':>7} {'out':>6} {'cost USD':>10} {'avg ms':>7} {'all s':>6}")
    for one in found:
        print(
            f"{one.way:14} {one.calls:5} {one.hits / max(1, one.calls):5.0%} {one.input_tokens:7,} "
            f"{one.output_tokens:6,} {one.cost_usd:10.6f} {1000 * one.latency_s:7.0f} {one.took_s:6.2f}"
        )
    print("categories:", ", ".join(f"{name} {count}" for name, count in found[-1].categories.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")
    return 1 if any(one.failed for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
