"""Fills the cache with the answers to the lines of a file before a launch, some at a time; or prices that.

    scripts/warm faq.jsonl                       each line: {"prompt": "…"}, or the body of a chat request
    scripts/warm faq.jsonl --dry-run             what would be asked of which model, and what it costs at most
    NEARSIDE_KEY=nsk_… scripts/warm faq.jsonl --url https://nearside.example.workers.dev --concurrency 16

Ask with the key of the tenant that is to find the answers, and with the fields that its requests will have: an entry
answers equal requests of one tenant only. Stop it and start it again as you like: what is in the cache is a hit, which
costs nothing. Exit codes: 0 all lines are in the cache, 1 some are not, 2 nothing could be asked.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter as Count
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from edge_router.client import AsyncClient, ClientError
from scripts.asking.client import pooled_client
from scripts.asking.terminal import Counter, positive, terminal
from scripts.warming.lines import Line, Problem, most_usd, read_lines

ROUTE_TIMEOUT_S = 10.0


class CannotWarm(Exception):
    """Nothing could be asked; the message says what to do."""


@dataclass(slots=True)
class Outcome:
    """hits: what was in the cache already. asked: answers made now. problems: lines that are not in the cache.

    most_usd: of a dry run, by model; cost_usd: of a real one.
    """

    hits: int = 0
    asked: int = 0
    cost_usd: float = 0.0
    models: Count[str] = field(default_factory=Count)
    most_usd: dict[str, float] = field(default_factory=dict)
    input_tokens: int = 0
    problems: list[Problem] = field(default_factory=list)


def main(argv: Sequence[str] | None = None, *, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """transport: in place of the network."""
    arguments = _arguments(argv)
    try:
        lines, broken = _lines(arguments.file)
        outcome = Outcome(problems=broken)
        verb = "pricing" if arguments.dry_run else "warming"
        with Counter(verb, len(lines), terminal(stderr=True)) as counter:
            work = _price if arguments.dry_run else _warm
            asyncio.run(work(arguments, lines, outcome, counter.advance, transport))
    except CannotWarm as exc:
        print(f"scripts/warm: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("scripts/warm: stopped; start it again to go on", file=sys.stderr)
        return 130
    for line in _told(outcome, is_dry=arguments.dry_run):
        print(line)
    for problem in sorted(outcome.problems, key=lambda problem: problem.number):
        print(f"{arguments.file}:{problem.number}: {problem.reason}", file=sys.stderr)
    return 1 if outcome.problems else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/warm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE.jsonl", help='{"prompt": "…"} or the body of a chat request a line')
    add("--url", default="http://127.0.0.1:8787", help="the gateway (default: %(default)s)")
    add("--key", default=os.environ.get("NEARSIDE_KEY"), help="API key (default: NEARSIDE_KEY)")
    add("--concurrency", type=positive, default=8, metavar="N", help="requests at a time (default: %(default)s)")
    add("--dry-run", action="store_true", help="ask no model: prices by /v1/route and estimated tokens")
    return parser.parse_args(argv)


def _lines(path: Path) -> tuple[list[Line], list[Problem]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as texts:
            lines, broken = read_lines(texts)
    except OSError as exc:
        raise CannotWarm(f"cannot read {path}: {exc.strerror}; give a file with one JSON object a line") from exc
    if not lines:
        raise CannotWarm(f'{path} asks nothing; each line must be a JSON object like {{"prompt": "…"}}')
    return lines, broken


async def _warm(
    arguments: argparse.Namespace,
    lines: Sequence[Line],
    outcome: Outcome,
    advance: Callable[..., None],
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    async with AsyncClient(
        arguments.url, key=arguments.key, connections=arguments.concurrency, transport=transport
    ) as client:

        async def warm(line: Line) -> None:
            reason = None
            try:
                done = await client.chat(**{"model": "auto", **line.body})
            except ClientError as exc:
                reason = str(exc)
            else:
                cache = done.report.cache
                outcome.cost_usd += done.report.cost_usd or 0.0
                outcome.models[done.report.model or "unknown"] += 1
                outcome.hits += done.report.is_cached
                outcome.asked += not done.report.is_cached
                if cache is None or cache.status == "bypass":
                    reason = "answered, but such an answer is not kept (docs/caches.md)"
            if reason is not None:
                outcome.problems.append(Problem(line.number, reason))
            advance(failed=reason is not None)

        await _some_at_a_time(warm, lines, arguments.concurrency)


async def _price(
    arguments: argparse.Namespace,
    lines: Sequence[Line],
    outcome: Outcome,
    advance: Callable[..., None],
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    headers = {"authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    url = arguments.url.rstrip("/").removesuffix("/v1")
    async with pooled_client(url, connections=arguments.concurrency, transport=transport) as client:

        async def price(line: Line) -> None:
            try:
                response = await client.post("/v1/route", json=line.body, headers=headers, timeout=ROUTE_TIMEOUT_S)
                routed = response.json()
            except (httpx.HTTPError, ValueError) as exc:
                routed, reason = {}, f"no route: {type(exc).__name__}"
            else:
                reason = str((routed.get("error") or {}).get("message", f"status {response.status_code}"))
            usd = most_usd(line, routed)
            if usd is None:
                outcome.problems.append(Problem(line.number, reason))
            else:
                model = str(routed["model"])
                outcome.models[model] += 1
                outcome.most_usd[model] = outcome.most_usd.get(model, 0.0) + usd
                outcome.input_tokens += line.input_tokens
            advance(failed=usd is None)

        await _some_at_a_time(price, lines, arguments.concurrency)


async def _some_at_a_time(work: Callable[[Line], Awaitable[None]], lines: Iterable[Line], concurrency: int) -> None:
    waiting = iter(lines)

    async def in_turn() -> None:
        for line in waiting:
            await work(line)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(in_turn())


def _told(outcome: Outcome, *, is_dry: bool) -> list[str]:
    if not is_dry:
        total = outcome.hits + outcome.asked
        return [
            f"{total:,} answered: {outcome.hits:,} were in the cache, {outcome.asked:,} are new, "
            f"{outcome.cost_usd:.6f} USD; {len(outcome.problems):,} lines are not in the cache"
        ]
    told = [
        f"{model}: {count:,} lines, at most {outcome.most_usd[model]:.6f} USD"
        for model, count in outcome.models.most_common()
    ]
    most = sum(outcome.most_usd.values())
    return [
        *told,
        f"at most {most:.6f} USD in all: about {outcome.input_tokens:,} input tokens, answers as long as allowed, "
        f"nothing cached yet; {len(outcome.problems):,} lines can't be asked",
    ]


if __name__ == "__main__":
    sys.exit(main())
