"""Sends the prompts of a JSON Lines file through a running gateway; prints who answered and how fast.

    scripts/ask prompts.jsonl                         each line: {"prompt": "…"}
    scripts/ask prompts.jsonl --concurrency 16 --limit 100 --json rows.jsonl
    NEARSIDE_KEY=nsk_… scripts/ask prompts.jsonl --url https://nearside.example.workers.dev
    scripts/ask prompts.jsonl --emulate-cf '{"colo": "SIN", "clientTcpRtt": 42}'     with scripts/dev only

TTFT is measured here: request sent to first chunk with content. The first request of each connection includes
opening it. Exit codes: 0 all answered, 1 some requests failed, 2 nothing could be asked.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import httpx
from rich.console import Console

from scripts.asking.client import Asking, ask_all, pooled_client
from scripts.asking.outcome import Outcome
from scripts.asking.prompts import BrokenLine, Prompt, read_prompts
from scripts.asking.summary import error_kinds, groups
from scripts.asking.tables import cost_table, error_table, latency_table, raw_row
from scripts.asking.terminal import Counter, positive, terminal

PROBE_TIMEOUT_S = 5.0
LINES_NAMED = 10


class CannotAsk(Exception):
    """Nothing could be asked; the message says what to do."""


def main(argv: Sequence[str] | None = None, *, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """transport: in place of the network."""
    arguments = _arguments(argv)
    progress_console, tables_console = terminal(stderr=True), terminal(stderr=False)
    results: list[tuple[Prompt, Outcome]] = []
    started_s = time.perf_counter()
    try:
        prompts = _prompts(arguments.file, arguments.limit, progress_console)
        asking = _asking(arguments)
        with ExitStack() as stack:
            rows = stack.enter_context(arguments.json.open("w")) if arguments.json else None
            interrupted = _run(arguments, prompts, asking, results, rows, progress_console, transport)
    except CannotAsk as exc:
        print(f"scripts/ask: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"scripts/ask: cannot write {arguments.json}: {exc.strerror}", file=sys.stderr)
        return 2
    failed = _report([outcome for _, outcome in results], time.perf_counter() - started_s, tables_console)
    if interrupted:
        print(f"scripts/ask: stopped after {len(results)} of {len(prompts)} prompts", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/ask", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE.jsonl", help='one JSON object a line: {"prompt": "…"}')
    add("--url", default="http://127.0.0.1:8787", help="the gateway (default: %(default)s)")
    add("--key", default=os.environ.get("NEARSIDE_KEY"), help="API key (default: NEARSIDE_KEY)")
    add("--concurrency", type=positive, default=8, metavar="N", help="requests at a time (default: %(default)s)")
    add("--stream", action=argparse.BooleanOptionalAction, default=True, help="needed for TTFT (default)")
    add("--model", default="auto", help="auto, edge, cloud or an id of GET /v1/models (default: %(default)s)")
    add("--max-tokens", type=positive, metavar="N", help="longest answer")
    add("--limit", type=positive, metavar="N", help="only the first N prompts")
    add("--json", type=Path, metavar="OUT.jsonl", help="write one row a request, as they end")
    add("--with-text", action="store_true", help="prompts and answers in these rows as well")
    add("--emulate-cf", type=_json_object, metavar="JSON", help="be somewhere else; understood by scripts/dev only")
    return parser.parse_args(argv)


def _run(
    arguments: argparse.Namespace,
    prompts: list[Prompt],
    asking: Asking,
    results: list[tuple[Prompt, Outcome]],
    rows: TextIO | None,
    console: Console,
    transport: httpx.AsyncBaseTransport | None,
) -> bool:
    """True when the user stopped it; what was answered until then is in `results`."""
    with Counter("asking", len(prompts), console) as counter:

        def note(prompt: Prompt, outcome: Outcome) -> None:
            results.append((prompt, outcome))
            if rows is not None:
                rows.write(json.dumps(raw_row(prompt, outcome, with_text=arguments.with_text)) + "\n")
            counter.advance(failed=outcome.error is not None)

        async def run() -> None:
            url = arguments.url.rstrip("/").removesuffix("/v1")  # OpenAI clients' base URLs end in /v1
            async with pooled_client(url, connections=arguments.concurrency, transport=transport) as client:
                await _probe(client, url)
                await ask_all(client, prompts, asking, concurrency=arguments.concurrency, on_outcome=note)

        try:
            asyncio.run(run())
        except KeyboardInterrupt:
            return True
    return False


async def _probe(client: httpx.AsyncClient, url: str) -> None:
    """Anything that answers HTTP will do; raises CannotAsk."""
    try:
        await client.get("/health", timeout=PROBE_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise CannotAsk(
            f"nothing answers at {url} ({type(exc).__name__}); start it with scripts/dev, or give --url"
        ) from exc


def _prompts(path: Path, limit: int | None, console: Console) -> list[Prompt]:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            prompts, broken = read_prompts(lines)
    except OSError as exc:
        raise CannotAsk(f"cannot read {path}: {exc.strerror}; give a file with one JSON object a line") from exc
    if broken:
        console.print(_skipped(broken), markup=False, highlight=False)
    if not prompts:
        raise CannotAsk(f'{path} has no prompts; each line must be a JSON object like {{"prompt": "…"}}')
    return prompts[:limit]


def _skipped(broken: Sequence[BrokenLine]) -> str:
    named = ", ".join(f"{line.line} ({line.reason})" for line in broken[:LINES_NAMED])
    more = f" and {len(broken) - LINES_NAMED} more" if len(broken) > LINES_NAMED else ""
    return f"skipped {len(broken)} broken line{'s' if len(broken) > 1 else ''}: {named}{more}"


def _asking(arguments: argparse.Namespace) -> Asking:
    fields: dict[str, Any] = {"model": arguments.model}
    if arguments.max_tokens:
        fields["max_tokens"] = arguments.max_tokens
    headers = {}
    if arguments.key:
        headers["authorization"] = f"Bearer {arguments.key}"
    if arguments.emulate_cf:
        headers["nearside-emulate-cf"] = json.dumps(arguments.emulate_cf)
    return Asking(stream=arguments.stream, fields=fields, headers=headers)


def _report(outcomes: Sequence[Outcome], took_s: float, console: Console) -> int:
    """Prints the tables; returns how many requests failed."""
    if not outcomes:
        return 0
    found = groups(outcomes)
    console.print(latency_table(found))
    console.print(cost_table(found))
    kinds = error_kinds(outcomes)
    console.print(
        f"{len(outcomes):,} requests in {took_s:.1f} s, {len(outcomes) / took_s:.1f} a second", highlight=False
    )
    if kinds:
        console.print(error_table(kinds))
    if any(kind.status == 401 for kind in kinds):
        console.print("401: give a key with --key or NEARSIDE_KEY; scripts/dev prints one, --no-auth needs none.")
    return sum(kind.count for kind in kinds)


def _json_object(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"not JSON: {text}") from exc
    if not isinstance(parsed, dict):
        raise argparse.ArgumentTypeError(f"not a JSON object: {text}")
    return parsed


if __name__ == "__main__":
    sys.exit(main())
