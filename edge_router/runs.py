"""One chat answered by a model, plainly or as a stream, with its report and its place in the cache."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from . import completions, workers_ai
from .attempts import Attempt
from .budgets.charging import Budgets, Charge
from .budgets.money import NOTHING, Cost, nano_usd, usd
from .budgets.worst_case import worst_case
from .caching.answers import AnswerCache
from .caching.directives import Directives
from .caching.entries import MAX_ENTRY_BYTES, Entry, may_store, spread
from .caching.policy import Lifetimes, lifetimes
from .caching.statistics import CacheStatistics
from .cascade.hold import judge_beginning
from .cascade.policy import CascadeSettings, Mode, choose_mode
from .cascade.reading import asked_of, said_of
from .cascade.run import Answered, Cascade
from .cascade.verifier import Check, verify
from .catalog import Catalog, Model
from .chat_call import Answer, ChatCall, StreamedAnswer
from .errors import FlightLost, GatewayError, UpstreamTimeout
from .feedback import FeedbackBook
from .mending import mend_choice, mend_head
from .ports import Clock, Log, UpstreamResponse
from .relay import StreamRelay
from .report import Report, with_report
from .routing import Route
from .semantic.cache import Embedded, SemanticCache
from .sse import DONE_EVENT, encode_event
from .streaming import LiveChunks, OpenStream, StreamLimits
from .timers import done_within
from .upstreams import Upstreams

_Result = TypeVar("_Result", bound=Answered)


@dataclass(frozen=True, slots=True)
class Services:
    """What runs share. Scope: isolate.

    lifetimes: of stored answers, where nothing else is said. feedback: None when nothing is kept for ratings.
    """

    catalog: Catalog
    upstreams: Upstreams
    cache: AnswerCache
    statistics: CacheStatistics
    semantic: SemanticCache
    clock: Clock
    log: Log
    new_id: Callable[[], str]
    limits: StreamLimits
    lifetimes: Lifetimes
    feedback: FeedbackBook | None
    cascade: CascadeSettings
    budgets: Budgets


@dataclass(frozen=True, slots=True)
class Keeping:
    """How an answer is to be kept, when it is good enough.

    embedded: its question, when it is to be found by meaning as well. replaces: an entry that is too old.
    """

    key: str
    asked: Directives
    embedded: Embedded | None = None
    replaces: Entry | None = None

    @property
    def question(self) -> str | None:
        if self.embedded:
            return self.embedded.question.text
        return self.replaces.question if self.replaces else None


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """A completion as text and parsed.

    usage_estimated: its counts are ours, not the model's. keeps: as of an `UpstreamResponse`.
    """

    text: str
    body: dict[str, Any]
    usage_estimated: bool
    keeps: bool

    def usage(self) -> Mapping[str, Any]:
        usage: Mapping[str, Any] = self.body["usage"]
        return usage

    async def discard(self) -> None:
        """There is nothing left to let go of."""


class ChatRun:
    """The way from a route to an answer. Scope: request.

    keeping: None when the answer may not be kept. spare: an older answer for when every model fails, as chunks.
    As the stream's storyteller it adds the report: who answers on the first chunk, all of it on the last.
    """

    def __init__(
        self,
        services: Services,
        call: ChatCall,
        keeping: Keeping | None,
        spare: Callable[[GatewayError], list[str] | None] = lambda error: None,
    ) -> None:
        self._services = services
        self._call = call
        self._report = call.report
        self._keeping = keeping
        self._flight_key = keeping.key if keeping and keeping.asked.may_share else None
        self._spare = spare
        self._charge: Charge | None = None
        self._taken: list[tuple[Model, Answered | None]] = []  # who took the input, and gave which answer
        self._at: Attempt | None = None
        self._is_begun = False

    async def plain(self, route: Route) -> Answer:
        """Raises GatewayError."""
        mode = await self._admit(route)
        at, answer = await self._first_good(route, mode, self._attempt_plain, self._judge_plain)
        self._note_answer(at, answer.body["usage"], answer.usage_estimated, keeps=answer.keeps)
        self._stop_clock()
        if answer.keeps:
            self._store_later(answer.text, answer.body)
        self._note_for_rating()
        return Answer(answer.text)

    async def stream(self, route: Route) -> StreamedAnswer:
        """Waits for the first content, so that the headers tell who answers; a model that thinks longer than a
        heartbeat gets its headers sent before. Raises GatewayError.
        """
        services = self._services
        opening = asyncio.ensure_future(self._open_first(route, await self._admit(route)))
        chunks = LiveChunks(opening, self, services.limits, services.clock, services.log)
        try:
            is_open = await done_within(services.clock, opening, services.limits.heartbeat_s)
        except asyncio.CancelledError:
            await chunks.aclose()  # the upstream is told before the request ends
            raise
        if is_open:
            opening.result()  # nothing was sent yet: a failure is still a proper status
            self._note_first_content()
        return StreamedAnswer(chunks)

    async def _open_first(self, route: Route, mode: Mode) -> OpenStream:
        self._at, stream = await self._first_good(route, mode, self._attempt_stream, self._judge_stream)
        return stream

    async def _admit(self, route: Route) -> Mode:
        """How to ask, once there is room for it in the tenant's budget. Raises BudgetExceeded, BudgetUnavailable."""
        call, mode = self._call, self._mode(route)
        if call.tenant.budget is not None:
            most = worst_case(call, route, mode, self._services.catalog)
            self._charge = await self._services.budgets.reserve(call.tenant, most, self._report, call.background)
        return mode

    async def _first_good(
        self,
        route: Route,
        mode: Mode,
        make: Callable[[Attempt], Awaitable[_Result]],
        judge: Callable[[_Result], Awaitable[Check | None]],
    ) -> tuple[Attempt, _Result]:
        call, services = self._call, self._services
        try:
            return await Cascade(call, services.upstreams, make, judge, services.clock).first_good(route, mode)
        except BaseException:
            self._note_undelivered()
            raise

    def _mode(self, route: Route) -> Mode:
        settings, request = self._services.cascade, self._call.request
        default = self._call.tenant.cascade or settings.mode
        if (request.n or 1) > 1:
            return "off"  # one of several choices says nothing of the others
        return choose_mode(request.cascade_mode, default, route, settings.thresholds_for(self._call.tenant.id))

    async def _judge_plain(self, answer: PlainAnswer) -> Check | None:
        return verify(asked_of(self._call.request), said_of(answer.body))

    async def _judge_stream(self, stream: OpenStream) -> Check | None:
        asked, clock = asked_of(self._call.request), self._services.clock
        return await judge_beginning(stream, asked, hold_s=self._services.cascade.hold_s, clock=clock)

    def begin(self, stream: OpenStream) -> list[str]:
        self._note_first_content()
        if not stream.pending:
            return []
        return [with_report(stream.pending[0], self._report.body_json()), *stream.pending[1:]]

    def leave(self, stream: OpenStream) -> None:
        assert self._at is not None
        usage, estimated = stream.relay.usage()
        self._note_answer(self._at, usage, estimated, keeps=stream.response.keeps)
        self._report.usage = usage
        self._stop_clock()

    def settle(self, stream: OpenStream) -> list[str]:
        relay = stream.relay
        self.leave(stream)
        if relay.error:
            self._report.retry_after_s = relay.error.retry_after_s
            self._note_failure(relay.error)
            last = [relay.error_chunk(relay.error)]
        else:
            last = relay.closing()
            body = relay.completion() if self._keeping or self._report.cascade else {}
            self._judge_late(body)
            self._note_for_rating()
            if stream.response.keeps:
                self._store_later(completions.dump(body), body)
        last[-1] = with_report(last[-1], self._report.body_json())
        return last

    def _judge_late(self, body: Mapping[str, Any]) -> None:
        """What was sent is not taken back, but it is told, and not served again."""
        outcome = self._report.cascade
        if outcome is not None and outcome.verdict == "accepted":
            outcome.late = verify(asked_of(self._call.request), said_of(body))

    def rescue(self, error: GatewayError) -> list[str] | None:
        return self._spare(error)

    def fail(self, error: GatewayError) -> list[str]:
        self._stop_clock()
        self._report.retry_after_s = error.retry_after_s
        self._note_failure(error)
        head = {"id": self._completion_id(), "created": self._created_s(), "model": self._call.request.model}
        text = completions.dump({**completions.chunk(head, {}, finish_reason="error"), **error.to_body()})
        return [with_report(text, self._report.body_json())]

    async def _attempt_plain(self, at: Attempt) -> PlainAnswer:
        return await self._attempt(at, partial(self._read_plain, at))

    async def _attempt_stream(self, at: Attempt) -> OpenStream:
        return await self._attempt(at, partial(self._open, at))

    async def _attempt(self, at: Attempt, read: Callable[[UpstreamResponse], Awaitable[_Result]]) -> _Result:
        """With others or, when the flight is lost before anything was told, alone."""
        try:
            return await self._attempt_once(at, read, self._flight_key)
        except FlightLost as exc:
            self._services.log.event("flight_failed", request_id=self._report.request_id, reason=exc.message)
        return await self._attempt_once(at, read, None)

    async def _attempt_once(
        self, at: Attempt, read: Callable[[UpstreamResponse], Awaitable[_Result]], flight_key: str | None
    ) -> _Result:
        try:
            response = await self._services.upstreams.call(self._call, at, flight_key=flight_key)
        except (asyncio.CancelledError, UpstreamTimeout):
            self._note_taken(at, None)
            raise
        try:
            result = await read(response)
        except BaseException:
            self._note_taken(at, None)
            await response.cancel()
            raise
        self._note_taken(at, result)
        return result

    def _note_taken(self, at: Attempt, answer: Answered | None) -> None:
        """A call of another caller's is theirs to pay."""
        if not at.collapsed:
            self._taken.append((at.model, answer))

    async def _read_plain(self, at: Attempt, response: UpstreamResponse) -> PlainAnswer:
        """The completion, whole and with usage; raises UpstreamError when it is not a completion."""
        text = await response.text()
        completion_id, created_s = self._completion_id(), self._created_s()
        if at.region is None:
            body = workers_ai.parse_answer(
                at.model, text, completion_id=completion_id, created_s=created_s, limit_tokens=self._call.limit_tokens
            )
        else:
            body = completions.parse_completion(text)
        head = {"id": completion_id, "object": "chat.completion", "created": created_s, "model": at.answered_by.id}
        lacking = {name: made for name, made in head.items() if not completions.is_like(body.get(name), made)}
        mended = mend_head(body, "chat.completion")
        for position, entry in enumerate(body["choices"]):
            mended |= mend_choice(entry, position, completion_id)
        usage, estimated = completions.usage_of(
            body.get("usage"), partial(self._call.input_tokens, at.model), partial(completions.output_text, body)
        )
        unchanged = at.region is not None and not lacking and not mended and usage == body.get("usage")
        whole = {**body, **lacking, "usage": usage}
        return PlainAnswer(text if unchanged else completions.dump(whole), whole, estimated, response.keeps)

    async def _open(self, at: Attempt, response: UpstreamResponse) -> OpenStream:
        """Reads until the first content, so that everything before it can still become another attempt."""
        relay = StreamRelay(
            at.model.shape,
            completion_id=self._completion_id(),
            created_s=self._created_s(),
            model=at.answered_by.id,
            limit_tokens=self._call.limit_tokens,
            include_usage=self._call.request.include_usage,
            input_tokens=partial(self._call.input_tokens, at.model),
        )
        pending: list[str] = []
        if not _is_event_stream(response):
            pending += relay.feed(await self._as_events(at, response))
        while not (relay.has_content or relay.is_done or relay.error):
            data = await response.read()
            pending += relay.end() if data is None else relay.feed(data)
        if relay.error:
            raise relay.error
        return OpenStream(at.label, response, relay, pending)

    async def _as_events(self, at: Attempt, response: UpstreamResponse) -> bytes:
        """Some models answer with one JSON object although a stream was asked for."""
        answer = await self._read_plain(at, response)
        chunks = completions.replay(answer.body, include_usage=True)
        return ("".join(map(encode_event, chunks)) + DONE_EVENT).encode()

    def _note_first_content(self) -> None:
        """In time for the headers, or for the first chunk when they have left already."""
        if self._is_begun or self._at is None:
            return
        self._is_begun = True
        self._name(self._at)
        self._report.timings_ms["ttft"] = self._services.clock.elapsed_ms() - self._call.started_ms

    def _note_answer(self, at: Attempt, usage: Mapping[str, Any], estimated: bool, *, keeps: bool) -> None:
        self._name(at)
        report = self._report
        report.usage_estimated = estimated
        if at.is_fallback:  # it would be served for a day in place of a model that failed for a moment
            self._keeping = None
        report.cached_input_share = completions.cached_input_share(usage)
        report.input_tokens, report.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        tokens = report.input_tokens + report.output_tokens
        cost_usd = at.answered_by.cost_usd(report.input_tokens, report.output_tokens)
        if report.collapsed and not keeps:  # who keeps an answer pays for it, also when it fell to him later
            report.cost_avoided_usd, report.avoided_tokens = cost_usd, tokens
            call = self._call
            self._services.statistics.collapsed(call.tenant.id, call.background, tokens=tokens, cost_usd=cost_usd)
            cost_usd, tokens = 0.0, 0
        if report.cascade is not None:
            cost_usd += report.cascade.other_cost_usd
            tokens += report.cascade.other_tokens
        report.cost_usd = cost_usd
        if self._charge is not None:
            self._charge.settle(Cost(nano_usd(cost_usd), tokens), at.answered_by.id)

    def _note_undelivered(self) -> None:
        """Nobody could answer, or the caller left before. Whatever models took and gave all the same is paid for, but
        no more than was reserved.
        """
        if self._charge is None:
            return
        if not self._taken:
            self._charge.release()
            return
        report, cost = self._report, NOTHING
        for model, answer in self._taken:
            if answer is None:
                input_tokens, output_tokens = self._call.input_tokens(model), 0
            else:
                usage = answer.usage()
                input_tokens, output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
            report.input_tokens += input_tokens
            report.output_tokens += output_tokens
            cost += Cost(nano_usd(model.cost_usd(input_tokens, output_tokens)), input_tokens + output_tokens)
        cost = cost.at_most(self._charge.reserved)
        report.cost_usd, report.usage_estimated = usd(cost.nano_usd), True
        self._charge.settle(cost, self._taken[-1][0].id)

    def _name(self, at: Attempt) -> None:
        self._report.served_by = "edge-model" if at.region is None else "cloud"
        name_model(self._report, at.answered_by.id, self._services.catalog)

    def _stop_clock(self) -> None:
        self._report.timings_ms["total"] = self._services.clock.elapsed_ms() - self._call.started_ms

    def _store_later(self, text: str, body: Mapping[str, Any]) -> None:
        """After the response: nothing on the path waits for a write."""
        keeping = self._keeping
        if keeping is None or len(text) > MAX_ENTRY_BYTES or not may_store(body, tool_calls=keeping.asked.tool_calls):
            return
        if not (self._report.cascade is None or self._report.cascade.is_good):
            return
        self._report.cache_stored = True
        self._call.background.run(self._store(keeping, self._entry(keeping, text, body["usage"])))

    def _entry(self, keeping: Keeping, text: str, usage: Mapping[str, Any]) -> Entry:
        services, report = self._services, self._report
        model = services.catalog.find(report.model or "")
        life = lifetimes(
            asked_ttl_s=keeping.asked.ttl_s,
            tenant=self._call.tenant.cache,
            model_ttl_s=model.cache_ttl_s if model else None,
            default=services.lifetimes,
        )
        elapsed_s = (services.clock.elapsed_ms() - self._call.started_ms) / 1000
        return Entry(
            body=text,
            model=report.model or "",
            stored_at_s=services.clock.now_s() - elapsed_s,
            ttl_s=spread(life.ttl_s, keeping.key),
            swr_s=life.swr_s,
            stale_if_error_s=life.stale_if_error_s,
            cost_usd=report.cost_usd or 0.0,
            tokens=usage["total_tokens"],
            tags=keeping.asked.tags,
            question=keeping.question,
        )

    async def _store(self, keeping: Keeping, entry: Entry) -> None:
        """The entry before the vector that points to it."""
        services, call, request_id = self._services, self._call, self._report.request_id
        if await services.cache.put(call.tenant.id, keeping.key, entry, request_id):
            services.statistics.stored(call.tenant.id, call.background, entry, replaced=keeping.replaces)
            if keeping.embedded:
                await services.semantic.remember(keeping.embedded, keeping.key, request_id)

    def _note_for_rating(self) -> None:
        if self._services.feedback:
            self._services.feedback.note(self._call)

    def _note_failure(self, error: GatewayError) -> None:
        self._report.error_code = error.code or error.type
        self._services.log.event("stream_failed", request_id=self._report.request_id, reason=error.code)

    def _completion_id(self) -> str:
        return f"chatcmpl-{self._services.new_id()}"

    def _created_s(self) -> int:
        return int(self._services.clock.now_s())


def name_model(report: Report, model_id: str, catalog: Catalog) -> None:
    """Puts the model and its tier into the report."""
    model = catalog.find(model_id)
    report.model = model_id
    report.tier = model.tier if model else None


def _is_event_stream(response: UpstreamResponse) -> bool:
    return (response.header("content-type") or "").startswith("text/event-stream")
