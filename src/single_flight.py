"""Single flight across isolates: a Durable Object per key makes the call that all its callers wait for.

A stateless Worker can't await another request's work, a Durable Object can. The call runs in the object's own
context, so a caller who leaves does not end it for the others.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from js import IdentityTransformStream, Response, TextEncoder
from pyodide.ffi import JsException
from workers import DurableObject

from adapters.cloud import FetchCloudRegions
from adapters.javascript import to_object
from adapters.runtime import CLOCK
from edge_router.errors import CloudUnavailable, StoreError, UpstreamError
from edge_router.ports import UpstreamResponse
from edge_router.settings import Region
from edge_router.timers import Deadline

ACCEPT_TIMEOUT_S = 0.2  # an object that takes longer to say that it listens is no help

_HOST = "https://flight"
_CLAIM = "/claim"
_KEPT_HEADERS = ("content-type", "server-timing", "retry-after", "nearside-cloud-region")


class SingleFlight(DurableObject):
    """One call in flight. Scope: one key and continent, worldwide; it stores nothing.

    `fetch` takes JSON `{region, path, body, headers, timeout_s}`. It answers at once, so that a caller can tell a
    slow model from a broken object, and sends the body when the call has landed: `{status, headers, text, shared}`.
    status is 0 when the region could not be reached, 502 when its answer broke off, 504 when it took longer than
    timeout_s. shared: whether an earlier caller's call was joined.

    A `fetch` of the path CLAIM takes JSON `{for_s}` and answers `{granted}`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._call: asyncio.Task[dict[str, Any]] | None = None
        self._answering: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references
        self._claimed_until_s = 0.0

    async def fetch(self, request: Any) -> Any:
        call = json.loads(await request.text())
        if request.url.endswith(_CLAIM):
            return Response.new(json.dumps({"granted": self._claim(call["for_s"])}))
        shared = self._call is not None
        if self._call is None:
            self._call = asyncio.create_task(_post(call))
            self._call.add_done_callback(self._land)
        pipe = IdentityTransformStream.new()
        answering = asyncio.create_task(_answer(self._call, shared, pipe.writable.getWriter()))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)
        return Response.new(pipe.readable)

    def _claim(self, for_s: float) -> bool:
        now_s = CLOCK.now_s()
        if now_s < self._claimed_until_s:
            return False
        self._claimed_until_s = now_s + for_s
        return True

    def _land(self, _: asyncio.Task[dict[str, Any]]) -> None:
        self._call = None


async def _answer(call: asyncio.Task[dict[str, Any]], shared: bool, writer: Any) -> None:
    answer = {**await asyncio.shield(call), "shared": shared}
    try:
        await writer.write(TextEncoder.new().encode(json.dumps(answer)))
        await writer.close()
    except JsException:
        return  # this caller has left


async def _post(call: Mapping[str, Any]) -> dict[str, Any]:
    region = Region(**call["region"])
    try:
        # Callers have deadlines of their own; without this one, a call that hangs would stay to be joined.
        async with Deadline(CLOCK, call["timeout_s"]):
            response = await FetchCloudRegions().post(region, call["path"], call["body"], call["headers"])
            text = await response.text()
    except CloudUnavailable:
        return {"status": 0, "headers": {}, "text": ""}
    except UpstreamError:
        return {"status": 502, "headers": {}, "text": ""}
    except TimeoutError:
        return {"status": 504, "headers": {}, "text": ""}
    headers = {name: value for name in _KEPT_HEADERS if (value := response.header(name)) is not None}
    return {"status": response.status, "headers": headers, "text": text}


class SharedResponse:
    """`UpstreamResponse` of a call that another request may have made; the whole body is here."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return int(self._answer["status"])

    def header(self, name: str) -> str | None:
        value = self._answer["headers"].get(name)
        return value if isinstance(value, str) else None

    async def text(self) -> str:
        return str(self._answer["text"])

    async def chunks(self) -> AsyncIterator[bytes]:
        yield str(self._answer["text"]).encode()

    async def cancel(self) -> None:
        return None


class DurableFlights:
    """`Flights` on a namespace of SingleFlight objects. timeout_s: how long one call may take."""

    def __init__(self, namespace: Any, *, timeout_s: float) -> None:
        self._namespace = namespace
        self._timeout_s = timeout_s

    async def claim(self, key: str, for_s: float) -> bool:
        try:
            async with Deadline(CLOCK, ACCEPT_TIMEOUT_S):
                response = await self._fetch(f"claim:{key}", _CLAIM, {"for_s": for_s})
                granted = json.loads(await response.text())["granted"]
        except (JsException, TimeoutError, ValueError, KeyError, TypeError) as exc:
            raise StoreError(f"The claim failed: {type(exc).__name__}") from exc
        return granted is True

    async def post(
        self, key: str, region: Region, path: str, body: str, headers: Mapping[str, str]
    ) -> tuple[UpstreamResponse, bool]:
        place = {"id": region.id, "url": region.url}
        facts = {"region": place, "path": path, "body": body, "headers": dict(headers), "timeout_s": self._timeout_s}
        try:
            async with Deadline(CLOCK, ACCEPT_TIMEOUT_S):
                response = await self._fetch(key, "/", facts)
            answer = json.loads(await response.text())
            status, shared = answer["status"], bool(answer["shared"])
        except (JsException, TimeoutError, ValueError, KeyError) as exc:
            raise StoreError(f"The flight failed: {type(exc).__name__}") from exc
        if status == 0:
            raise CloudUnavailable(f"The cloud region {region.id} could not be reached.")
        return SharedResponse(answer), shared

    async def _fetch(self, key: str, path: str, facts: Mapping[str, Any]) -> Any:
        init = to_object({"method": "POST", "body": json.dumps(facts)})
        return await self._namespace.getByName(key).fetch(_HOST + path, init)
