"""Sends an answer as a fault leaves it: cut, stalled, garbled or late, plain or as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiohttp import web

from scripts.local.conditions import Latency
from scripts.local.faults import REPLACING_KINDS, Fault

HUGE_CHUNK_BYTES = 2**20
TINY_CHUNK_COUNT = 10_000
GARBAGE = b'{"garbage": <<<not json'
HTML_ERROR = b"<html>\n<head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body>\n</html>\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event without its closing blank line, or `raw` bytes written as they are."""

    block: bytes
    role: Literal["content", "other", "done", "raw"] = "other"


DONE = Event(b"data: [DONE]", "done")


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """A whole body. output_tokens: tokens the answer took to generate, which itl_s makes it wait for."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """A stream of events, its DONE included.

    content_event: the data line that says the given text. close: releases what the events come from,
    whether or not they were ever asked for.
    """

    events: AsyncIterator[Event]
    content_event: Callable[[str], bytes]
    close: Callable[[], None] = lambda: None
    status: int = 200
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = PlainAnswer | StreamAnswer


class Dialect(Protocol):
    """How a service words a failure."""

    def failure(self, kind: str, *, retry_after_s: int) -> PlainAnswer:
        """kind: one of error, capacity, 429, 429-retry-after, 500, 503."""
        ...


class ConnectionCut(Exception):
    """The fault wants the connection aborted at this point."""


async def respond(
    request: web.Request,
    make_answer: Callable[[], Awaitable[Answer]],
    *,
    fault: Fault | None,
    latency: Latency,
    dialect: Dialect,
) -> web.StreamResponse:
    """Send the answer, or what the fault makes of it. An answer that is an error itself is left alone."""
    if fault is not None and fault.kind in REPLACING_KINDS:
        return await _respond_instead(request, fault, latency, dialect)
    answer = await make_answer()
    if isinstance(answer, PlainAnswer):
        return await _send_plain(request, answer, fault if answer.status < 400 else None, latency.under(fault))
    return await _send_stream(request, answer, fault, latency.under(fault))


def abort(request: web.Request) -> web.StreamResponse:
    """Drop the connection. The caller must return the result at once, without waiting for anything."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def in_turn(events: Iterable[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


async def _respond_instead(
    request: web.Request, fault: Fault, latency: Latency, dialect: Dialect
) -> web.StreamResponse:
    if fault.kind == "refuse":
        return abort(request)
    if fault.kind == "timeout":
        await _forever()
    if fault.kind == "html-error":
        answer = PlainAnswer(HTML_ERROR, status=502, content_type="text/html")
    else:
        answer = dialect.failure(fault.kind, retry_after_s=fault.retry_after_s)
    await asyncio.sleep(latency.rtt_s)
    return _whole(answer, answer.body)


async def _send_plain(
    request: web.Request, answer: PlainAnswer, fault: Fault | None, latency: Latency
) -> web.StreamResponse:
    await asyncio.sleep(latency.before_first_byte_s + latency.itl_s * max(answer.output_tokens - 1, 0))
    body, half = answer.body, answer.body[: len(answer.body) // 2]
    match fault.kind if fault is not None else None:
        case "cut":
            return await _send_part(request, answer, half, then="cut")
        case "cut-utf8":
            return await _send_part(request, answer, half + b"\xc3", then="cut")
        case "stall":
            return await _send_part(request, answer, half, then="stall")
        case "timeout-first-token":
            return await _send_part(request, answer, b"", then="stall")
        case "tiny-chunks":
            return await _send_bytewise(request, answer)
        case "truncated":
            return _whole(answer, half)
        case "malformed":
            return _whole(answer, GARBAGE)
        case "empty-body":
            return _whole(answer, b"")
        case "empty-stream":
            return _whole(answer, b"{}")
        case "huge-chunk":
            return _whole(answer, body + b" " * HUGE_CHUNK_BYTES)
        case "wrong-content-type":
            return _whole(answer, body, content_type="text/plain")
        case _:
            return _whole(answer, body)


def _whole(answer: PlainAnswer, body: bytes, *, content_type: str | None = None) -> web.Response:
    headers = {**answer.headers, "Content-Type": content_type or answer.content_type}
    return web.Response(body=body, status=answer.status, headers=headers)


async def _send_part(
    request: web.Request, answer: PlainAnswer, part: bytes, *, then: Literal["cut", "stall"]
) -> web.StreamResponse:
    response = web.StreamResponse(
        status=answer.status,
        headers={
            **answer.headers,
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body) + 1),
        },
    )
    await response.prepare(request)
    if part:
        await response.write(part)
    if then == "stall":
        await _forever()
    return abort(request)


