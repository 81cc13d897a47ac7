"""The Worker: composes the gateway once per isolate and hands it every request."""

# ruff: noqa: E402

import gc

gc.disable()  # what modules make is no garbage, and looking for some takes a fifth of the import's time

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from js import Object
from pyodide.ffi import JsProxy
from workers import WorkerEntrypoint, import_from_javascript

from adapters.analytics import AnalyticsEngine
from adapters.assets import AssetPages
from adapters.bucket import R2Bucket
from adapters.cloud import FetchCloudRegions
from adapters.entrance import open_entrance, plan_entrance
from adapters.flights import DurableFlights
from adapters.http import WorkerRequest, to_response
from adapters.javascript import from_object
from adapters.rate_limit import BindingRateLimiter
from adapters.receivers import FetchReceiver
from adapters.runtime import CLOCK, ConsoleLog, WaitUntil, new_id
from adapters.vectors import VectorizeIndex
from adapters.workers_ai import edge_models
from adapters.workers_kv import KEYS_CACHE_TTL_S, WorkersKV
from alerts import Alerts, DurableAlerts
from batches import Batches, DurableBooks, messages_of
from counters import Counters, DurableCounters, DurableHot
from edge_router.alerts.watch import AlertWatch
from edge_router.answering import Answering
from edge_router.batches.api import BatchApi
from edge_router.batches.worker import BatchWorker
from edge_router.budgets.charging import Budgets
from edge_router.caching.answers import AnswerCache
from edge_router.caching.statistics import CacheStatistics
from edge_router.deciding import Decider
from edge_router.endpoints import Endpoints
from edge_router.errors import GatewayError
from edge_router.feedback import FeedbackBook, offsets
from edge_router.fleet import Fleet
from edge_router.gateway import Gateway
from edge_router.latency import LatencyTable
from edge_router.latency_sharing import SharedLatencies
from edge_router.learned import best_scorer
from edge_router.metrics.points import PointRecorder
from edge_router.metrics.reading import MetricsReader
from edge_router.metrics.recorder import Recorder
from edge_router.ports import Telemetry
from edge_router.region_watch import RegionWatch
from edge_router.replies import Reply, error_reply
from edge_router.report import Report
from edge_router.settings import Settings, SettingsError, read_settings
from edge_router.tally import Tally
from edge_router.timers import STEP_SHARE
from edge_router.tracing.exporter import SpanExporter
from edge_router.tracing.spans import Sampling
from feedback_log import DurableFeedback, FeedbackLog
from ledger import DurableLedger, Ledger
from limits import DurableLimits, TenantLimits
from metrics import DurableMetrics, Metrics
from single_flight import FlightObjects, SingleFlight

if TYPE_CHECKING:
    from edge_router.caching.sealing import Sealer
    from edge_router.prewarming.notes import HotNotes
    from edge_router.prewarming.run import Prewarming

BACKGROUND = WaitUntil()

__all__ = [
    "Alerts",
    "Batches",
    "Counters",
    "Default",
    "FeedbackLog",
    "Ledger",
    "Metrics",
    "SingleFlight",
    "TenantLimits",
]


EVERY_MINUTE = "* * * * *"
DEAD_LETTERS = "nearside-batches-dead"  # in wrangler.toml

# At import, so that a deployed Worker has it in the snapshot of its memory that it starts from.
SCORER, WHY_RULES = best_scorer()


class Parts(NamedTuple):
    """What events are handed to. prewarming: None when it is off."""

    settings: Settings
    gateway: Gateway
    alerts: AlertWatch
    prewarming: "Prewarming | None"


