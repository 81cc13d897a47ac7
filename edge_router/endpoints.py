"""What each path under `/v1` does with an authenticated request. Acts only through Answering and the ports."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

from . import completions, embeddings, responses_api, text_completions
from .allowed_models import not_allowed
from .answering import Answering
from .auth import Tenant
from .budgets.charging import Budgets, Charge
from .budgets.money import Cost, nano_usd
from .caching.answers import AnswerCache
from .caching.purging import purge, read_purge
from .caching.statistics import CacheStatistics
from .catalog import Model
from .chat_call import Answer, ChatCall, StreamedAnswer
from .embedder import Embedder
from .errors import GatewayError, NotFound, RequestRejected, StoreError, UpstreamTimeout
from .feedback import FeedbackBook
from .metrics import prometheus
from .metrics.reading import MetricsReader
from .metrics.windows import check_no_parameters, read_query
from .ports import AlertStore, Background, Clock, EdgeModels
from .replies import (
    ChatEvents,
    Encoder,
    Reply,
    Stream,
    event_reply,
    json_lines_reply,
    json_reply,
    reported_reply,
)
from .report import Report, with_report
from .requests import FeedbackRequest, parse_chat, parse_prompt, validated
from .settings import Settings
from .sse import DONE_EVENT
from .streaming import Send
from .text_completions import TextEvents

MODELS_PREFIX = "/v1/models/"
CONCURRENT_CALLS = 4  # of one request with many prompts; a Worker may wait for six connections at a time

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_VIRTUAL_MODELS = ("auto", "edge", "cloud")


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request. `body` is its JSON, our header fields merged in; empty when there is none.

    is_part: whether it stands for one of the request's several prompts.
    """

    path: str
    body: dict[str, Any]
    tenant: Tenant
    cache_control: str | None
    forwarded: Mapping[str, str]
    background: Background
    report: Report
    started_ms: float
    query: str = ""
    is_part: bool = False