async def _send_bytewise(request: web.Request, answer: PlainAnswer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Type": answer.content_type})
    await response.prepare(request)
    single = min(len(answer.body), TINY_CHUNK_COUNT)
    for position in range(single):
        await response.write(answer.body[position : position + 1])
        await asyncio.sleep(0)
    if single < len(answer.body):
        await response.write(answer.body[single:])
    await response.write_eof()
    return response


async def _send_stream(
    request: web.Request, answer: StreamAnswer, fault: Fault | None, latency: Latency
) -> web.StreamResponse:
    content_type = answer.content_type
    if fault is not None and fault.kind == "wrong-content-type":
        content_type = "text/plain"
    headers = {"Cache-Control": "no-cache", **answer.headers, "Content-Type": content_type}
    response = web.StreamResponse(status=answer.status, headers=headers)
    events = answer.events if fault is None else _faulted(answer, fault)
    clock = asyncio.get_running_loop()
    try:
        await asyncio.sleep(latency.before_first_byte_s)
        await response.prepare(request)
        next_token_at_s = clock.time()
        async with aclosing(answer.events), aclosing(events):  # type: ignore[type-var]  # both are generators
            async for event in events:
                if event.role == "content":
                    await asyncio.sleep(max(next_token_at_s - clock.time(), 0))
                    if clock.time() - next_token_at_s > latency.itl_s:  # held up: what is due does not come at once
                        next_token_at_s = clock.time()
                    next_token_at_s += latency.itl_s
                else:
                    await asyncio.sleep(0)
                await response.write(event.block if event.role == "raw" else event.block + b"\n\n")
    except ConnectionCut:
        return abort(request)
    finally:
        answer.close()
    await response.write_eof()
    return response


async def _faulted(answer: StreamAnswer, fault: Fault) -> AsyncIterator[Event]:
    """The answer's events as the fault leaves them; raises ConnectionCut where it aborts."""
    kind = fault.kind
    if kind == "empty-body":
        return
    if kind == "empty-stream":
        yield DONE
        return
    if kind == "timeout-first-token":
        await _forever()
    sent = 0
    async for event in answer.events:
        is_due = sent >= fault.healthy_chunks and (event.role == "content" or fault.healthy_chunks == 0)
        if is_due or event.role == "done":
            match kind:
                case "cut":
                    raise ConnectionCut
                case "cut-utf8":
                    before = answer.content_event("naïve").partition("ï".encode())[0]
                    yield Event(before + "ï".encode()[:1], "raw")
                    raise ConnectionCut
                case "stall":
                    await _forever()
                case "truncated":
                    yield Event(event.block[: len(event.block) // 2], "raw")
                    return
                case "early-end":
                    return
        if event.role == "content":
            sent += 1
            match kind:
                case "malformed" if sent > fault.healthy_chunks:
                    yield Event(b"data: " + GARBAGE, "content")
                    continue
                case "huge-chunk" if sent == 1:
                    yield Event(answer.content_event("x" * HUGE_CHUNK_BYTES), "content")
                    continue
                case "tiny-chunks":
                    if sent == 1:
                        for _ in range(TINY_CHUNK_COUNT):
                            yield Event(answer.content_event("t"), "content")
                    continue
        if event.role == "done" and kind == "no-done":
            continue
        yield event
        if event.role == "done" and kind == "double-done":
            yield event


async def _forever() -> None:
    """Until the caller leaves, which cancels the handler."""
    await asyncio.Event().wait()