# Long: the one place where all parts are put together, without a decision.
def compose(env: Any) -> Parts:
    """env: the raw JavaScript environment, whose bindings outlive a request."""
    settings = read_settings(_variables(env))
    clock, log = CLOCK, ConsoleLog()
    if settings.auth == "open":
        log.warning("auth_open", reason="AUTH=open lets everyone in")
    if WHY_RULES is not None:
        log.event("keyword_rules_in_use", reason=WHY_RULES)
    edge, cloud = edge_models(env), FetchCloudRegions()
    cache = WorkersKV(env.CACHE, read_timeout_s=STEP_SHARE * settings.cache_timeout_s)
    feedback = FeedbackBook(DurableFeedback(env.RATINGS), clock=clock, log=log) if settings.feedback == "on" else None
    vectors = VectorizeIndex(env.VECTORS)
    latencies = LatencyTable()
    fleet = Fleet(settings.regions, latencies, clock, breaks=settings.breakers == "on")
    sealer = _sealer(settings)
    answers = AnswerCache(
        cache,
        memory_bytes=settings.memory_cache_bytes,
        timeout_s=settings.cache_timeout_s,
        clock=clock,
        log=log,
        sealer=sealer,
    )
    counters = DurableCounters(env.COUNTERS)
    statistics = CacheStatistics(Tally(counters, clock, log), counters)
    metrics = DurableMetrics(getattr(env, "METRICS", None))
    recorder = Recorder(metrics, clock, log, breakers=fleet.states)
    reader = MetricsReader(metrics, settings.regions, clock)
    alerts = DurableAlerts(getattr(env, "ALERTS", None))
    ledger = DurableLedger(getattr(env, "LEDGER", None), timeout_s=settings.ledger_timeout_s)
    budgets = Budgets(ledger, clock, log, new_id)
    answering = Answering(
        settings,
        budgets=budgets,
        decider=Decider(settings, SCORER, fleet, latencies, clock, offset_of=offsets(settings, feedback)),
        latencies=SharedLatencies(latencies, cache, clock, log),
        cache=answers,
        statistics=statistics,
        edge=edge,
        vectors=vectors,
        cloud=cloud,
        flights=DurableFlights(env.FLIGHTS, timeout_s=settings.cloud_timeout_s, wait_s=settings.flight_wait_s),
        fleet=fleet,
        watch=RegionWatch(fleet, cloud, cache, clock, log),
        clock=clock,
        log=log,
        new_id=new_id,
        feedback=feedback,
    )
    probes: dict[str, Callable[[], Awaitable[bool]]] = {
        f"cloud:{region.id}": partial(cloud.is_healthy, region) for region in settings.regions
    }
    probes["cache"] = cache.is_reachable
    probes["vectors"] = vectors.is_reachable
    hot = _hot_notes(env, sealer) if settings.prewarm == "on" else None
    gateway = Gateway(
        settings,
        Endpoints(
            settings,
            answering,
            edge,
            clock,
            cache=answers,
            statistics=statistics,
            metrics=reader,
            alerts=alerts,
            budgets=budgets,
            feedback=feedback,
        ),
        keys=WorkersKV(env.KEYS, read_timeout_s=settings.keys_timeout_s, cache_ttl_s=KEYS_CACHE_TTL_S),
        rate_limiter=BindingRateLimiter(env.RATE_LIMITER),
        limits=DurableLimits(getattr(env, "LIMITS", None), timeout_s=settings.limits_timeout_s),
        telemetry=_telemetry(env, settings, recorder),
        probes=probes,
        pages=AssetPages(env.ASSETS),
        clock=clock,
        log=log,
        new_id=new_id,
        sampling=Sampling(settings.trace_ratio, token_hex) if settings.otlp_endpoint else None,
        batches=BatchApi(R2Bucket(env.BATCH_FILES), DurableBooks(getattr(env, "BATCHES", None)), clock, new_id),
        hot=hot,
    )
    prewarming = _prewarming(env, answers, gateway, sealer) if hot is not None else None
    return Parts(settings, gateway, AlertWatch(settings, reader, alerts, FetchReceiver(), clock, log), prewarming)


def _hot_notes(env: Any, sealer: "Sealer | None") -> "HotNotes":
    from edge_router.prewarming.notes import HotNotes  # few deployments need it

    return HotNotes(DurableHot(env.COUNTERS), CLOCK, ConsoleLog(), sealer=sealer)


def _prewarming(env: Any, answers: AnswerCache, gateway: Gateway, sealer: "Sealer | None") -> "Prewarming":
    from edge_router.prewarming.run import Prewarming

    return Prewarming(DurableHot(env.COUNTERS), answers, gateway.answer_later, CLOCK, ConsoleLog(), sealer=sealer)


def compose_batches(env: Any, settings: Settings, gateway: Gateway) -> BatchWorker:
    """What the queue's messages are worked on with."""
    from adapters.batch_providers import FetchBatchProviders  # only what takes from the queue needs them
    from edge_router.batches.whole import WholeBatches

    log = ConsoleLog()
    bucket, books = R2Bucket(env.BATCH_FILES), DurableBooks(getattr(env, "BATCHES", None))
    ledger = DurableLedger(getattr(env, "LEDGER", None), timeout_s=settings.ledger_timeout_s)
    whole = WholeBatches(
        settings.batch_upstreams,
        settings.catalog,
        FetchBatchProviders(),
        bucket,
        books,
        Budgets(ledger, CLOCK, log, new_id),
        gateway,
        clock=CLOCK,
        log=log,
        poll_s=settings.batch_poll_s,
    )
    return BatchWorker(
        bucket, books, gateway, whole, clock=CLOCK, log=log, new_id=new_id, retry_s=settings.batch_retry_s
    )


