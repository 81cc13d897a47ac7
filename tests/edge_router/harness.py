"""A gateway whose outside world is scripted, and short ways to ask it and to read its answers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edge_router.answering import Answering
from edge_router.auth import hash_secret
from edge_router.batches.api import BatchApi
from edge_router.budgets.charging import Budgets
from edge_router.caching.answers import AnswerCache
from edge_router.caching.policy import Lifetimes, Normalisation
from edge_router.caching.statistics import CacheStatistics
from edge_router.catalog import Catalog, Model
from edge_router.complexity import ComplexityScorer, KeywordRules, Thresholds
from edge_router.deciding import Decider
from edge_router.embeddings import DIMENSIONS
from edge_router.embeddings import MODEL as EMBEDDER
from edge_router.endpoints import Endpoints
from edge_router.feedback import FeedbackBook, offsets
from edge_router.fleet import Fleet
from edge_router.gateway import Gateway, Probe
from edge_router.latency import ENOUGH_SAMPLES, LatencyTable
from edge_router.latency_sharing import SharedLatencies
from edge_router.location import Location
from edge_router.metrics.reading import MetricsReader
from edge_router.metrics.recorder import Recorder
from edge_router.ports import Background, Store, Telemetry
from edge_router.prewarming.notes import HotNotes
from edge_router.region_watch import RegionWatch
from edge_router.replies import Reply
from edge_router.settings import Region, read_settings
from edge_router.tally import Tally
from edge_router.tracing.exporter import SpanExporter
from edge_router.tracing.spans import Sampling
from tests.fakes import (
    Caller,
    CloudCall,
    CollectingBackground,
    CollectingLog,
    CollectingTelemetry,
    CountingIds,
    EdgeCall,
    FakeAlerts,
    FakeClock,
    FakeCloudRegions,
    FakeCounters,
    FakeEdgeModels,
    FakeFeedbackStore,
    FakeFlights,
    FakeLedger,
    FakeLimits,
    FakeMetrics,
    FakePages,
    FakeRateLimiter,
    FakeRequest,
    FakeUpstreamResponse,
    FakeVectors,
    MemoryStore,
)

EDGE_SMALL = Model("edge-small-1", "edge", "edge-small", 8_000, 1.0, 2.0, shape="native")
EDGE_LARGE = Model("edge-large-1", "edge", "edge-large", 32_000, 2.0, 4.0, ("tools", "json"), thinks=True)
CLOUD_FAST = Model("cloud-fast-1", "cloud", "cloud-fast", 128_000, 10.0, 20.0, ("tools", "json", "vision"))
CLOUD_QUALITY = Model("cloud-quality-1", "cloud", "cloud-quality", 128_000, 100.0, 200.0, ("tools", "json", "vision"))
MODELS = (EDGE_SMALL, EDGE_LARGE, CLOUD_FAST, CLOUD_QUALITY)

LIFETIMES = Lifetimes(ttl_s=3600, swr_s=0, stale_if_error_s=0)

PARIS = Location("CDG", 12.5, "FR", "EU", True, 48.86, 2.35)
FRANKFURT = Region("fra", "http://fra.test", 50.11, 8.68)
VIRGINIA = Region("iad", "http://iad.test", 38.95, -77.45)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SIMPLE_PROMPT = "What is the capital of France?"
COMPLEX_PROMPT = "Explain step by step why the sky is blue."

SECRET = "s3cretS3cretS3cret"


def bearer(key_id: str = "k001") -> dict[str, str]:
    """The header of a caller whose record `key_records` made."""
    return {"authorization": f"Bearer nsk_{key_id}_{SECRET}"}


def key_records(**tenants: Mapping[str, Any]) -> MemoryStore:
    """Records of keys by their id; each holds at least `tenant`."""
    hashes = [hash_secret(SECRET)]
    return MemoryStore({f"key:{key_id}": json.dumps({"hashes": hashes, **facts}) for key_id, facts in tenants.items()})


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"
HEARTBEAT = ": keep-alive"


def chat_body(prompt: str = SIMPLE_PROMPT, **fields: Any) -> dict[str, Any]:
    """A chat request's JSON."""
    return {"messages": [{"role": "user", "content": prompt}], **fields}


def completion(text: str = "Paris.", **fields: Any) -> dict[str, Any]:
    """A plain OpenAI answer, as the cloud gives it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-up", "object": "chat.completion", "created": 17, "model": "up-model"}
    return {**head, "choices": [choice], "usage": USAGE, **fields}


def native(text: str = "Paris.", **fields: Any) -> dict[str, Any]:
    """A plain answer in Workers AI's own dialect."""
    return {"response": text, "usage": USAGE, **fields}


