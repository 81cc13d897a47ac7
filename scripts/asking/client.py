"""Sends prompts to a gateway over pooled connections, some at a time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from edge_router.sse import BadStream
from scripts.asking.outcome import UNREADABLE, Outcome, StreamReading
from scripts.asking.prompts import Prompt

TIMEOUT_S = 120.0  # of silence; longer than any of the gateway's own limits


@dataclass(frozen=True, slots=True)
class Asking:
    """How each prompt is sent. fields: more of the request's body; headers: more of its headers."""

    stream: bool = True
    fields: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def pooled_client(
    url: str, *, connections: int, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Never more connections than `connections`, each kept open for the next request.

    A proxy from the environment is used for the network only, never for this machine.
    """
    is_local = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(
        base_url=url, limits=limits, timeout=TIMEOUT_S, transport=transport, trust_env=not is_local
    )


async def ask_all(
    client: httpx.AsyncClient,
    prompts: Sequence[Prompt],
    asking: Asking,
    *,
    concurrency: int,
    on_outcome: Callable[[Prompt, Outcome], None],
) -> None:
    """Every prompt once, in order of the file as places get free. No retries: what failed is part of the result."""
    waiting = iter(prompts)

    async def ask_in_turn() -> None:
        for prompt in waiting:
            on_outcome(prompt, await ask(client, prompt.text, asking))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(prompts))):
            group.create_task(ask_in_turn())


async def ask(client: httpx.AsyncClient, prompt: str, asking: Asking) -> Outcome:
    """One prompt. Never raises for what the network or the gateway does: the outcome's `error` tells."""
    body: dict[str, Any] = {**asking.fields, "messages": [{"role": "user", "content": prompt}]}
    if asking.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    outcome = Outcome()
    request = client.build_request("POST", "/v1/chat/completions", json=body, headers=asking.headers)
    sent_s = time.perf_counter()
    try:
        response = await client.send(request, stream=True)
        try:
            await _read(response, outcome, sent_s)
        finally:
            await response.aclose()
    except httpx.TimeoutException:
        outcome.error = "timeout"
    except httpx.ConnectError:
        outcome.error = "no_connection"
    except httpx.TransportError:
        outcome.error = "connection_broken"
    except (httpx.DecodingError, BadStream):
        outcome.error = UNREADABLE
    outcome.total_s = time.perf_counter() - sent_s
    return outcome


async def _read(response: httpx.Response, outcome: Outcome, sent_s: float) -> None:
    outcome.status = response.status_code
    outcome.note_headers(response.headers)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        outcome.note_plain(await response.aread())
        return
    reading = StreamReading(outcome)
    try:
        async for data in response.aiter_bytes():
            reading.feed(data, elapsed_s=time.perf_counter() - sent_s)
    finally:
        reading.end()