def _sealer(settings: Settings) -> "Sealer | None":
    """None, and nothing imported, when stored answers stay as they are."""
    if not settings.cache_encryption_keys:
        return None
    from adapters.web_crypto import AesGcm
    from edge_router.caching.sealing import Sealer

    return Sealer(settings.cache_encryption_keys, AesGcm(), token_bytes)


def _telemetry(env: Any, settings: Settings, recorder: Recorder) -> list[Telemetry]:
    """Who is told of each request that has ended."""
    if settings.telemetry == "off":
        return []
    found: list[Telemetry] = [recorder]
    dataset = getattr(env, "ANALYTICS", None)
    if dataset is not None:
        found.append(PointRecorder(AnalyticsEngine(dataset), CLOCK))
    if settings.otlp_endpoint:
        endpoint, headers = settings.otlp_endpoint, settings.otlp_headers
        found.append(SpanExporter(endpoint, headers, FetchReceiver(), CLOCK, ConsoleLog(), random_hex=token_hex))
    return found


def _variables(env: Any) -> dict[str, Any]:
    """What the environment holds of data; the rest are bindings."""
    entries = {name: getattr(env, name) for name in Object.keys(env)}
    return {
        name: from_object(value) if isinstance(value, JsProxy) else value
        for name, value in entries.items()
        if not isinstance(value, JsProxy) or value.constructor.name in ("Object", "Array")
    }


class Isolate:
    """What lives as long as the isolate. Built at the first event, because bindings need one."""

    _parts: Parts | None = None
    _batches: BatchWorker | None = None

    @classmethod
    def parts(cls) -> Parts:
        if cls._parts is None:
            cls._parts = compose(import_from_javascript("cloudflare:workers").env)
        return cls._parts

    @classmethod
    def batches(cls) -> BatchWorker:
        if cls._batches is None:
            parts = cls.parts()
            cls._batches = compose_batches(
                import_from_javascript("cloudflare:workers").env, parts.settings, parts.gateway
            )
        return cls._batches


async def answer(request: WorkerRequest) -> Any:
    """The JavaScript `Response`."""
    try:
        gateway = Isolate.parts().gateway
    except SettingsError as exc:
        return to_response(_misconfigured(exc))
    return to_response(await gateway.handle(request, BACKGROUND))


async def queue(delivery: Any, env: Any, ctx: Any) -> None:
    """What batches are to have done next, and what was delivered too often."""
    messages = messages_of(delivery)
    if str(delivery.queue) == DEAD_LETTERS:
        await Isolate.batches().bury(messages)
    else:
        await Isolate.batches().take(messages, BACKGROUND)


async def scheduled(controller: Any, env: Any, ctx: Any) -> None:
    """controller.cron: which of those in wrangler.toml it is."""
    parts = Isolate.parts()
    if controller.cron == EVERY_MINUTE:
        await parts.alerts.run(controller.scheduledTime / 1000)
        return
    health = await parts.gateway.health_of()
    ConsoleLog().event("health", **{name: "up" if is_up else "down" for name, is_up in health.items()})
    if parts.prewarming is not None:
        await parts.prewarming.run(BACKGROUND)


class Default(WorkerEntrypoint):  # type: ignore[misc]  # the SDK has no types outside Pyodide
    """HTTP requests, the queue and the cron, until the first event has opened the short way for the others."""

    async def fetch(self, request: Any) -> Any:
        await open_entrance()
        # One that was on its way in when another opened the entrance is not wrapped by the SDK.
        return await answer(WorkerRequest(getattr(request, "js_object", request)))

    async def queue(self, delivery: Any, env: Any, ctx: Any) -> None:
        await open_entrance()
        await queue(delivery, env, ctx)

    async def scheduled(self, controller: Any, env: Any, ctx: Any) -> None:
        await open_entrance()
        await scheduled(controller, env, ctx)


OBJECTS = {SingleFlight.__name__: FlightObjects().answer}
plan_entrance(
    sys.modules[__name__],
    Default.__name__,
    answer,
    objects=OBJECTS,
    others={"scheduled": scheduled, "queue": queue},
)


def _misconfigured(error: SettingsError) -> Reply:
    """The log names the variable; callers need not know it."""
    ConsoleLog().event("misconfigured", reason=str(error))
    told = GatewayError("The gateway is not configured well; its log names the variable.", code="misconfigured")
    return error_reply(told, Report(f"req_{new_id()}"))


# What modules made is never looked through, which took the longest pauses. Other old objects are, in parts, one with
# each collection of young ones: by default in a hundred of these, in which an isolate that is asked too much keeps
# several times what is in use.
gc.freeze()
gc.set_threshold(gc.get_threshold()[0], 2)
gc.enable()
