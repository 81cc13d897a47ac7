"""Compares models and endpoints: each is asked n times one after the other, then n times in parallel.

    scripts/measure --model edge --model cloud --runs 20
    scripts/measure --url http://127.0.0.1:8787 --url https://api.example.com/v1 --model small --plot times.svg
    scripts/measure --prompts prompts.jsonl --runs 50 --concurrency 8 --json figures.json

Every URL is asked for every model; any OpenAI-compatible server will do. Answers are streamed. Caches are passed over
(`Cache-Control: no-cache, no-store`) unless --cached is given. TTFT and total are those of the sequential runs, without
one warm-up, which opens the connection. Exit codes: 0 all answered, 1 some runs failed, 2 nothing could be asked.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter as Count
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import httpx
from rich import box
from rich.table import Table

from edge_router.client import AsyncClient, ClientError, Completion, ConnectionFailed, Retries
from scripts.asking.prompts import read_prompts
from scripts.asking.tables import ABSENT, milliseconds
from scripts.asking.terminal import Counter, positive, terminal
from scripts.measuring.figures import Figures, Times, figures

QUESTION = "Explain in two sentences what a content delivery network does."
PAST_CACHES = {"cache-control": "no-cache, no-store"}


class CannotMeasure(Exception):
    """Nothing could be asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    model: str

    @property
    def label(self) -> str:
        return f"{self.model} @ {httpx.URL(self.url).netloc.decode()}"


def main(argv: Sequence[str] | None = None, *, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """transport: in place of the network."""
    arguments = _arguments(argv)
    targets = [Target(url, model) for url in arguments.url for model in arguments.model]
    try:
        questions = _questions(arguments.prompts)
        with Counter("measuring", len(targets) * 2 * arguments.runs, terminal(stderr=True)) as counter:
            found = [
                asyncio.run(_measure(target, questions, arguments, counter.advance, transport)) for target in targets
            ]
    except CannotMeasure as exc:
        print(f"scripts/measure: {exc}", file=sys.stderr)
        return 2
    terminal(stderr=False).print(table(found))
    for one in found:
        for code, count in one.errors.items():
            print(f"{one.label}: {count} of {2 * one.runs} failed: {code}")
    if arguments.json:
        rows = [{**asdict(one), "speed_up": one.speed_up} for one in found]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    if arguments.plot:
        from scripts.measuring.plot import draw  # matplotlib takes a second to load

        draw(found, arguments.plot)
    return 1 if any(one.errors for one in found) else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", action="append", help="a gateway or any OpenAI-compatible server (default: http://127.0.0.1:8787)")
    add("--model", action="append", help="one to compare (default: edge and cloud)")
    add("--key", default=os.environ.get("NEARSIDE_KEY"), help="API key of all URLs (default: NEARSIDE_KEY)")
    add("--runs", type=positive, default=10, metavar="N", help="of each kind and target (default: %(default)s)")
    add("--concurrency", type=positive, default=8, metavar="N", help="of the parallel runs (default: %(default)s)")
    add("--prompts", type=Path, metavar="FILE.jsonl", help='asked in turn, {"prompt": "…"} a line; one question else')
    add("--max-tokens", type=positive, default=128, metavar="N", help="longest answer (default: %(default)s)")
    add("--cached", action="store_true", help="caches may answer")
    add("--json", type=Path, metavar="OUT.json", help="the figures, in seconds")
    add("--plot", type=Path, metavar="OUT.png", help="a picture of them, PNG or SVG by its name")
    arguments = parser.parse_args(argv)
    arguments.url = arguments.url or ["http://127.0.0.1:8787"]
    arguments.model = arguments.model or ["edge", "cloud"]
    if arguments.plot and arguments.plot.suffix not in (".png", ".svg"):
        parser.error(f"--plot must end in .png or .svg, got {arguments.plot.name}")
    return arguments


def _questions(path: Path | None) -> list[str]:
    if path is None:
        return [QUESTION]
    try:
        prompts, _ = read_prompts(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError as exc:
        raise CannotMeasure(f"cannot read {path}: {exc.strerror}") from exc
    if not prompts:
        raise CannotMeasure(f'{path} has no prompts; each line must be a JSON object like {{"prompt": "…"}}')
    return [prompt.text for prompt in prompts]


async def _measure(
    target: Target,
    questions: Sequence[str],
    arguments: argparse.Namespace,
    advance: Callable[..., None],
    transport: httpx.AsyncBaseTransport | None,
) -> Figures:
    """Failures are counted, not tried again; a server that is not there stops it all."""
    errors: Count[str] = Count()
    asked = list(islice(cycle(questions), arguments.runs))
    async with AsyncClient(
        target.url,
        key=arguments.key,
        headers={} if arguments.cached else PAST_CACHES,
        retries=Retries(attempts=1),
        connections=arguments.concurrency,
        transport=transport,
    ) as client:

        async def ask(question: str) -> Completion | None:
            try:
                done = await client.chat(question, model=target.model, max_tokens=arguments.max_tokens, stream=True)
            except ClientError as exc:
                errors[str(getattr(exc, "code", None) or type(exc).__name__)] += 1
                done = None
            advance(failed=done is None)
            return done

        try:
            await client.chat(questions[0], model=target.model, max_tokens=1)
        except ConnectionFailed as exc:
            raise CannotMeasure(f"nothing answers at {target.url}; start it with scripts/dev, or give --url") from exc
        except ClientError:
            pass  # the runs themselves will tell
        started_s = time.perf_counter()
        done = [await ask(question) for question in asked]
        sequential_s = time.perf_counter() - started_s
        places = asyncio.Semaphore(arguments.concurrency)

        async def ask_in_turn(question: str) -> None:
            async with places:
                await ask(question)

        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for question in asked:
                group.create_task(ask_in_turn(question))
        parallel_s = time.perf_counter() - started_s
    return figures(
        target.label,
        [one for one in done if one is not None],
        concurrency=arguments.concurrency,
        runs=arguments.runs,
        sequential_s=sequential_s,
        parallel_s=parallel_s,
        errors=dict(errors),
    )


def table(found: Sequence[Figures]) -> Table:
    made = Table(title="Times at the client, in ms", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("target", no_wrap=True)
    for heading in ("TTFT avg", "p50", "p95", "total avg", "p50", "p95", "tokens/s", "1 by 1 s", "parallel s"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("speed-up", justify="right", no_wrap=True)
    for one in found:
        made.add_row(
            one.label,
            *_cells(one.ttft),
            *_cells(one.total),
            ABSENT if one.tokens_per_s is None else f"{one.tokens_per_s:,.0f}",
            f"{one.sequential_s:.2f}",
            f"{one.parallel_s:.2f}",
            ABSENT if one.speed_up is None else f"{one.speed_up:.1f}x",
        )
    return made


def _cells(times: Times | None) -> tuple[str, str, str]:
    if times is None:
        return ABSENT, ABSENT, ABSENT
    return milliseconds(times.avg_s), milliseconds(times.p50_s), milliseconds(times.p95_s)


if __name__ == "__main__":
    sys.exit(main())