class Endpoints:
    """The API. Scope: isolate; holds no state of a request."""

    def __init__(
        self,
        settings: Settings,
        answering: Answering,
        edge: EdgeModels,
        clock: Clock,
        *,
        cache: AnswerCache,
        statistics: CacheStatistics,
        metrics: MetricsReader,
        alerts: AlertStore,
        budgets: Budgets,
        feedback: FeedbackBook | None = None,
    ) -> None:
        self._settings = settings
        self._budgets = budgets
        self._answering = answering
        self._cache = cache
        self._statistics = statistics
        self._metrics = metrics
        self._alerts = alerts
        self._embedder = Embedder(edge, clock)
        self._clock = clock
        self._feedback = feedback

    async def chat(self, call: Call) -> Reply:
        answer = await self._answering.answer(_chat_call(call, call.body))
        if isinstance(answer, StreamedAnswer):
            return event_reply(answer.chunks, ChatEvents(), call.report)
        return json_reply(with_report(answer.text, call.report.body_json()), call.report)

    async def prompt(self, call: Call) -> Reply:
        """`POST /`: one prompt, one answer, for people and scripts without an OpenAI client."""
        body = parse_prompt(call.body).to_chat_body(call.body)
        completion = await self._plain(_chat_call(call, body))
        simple = {
            "response": completions.text_of(completion),
            "location": call.report.location.colo,
            "latency_ms": round(call.report.timings_ms["total"], 1),
        }
        return reported_reply(simple, call.report)

    async def text(self, call: Call) -> Reply:
        request = text_completions.parse_text(call.body)
        is_stream = call.body.get("stream") is True
        bodies = text_completions.chat_bodies(call.body, request.prompts, stream=is_stream)
        if is_stream:
            return await self._stream_texts(call, bodies)
        calls = [_chat_call(_part(call, len(bodies)), body) for body in bodies]
        chats = await _together(self._plain, calls)
        self._merge_reports(call, calls)
        return reported_reply(text_completions.from_chats(chats), call.report)

    async def text_stream(self, call: Call) -> Reply:
        """`POST /v1/completions/stream`: the same as `stream: true`."""
        return await self.text(replace(call, body={**call.body, "stream": True}))

    async def batch(self, call: Call) -> Reply:
        """Many prompts at once. A prompt that fails leaves null in its place and an entry in `errors`."""
        prompts = text_completions.parse_batch(call.body).prompts
        bodies = text_completions.chat_bodies(call.body, prompts, stream=False)
        calls = [_chat_call(_part(call, len(bodies)), body) for body in bodies]
        results = await _together(self._plain_or_error, calls)
        self._merge_reports(call, calls)
        sequential_ms = sum(chat.report.timings_ms.get("total", 0.0) for chat in calls)
        latency_ms = call.report.timings_ms["total"]
        body: dict[str, Any] = {
            "responses": [None if isinstance(r, GatewayError) else completions.text_of(r) for r in results],
            "count": len(results),
            "latency_ms": round(latency_ms, 1),
            "sequential_ms": round(sequential_ms, 1),
            "errors": [{"index": i, **r.to_body()} for i, r in enumerate(results) if isinstance(r, GatewayError)],
        }
        return reported_reply(body, call.report)

    async def responses(self, call: Call) -> Reply:
        request = responses_api.parse_responses(call.body)
        chat = _chat_call(call, responses_api.chat_body(request, call.body))
        if request.stream:
            answer = await self._answering.answer(chat)
            assert isinstance(answer, StreamedAnswer)
            return event_reply(answer.chunks, responses_api.ResponsesEvents(request, call.body), call.report)
        return reported_reply(responses_api.from_chat(await self._plain(chat), request, call.body), call.report)

    async def embed(self, call: Call) -> Reply:
        request = embeddings.parse_embeddings(call.body)
        if call.tenant.models is not None and not call.tenant.models.allows(embeddings.MODEL, "edge"):
            raise not_allowed()
        call.report.residency = _residency(request.residency, call.tenant)
        if call.report.residency is not None:
            message = "Embeddings are made by Workers AI, which runs wherever there is room."
            raise RequestRejected(message, param="residency", code="unsupported_value")
        report = call.report
        report.route_reason = "pinned"  # errors tell it as well
        most = _embedding_cost(embeddings.tokens_of(request.texts))
        charge = await self._budgets.reserve(call.tenant, most, report, call.background)
        started_ms = self._clock.elapsed_ms()
        taken: list[str] = []
        try:
            parts = await _together(partial(self._vectors, taken), list(embeddings.calls(request.texts)))
        finally:
            _settle_embeddings(charge, report, taken)
        report.timings_ms["embed"] = self._clock.elapsed_ms() - started_ms
        report.timings_ms["total"] = self._clock.elapsed_ms() - call.started_ms
        report.served_by, report.model = "edge-model", embeddings.MODEL
        return reported_reply(embeddings.response(request, [vector for part in parts for vector in part]), report)

    async def explain(self, call: Call) -> Reply:
        """`POST /v1/route`: decides and runs nothing."""
        facts = self._answering.explain(_chat_call(call, call.body))
        call.report.model, call.report.tier = facts["model"], facts["tier"]
        return self._told(call, facts)

    async def rate(self, call: Call) -> Reply:
        """`POST /v1/feedback`: whether the answer of an earlier request was good."""
        request = validated(FeedbackRequest, call.body)
        await self._book().rate(call.tenant.id, request.request_id, request.rating)
        facts = {"object": "feedback", "request_id": request.request_id, "rating": request.rating}
        return self._told(call, facts)

    async def export_feedback(self, call: Call) -> Reply:
        """`GET /v1/feedback/export`: the tenant's rated and escalated answers, for scripts/train_router."""
        return json_lines_reply(await self._book().export(call.tenant.id), call.report)

    async def models(self, call: Call) -> Reply:
        """Those that can be asked for by the id that is listed: a wildcard stands for ids that it does not list."""
        named = [model.id for model in self._settings.catalog.models if not model.id.endswith("*")]
        models = map(partial(self._model_object, call), [*_VIRTUAL_MODELS, *named, embeddings.MODEL])
        return json_reply(completions.dump({"object": "list", "data": [each for each in models if each]}), call.report)

    async def model(self, call: Call) -> Reply:
        found = self._model_object(call, unquote(call.path.removeprefix(MODELS_PREFIX)))
        if found is None:
            message = "No such model. GET /v1/models lists those that exist."
            raise NotFound(message, param="model", code="model_not_found")
        return json_reply(completions.dump(found), call.report)

    def _model_object(self, call: Call, model_id: str) -> dict[str, Any] | None:
        """None when there is no such model for this key."""
        allowed, catalog = call.tenant.models, self._settings.catalog
        if model_id == embeddings.MODEL:
            return _embedder_object() if allowed is None or allowed.allows(model_id, "edge") else None
        if model_id in _VIRTUAL_MODELS:
            return _virtual_model(model_id) if allowed is None or allowed.may_ask(model_id, catalog) else None
        model = catalog.find(model_id)
        if model is None or not (allowed is None or allowed.allows(model.id, model.side)):
            return None
        return _model_object(model)

    def _book(self) -> FeedbackBook:
        if self._feedback is None:
            raise NotFound('This deployment keeps no feedback (FEEDBACK = "off").', code="feedback_off")
        return self._feedback

    async def purge(self, call: Call) -> Reply:
        """`DELETE /v1/cache`: by key, by tag, by tenant, or all."""
        request = read_purge(call.body, call.query)
        return self._told(call, await purge(request, call.tenant, self._cache, self._statistics))

    async def cache_stats(self, call: Call) -> Reply:
        return self._told(call, await self._statistics.read(call.tenant.id))

    async def usage(self, call: Call) -> Reply:
        """`GET /v1/usage`: what the tenant has spent, and what it may still spend."""
        return reported_reply(await self._budgets.usage(call.tenant), call.report)

    async def metrics(self, call: Call) -> Reply:
        """`GET /v1/metrics`: what all locations saw lately, of all tenants together."""
        window, by = read_query(call.query)
        return self._told(call, await self._metrics.metrics(window, by))

    async def prometheus(self, call: Call) -> Reply:
        """`GET /metrics`, for Prometheus."""
        headers = {**call.report.headers(), "content-type": prometheus.CONTENT_TYPE}
        return Reply(200, await self._metrics.prometheus_text(), headers)

    async def alerts(self, call: Call) -> Reply:
        """`GET /v1/alerts`: what is wrong now, and what was."""
        check_no_parameters(call.query)
        try:
            found = await self._alerts.read()
        except StoreError as exc:
            message = "The alerts can't be read right now; try again."
            raise GatewayError(message, code="alerts_unavailable", status=503, retry_after_s=1) from exc
        rules = [rule.told() for rule in self._settings.alert_rules]
        return self._told(call, {"object": "alerts", **found, "rules": rules})

    def _told(self, call: Call, facts: Mapping[str, object]) -> Reply:
        """What no model was asked for."""
        call.report.timings_ms["total"] = self._clock.elapsed_ms() - call.started_ms
        return reported_reply(facts, call.report)

    async def _plain(self, chat: ChatCall) -> dict[str, Any]:
        answer = await self._answering.answer(chat)
        assert isinstance(answer, Answer)
        return completions.parse_completion(answer.text)

    async def _plain_or_error(self, chat: ChatCall) -> dict[str, Any] | GatewayError:
        try:
            return await self._plain(chat)
        except GatewayError as exc:
            return exc

    async def _stream_texts(self, call: Call, bodies: Sequence[dict[str, Any]]) -> Reply:
        """One stream after the other; the first one's failure is still a proper status."""
        choices_per_prompt = call.body.get("n") or 1
        usages: list[Mapping[str, Any]] = []

        async def open_stream(place: int) -> Reply:
            report = call.report if place == 0 else _part(call, len(bodies)).report
            chat = replace(_chat_call(call, bodies[place]), report=report, is_part=len(bodies) > 1)
            answer = await self._answering.answer(chat)
            assert isinstance(answer, StreamedAnswer)
            is_final = place == len(bodies) - 1
            first_index = place * choices_per_prompt
            encoder: Encoder = TextEvents(first_index=first_index, is_final=is_final, usages=usages)
            reply = event_reply(answer.chunks, encoder, report)
            if isinstance(reply.body, str):
                _add_costs(call.report, report)
            else:
                reply.body.on_end = partial(_add_costs, call.report, report)
            return reply

        async def open_later(place: int) -> Reply:
            try:
                return await open_stream(place)
            except GatewayError as exc:
                now_s = int(self._clock.now_s())
                text = text_completions.failed_chunk(exc, place * choices_per_prompt, call.report.request_id, now_s)
                return Reply(exc.status, ChatEvents().encode([text], True))

        first = await open_stream(0)
        if len(bodies) == 1:
            return first
        rest = [partial(open_later, place) for place in range(1, len(bodies))]
        return Reply(first.status, ChainedStream(first.body, rest), first.headers)

    async def _vectors(self, taken: list[str], texts: Sequence[str]) -> list[list[float]]:
        """taken: gets the texts that the embedder took, also those that it took in vain."""
        try:
            vectors = await self._embedder.embed(texts, timeout_s=self._settings.edge_timeout_s)
        except (asyncio.CancelledError, UpstreamTimeout):
            taken += texts
            raise
        taken += texts
        return vectors

    def _merge_reports(self, call: Call, parts: Sequence[ChatCall]) -> None:
        """What all parts have in common, and the sums."""
        whole, reports = call.report, [part.report for part in parts]
        for name in ("served_by", "model", "tier", "route_reason", "residency", "cloud_region", "cache"):
            values = {getattr(report, name) for report in reports}
            setattr(whole, name, values.pop() if len(values) == 1 else None)
        whole.cache = whole.cache or "miss"  # some were found, some were not
        whole.cost_usd = sum(report.cost_usd or 0.0 for report in reports)
        whole.cost_avoided_usd = sum(report.cost_avoided_usd or 0.0 for report in reports)
        for name in ("input_tokens", "output_tokens", "avoided_tokens"):
            setattr(whole, name, sum(getattr(report, name) for report in reports))
        for name in ("usage_estimated", "collapsed", "hedged"):
            setattr(whole, name, any(getattr(report, name) for report in reports))
        whole.fallbacks = [failure for report in reports for failure in report.fallbacks]
        whole.timings_ms["total"] = self._clock.elapsed_ms() - call.started_ms


