"""Single flight across isolates: a Durable Object per key makes the call that all its callers read along.

A stateless Worker can't await another request's work, a Durable Object can. The call runs in the object's own
context, so a caller who leaves does not end it for the others; when the last one has left, it is aborted.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from pyodide.ffi import JsException, to_js
from workers import DurableObject, import_from_javascript

from adapters.border import BORDER
from adapters.cloud import FetchCloudRegions
from adapters.flights import ROLE_HEADER
from adapters.javascript import encode
from adapters.objects import answer_with, call_of
from adapters.runtime import CLOCK
from adapters.workers_ai import edge_models
from edge_router.cloud_api import ANSWER_HEADERS, WAITED_HEADER
from edge_router.errors import CloudUnavailable, UpstreamError
from edge_router.flights.broadcast import Broadcast
from edge_router.flights.wire import BROKEN, KEEP, TAIL_BYTES, WHOLE, Failure, Head, is_event_stream, looks_whole
from edge_router.ports import UpstreamResponse
from edge_router.settings import Region
from edge_router.timers import Deadline


class FlightObject:
    """One call in flight. Scope: one key and continent, worldwide; it stores nothing."""

    def __init__(self) -> None:
        self._flight: _Flight | None = None
        self._claimed_until_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether a new one would do as well."""
        is_over = self._flight is None or self._flight.is_over
        return is_over and CLOCK.now_s() >= self._claimed_until_s

    def answer(self, facts: Mapping[str, Any]) -> Any:
        """The JavaScript `Response`. facts: `timeout_s`, and `cloud` with region, path, body and headers or `edge` with
        model_id, inputs and affinity.

        It answers at once, so that a caller can tell a slow model from a broken object; ROLE_HEADER says whether the
        caller `leads` or `joins`. The body is that of `edge_router.flights.wire`.

        `{for_s}` is a claim; it is answered with `{"result": …}`: whether it is granted.
        """
        if "for_s" in facts:
            return answer_with(self._claim(facts["for_s"]))
        role = "joins"
        if self._flight is None or not self._flight.broadcast.is_joinable:
            self._flight = _Flight(facts)
            role = "leads"
        reader = _Reader(self._flight.broadcast.leave, role)
        self._flight.broadcast.join(reader)
        return reader.response

    def _claim(self, for_s: float) -> bool:
        now_s = CLOCK.now_s()
        if now_s < self._claimed_until_s:
            return False
        self._claimed_until_s = now_s + for_s
        return True


class FlightObjects:
    """Those of an isolate, by the numbers that JavaScript gives its Durable Objects. Idle ones are let go of."""

    def __init__(self) -> None:
        self._objects: dict[int, FlightObject] = {}

    def answer(self, number: int, text: str) -> Any:
        """The JavaScript `Response`. text: JSON, what `FlightObject.answer` takes."""
        self._look_at_oldest()
        return self._objects.setdefault(number, FlightObject()).answer(json.loads(text))

    def _look_at_oldest(self) -> None:
        """Two for each that may come, so there are never many idle ones."""
        for number in tuple(islice(self._objects, 2)):
            looked_at = self._objects.pop(number)
            if not looked_at.is_idle:
                self._objects[number] = looked_at


class SingleFlight(DurableObject):
    """The Durable Object, as the runtime itself makes it: only before the entrance is open (adapters/entrance.py)."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._object = FlightObject()

    async def fetch(self, request: Any) -> Any:
        return self._object.answer(await call_of(request))


class _Flight:
    """One call of an upstream and those who read its answer."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.broadcast = Broadcast(to_js, CLOCK, keep_mark=KEEP, on_deserted=self._abort)
        self._facts = facts
        self._tail = b""
        self._flying: asyncio.Task[None] | None = asyncio.ensure_future(self._fly())

    @property
    def is_over(self) -> bool:
        """Nothing is sent any more, and nobody may join."""
        return self._flying is None and not self.broadcast.is_joinable

    def _abort(self) -> None:
        if self._flying is not None:
            self._flying.cancel()

    async def _fly(self) -> None:
        response: UpstreamResponse | None = None
        is_whole = False
        try:
            # Callers have deadlines of their own; without this one, a call that hangs would stay to be joined.
            async with Deadline(CLOCK, self._facts["timeout_s"]):
                started_ms = CLOCK.elapsed_ms()
                response = await _call(self._facts)
                head = _head_of(response, CLOCK.elapsed_ms() - started_ms)
                is_stream = is_event_stream(head.headers)
                text = "" if is_stream else await response.text()
            if is_stream:
                self.broadcast.send(head.encode())
                await response.push(self._send)
                self.broadcast.send(WHOLE)
            else:
                self._tail = text.encode("utf-8", "replace")
                self.broadcast.send(head.encode() + self._tail + WHOLE)
            is_whole = looks_whole(head, self._tail)
        except UpstreamError as exc:
            unreachable = isinstance(exc, CloudUnavailable) or exc.code == "edge_unavailable"
            self._fail("unreachable" if unreachable else "broken")
        except TimeoutError:
            self._fail("timeout")
        finally:
            self.broadcast.end(linger=is_whole)
            if response is not None and not is_whole:
                await response.cancel()
            # The object lives on until JavaScript's collector finds it, and with a task goes all that it ever held.
            self._flying = None

    def _send(self, data: bytes) -> Awaitable[None] | None:
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return self.broadcast.send(data)

    def _fail(self, failure: Failure) -> None:
        if not self.broadcast.has_begun:
            self.broadcast.send(Head(0, {}, failure).encode())
        self.broadcast.send(BROKEN)


class _Reader:
    """`Reader` as a JavaScript stream, the body of one caller's answer. on_leave: the caller went away."""

    def __init__(self, on_leave: Callable[["_Reader"], None], role: str) -> None:
        self._on_leave = on_leave
        self._number = BORDER.number()
        BORDER.leavers[self._number] = self.leave
        self.response = BORDER.js.share(self._number, 200, encode({ROLE_HEADER: role}))

    def send(self, piece: Any) -> None:
        try:
            BORDER.js.sendTo(self._number, piece)
        except JsException:
            self.leave()  # gone, and nobody said so

    def end(self) -> None:
        BORDER.leavers.pop(self._number, None)
        with suppress(JsException):  # gone before
            BORDER.js.endOf(self._number)

    def unread_bytes(self) -> int:
        return int(BORDER.js.unreadBy(self._number))

    def leave(self) -> None:
        BORDER.leavers.pop(self._number, None)
        self._on_leave(self)


async def _call(facts: Mapping[str, Any]) -> UpstreamResponse:
    cloud, edge = facts.get("cloud"), facts.get("edge")
    if cloud is not None:
        return await FetchCloudRegions().post(Region(**cloud["region"]), cloud["path"], cloud["body"], cloud["headers"])
    return await edge_models(import_from_javascript("cloudflare:workers").env).run(**edge)


def _head_of(response: UpstreamResponse, waited_ms: float) -> Head:
    headers = {name: value for name in ANSWER_HEADERS if (value := response.header(name)) is not None}
    headers[WAITED_HEADER] = f"{waited_ms:.1f}"
    return Head(response.status, headers)
