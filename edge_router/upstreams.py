"""Models and regions tried in order until one answers. Acts only through ports."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from . import completions, workers_ai
from .catalog import Model
from .chat_call import ChatCall
from .errors import (
    CloudUnavailable,
    GatewayError,
    RequestRejected,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from .ports import Clock, CloudRegions, EdgeModels, Flights, Log, UpstreamResponse
from .regions import nearest_first
from .requests import Controls
from .routing import Route
from .settings import Region, Settings
from .timers import Deadline

MAX_EDGE_ATTEMPTS = 2  # two models that fail at one place are the place's fault: go to the cloud
MAX_CLOUD_ATTEMPTS = 4
_CHAT_PATH = "/v1/chat/completions"
_CONTROLS = frozenset(Controls.model_fields)  # ours: an upstream may refuse what it does not know

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model to try, at one place. `region` is None at the edge."""

    model: Model
    region: Region | None

    @property
    def label(self) -> str:
        return self.model.id if self.region is None else f"{self.model.id}@{self.region.id}"


class Upstreams:
    """Everything that can answer. Scope: isolate; holds no state of a request."""

    def __init__(
        self, settings: Settings, *, edge: EdgeModels, cloud: CloudRegions, flights: Flights, clock: Clock, log: Log
    ) -> None:
        self._settings = settings
        self._edge = edge
        self._cloud = cloud
        self._flights = flights
        self._clock = clock
        self._log = log

    async def first_that_works(self, call: ChatCall, route: Route, attempt: Callable[[Attempt], Awaitable[_T]]) -> _T:
        """Tries models and regions in order; a failure that another one can't mend ends it.

        Raises the last UpstreamError, or the RequestRejected of an upstream that refused the request.
        """
        failure: GatewayError = CloudUnavailable("No cloud region is configured.")
        unreachable: set[str] = set()
        for at in self._attempts(route, call):
            if at.region is not None and at.region.id in unreachable:
                continue
            timeout_s = self._settings.edge_timeout_s if at.region is None else self._settings.cloud_timeout_s
            started_ms = self._clock.elapsed_ms()
            try:
                async with Deadline(self._clock, timeout_s):
                    return await attempt(at)
            except TimeoutError:
                failure = UpstreamTimeout(f"No answer from {at.label} within {timeout_s:g} s.")
            except CloudUnavailable as exc:
                failure = exc
                unreachable.add(at.region.id if at.region else "")
            except UpstreamError as exc:
                failure = exc
            finally:
                part = "ai" if at.region is None else "cloud"
                call.report.timings_ms[part] = self._clock.elapsed_ms() - started_ms
            call.report.fallbacks.append(f"{at.label}: {failure.code}")
            self._log.event("attempt_failed", request_id=call.report.request_id, upstream=at.label, reason=failure.code)
        raise failure

    async def call(self, call: ChatCall, at: Attempt, *, flight_key: str | None = None) -> UpstreamResponse:
        """An answer with status 200 whose body is still to come; raises GatewayError for any other.

        flight_key: callers with the same key share one cloud call.
        """
        call.report.cloud_region = call.report.cloud_rtt_ms = None  # of an attempt before
        call.report.collapsed = False
        if at.region is None:
            response = await self._edge.run(at.model.id, workers_ai.build_inputs(at.model, call.request, call.body))
            if response.status != 200:
                text = await response.text()
                raise workers_ai.parse_error(response.status, text, retry_after_s=_retry_after_s(response))
            return response

        started_ms = self._clock.elapsed_ms()
        flight_key = flight_key and f"{at.label}:{flight_key}"  # another model or region is another call
        response = await self._post(call, at.region, completions.dump(_cloud_body(call, at.model)), flight_key)
        own_ms = _server_timing_ms(response.header("server-timing"))
        if own_ms is not None and not call.report.collapsed:
            call.report.cloud_rtt_ms = max(0.0, self._clock.elapsed_ms() - started_ms - own_ms)
        call.report.cloud_region = at.region.id
        if response.status != 200:
            await _raise_cloud_error(response, at)
        return response

    def _attempts(self, route: Route, call: ChatCall) -> Iterator[Attempt]:
        """In the route's order, each cloud model in every region, within the limits of each side."""
        regions = nearest_first(self._settings.regions, call.report.location)
        left = {"edge": MAX_EDGE_ATTEMPTS, "cloud": MAX_CLOUD_ATTEMPTS}
        for model in route.models:
            places: list[Region | None] = [None] if model.side == "edge" else [*regions]
            for region in places[: left[model.side]]:
                yield Attempt(model, region)
            left[model.side] -= len(places[: left[model.side]])

    async def _post(self, call: ChatCall, region: Region, body: str, flight_key: str | None) -> UpstreamResponse:
        """With others or alone: flights that fail cost nobody an answer."""
        if flight_key and self._settings.single_flight == "cloud":
            place = call.report.location.continent or "anywhere"
            try:
                response, call.report.collapsed = await self._flights.post(
                    f"{place}:{flight_key}", region, _CHAT_PATH, body, call.forwarded
                )
                return response
            except StoreError as exc:
                self._log.event("flight_failed", request_id=call.report.request_id, reason=exc.message)
        return await self._cloud.post(region, _CHAT_PATH, body, call.forwarded)


def _cloud_body(call: ChatCall, model: Model) -> dict[str, Any]:
    """The caller's request for the cloud: our own fields out, the model in, usage asked for in streams."""
    body = {name: value for name, value in call.body.items() if name not in _CONTROLS}
    body["model"] = model.id
    if call.request.stream:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body


async def _raise_cloud_error(response: UpstreamResponse, at: Attempt) -> None:
    """cloud_fallback's own errors are OpenAI-shaped and safe to repeat; anything else is not repeated."""
    error = _error_object(await response.text())
    status, code = response.status, error.get("code")
    if status == 429:
        raise UpstreamBusy("The cloud is rate limited.", code="rate_limited", retry_after_s=_retry_after_s(response))
    if 400 <= status < 500 and error.get("message"):
        param = error.get("param")
        raise RequestRejected(
            str(error["message"]),
            param=param if isinstance(param, str) else None,
            code=str(code) if code else None,
            status=status,
        )
    if status == 504:
        raise UpstreamTimeout(f"No answer from {at.label} in time.")
    raise UpstreamError(f"{at.label} failed (status {status}).", code=str(code) if code else None)


def _retry_after_s(response: UpstreamResponse) -> float | None:
    header = response.header("retry-after") or ""
    return float(header) if header.isdecimal() and len(header) <= 6 else None


def _error_object(text: str) -> dict[str, Any]:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _server_timing_ms(header: str | None) -> float | None:
    """Milliseconds that the service and its upstream took, by its own `Server-Timing`."""
    if not header:
        return None
    total = 0.0
    for entry in header.split(","):
        _, found, duration = entry.partition("dur=")
        if found:
            try:
                total += float(duration.split(";")[0])
            except ValueError:
                return None
    return total if isfinite(total) else None
