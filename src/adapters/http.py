"""The Worker's own HTTP: a JavaScript `Request` in, a JavaScript `Response` out."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from js import JSON, IdentityTransformStream, Object, Response, TextEncoder
from pyodide.ffi import JsException

from adapters.javascript import from_object
from edge_router.errors import BodyTooLarge, RequestRejected
from edge_router.location import CF_FIELDS, read_location
from edge_router.ports import Background
from edge_router.replies import Reply, Stream
from edge_router.requests import MAX_BODY_BYTES
from edge_router.sse import KEEP_ALIVE


class WorkerRequest:
    """The gateway's `Request`. Reads of JavaScript properties cost microseconds each, so each happens once."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self.headers: Mapping[str, str] = from_object(Object.fromEntries(request.headers))
        self.method = str(request.method)
        self.path = _path(request.url)
        cf = request.cf
        self.location = read_location({name: getattr(cf, name, None) for name in CF_FIELDS})

    async def body(self) -> str:
        length = self.headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > MAX_BODY_BYTES:
            raise _too_large()
        data = (await self._request.arrayBuffer()).to_bytes() if length is not None else await self._read_bounded()
        if len(data) > MAX_BODY_BYTES:
            raise _too_large()
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            raise RequestRejected("The body is not valid UTF-8.", code="invalid_json") from exc

    async def _read_bounded(self) -> bytes:
        """A body of unknown length, read no further than the limit."""
        body = self._request.body
        if not hasattr(body, "getReader"):
            return b""
        reader, parts, size = body.getReader(), [], 0
        while not (result := await reader.read()).done:
            parts.append(result.value.to_bytes())
            size += len(parts[-1])
            if size > MAX_BODY_BYTES:
                await reader.cancel()
                raise _too_large()
        return b"".join(parts)


def to_response(reply: Reply, background: Background) -> Any:
    """The JavaScript `Response`; the events of a stream are pumped into it after it was returned."""
    init = JSON.parse(json.dumps({"status": reply.status, "headers": reply.headers}))
    if isinstance(reply.body, str):
        return Response.new(reply.body, init)
    pipe = IdentityTransformStream.new()
    background.run(_pump(reply.body, pipe.writable.getWriter()))
    return Response.new(pipe.readable, init)


async def _pump(events: Stream, writer: Any) -> None:
    """Writes until the events end or the caller is gone; then they are closed, and with them the upstream."""
    encoder = TextEncoder.new()
    pumping = asyncio.current_task()
    closed = asyncio.ensure_future(writer.closed)

    def stop_if_gone(closed: asyncio.Future[Any]) -> None:
        if not closed.cancelled() and closed.exception() is not None:
            pumping.cancel()

    closed.add_done_callback(stop_if_gone)
    events.on_silence = lambda: writer.write(encoder.encode(KEEP_ALIVE))
    try:
        async for text in events:
            await writer.write(encoder.encode(text))
        await writer.close()
    except (JsException, asyncio.CancelledError):
        await events.aclose()


def _path(url: str) -> str:
    """The path of an absolute URL, without query and fragment."""
    start = url.find("/", url.find("//") + 2)
    end = url.find("?", start)
    return url[start:] if end < 0 else url[start:end]


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