def event(data: object) -> bytes:
    """One server-sent event with JSON, or with text as it is."""
    return b"data: " + (data if isinstance(data, str) else json.dumps(data)).encode() + b"\n\n"


def chunk(delta: Mapping[str, Any], *, finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """One OpenAI chunk."""
    head = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 17, "model": "up-model"}
    return {**head, "choices": [{"index": index, "delta": dict(delta), "finish_reason": finish}], **fields}


def openai_events(*texts: str, usage: object = None) -> list[bytes]:
    """A whole OpenAI stream: role, texts, finish reason, usage when given, `[DONE]`."""
    events = [event(chunk({"role": "assistant", "content": ""})), *(event(chunk({"content": text})) for text in texts)]
    events.append(event(chunk({}, finish="stop")))
    if usage is not None:
        events.append(event({**chunk({}), "choices": [], "usage": usage}))
    return [*events, DONE]


def native_events(*texts: str, usage: object = None) -> list[bytes]:
    """A whole stream in Workers AI's own dialect."""
    events = [event({"response": text}) for text in texts]
    if usage is not None:
        events.append(event({"response": "", "usage": usage}))
    return [*events, DONE]


class FixedScore:
    """A scorer that says the same of every text."""

    name = "fixed"

    def __init__(self, score: float) -> None:
        self._score = score

    def score(self, text: str) -> float:
        return self._score

    def thresholds(self, *, edge_share: float | None, quality_floor: float | None) -> Thresholds:
        return Thresholds(edge_large=0.3, cloud_fast=0.7, cloud_quality=0.9)


class Unshared(SharedLatencies):
    """Leaves the background to what a test is about."""

    def exchange_later(self, colo: str | None, background: Background) -> None:
        pass


def vector_of(text: str) -> list[float]:
    """What the fake embedder makes of a text: no two lengths give the same."""
    return [len(text) + place / 1000 for place in range(DIMENSIONS)]


def answer_edge(call: EdgeCall) -> FakeUpstreamResponse:
    """Edge models that work: each in its dialect, plain or as a stream, saying which they are."""
    text = f"Paris, says {call.model_id}."
    if call.model_id == EMBEDDER:
        return FakeUpstreamResponse.plain({"data": [vector_of(each) for each in call.inputs["text"]]})
    if call.model_id == EDGE_SMALL.id:
        if call.inputs.get("stream"):
            return FakeUpstreamResponse.stream(*native_events("Paris, ", f"says {call.model_id}.", usage=USAGE))
        return FakeUpstreamResponse.plain(native(text))
    if call.inputs.get("stream"):
        return FakeUpstreamResponse.stream(*openai_events("Paris, ", f"says {call.model_id}.", usage=USAGE))
    return FakeUpstreamResponse.plain(completion(text))


def answer_cloud(call: CloudCall) -> FakeUpstreamResponse:
    """Regions that work, saying which they are."""
    says = f"says {call.body['model']}@{call.region_id}."
    if call.body.get("stream"):
        return FakeUpstreamResponse.stream(*openai_events("Paris, ", says, usage=USAGE))
    return FakeUpstreamResponse.plain(completion(f"Paris, {says}"))


class NoTally(Tally):
    """Counts nothing, so that a test sees only the background work that it is about."""

    def add(self, *_: object, **__: object) -> None:
        """Not counted."""


