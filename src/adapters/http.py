"""The Worker's own HTTP: a JavaScript `Request` in, a JavaScript `Response` out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from typing import Any

from js import Object, ReadableStream, Response, TextEncoder, Uint8Array, WritableStream
from pyodide.ffi import JsException, create_proxy

from adapters.javascript import from_object, to_object
from adapters.runtime import keep_alive, run_eagerly
from edge_router.errors import BodyTooLarge, RequestRejected
from edge_router.location import CF_FIELDS, read_location
from edge_router.replies import Reply, Stream
from edge_router.requests import MAX_BODY_BYTES

PIECE_BYTES = 256 * 1024  # of an upload: the network's own pieces are a few KiB, and each would cost its crossing
MAX_UNREAD_BYTES = 256 * 1024  # of a stream whose caller reads slowly; then its model is read no further
UNCHECKED_BYTES = 16 * 1024  # sent before the caller's reading is looked at: each look costs microseconds
# A body that is refused is read all the same, up to here: a connection with unread bytes is reset, and a caller who is
# still sending never sees why.
MAX_UNWANTED_BYTES = 64 * 1024 * 1024
_NAMES = ("method", "url", "cf", *CF_FIELDS)


class WorkerRequest:
    """The gateway's `Request`."""

    _names: Any = None  # a JavaScript array; made within an event, because a snapshot can't hold one

    def __init__(self, request: Any) -> None:
        self._request = request
        # Each read of a property is a crossing of its own; one call of JSON.stringify reads all that its list names.
        if self._names is None:
            WorkerRequest._names = to_object(_NAMES)
        facts: Any = from_object(request, self._names)
        self.headers: Mapping[str, str] = from_object(Object.fromEntries(request.headers))
        self.method: str = facts["method"]
        self._url: str = facts["url"]
        self.path = _path(self._url)
        self.location = read_location(facts.get("cf"))

    @property
    def query(self) -> str:
        """Without the question mark; empty when there is none."""
        return self._url.partition("?")[2].partition("#")[0]

    @property
    def is_secure(self) -> bool:
        return self._url.startswith("https:")

    async def body(self) -> str:
        length = self.headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > MAX_BODY_BYTES:
            if int(length) <= MAX_UNWANTED_BYTES:
                with suppress(JsException):  # a caller who has left is not told anyway
                    await self._request.body.pipeTo(WritableStream.new())
            raise _too_large()
        data = (await self._request.arrayBuffer()).to_bytes() if length is not None else await self._read_bounded()
        if len(data) > MAX_BODY_BYTES:
            raise _too_large()
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            raise RequestRejected("The body is not valid UTF-8.", code="invalid_json") from exc

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        body = self._request.body
        if not hasattr(body, "getReader"):
            return
        reader = body.getReader(to_object({"mode": "byob"}))
        at_least = to_object({"min": PIECE_BYTES})
        try:
            while True:
                result = await reader.read(Uint8Array.new(PIECE_BYTES), at_least)
                if hasattr(result.value, "to_bytes") and result.value.byteLength:
                    yield result.value.to_bytes()
                if result.done:
                    return
        except JsException as exc:
            raise RequestRejected("The body broke off.", code="body_cut") from exc
        finally:
            reader.releaseLock()

    async def discard(self) -> None:
        """As much as comes: the platform has a limit of its own, which a refused body can't exceed either."""
        body = self._request.body
        if hasattr(body, "getReader"):
            with suppress(JsException):  # a caller who has left is not told anyway
                await body.pipeTo(WritableStream.new())

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
                parts.clear()
            if size > MAX_UNWANTED_BYTES:
                await reader.cancel()
                break
        if size > MAX_BODY_BYTES:
            raise _too_large()
        return b"".join(parts)


def to_response(reply: Reply) -> Any:
    """The JavaScript `Response`; the events of a stream are pumped into it as they come."""
    init = to_object({"status": reply.status, "headers": reply.headers})
    if isinstance(reply.body, str):
        if reply.raw is not None:
            return Response.new(reply.raw, init)
        return Response.new(reply.body or None, init)  # an empty text is a body, which no 204 may have
    sink = _Sink(reply.body)
    keep_alive(run_eagerly(sink.pump()))
    return Response.new(sink.readable, init)


class _Sink:
    """A JavaScript stream that Python fills: each piece is handed over without waiting, up to a bound. Scope: request.

    A caller who leaves cancels the stream, and with it what fills it.
    """

    def __init__(self, events: Stream) -> None:
        self._events = events
        self._encode = TextEncoder.new().encode
        self._controller: Any = None
        self._enqueue: Any = None
        self._pumping: asyncio.Task[Any] | None = None
        self._unchecked_bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._has_left = False
        self._proxies = [create_proxy(method) for method in (self._start, self._pull, self._cancel)]
        source = Object.new()
        source.type = "bytes"
        source.start, source.pull, source.cancel = self._proxies
        self.readable = ReadableStream.new(source)

    async def pump(self) -> None:
        self._pumping = asyncio.current_task()
        try:
            if not self._has_left:
                await self._events.run(self._send)
                self._controller.close()
        except (JsException, asyncio.CancelledError):
            self._has_left = True
        finally:
            await self._events.aclose()
            for proxy in self._proxies:
                proxy.destroy()

    def _send(self, text: str, /) -> Awaitable[None] | None:
        if self._has_left:
            return None
        data = self._encode(text)
        self._enqueue(data)
        self._unchecked_bytes += len(text)
        if self._unchecked_bytes < UNCHECKED_BYTES:
            return None
        self._unchecked_bytes = 0
        if self._controller.desiredSize >= -MAX_UNREAD_BYTES:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _start(self, controller: Any) -> None:
        self._controller = controller
        self._enqueue = controller.enqueue

    def _pull(self, controller: Any) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _cancel(self, reason: Any = None) -> None:
        self._has_left = True
        if self._pumping is not None:
            self._pumping.cancel()


def _path(url: str) -> str:
    """The path of an absolute URL, without query and fragment."""
    start = url.find("/", url.find("//") + 2)
    end = url.find("?", start)
    return url[start:] if end < 0 else url[start:end]


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
