"""From a validated chat request to its answer: exact cache, else a route and a run. Acts only through ports."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from . import completions
from .allowed_models import not_allowed
from .budgets.charging import Budgets
from .caching.answers import AnswerCache
from .caching.directives import Directives, read_directives
from .caching.entries import Entry
from .caching.keys import cache_key
from .caching.refreshes import Refreshes
from .caching.statistics import CacheStatistics
from .cascade.policy import CascadeSettings
from .chat_call import Answer, ChatCall, StreamedAnswer
from .deciding import Decider
from .edge_allowance import EdgeAllowance
from .embedder import Embedder
from .errors import GatewayError, NotCached, StoreError, UpstreamError
from .feedback import FeedbackBook
from .fleet import Fleet
from .latency_sharing import SharedLatencies
from .ports import Clock, CloudRegions, EdgeModels, Flights, Log, Vectors
from .prompts.shaping import PromptTools
from .region_watch import RegionWatch
from .report import CacheTier, Report, with_report
from .requests import JsonBody, parse_chat
from .runs import ChatRun, Keeping, Services, name_model
from .semantic.cache import Embedded, Hit, SemanticCache
from .semantic.question import read_question
from .settings import Settings
from .streaming import StreamLimits
from .upstreams import Upstreams

ENDPOINT = "chat"


class Answering:
    """Answers chat requests. Scope: isolate; holds no state of a request."""

    # Long: it hands its parts on, without a decision.
    def __init__(
        self,
        settings: Settings,
        *,
        decider: Decider,
        latencies: SharedLatencies,
        cache: AnswerCache,
        statistics: CacheStatistics,
        edge: EdgeModels,
        vectors: Vectors,
        cloud: CloudRegions,
        flights: Flights,
        fleet: Fleet,
        watch: RegionWatch,
        budgets: Budgets,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
        feedback: FeedbackBook | None = None,
    ) -> None:
        """feedback: None when nothing is kept for ratings."""
        self._settings = settings
        self._decider = decider
        self._prompts = PromptTools(decider)
        self._latencies = latencies
        self._cache = cache
        self._statistics = statistics
        self._clock = clock
        self._log = log
        self._feedback = feedback
        self._refreshes = Refreshes(None if settings.single_flight == "off" else flights, clock, log)
        semantic = SemanticCache(
            self._cache,
            embedder=Embedder(edge, clock),
            vectors=vectors,
            timeout_s=settings.semantic_timeout_s,
            clock=clock,
            log=log,
        )
        if feedback is not None:
            feedback.on_bad_hit = self._forget_false_hit
        self._services = Services(
            catalog=settings.catalog,
            upstreams=Upstreams(
                settings,
                edge=edge,
                cloud=cloud,
                flights=flights,
                watch=watch,
                allowance=EdgeAllowance(clock, is_bound=edge.is_bound, recheck_s=settings.edge_recheck_s),
                fleet=fleet,
                clock=clock,
                log=log,
                new_id=new_id,
            ),
            cache=cache,
            statistics=statistics,
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
            lifetimes=settings.lifetimes,
            feedback=feedback,
            cascade=CascadeSettings(settings.cascade, settings.cascade_hold_s, decider.thresholds_for),
            budgets=budgets,
        )

    async def answer(self, call: ChatCall) -> Answer | StreamedAnswer:
        """The report of `call` is filled in as far as its headers need it. Raises GatewayError."""
        self._check_model(call)
        if _is_shaped(call):
            call = self._prompts.shape(call)
        asked, report = read_directives(call.body, call.cache_control), call.report
        is_stored = call.request.residency is None  # no store here can promise where it lies
        key = self._key(call, call.body) if is_stored and (asked.look_up or asked.store) else None
        report.cache_key = key
        report.cache = "miss" if key and asked.look_up else "bypass"
        found = embedded = None
        if asked.look_up:
            found = await self._look_up(call, key, asked) if key else None
            if key and found is not None:
                replayed = self._serve(call, key, asked, *found)
            else:
                hit, embedded = await self._look_up_by_meaning(call, asked)
                replayed = self._replay_hit(call, hit) if hit else None
            if replayed is not None:
                return replayed
        if asked.only_if_cached:
            report.cache = "unserved"
            raise NotCached("No stored answer will do, and 'Cache-Control: only-if-cached' lets no model be asked.")

        if is_stored:
            self._statistics.forwarded(call.tenant.id, call.background, looked_up=asked.look_up)
        route = self._decider.route(call)
        keeping = Keeping(key, asked, embedded, found[0] if found else None) if key and asked.store else None
        spare = partial(self._fall_back, call, key, asked, found)
        run = ChatRun(self._services, call, keeping, lambda error: _chunks_of(spare(error)))
        try:
            return await (run.stream(route) if call.request.stream else run.plain(route))
        except UpstreamError as exc:
            stale = spare(exc)
            if stale is None:
                raise
            return stale
        finally:
            if is_stored:
                self._latencies.exchange_later(report.location.colo, call.background)

    def explain(self, call: ChatCall) -> dict[str, Any]:
        """What would be done with this call, and why. Runs nothing."""
        self._check_model(call)
        return self._decider.explain(self._prompts.shape(call) if _is_shaped(call) else call)

    def _check_model(self, call: ChatCall) -> None:
        allowed = call.tenant.models
        if allowed is not None and not allowed.may_ask(call.request.model, self._settings.catalog):
            raise not_allowed()

    def _may_answer(self, call: ChatCall, entry: Entry) -> bool:
        """Another key of the same tenant may use models that this one may not."""
        allowed = call.tenant.models
        model = None if allowed is None else self._settings.catalog.find(entry.model)
        return allowed is None or (model is not None and allowed.allows(model.id, model.side))

    def _key(self, call: ChatCall, body: Mapping[str, Any]) -> str:
        tenant, version = call.tenant.id, self._settings.catalog.version
        normalisation = call.tenant.cache.normalisation or self._settings.cache_normalisation
        known = body.keys_by if isinstance(body, JsonBody) else {}
        key = known.get((tenant, normalisation))
        if key is None:
            key = known[tenant, normalisation] = cache_key(
                body, tenant=tenant, endpoint=ENDPOINT, catalog_version=version, normalisation=normalisation
            )
        return key

    async def _look_up(self, call: ChatCall, key: str, asked: Directives) -> tuple[Entry, CacheTier] | None:
        report, started_ms = call.report, self._clock.elapsed_ms()
        try:
            found = await self._cache.look_up(call.tenant.id, key, asked.tags)
            return found if found and self._may_answer(call, found[0]) else None
        except StoreError as exc:
            self._log.event("store_failed", request_id=report.request_id, reason=exc.message)
            report.cache_failed = True
            return None
        finally:
            report.timings_ms["cache"] = self._clock.elapsed_ms() - started_ms

    def _serve(
        self, call: ChatCall, key: str, asked: Directives, entry: Entry, tier: CacheTier
    ) -> Answer | StreamedAnswer | None:
        """The stored answer at once, if it is not too old; a stale one is refreshed after the response."""
        freshness = entry.freshness(self._clock.now_s(), asked)
        if freshness not in ("fresh", "stale"):
            call.report.cache = "stale"
            return None
        call.report.cache = "hit"
        if freshness == "stale" and asked.store and not asked.only_if_cached and self._refreshes.claim_here(key):
            call.background.run(self._refresh(call, Keeping(key, asked, replaces=entry)))
        return self._replay(call, key, entry, tier)

    def _fall_back(
        self,
        call: ChatCall,
        key: str | None,
        asked: Directives,
        found: tuple[Entry, CacheTier] | None,
        error: GatewayError,
    ) -> Answer | StreamedAnswer | None:
        """The stored answer after every model failed, if it may be used for that (RFC 5861, stale-if-error)."""
        if key is None or found is None or not isinstance(error, UpstreamError):
            return None
        if found[0].freshness(self._clock.now_s(), asked) == "expired":
            return None
        call.report.failed_status = error.status
        call.report.cloud_region = call.report.cloud_rtt_ms = None  # of a region that failed
        return self._replay(call, key, *found)

    async def _refresh(self, call: ChatCall, keeping: Keeping) -> None:
        """Asks a model again for an entry that was served stale. After the response; never raises."""
        if not await self._refreshes.claim_everywhere(keeping.key):
            return
        body = {name: value for name, value in call.body.items() if name not in ("stream", "stream_options")}
        report = Report(call.report.request_id, call.report.location, cache="stale")
        again = replace(
            call, body=body, request=parse_chat(body), report=report, started_ms=self._clock.elapsed_ms(), is_part=True
        )
        try:
            await ChatRun(self._services, again, keeping).plain(self._decider.route(again))
            self._statistics.refreshed(call.tenant.id, call.background, cost_usd=report.cost_usd or 0.0)
        except GatewayError as exc:
            self._log.event("refresh_failed", request_id=report.request_id, reason=exc.code)
        except Exception as exc:  # a background task: nobody else would tell
            self._log.event("crash", request_id=report.request_id, reason=type(exc).__name__)

    async def _look_up_by_meaning(self, call: ChatCall, asked: Directives) -> tuple[Hit | None, Embedded | None]:
        """What is most specific decides whether: the request, the tenant's key record, the variable."""
        wanted = call.request.semantic_cache
        if wanted is None:
            wanted = call.tenant.semantic_cache
        if not (self._settings.semantic_cache == "on" if wanted is None else wanted):
            return None, None
        if call.report.cache_failed:  # what meaning would find stands in the same store
            return None, None
        hit, embedded = None, None
        question = read_question(call, partial(self._key, call))
        if isinstance(question, str):
            call.report.semantic = question
        else:
            now_s = self._clock.now_s()
            hit, embedded = await self._services.semantic.look_up(
                call,
                question,
                accepts=lambda entry: entry.freshness(now_s, asked) == "fresh" and self._may_answer(call, entry),
            )
        assert call.report.semantic is not None  # why not, or what was found
        self._statistics.looked_up_by_meaning(call.tenant.id, call.background, call.report.semantic)
        return hit, embedded

    async def _forget_false_hit(self, tenant: str, key: str) -> None:
        await self._services.semantic.forget(tenant, key)
        await self._statistics.false_hit(tenant)

    def _replay_hit(self, call: ChatCall, hit: Hit) -> Answer | StreamedAnswer:
        report = call.report
        report.similarity, report.cache, report.cache_key = hit.cosine, "hit", hit.key
        return self._replay(call, hit.key, hit.entry, "semantic")

    def _replay(self, call: ChatCall, key: str, entry: Entry, tier: CacheTier) -> Answer | StreamedAnswer:
        report, now_s = call.report, self._clock.now_s()
        report.cache_tier = tier
        report.cache_age_s = entry.age_s(now_s)
        report.cache_ttl_s = entry.ttl_s - report.cache_age_s
        report.served_by = "semantic-cache" if tier == "semantic" else "exact-cache"
        report.route_reason = "cached"
        report.cost_usd = report.cost_usd or 0.0  # of models that were asked in vain
        report.cost_avoided_usd = entry.cost_usd
        report.avoided_tokens = entry.tokens
        name_model(report, entry.model, self._settings.catalog)
        report.timings_ms["total"] = self._clock.elapsed_ms() - call.started_ms
        self._statistics.served(call.tenant.id, call.background, entry, report)
        if self._feedback and tier == "semantic":  # an exact hit only repeats what can be rated under its own id
            self._feedback.note(call, cache_key=key)
        if not call.request.stream:
            return Answer(entry.body)
        facts, body = report.body_json(), completions.parse_completion(entry.body)
        chunks = list(completions.replay(body, include_usage=call.request.include_usage))
        chunks[0] = with_report(chunks[0], facts)
        chunks[-1] = with_report(chunks[-1], facts)
        return StreamedAnswer(chunks)


def _is_shaped(call: ChatCall) -> bool:
    """Whether anything is to be done to the prompt."""
    return bool(call.tenant.prompts or call.request.optimize_prompt or call.request.fit_context)


def _chunks_of(answer: Answer | StreamedAnswer | None) -> list[str] | None:
    """Of a replayed stream."""
    return answer.chunks if isinstance(answer, StreamedAnswer) and isinstance(answer.chunks, list) else None
