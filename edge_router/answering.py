"""From a validated chat request to its answer: exact cache, route, attempts, report. Acts only through ports."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from . import completions, exact_cache, workers_ai
from .catalog import Model
from .complexity import ComplexityScorer
from .errors import (
    CloudUnavailable,
    GatewayError,
    RequestRejected,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from .exact_cache import Entry
from .ports import Background, Clock, CloudRegions, EdgeModels, Flights, Log, Store, UpstreamResponse
from .regions import nearest_first
from .relay import StreamRelay
from .report import Report, with_report
from .requests import ChatRequest, Controls
from .routing import Needs, Route, choose_route
from .settings import Region, Settings
from .sse import DONE_EVENT, encode_event
from .streaming import LiveChunks, OpenStream, StreamLimits
from .timers import Deadline, done_within
from .tokens import estimate_tokens

ENDPOINT = "chat"
MAX_EDGE_ATTEMPTS = 2  # two models that fail at one place are the place's fault: go to the cloud
MAX_CLOUD_ATTEMPTS = 4
_CHAT_PATH = "/v1/chat/completions"
_CONTROLS = frozenset(Controls.model_fields)  # ours: an upstream may refuse what it does not know

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One chat request on its way. `body` is the caller's JSON, our header fields merged in."""

    request: ChatRequest
    body: dict[str, Any]
    tenant: str
    cache_control: str | None
    forwarded: Mapping[str, str]
    background: Background
    report: Report
    started_ms: float

    @property
    def input_text(self) -> str:
        return "\n".join(message.text for message in self.request.messages)


@dataclass(frozen=True, slots=True)
class Answer:
    """A plain answer: the completion as JSON text without the report."""

    text: str


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A streamed answer: live batches, or all chunks at once when it is replayed. `[DONE]` is not among them."""

    chunks: LiveChunks | list[str]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One model to try, at one place. `region` is None at the edge."""

    model: Model
    region: Region | None

    @property
    def label(self) -> str:
        return self.model.id if self.region is None else f"{self.model.id}@{self.region.id}"


