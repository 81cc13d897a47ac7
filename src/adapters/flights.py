"""`Flights` on a namespace of SingleFlight objects (src/single_flight.py)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from adapters.javascript import encode
from adapters.objects import ask_object
from adapters.responses import JsUpstreamResponse, begun
from adapters.runtime import CLOCK
from edge_router.errors import CloudUnavailable, FlightLost, StoreError, UpstreamError, UpstreamTimeout
from edge_router.flights.doors import Doors, Outcome
from edge_router.flights.wire import FlightReading, Head
from edge_router.settings import Region
from edge_router.timers import Deadline

ROLE_HEADER = "nearside-flight"


class DurableFlights:
    """Scope: isolate.

    timeout_s: how long a plain answer, or the head of a stream, may take. wait_s: for an object to say that it
    listens; one that takes longer is no help.
    """

    def __init__(self, namespace: Any, *, timeout_s: float, wait_s: float) -> None:
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._doors = Doors(CLOCK, patience_s=wait_s)

    async def claim(self, key: str, for_s: float) -> bool:
        call = {"for_s": for_s}
        granted = await ask_object(self._namespace, f"claim:{key}", call, what="claim", timeout_s=self._wait_s)
        return granted is True

    async def post(
        self,
        key: str,
        region: Region,
        path: str,
        body: str,
        headers: Mapping[str, str],
        *,
        on_join: Callable[[], None],
    ) -> "SharedResponse":
        place = {"id": region.id, "url": region.url}
        call = {"cloud": {"region": place, "path": path, "body": body, "headers": dict(headers)}}
        response = await self._join(key, call, on_join)
        if response.head.failure == "unreachable":
            raise CloudUnavailable(f"The cloud region {region.id} could not be reached.")
        return response

    async def run(
        self, key: str, model_id: str, inputs: Mapping[str, Any], *, affinity: str, on_join: Callable[[], None]
    ) -> "SharedResponse":
        call = {"edge": {"model_id": model_id, "inputs": inputs, "affinity": affinity}}
        response = await self._join(key, call, on_join)
        if response.head.failure == "unreachable":
            raise UpstreamError("Workers AI could not be reached.", code="edge_unavailable")
        return response

    async def _join(self, key: str, call: Mapping[str, Any], on_join: Callable[[], None]) -> "SharedResponse":
        """Raises StoreError when the flight fails before the upstream's headers, else what the upstream did."""
        answer = None
        try:
            answer = await self._accepted(key, {"timeout_s": self._timeout_s, **call})
            joins = answer.header(ROLE_HEADER) == "joins"
            if joins:
                on_join()
            response = SharedResponse(answer, keeps=not joins)
            await response.begin()
        except BaseException as exc:
            if answer is not None:
                await answer.cancel()
            if isinstance(exc, JsException | TimeoutError | FlightLost):
                raise StoreError(f"The flight failed: {type(exc).__name__}") from exc
            raise
        return response

    async def _accepted(self, key: str, facts: Mapping[str, Any]) -> JsUpstreamResponse:
        """The object's answer, as soon as it says that it listens. Raises TimeoutError."""
        outcome: Outcome = "gave_up"
        waiting = self._doors.wait(key)
        try:
            async with Deadline(CLOCK, self._wait_s, more_s=waiting.more_s):
                answer = await begun(BORDER.js.join, self._namespace, key, encode(facts))
            outcome = "entered"
            return answer
        except asyncio.CancelledError:
            outcome = "called_off"
            raise
        finally:
            waiting.leave(outcome)


class SharedResponse:
    """`UpstreamResponse` of a call that other requests may read as well. Scope: request."""

    def __init__(self, response: JsUpstreamResponse, *, keeps: bool) -> None:
        self._response = response
        self._reading = FlightReading(keeps=keeps)
        self._first = b""

    async def begin(self) -> None:
        """Waits for the upstream's headers. Raises FlightLost, or UpstreamError when there are none."""
        while self._reading.head is None:
            data = await self._next()
            if data is None:
                raise FlightLost("The shared call was lost.")
            self._first = data
        if self.head.failure == "timeout":
            raise UpstreamTimeout("No answer in time.")
        if self.head.failure == "broken":
            raise UpstreamError("The connection to the model broke off.", code="stream_cut")

    @property
    def head(self) -> Head:
        assert self._reading.head is not None
        return self._reading.head

    @property
    def keeps(self) -> bool:
        return self._reading.keeps

    @property
    def status(self) -> int:
        return self.head.status

    def header(self, name: str) -> str | None:
        return self.head.headers.get(name)

    async def text(self) -> str:
        parts = []
        while (data := await self.read()) is not None:
            parts.append(data)
        return b"".join(parts).decode("utf-8", "replace")

    async def read(self) -> bytes | None:
        data: bytes | None
        data, self._first = self._first, b""
        while data == b"":
            data = await self._next()
        return data

    async def push(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        def hear(data: bytes) -> Awaitable[None] | None:
            data = self._reading.feed(data)
            return take(data) if data else None

        first, self._first = self._first, b""
        room = take(first) if first else None
        if room is not None:
            await room
        with _as_lost():
            await self._response.push(hear)
        self._reading.end()

    async def cancel(self) -> None:
        await self._response.cancel()

    async def _next(self) -> bytes | None:
        """The upstream's bytes in the next piece, perhaps none; None when all are over."""
        with _as_lost():
            data = await self._response.read()
        if data is None:
            self._reading.end()
            return None
        return self._reading.feed(data)


@contextmanager
def _as_lost() -> Iterator[None]:
    """What breaks off here is the object's answer, not the upstream's."""
    try:
        yield
    except UpstreamError as exc:
        raise FlightLost("The shared call was lost.") from exc