@dataclass(slots=True)
class World:
    """A gateway and everything around it. Change a part before `gateway` is used."""

    auth: Literal["keys", "open"] = "open"
    cors_origins: str = ""
    cascade: Literal["off", "on", "race"] = "off"
    cascade_hold_s: float = 0.05
    threshold_offset: Literal["on", "off"] = "off"
    models: Sequence[Model] = MODELS
    regions: tuple[Region, ...] = (VIRGINIA, FRANKFURT)
    scorer: ComplexityScorer = field(default_factory=KeywordRules)
    timeout_s: float = 5.0
    answer_timeout_s: float = 60.0
    fallback_keys: str = ""
    idle_s: float = 5.0
    heartbeat_s: float = 5.0
    min_tokens_per_s: float = 1.0
    slow_grace_s: float = 15.0
    lifetimes: Lifetimes = LIFETIMES
    normalisation: Normalisation = "strict"
    memory_cache_bytes: int = 0
    store: Store = field(default_factory=MemoryStore)
    keys: Store = field(default_factory=MemoryStore)
    edge: FakeEdgeModels = field(default_factory=lambda: FakeEdgeModels(answer_edge))
    vectors: FakeVectors = field(default_factory=FakeVectors)
    semantic_cache: Literal["on", "off"] = "off"
    cloud: FakeCloudRegions = field(default_factory=lambda: FakeCloudRegions(answer_cloud))
    flights: FakeFlights | None = None
    single_flight: Literal["off", "cloud", "all"] = "off"
    feedback: FakeFeedbackStore | None = None
    counters: FakeCounters | None = None
    metrics: FakeMetrics | None = None
    alerts: FakeAlerts | None = None
    sampling: Sampling | None = None
    exporter: SpanExporter | None = None
    ledger: FakeLedger | None = None
    rate_limiter: FakeRateLimiter = field(default_factory=FakeRateLimiter)
    limits: FakeLimits | None = None
    telemetry: CollectingTelemetry = field(default_factory=CollectingTelemetry)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    pages: FakePages = field(default_factory=FakePages)
    clock: FakeClock = field(default_factory=FakeClock)
    latencies: LatencyTable = field(default_factory=LatencyTable)
    shared: SharedLatencies | None = None
    log: CollectingLog = field(default_factory=CollectingLog)
    background: CollectingBackground = field(default_factory=CollectingBackground)
    new_id: Callable[[], str] = field(default_factory=CountingIds)
    batches: BatchApi | None = None
    hot: HotNotes | None = None

    def gateway(self) -> Gateway:
        settings = replace(
            read_settings({"FALLBACK_KEYS": self.fallback_keys, "CORS_ORIGINS": self.cors_origins}),
            auth=self.auth,
            threshold_offset=self.threshold_offset,
            cascade=self.cascade,
            cascade_hold_s=self.cascade_hold_s,
            rate_limit="on",
            single_flight=self.single_flight,
            semantic_cache=self.semantic_cache,
            regions=self.regions,
            catalog=Catalog(self.models),
            lifetimes=self.lifetimes,
            cache_normalisation=self.normalisation,
            edge_timeout_s=self.timeout_s,
            cloud_timeout_s=self.timeout_s,
            answer_timeout_s=self.answer_timeout_s,
            stream_idle_s=self.idle_s,
            heartbeat_s=self.heartbeat_s,
            min_tokens_per_s=self.min_tokens_per_s,
            slow_grace_s=self.slow_grace_s,
            memory_cache_bytes=self.memory_cache_bytes,
        )
        feedback = None
        if self.feedback is not None:
            feedback = FeedbackBook(self.feedback, clock=self.clock, log=self.log, flush_after_s=0)
        cache = AnswerCache(
            self.store,
            memory_bytes=self.memory_cache_bytes,
            timeout_s=settings.cache_timeout_s,
            clock=self.clock,
            log=self.log,
        )
        counters = self.counters or FakeCounters(self.clock)
        tally = (Tally if self.counters else NoTally)(counters, self.clock, self.log, flush_after_s=0)
        statistics = CacheStatistics(tally, counters)
        fleet = Fleet(settings.regions, self.latencies, self.clock)
        metrics = self.metrics or FakeMetrics(self.clock)
        recorder = Recorder(metrics, self.clock, self.log, breakers=fleet.states, flush_after_s=0)
        telemetry: list[Telemetry] = [self.telemetry]
        telemetry += [recorder] if self.metrics else []
        telemetry += [self.exporter] if self.exporter else []
        ledger = self.ledger or FakeLedger(self.clock)
        budgets = Budgets(ledger, self.clock, self.log, self.new_id, settle_again_after_s=(0, 0))
        answering = Answering(
            settings,
            budgets=budgets,
            decider=Decider(
                settings, self.scorer, fleet, self.latencies, self.clock, offset_of=offsets(settings, feedback)
            ),
            fleet=fleet,
            watch=RegionWatch(fleet, self.cloud, MemoryStore(), self.clock, self.log),
            latencies=self.shared or Unshared(self.latencies, MemoryStore(), self.clock, self.log),
            cache=cache,
            statistics=statistics,
            edge=self.edge,
            vectors=self.vectors,
            cloud=self.cloud,
            flights=self.flights or FakeFlights(self.cloud),
            clock=self.clock,
            log=self.log,
            new_id=self.new_id,
            feedback=feedback,
        )
        return Gateway(
            settings,
            Endpoints(
                settings,
                answering,
                self.edge,
                self.clock,
                cache=cache,
                statistics=statistics,
                metrics=MetricsReader(metrics, settings.regions, self.clock),
                alerts=self.alerts or FakeAlerts(self.clock),
                budgets=budgets,
                feedback=feedback,
            ),
            keys=self.keys,
            rate_limiter=self.rate_limiter,
            limits=self.limits or FakeLimits(self.clock),
            telemetry=telemetry,
            probes=self.probes,
            pages=self.pages,
            clock=self.clock,
            log=self.log,
            new_id=self.new_id,
            sampling=self.sampling,
            batches=self.batches,
            hot=self.hot,
        )

    async def ask(
        self,
        body: object = None,
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        location: Location = PARIS,
        of: Gateway | None = None,
    ) -> Reply:
        """The reply, a stream not read yet. `body`: JSON, text as it is, or the error that reading it raises.

        of: the isolate that is asked; None: a new one.
        """
        content = body if isinstance(body, str | Exception) else json.dumps(chat_body() if body is None else body)
        path, _, query = path.partition("?")
        request = FakeRequest(method, path, content, headers or {}, location, query)
        return await (of or self.gateway()).handle(request, self.background)

    async def kept(self) -> list[str]:
        """Keys in the store, once all work behind the answers is done."""
        await self.background.finish()
        assert isinstance(self.store, MemoryStore)
        return sorted(self.store.texts)

    @property
    def calls(self) -> int:
        """Models and regions asked so far."""
        return len(self.edge.calls) + len(self.cloud.calls)