class Answering:
    """Answers chat requests. Scope: isolate; holds no state of a request."""

    def __init__(
        self,
        settings: Settings,
        *,
        scorer: ComplexityScorer,
        store: Store,
        edge: EdgeModels,
        cloud: CloudRegions,
        flights: Flights,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._scorer = scorer
        self._store = store
        self._edge = edge
        self._cloud = cloud
        self._flights = flights
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._limits = StreamLimits(
            heartbeat_s=settings.heartbeat_s,
            idle_s=settings.stream_idle_s,
            min_tokens_per_s=settings.min_tokens_per_s,
            grace_s=settings.slow_grace_s,
        )

    async def answer(self, call: ChatCall) -> Answer | StreamedAnswer:
        """The report of `call` is filled in as far as its headers need it. Raises GatewayError."""
        directives = exact_cache.read_directives(call.body, call.cache_control)
        key = None
        if directives.look_up or directives.store:
            key = exact_cache.cache_key(
                call.body,
                tenant=call.tenant,
                endpoint=ENDPOINT,
                catalog_version=self._settings.catalog.version,
            )
        call.report.cache = "miss" if directives.look_up else "bypass"
        if key and directives.look_up:
            entry = await self._look_up(call, key)
            if entry is not None and entry.is_fresh(self._clock.now_s(), directives):
                replayed = self._replay(call, entry)
                if replayed is not None:
                    return replayed
            elif entry is not None:
                call.report.cache = "stale"

        route = self.route(call)
        store_key = key if directives.store else None
        if call.request.stream:
            return await self._stream(call, route, store_key)
        return await self._plain(call, route, store_key)

    def route(self, call: ChatCall) -> Route:
        """Decides, and notes the decision in the report."""
        request, report, decided_ms = call.request, call.report, self._clock.elapsed_ms()
        response_format = request.response_format
        needs = Needs(
            model=request.model,
            tokens=estimate_tokens(call.input_text) + (request.output_limit_tokens or 0),
            tools=request.uses_tools,
            images=request.has_images,
            json=response_format is not None and response_format.type != "text",
            parameter=next((name for name in workers_ai.NOT_NATIVE if _is_given(call.body, name)), None),
        )
        score = self._scorer.score(request.last_user_text)
        route = choose_route(needs, score, self._settings.catalog, self._settings.thresholds)
        report.complexity = route.complexity
        report.route_reason = route.reason
        report.timings_ms["decide"] = self._clock.elapsed_ms() - decided_ms
        return route

    async def _look_up(self, call: ChatCall, key: str) -> Entry | None:
        """A store that fails is a miss."""
        started_ms = self._clock.elapsed_ms()
        try:
            text = await self._store.get(key)
        except StoreError as exc:
            self._log.event("store_failed", request_id=call.report.request_id, reason=exc.message)
            text = None
        call.report.timings_ms["cache"] = self._clock.elapsed_ms() - started_ms
        return exact_cache.decode_entry(text) if text else None

    def _replay(self, call: ChatCall, entry: Entry) -> Answer | StreamedAnswer | None:
        """None when the stored body is damaged: then it is a miss."""
        chunks: list[str] = []
        if call.request.stream:
            try:
                body = completions.parse_completion(entry.body)
                chunks = list(completions.replay(body, include_usage=call.request.include_usage))
            except (UpstreamError, KeyError) as exc:
                self._log.event("store_failed", request_id=call.report.request_id, reason=type(exc).__name__)
                return None

        report, now_s = call.report, self._clock.now_s()
        report.cache = "hit"
        report.cache_age_s = entry.age_s(now_s)
        report.cache_ttl_s = entry.ttl_s - report.cache_age_s
        report.served_by = "exact-cache"
        report.route_reason = "cached"
        report.cost_usd = 0.0
        report.cost_avoided_usd = entry.cost_usd
        self._name_model(report, entry.model)
        self._stop_clock(call)
        if not call.request.stream:
            return Answer(entry.body)
        facts = report.body_json()
        chunks[0] = with_report(chunks[0], facts)
        chunks[-1] = with_report(chunks[-1], facts)
        return StreamedAnswer(chunks)

    async def _plain(self, call: ChatCall, route: Route, store_key: str | None) -> Answer:
        async def attempt(at: _Attempt) -> Answer:
            response = await self._call(call, at, flight_key=store_key)
            try:
                return Answer(self._settle_plain(call, at, await response.text()))
            except BaseException:
                await response.cancel()
                raise

        answer = await self._first_that_works(call, route, attempt)
        self._stop_clock(call)
        if store_key and not call.report.collapsed:
            self._store_later(call, store_key, answer.text)
        return answer

    def _settle_plain(self, call: ChatCall, at: _Attempt, text: str) -> str:
        """The completion's text, whole and with usage; raises UpstreamError when it is not a completion."""
        completion_id, created_s = self._completion_id(), int(self._clock.now_s())
        if at.region is None:
            body = workers_ai.parse_answer(
                at.model, text, completion_id=completion_id, created_s=created_s, limit_tokens=_limit_tokens(call)
            )
        else:
            body = completions.parse_completion(text)
        head = {"id": completion_id, "object": "chat.completion", "created": created_s, "model": at.model.id}
        lacking = {name: made for name, made in head.items() if not completions.is_like(body.get(name), made)}
        usage, estimated = completions.usage_of(body.get("usage"), call.input_text, completions.text_of(body))
        self._note_answer(call, at, usage, estimated)
        unchanged = at.region is not None and not lacking and usage == body.get("usage")
        return text if unchanged else completions.dump({**body, **lacking, "usage": usage})

    async def _stream(self, call: ChatCall, route: Route, store_key: str | None) -> StreamedAnswer:
        """Waits for the first content, so that the headers tell who answers; a model that thinks longer than a
        heartbeat gets its headers sent before.
        """
        story = _Story(self, call, store_key)
        opening = asyncio.ensure_future(self._first_that_works(call, route, story.attempt))
        try:
            is_open = await done_within(self._clock, opening, self._limits.heartbeat_s)
        except asyncio.CancelledError:
            opening.cancel()
            raise
        if is_open:
            opening.result()  # nothing was sent yet: a failure is still a proper status
            story.note_first_content()
        return StreamedAnswer(LiveChunks(opening, story, self._limits, self._clock, self._log))

    async def _open(self, call: ChatCall, at: _Attempt, response: UpstreamResponse) -> OpenStream:
        """Reads until the first content, so that everything before it can still become another attempt."""
        relay = StreamRelay(
            at.model.shape,
            completion_id=self._completion_id(),
            created_s=int(self._clock.now_s()),
            model=at.model.id,
            limit_tokens=_limit_tokens(call),
            include_usage=call.request.include_usage,
        )
        chunks = response.chunks() if _is_event_stream(response) else self._as_stream(call, at, response)
        pending: list[str] = []
        async for chunk in chunks:
            pending += relay.feed(chunk)
            if relay.has_content or relay.is_done or relay.error:
                break
        else:
            pending += relay.end()
        if relay.error:
            raise relay.error
        return OpenStream(at.label, response, chunks, relay, pending)

    async def _as_stream(self, call: ChatCall, at: _Attempt, response: UpstreamResponse) -> AsyncIterator[bytes]:
        """Some models answer with one JSON object although a stream was asked for."""
        text = self._settle_plain(call, at, await response.text())
        for chunk in completions.replay(completions.parse_completion(text), include_usage=True):
            yield encode_event(chunk).encode()
        yield DONE_EVENT.encode()

    async def _first_that_works(self, call: ChatCall, route: Route, attempt: Callable[[_Attempt], Awaitable[_T]]) -> _T:
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

    def _attempts(self, route: Route, call: ChatCall) -> Iterator[_Attempt]:
        """In the route's order, each cloud model in every region, within the limits of each side."""
        regions = nearest_first(self._settings.regions, call.report.location)
        left = {"edge": MAX_EDGE_ATTEMPTS, "cloud": MAX_CLOUD_ATTEMPTS}
        for model in route.models:
            places: list[Region | None] = [None] if model.side == "edge" else [*regions]
            for region in places[: left[model.side]]:
                yield _Attempt(model, region)
            left[model.side] -= len(places[: left[model.side]])

    async def _call(self, call: ChatCall, at: _Attempt, *, flight_key: str | None = None) -> UpstreamResponse:
        """An answer with status 200 whose body is still to come; raises GatewayError for any other.

        flight_key: callers with the same key share one cloud call.
        """
        call.report.cloud_region = call.report.cloud_rtt_ms = None  # of an attempt before
        call.report.collapsed = False
        if at.region is None:
            response = await self._edge.run(at.model.id, workers_ai.build_inputs(at.model, call.request, call.body))
            if response.status != 200:
                raise workers_ai.parse_error(response.status, await response.text())
            return response

        started_ms = self._clock.elapsed_ms()
        response = await self._post(call, at.region, completions.dump(_cloud_body(call, at.model)), flight_key)
        own_ms = _server_timing_ms(response.header("server-timing"))
        if own_ms is not None and not call.report.collapsed:
            call.report.cloud_rtt_ms = max(0.0, self._clock.elapsed_ms() - started_ms - own_ms)
        call.report.cloud_region = at.region.id
        if response.status != 200:
            await _raise_cloud_error(response, at)
        return response

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

    def _note_answer(self, call: ChatCall, at: _Attempt, usage: Mapping[str, Any], estimated: bool) -> None:
        report = call.report
        report.served_by = "edge-model" if at.region is None else "cloud"
        self._name_model(report, at.model.id)
        report.usage_estimated = estimated
        cost_usd = at.model.cost_usd(usage["prompt_tokens"], usage["completion_tokens"])
        if report.collapsed:
            report.cost_usd, report.cost_avoided_usd = 0.0, cost_usd
        else:
            report.cost_usd = cost_usd

    def _name_model(self, report: Report, model_id: str) -> None:
        model = self._settings.catalog.find(model_id)
        report.model = model_id
        report.tier = model.tier if model else None

    def _stop_clock(self, call: ChatCall) -> None:
        call.report.timings_ms["total"] = self._clock.elapsed_ms() - call.started_ms

    def _store_later(self, call: ChatCall, key: str, text: str) -> None:
        """After the response: nothing on the path waits for a write."""
        if len(text) > exact_cache.MAX_ENTRY_BYTES or not exact_cache.may_store(completions.parse_completion(text)):
            return
        report = call.report
        entry = Entry(
            body=text,
            model=report.model or "",
            stored_at_s=self._clock.now_s(),
            ttl_s=self._settings.cache_ttl_s,
            cost_usd=report.cost_usd or 0.0,
        )
        report.cache_stored = True
        call.background.run(self._put(report.request_id, key, entry))

    async def _put(self, request_id: str, key: str, entry: Entry) -> None:
        try:
            await self._store.put(key, exact_cache.encode_entry(entry), ttl_s=self._settings.cache_ttl_s)
        except StoreError as exc:
            self._log.event("store_failed", request_id=request_id, reason=exc.message)

    def _completion_id(self) -> str:
        return f"chatcmpl-{self._new_id()}"


class _Story:
    """The report's part in one stream: who answers on the first chunk, all of it on the last. Scope: request."""

    def __init__(self, answering: Answering, call: ChatCall, store_key: str | None) -> None:
        self._answering = answering
        self._call = call
        self._store_key = store_key
        self._at: _Attempt | None = None
        self._noted = False

    async def attempt(self, at: _Attempt) -> OpenStream:
        response = await self._answering._call(self._call, at)
        try:
            opened = await self._answering._open(self._call, at, response)
        except BaseException:
            await response.cancel()
            raise
        self._at = at
        return opened

    def note_first_content(self) -> None:
        """In time for the headers, or for the first chunk when they have left already."""
        if self._noted or self._at is None:
            return
        self._noted = True
        report = self._call.report
        report.served_by = "edge-model" if self._at.region is None else "cloud"
        self._answering._name_model(report, self._at.model.id)
        report.timings_ms["ttft"] = self._answering._clock.elapsed_ms() - self._call.started_ms

    def begin(self, stream: OpenStream) -> list[str]:
        self.note_first_content()
        if not stream.pending:
            return []
        return [with_report(stream.pending[0], self._call.report.body_json()), *stream.pending[1:]]

    def settle(self, stream: OpenStream) -> list[str]:
        call, relay, answering = self._call, stream.relay, self._answering
        assert self._at is not None
        usage, estimated = relay.usage(call.input_text)
        answering._note_answer(call, self._at, usage, estimated)
        call.report.usage = usage
        answering._stop_clock(call)
        if relay.error:
            answering._log.event("stream_failed", request_id=call.report.request_id, reason=relay.error.code)
            last = [relay.error_chunk(relay.error)]
        else:
            last = relay.closing(call.input_text)
            if self._store_key:
                answering._store_later(call, self._store_key, completions.dump(relay.completion(call.input_text)))
        last[-1] = with_report(last[-1], call.report.body_json())
        return last

    def fail(self, error: GatewayError) -> list[str]:
        answering, call = self._answering, self._call
        answering._stop_clock(call)
        answering._log.event("stream_failed", request_id=call.report.request_id, reason=error.code)
        head = {
            "id": answering._completion_id(),
            "created": int(answering._clock.now_s()),
            "model": call.request.model,
        }
        text = completions.dump({**completions.chunk(head, {}, finish_reason="error"), **error.to_body()})
        return [with_report(text, call.report.body_json())]


def _is_given(body: Mapping[str, Any], name: str) -> bool:
    """Whether a parameter asks for something; one choice and no log-probabilities are what everyone gives."""
    value = body.get(name)
    return bool(value) and not (name == "n" and value == 1)


def _limit_tokens(call: ChatCall) -> int:
    return call.request.output_limit_tokens or workers_ai.DEFAULT_OUTPUT_TOKENS


def _cloud_body(call: ChatCall, model: Model) -> dict[str, Any]:
    """The caller's request for the cloud: our own fields out, the model in, usage asked for in streams."""
    body = {name: value for name, value in call.body.items() if name not in _CONTROLS}
    body["model"] = model.id
    if call.request.stream:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body


async def _raise_cloud_error(response: UpstreamResponse, at: _Attempt) -> None:
    """cloud_fallback's own errors are OpenAI-shaped and safe to repeat; anything else is not repeated."""
    error = _error_object(await response.text())
    status, code = response.status, error.get("code")
    if status == 429:
        retry_after = response.header("retry-after") or ""
        retry_after_s = float(retry_after) if retry_after.isdecimal() and len(retry_after) <= 6 else None
        raise UpstreamBusy("The cloud is rate limited.", code="rate_limited", retry_after_s=retry_after_s)
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


def _error_object(text: str) -> dict[str, Any]:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _is_event_stream(response: UpstreamResponse) -> bool:
    return (response.header("content-type") or "").startswith("text/event-stream")


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
