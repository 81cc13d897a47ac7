"""The Worker's own HTTP: a JavaScript `Request` in, a JavaScript `Response` out."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from typing import Any

from js import Uint8Array, WritableStream
from pyodide.ffi import JsException

from adapters.border import BORDER
from adapters.javascript import encode, to_object
from edge_router.errors import BodyTooLarge, RequestRejected
from edge_router.location import read_location
from edge_router.replies import Reply, Stream
from edge_router.requests import MAX_BODY_BYTES

PIECE_BYTES = 256 * 1024  # of an upload: the network's own pieces are a few KiB, and each would cost its crossing
MAX_UNREAD_BYTES = 256 * 1024  # of a stream whose caller reads slowly; then its model is read no further
UNCHECKED_BYTES = 16 * 1024  # sent before the caller's reading is looked at
# A body that is refused is read all the same, up to here: a connection with unread bytes is reset, and a caller who is
# still sending never sees why.
MAX_UNWANTED_BYTES = 64 * 1024 * 1024


class WorkerRequest:
    """The gateway's `Request`."""

    def __init__(self, request: Any) -> None:
        self._request = request
        method, url, headers, place = json.loads(BORDER.js.readRequest(request))
        self.method: str = method
        self.headers: Mapping[str, str] = headers
        self._url: str = url
        self.path = _path(url)
        self.location = read_location(place)

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
        try:
            found = await (
                BORDER.wait(BORDER.js.readBody, self._request, MAX_BODY_BYTES)
                if length is not None
                else self._bounded()
            )
        except JsException as exc:
            raise _cut() from exc
        if isinstance(found, str):
            return found
        if found is False:
            raise RequestRejected("The body is not valid UTF-8.", code="invalid_json")
        raise _too_large()

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
            raise _cut() from exc
        finally:
            reader.releaseLock()

    async def discard(self) -> None:
        """As much as comes: the platform has a limit of its own, which a refused body can't exceed either."""
        body = self._request.body
        if hasattr(body, "getReader"):
            with suppress(JsException):  # a caller who has left is not told anyway
                await body.pipeTo(WritableStream.new())

    async def _bounded(self) -> str | bool | int:
        """A body of unknown length, read no further than the limit; as border.mjs tells a body."""
        body = self._request.body
        if not hasattr(body, "getReader"):
            return ""
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
            return size
        try:
            return b"".join(parts).decode()
        except UnicodeDecodeError:
            return False


def to_response(reply: Reply) -> Any:
    """The JavaScript `Response`; the events of a stream are sent into it as they come."""
    headers = encode(reply.headers)
    if isinstance(reply.body, str):
        return BORDER.js.respond(reply.body if reply.raw is None else reply.raw, reply.status, headers)
    return _Sink(reply.body).respond(reply.status, headers)


class _Sink:
    """A JavaScript stream that Python fills: each piece is handed over without waiting, up to a bound. Scope: request.

    A caller who leaves cancels the stream, and with it what fills it.
    """

    def __init__(self, events: Stream) -> None:
        self._events = events
        self._number = BORDER.number()
        self._pumping: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._has_run = False
        self._has_left = False

    def respond(self, status: int, headers: str) -> Any:
        """The JavaScript `Response`, some of its events perhaps sent. headers: JSON."""
        BORDER.rooms[self._number], BORDER.leavers[self._number] = self._has_room, self._leave
        response = BORDER.js.stream(self._number, status, headers, UNCHECKED_BYTES, MAX_UNREAD_BYTES)
        self._pumping = asyncio.Task(self._pump(), loop=asyncio.get_running_loop(), eager_start=True)
        return response

    async def _pump(self) -> None:
        is_whole = False
        try:
            await self._events.run(self._send)
            is_whole = not self._has_left
        except (JsException, asyncio.CancelledError):
            self._has_left = True
        finally:
            self._has_run = True
            try:
                await self._events.aclose()
            finally:
                del BORDER.rooms[self._number], BORDER.leavers[self._number]
                with suppress(JsException):  # gone, and nobody said so
                    BORDER.js.endStream(self._number, is_whole)

    def _send(self, text: str, /) -> Awaitable[None] | None:
        if self._has_left or not BORDER.js.fill(self._number, text):
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _has_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _leave(self) -> None:
        self._has_left = True
        if self._pumping is not None and not self._has_run:  # what closes the events must not be cut short
            self._pumping.cancel()


def _path(url: str) -> str:
    """The path of an absolute URL, without query and fragment."""
    start = url.find("/", url.find("//") + 2)
    end = url.find("?", start)
    return url[start:] if end < 0 else url[start:end]


def _cut() -> RequestRejected:
    return RequestRejected("The body broke off.", code="body_cut")


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
