"""Region gates: transparent streaming proxies that give one cloud fallback the distance and faults of a region."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from scripts.local.conditions import Conditions
from scripts.local.faults import REGION_PREFIX, REPLACING_KINDS, Fault
from scripts.local.faulty_response import (
    DONE,
    Answer,
    ConnectionCut,
    Event,
    PlainAnswer,
    StreamAnswer,
    abort,
    respond,
)
from scripts.local.openai_shape import OpenAIDialect, Reply, chat_content, data_line

# RFC 9110, section 7.6.1, with the older ones that servers still send.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
BODYLESS_STATUSES = (204, 304)
Head = dict[str, Any]
PASSING_KINDS = frozenset({"slow"})  # kinds that need no look into the body


def region_app(name: str, target_url: str, conditions: Conditions) -> web.Application:
    """The gate of one region, in front of the cloud fallback at target_url."""
    gate = RegionGate(name, target_url.rstrip("/"), conditions)
    app = web.Application()
    app.cleanup_ctx.append(gate.session_lifetime)
    app.router.add_route("*", "/{path:.*}", gate.handle)
    return app


class RegionGate:
    def __init__(self, name: str, target_url: str, conditions: Conditions) -> None:
        self._target = REGION_PREFIX + name
        self._target_url = target_url
        self._conditions = conditions
        self._dialect = OpenAIDialect(capacity_status=503)
        self._session: aiohttp.ClientSession

    async def session_lifetime(self, app: web.Application) -> AsyncIterator[None]:
        # A kept connection may be closed by the target just as it is used again, which would look like a fault.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        yield
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Health probes (GET /health...) are not counted: they come at their own times."""
        if _is_probe(request):
            return await self._conditions.watched(self._target, request, self._pass)
        return await self._conditions.counted(self._target, request, self._pass)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        fault = self._conditions.faults.take(self._target, is_probe=_is_probe(request))
        latency = self._conditions.latency(self._target)
        if fault is not None and fault.kind in REPLACING_KINDS:

            async def never() -> Answer:
                raise AssertionError("a replacing fault asks nobody")

            return await respond(request, never, fault=fault, latency=latency, dialect=self._dialect)
        headers = _forwarded(request.headers)
        headers.popall("Host", None)
        headers.popall("Expect", None)  # answered by the gate itself
        if fault is not None:
            headers["Accept-Encoding"] = "identity"
        await asyncio.sleep(latency.under(fault).before_first_byte_s)
        try:
            upstream = await self._session.request(
                request.method,
                URL(self._target_url + request.raw_path, encoded=True),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        except aiohttp.ClientError:
            return abort(request)
        try:
            if fault is not None and fault.kind not in PASSING_KINDS:
                return await self._send_faulted(request, upstream, fault)
            return await _send_as_is(request, upstream)
        finally:
            upstream.close() if not upstream.content.at_eof() else upstream.release()

    async def _send_faulted(
        self, request: web.Request, upstream: aiohttp.ClientResponse, fault: Fault
    ) -> web.StreamResponse:
        headers = dict(_forwarded(upstream.headers))
        content_type = headers.pop("Content-Type", "application/octet-stream")
        headers.pop("Content-Length", None)

        async def make() -> Answer:
            if upstream.content_type == "text/event-stream":
                head: Head = {}
                return StreamAnswer(
                    _events(upstream.content, head),
                    lambda text: _said(text, head),
                    status=upstream.status,
                    content_type=content_type,
                    headers=headers,
                )
            body = await upstream.read()
            return PlainAnswer(body, status=upstream.status, content_type=content_type, headers=headers)

        latency = self._conditions.latency(self._target)
        already_waited = latency.merged_with(ttft_s=0.0, itl_s=None, rtt_s=0.0)
        return await respond(request, make, fault=fault, latency=already_waited, dialect=self._dialect)


async def _send_as_is(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=_forwarded(upstream.headers))
    await response.prepare(request)
    if request.method == "HEAD" or upstream.status in BODYLESS_STATUSES:
        return response
    while True:
        try:
            part = await upstream.content.readany()
        except aiohttp.ClientError:
            return abort(request)
        if not part:
            break
        await response.write(part)
    await response.write_eof()
    return response


async def _events(content: aiohttp.StreamReader, head: Head) -> AsyncIterator[Event]:
    """The upstream's server-sent events, `head` learned from them; raises ConnectionCut when it breaks off."""
    rest = b""
    while True:
        try:
            part = await content.readany()
        except aiohttp.ClientError as exc:
            raise ConnectionCut from exc
        if not part:
            break
        *blocks, rest = (rest + part.replace(b"\r\n", b"\n")).split(b"\n\n")
        for block in blocks:
            if not head:
                head.update(_head_of(block))
            yield DONE if block == DONE.block else Event(block, "content" if _has_content(block) else "other")
    if rest:
        yield Event(rest, "raw")


def _head_of(block: bytes) -> Head:
    """What every chunk of a stream repeats; nothing when this is no chunk."""
    try:
        chunk = json.loads(block.removeprefix(b"data:"))
        return {name: chunk[name] for name in ("id", "created", "model")}
    except (ValueError, LookupError, TypeError):
        return {}


def _said(text: str, head: Head) -> bytes:
    """A chunk that the fault makes up, as one of the stream that it is in."""
    chunk = json.loads(chat_content(Reply("simulated/fault"), text).removeprefix(b"data:"))
    return data_line({**chunk, **head})


def _has_content(block: bytes) -> bool:
    try:
        choices = json.loads(block.removeprefix(b"data:"))["choices"]
        delta = choices[0].get("delta") or choices[0]
        return any(delta.get(part) for part in ("content", "tool_calls", "reasoning_content", "text"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _forwarded(headers: Mapping[str, str] | CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """End-to-end headers: neither hop-by-hop by name nor named in Connection."""
    named = {each.strip().lower() for each in headers.get("Connection", "").split(",")}
    kept = CIMultiDict(headers)
    for name in list(kept):
        if name.lower() in HOP_BY_HOP or name.lower() in named:
            kept.popall(name, None)
    return kept


def _is_probe(request: web.Request) -> bool:
    return request.method in ("GET", "HEAD") and request.path.startswith(("/health", "/ready"))