class ChainedStream:
    """Several streams as one, each opened when the one before has ended."""

    def __init__(self, first: str | Stream, rest: Sequence[Callable[[], Awaitable[Reply]]]) -> None:
        self._current: str | Stream = first
        self._rest = list(rest)
        self.on_end: Callable[[], None] | None = None
        self.has_failed = False

    async def run(self, send: Send[str]) -> None:
        await self._run_current(send)
        while self._rest:
            await self._open_next()
            await self._run_current(send)
        self._end()

    async def aclose(self) -> None:
        if not isinstance(self._current, str):
            await self._current.aclose()
        self._end()

    async def _run_current(self, send: Send[str]) -> None:
        if isinstance(self._current, str):
            send(self._current)
            return
        await self._current.run(send)
        self.has_failed = self._current.has_failed
        if not self._rest:
            return
        if self.has_failed:
            self._rest.clear()
            send(DONE_EVENT)
        else:
            await self._current.aclose()

    async def _open_next(self) -> None:
        """A prompt that fails ends the whole stream: its answer can't be left out without a word."""
        reply = await self._rest.pop(0)()
        self._current = reply.body
        if isinstance(reply.body, str) and reply.status != 200:
            self.has_failed = True
            self._rest.clear()

    def _end(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()


async def _together(work: Callable[[_Item], Awaitable[_Result]], items: Sequence[_Item]) -> list[_Result]:
    """The results in order, at most CONCURRENT_CALLS at a time; the first failure ends the others."""
    if len(items) == 1:
        return [await work(items[0])]
    gate = asyncio.Semaphore(CONCURRENT_CALLS)

    async def run(item: _Item) -> _Result:
        async with gate:
            return await work(item)

    running = [asyncio.ensure_future(run(item)) for item in items]
    try:
        return list(await asyncio.gather(*running))
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise


def _embedding_cost(tokens: int) -> Cost:
    return Cost(nano_usd(embeddings.cost_usd(tokens)), tokens)


def _settle_embeddings(charge: Charge | None, report: Report, taken: Sequence[str]) -> None:
    if taken:
        tokens = embeddings.tokens_of(taken)
        report.cost_usd, report.usage_estimated, report.input_tokens = embeddings.cost_usd(tokens), True, tokens
        if charge is not None:
            charge.settle(_embedding_cost(tokens), embeddings.MODEL)
    elif charge is not None:
        charge.release()


def _chat_call(call: Call, body: dict[str, Any]) -> ChatCall:
    request = parse_chat(body)
    residency = call.report.residency = _residency(request.residency, call.tenant)
    if residency != request.residency:
        request = request.model_copy(update={"residency": residency})
    return ChatCall(
        request=request,
        body=body,
        tenant=call.tenant,
        cache_control=call.cache_control,
        forwarded=call.forwarded,
        background=call.background,
        report=call.report,
        started_ms=call.started_ms,
        is_part=call.is_part,
    )


def _residency(asked: str | None, tenant: Tenant) -> str | None:
    """The area that an answer must be made in: the tenant's, which a request can't leave. Raises RequestRejected."""
    agreed = tenant.residency
    if agreed is not None and asked is not None and asked != agreed:
        message = f"Requests with this key stay in '{agreed}'."
        raise RequestRejected(message, param="residency", code="residency_not_allowed", status=403)
    return asked if agreed is None else agreed


def _add_costs(whole: Report, part: Report) -> None:
    """Of a later prompt to the request's report, which is what gets recorded."""
    if part is not whole:
        whole.cost_usd = (whole.cost_usd or 0.0) + (part.cost_usd or 0.0)
        whole.cost_avoided_usd = (whole.cost_avoided_usd or 0.0) + (part.cost_avoided_usd or 0.0)
        whole.input_tokens += part.input_tokens
        whole.output_tokens += part.output_tokens
        whole.avoided_tokens += part.avoided_tokens


def _part(call: Call, parts: int) -> Call:
    """A report of its own for one of several prompts; a single prompt keeps the request's."""
    report = call.report
    if parts == 1:
        return call
    return replace(call, report=Report(report.request_id, report.location, auth_open=report.auth_open), is_part=True)


def _model_object(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "cloudflare" if model.side == "edge" else "cloud",
        "nearside": {
            "side": model.side,
            "tier": model.tier,
            "context_window_tokens": model.context_window_tokens,
            "input_usd_per_million": model.input_usd_per_million,
            "output_usd_per_million": model.output_usd_per_million,
            "features": list(model.features),
        },
    }


def _virtual_model(model_id: str) -> dict[str, Any]:
    """A name that lets the router choose."""
    return {"id": model_id, "object": "model", "created": 0, "owned_by": "nearside"}


def _embedder_object() -> dict[str, Any]:
    facts = {"side": "edge", "dimensions": embeddings.DIMENSIONS}
    return {"id": embeddings.MODEL, "object": "model", "created": 0, "owned_by": "cloudflare", "nearside": facts}