class Asking:
    """One gateway asked many times, so that what it learns stays. A cloud model, unless told otherwise; no cache."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._gateway = world.gateway()

    async def ask(self, **fields: Any) -> Reply:
        body = {**chat_body(COMPLEX_PROMPT), "model": CLOUD_FAST.id, "use_cache": False, **fields}
        request = FakeRequest(content=json.dumps(body), location=PARIS)
        return await self._gateway.handle(request, self._world.background)

    async def settle(self, **fields: Any) -> None:
        """As many calls as it takes to know what is late."""
        for _ in range(ENOUGH_SAMPLES):
            reply = await self.ask(**fields)
            if not isinstance(reply.body, str):
                await read_stream(reply)


def edge(handler: Callable[[EdgeCall], FakeUpstreamResponse]) -> FakeEdgeModels:
    return FakeEdgeModels(handler)


def cloud(handler: Callable[[CloudCall], FakeUpstreamResponse]) -> FakeCloudRegions:
    return FakeCloudRegions(handler)


def read_json(reply: Reply) -> dict[str, Any]:
    """A plain reply's body."""
    assert isinstance(reply.body, str)
    assert reply.headers["content-type"] == "application/json"
    body = json.loads(reply.body)
    assert isinstance(body, dict)
    return body


def text_of(reply: Reply) -> str:
    """The first choice's text of a plain reply."""
    text = read_json(reply)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def cache_of(reply: Reply) -> dict[str, Any]:
    """What a plain reply's report says of the cache."""
    cache = read_json(reply)["nearside"]["cache"]
    assert isinstance(cache, dict)
    return cache


def error_of(reply: Reply) -> dict[str, Any]:
    """The error object, with the four keys that OpenAI's SDKs read."""
    error = read_json(reply)["error"]
    assert isinstance(error, dict)
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def read_events(reply: Reply) -> list[str]:
    """Every event and comment of a streamed reply, as text without its blank line."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    text = reply.body if isinstance(reply.body, str) else "".join(await Caller(reply.body).hear_all())
    *events, rest = text.split("\n\n")
    assert rest == ""
    return events


async def read_stream(reply: Reply) -> list[dict[str, Any]]:
    """Every chunk of a streamed reply, heartbeats left out; the stream ends with `[DONE]`, once."""
    return chunks_of(await read_events(reply))


def chunks_of(events: Sequence[str]) -> list[dict[str, Any]]:
    """The same of events that were read before."""
    *chunks, done = [each for each in events if each != HEARTBEAT]
    assert done == "data: [DONE]"
    assert done not in chunks
    return [json.loads(each.removeprefix("data: ")) for each in chunks]


def streamed_text(chunks: Sequence[Mapping[str, Any]], index: int = 0) -> str:
    """What a client would show of one choice."""
    choices = (choice for each in chunks for choice in each["choices"] if choice["index"] == index)
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def finish_reasons(chunks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that were sent, in order."""
    reasons = [choice["finish_reason"] for each in chunks for choice in each["choices"]]
    return [reason for reason in reasons if reason]
