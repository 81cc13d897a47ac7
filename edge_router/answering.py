"""From a validated chat request to its answer: exact cache, else a route and a run. Acts only through ports."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from . import completions, exact_cache, workers_ai
from .answer_cache import AnswerCache
from .cascade.policy import CascadeSettings
from .chat_call import Answer, ChatCall, StreamedAnswer
from .complexity import ComplexityScorer
from .embedder import Embedder
from .errors import UpstreamError
from .exact_cache import Directives, Entry
from .feedback import FeedbackBook
from .fleet import Fleet
from .latency import LatencyTable
from .ports import Clock, CloudRegions, EdgeModels, Flights, Log, Store, Vectors
from .report import CacheTier, with_report
from .routing import Needs, Route, choose_route
from .runs import ChatRun, Services, name_model
from .semantic.cache import Embedded, Hit, SemanticCache
from .semantic.question import read_question
from .settings import Settings
from .streaming import StreamLimits
from .tokens import estimate_tokens
from .upstreams import Upstreams

ENDPOINT = "chat"


class Answering:
    """Answers chat requests. Scope: isolate; holds no state of a request."""

    def __init__(
        self,
        settings: Settings,
        *,
        scorer: ComplexityScorer,
        store: Store,
        edge: EdgeModels,
        vectors: Vectors,
        cloud: CloudRegions,
        flights: Flights,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
        feedback: FeedbackBook | None = None,
    ) -> None:
        """feedback: None when nothing is kept for ratings."""
        self._settings = settings
        self._scorer = scorer
        self._cache = AnswerCache(store, memory_bytes=settings.memory_cache_bytes, clock=clock, log=log)
        self._clock = clock
        self._log = log
        self._feedback = feedback
        semantic = SemanticCache(self._cache, embedder=Embedder(edge, clock), vectors=vectors, clock=clock, log=log)
        if feedback is not None:
            feedback.on_bad_hit = semantic.forget
        self._services = Services(
            catalog=settings.catalog,
            upstreams=Upstreams(
                settings,
                edge=edge,
                cloud=cloud,
                flights=flights,
                fleet=Fleet(settings.regions, LatencyTable(), clock),
                clock=clock,
                log=log,
                new_id=new_id,
            ),
            cache=self._cache,
            semantic=semantic,
            clock=clock,
            log=log,
            new_id=new_id,
            limits=StreamLimits(
                heartbeat_s=settings.heartbeat_s,
                idle_s=settings.stream_idle_s,
                min_tokens_per_s=settings.min_tokens_per_s,
                grace_s=settings.slow_grace_s,
            ),
            cache_ttl_s=settings.cache_ttl_s,
            feedback=feedback,
            cascade=CascadeSettings(settings.cascade, settings.cascade_hold_s, settings.thresholds),
        )

    async def answer(self, call: ChatCall) -> Answer | StreamedAnswer:
        """The report of `call` is filled in as far as its headers need it. Raises GatewayError."""
        directives = exact_cache.read_directives(call.body, call.cache_control)
        key = self._key(call, call.body) if directives.look_up or directives.store else None
        embedded = None
        call.report.cache = "miss" if directives.look_up else "bypass"
        if key and directives.look_up:
            started_ms = self._clock.elapsed_ms()
            found = await self._cache.look_up(key, call.report.request_id)
            call.report.timings_ms["cache"] = self._clock.elapsed_ms() - started_ms
            if found is not None and found[0].is_fresh(self._clock.now_s(), directives):
                replayed = self._replay(call, key, *found)
                if replayed is not None:
                    return replayed
            elif found is not None:
                call.report.cache = "stale"
            else:
                hit, embedded = await self._look_up_by_meaning(call, directives)
                replayed = self._replay_hit(call, hit) if hit else None
                if replayed is not None:
                    return replayed

        route = self.route(call)
        run = ChatRun(self._services, call, key if directives.store else None, embedded)
        return await (run.stream(route) if call.request.stream else run.plain(route))

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

    def _key(self, call: ChatCall, body: Mapping[str, Any]) -> str:
        version = self._settings.catalog.version
        return exact_cache.cache_key(body, tenant=call.tenant.id, endpoint=ENDPOINT, catalog_version=version)

    async def _look_up_by_meaning(self, call: ChatCall, directives: Directives) -> tuple[Hit | None, Embedded | None]:
        """What is most specific decides whether: the request, the tenant's key record, the variable."""
        wanted = call.request.semantic_cache
        if wanted is None:
            wanted = call.tenant.semantic_cache
        if not (self._settings.semantic_cache == "on" if wanted is None else wanted):
            return None, None
        question = read_question(call, partial(self._key, call))
        if isinstance(question, str):
            call.report.semantic = question
            return None, None
        now_s = self._clock.now_s()
        return await self._services.semantic.look_up(
            call, question, accepts=lambda entry: entry.is_fresh(now_s, directives)
        )

    def _replay_hit(self, call: ChatCall, hit: Hit) -> Answer | StreamedAnswer | None:
        report = call.report
        report.similarity = hit.cosine
        replayed = self._replay(call, hit.key, hit.entry, "semantic")
        if replayed is None:
            report.semantic, report.similarity = "miss", None
        return replayed

    def _replay(self, call: ChatCall, key: str, entry: Entry, tier: CacheTier) -> Answer | StreamedAnswer | None:
        """None when the stored body is damaged: then it is a miss."""
        chunks: list[str] = []
        if call.request.stream:
            try:
                body = completions.parse_completion(entry.body)
                chunks = list(completions.replay(body, include_usage=call.request.include_usage))
            except (UpstreamError, KeyError) as exc:
                self._log.event("store_failed", request_id=call.report.request_id, reason=type(exc).__name__)
                self._cache.forget(key)
                return None

        report, now_s = call.report, self._clock.now_s()
        report.cache, report.cache_tier = "hit", tier
        report.cache_age_s = entry.age_s(now_s)
        report.cache_ttl_s = entry.ttl_s - report.cache_age_s
        report.served_by = "semantic-cache" if tier == "semantic" else "exact-cache"
        report.route_reason = "cached"
        report.cost_usd = 0.0
        report.cost_avoided_usd = entry.cost_usd
        name_model(report, entry.model, self._settings.catalog)
        report.timings_ms["total"] = self._clock.elapsed_ms() - call.started_ms
        if self._feedback:
            self._feedback.note(call, cache_key=key)
        if not call.request.stream:
            return Answer(entry.body)
        facts = report.body_json()
        chunks[0] = with_report(chunks[0], facts)
        chunks[-1] = with_report(chunks[-1], facts)
        return StreamedAnswer(chunks)


def _is_given(body: Mapping[str, Any], name: str) -> bool:
    """Whether a parameter asks for something; one choice and no log-probabilities are what everyone gives."""
    value = body.get(name)
    return bool(value) and not (name == "n" and value == 1)
