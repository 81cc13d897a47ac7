"""The HTTP surface: paths and methods, who may ask, and every outcome as a reply with a report."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import __version__, completions
from .auth import OPEN_TENANT, Scope, Tenant, check_scope, read_key
from .batches.api import BatchApi
from .endpoints import MODELS_PREFIX, Call, Endpoints
from .errors import GatewayError, MethodNotAllowed, NotAuthenticated, NotFound, RateLimited, RequestRejected, StoreError
from .keyring import KeyRing
from .limits.gate import LimitGate
from .location import Location
from .memory_cache import MemoryCache
from .ports import Background, Clock, LimitStore, Log, Pages, RateLimiter, Store, Telemetry
from .replies import Reply, error_reply, json_reply, page_reply
from .report import Report
from .requests import JsonBody, parse_json_object, with_header_controls
from .settings import Settings
from .timers import Deadline
from .tracing.context import read_context
from .tracing.spans import Sampling

if TYPE_CHECKING:
    from .cors import Cors
    from .prewarming.notes import HotNotes

PROBE_TIMEOUT_S = 2.0
KNOWN_BODIES_BYTES = 2 * 1024 * 1024
PARSED_SIZE = 8  # of parsed JSON and its text, in lengths of the text
RATE_PERIOD_S = 60  # of the binding in wrangler.toml

# Where a model is asked: what metrics are about.
ASKING = frozenset(
    {
        "/",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/completions/stream",
        "/v1/completions/batch",
        "/v1/responses",
        "/v1/embeddings",
    }
)

CHAT_PATH = "/v1/chat/completions"
BATCH_PATHS = ("/v1/files", "/v1/batches")

_SAFE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class Request(Protocol):
    """One HTTP request as the gateway sees it. Header names are lower case."""

    method: str
    path: str
    query: str
    is_secure: bool  # whether the caller came over https
    headers: Mapping[str, str]
    location: Location

    async def body(self) -> str:
        """Raises BodyTooLarge, and RequestRejected when it is not UTF-8."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives, however large; instead of `body`."""
        ...

    async def discard(self) -> None:
        """Reads what is left of the body for nobody: a connection with unread bytes is reset, and nobody sees why."""
        ...


Probe = Callable[[], Awaitable[bool]]
Endpoint = Callable[[Call], Awaitable[Reply]]


class Gateway:
    """Lets in, dispatches, reports. Scope: isolate."""

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        *,
        keys: Store,
        rate_limiter: RateLimiter,
        limits: LimitStore,
        telemetry: Sequence[Telemetry],
        probes: Mapping[str, Probe],
        pages: Pages,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
        sampling: Sampling | None = None,
        hot: "HotNotes | None" = None,
        batches: BatchApi | None = None,
    ) -> None:
        """probes: what `/ready` asks, by name. sampling: None when no spans are exported. hot, batches: None
        where there are none.
        """
        self._settings = settings
        self._keys = KeyRing(keys, clock, log)
        self._known_bodies: MemoryCache[JsonBody] = MemoryCache(max_bytes=KNOWN_BODIES_BYTES)
        self._rate_limiter = rate_limiter
        self._limits = LimitGate(limits, clock, log, new_id)
        self._telemetry = telemetry
        self._probes = probes
        self._pages = pages
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._sampling = sampling
        self._hot = hot
        self._cors = _cors(settings)
        self._batches = batches
        self._model = endpoints.model
        self._endpoints: dict[str, tuple[str, Endpoint, Scope]] = {
            "/": ("POST", endpoints.prompt, "infer"),
            "/v1/chat/completions": ("POST", endpoints.chat, "infer"),
            "/v1/completions": ("POST", endpoints.text, "infer"),
            "/v1/completions/stream": ("POST", endpoints.text_stream, "infer"),
            "/v1/completions/batch": ("POST", endpoints.batch, "infer"),
            "/v1/responses": ("POST", endpoints.responses, "infer"),
            "/v1/embeddings": ("POST", endpoints.embed, "infer"),
            "/v1/route": ("POST", endpoints.explain, "infer"),
            "/v1/models": ("GET", endpoints.models, "infer"),
            "/v1/cache": ("DELETE", endpoints.purge, "cache"),
            "/v1/cache/stats": ("GET", endpoints.cache_stats, "cache"),
            "/v1/usage": ("GET", endpoints.usage, "infer"),
            "/v1/metrics": ("GET", endpoints.metrics, "metrics"),
            "/metrics": ("GET", endpoints.prometheus, "metrics"),
            "/v1/alerts": ("GET", endpoints.alerts, "metrics"),
            "/v1/feedback": ("POST", endpoints.rate, "infer"),
            "/v1/feedback/export": ("GET", endpoints.export_feedback, "admin"),
        }

    async def handle(self, request: Request, background: Background) -> Reply:
        """Never raises: every failure is a reply in the contract's form."""
        started_ms = self._clock.elapsed_ms()
        report = Report(self._request_id(request), request.location, auth_open=self._settings.auth == "open")
        try:
            reply = await self._dispatch(request, background, report, started_ms)
        except GatewayError as exc:
            reply = self._refuse(exc, report, started_ms)
        except Exception as exc:  # the request boundary: a bug must still be an answer
            reply = self._crash(exc, report, started_ms)
        reply.headers.setdefault("server-timing", f"total;dur={self._clock.elapsed_ms() - started_ms:.1f}")
        reply.headers["x-content-type-options"] = "nosniff"
        if report.limit_headers:
            reply.headers.update(report.limit_headers)
        if self._cors is not None:
            reply.headers.update(self._cors.headers(request.headers.get("origin")))
        if isinstance(reply.body, str):
            self._record(report, reply.status, background)
        else:
            reply.body.on_end = lambda: self._record(report, reply.status, background)
        return reply

    async def answer_later(
        self,
        key_id: str | None,
        tenant_id: str,
        path: str,
        body: dict[str, Any],
        background: Background,
        cache_control: str | None = None,
    ) -> tuple[Reply, Report]:
        """One line of a batch, or a hot question, answered as if its key sent it now. Ids: as of `holder_of`.

        Never raises. It counts to no rate limit: nobody waits for it.
        """
        started_ms = self._clock.elapsed_ms()
        report = Report(f"req_{self._new_id()}", auth_open=self._settings.auth == "open", is_asking=True)
        try:
            tenant = await self.holder_of(key_id, tenant_id)
            report.tenant = tenant.id
            call = Call(
                path=path,
                body=body,
                tenant=tenant,
                cache_control=cache_control,
                forwarded={"x-request-id": report.request_id},
                background=background,
                report=report,
                started_ms=started_ms,
            )
            reply = await self._endpoints[path][1](call)
        except GatewayError as exc:
            reply = self._refuse(exc, report, started_ms)
        except Exception as exc:  # as for a request: the other lines of the batch go on
            reply = self._crash(exc, report, started_ms)
        self._record(report, reply.status, background)
        return reply, report

    async def holder_of(self, key_id: str | None, tenant_id: str) -> Tenant:
        """Who left work for this tenant, with the rights of now. key_id: of the key; None: the gateway was open.

        Raises RequestRejected when it is not to be done any more, and GatewayError when that can't be known.
        """
        if key_id is None:
            if self._settings.auth != "open":
                raise NotAuthenticated(
                    "This was left without an API key, and now it needs one.", code="missing_api_key"
                )
            return OPEN_TENANT
        holder = await self._keys.holder_of(key_id)
        if holder.id != tenant_id:
            raise NotAuthenticated("The API key that left this request is another tenant's now.")
        check_scope(holder, "infer")
        if holder.residency is not None:
            message = f"What is left for later can't be kept in '{holder.residency}', where this key's data stays."
            raise RequestRejected(message, code="residency_not_available", status=403)
        return holder

    async def health_of(self, names: Iterable[str] | None = None) -> dict[str, bool]:
        """Name of each probe -> whether it answered well within PROBE_TIMEOUT_S."""
        names = list(self._probes if names is None else names)
        results = await asyncio.gather(*(self._ask(self._probes[name]) for name in names))
        return dict(zip(names, results, strict=True))

    async def _dispatch(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        if request.method == "OPTIONS" and self._cors is not None:
            leave = self._cors.preflight(request.headers.get("origin"), request.headers)
            if leave is not None:
                return Reply(204, "", {**report.headers(), **leave})
        if request.path in ("/health", "/ready"):
            _check_method(request, "GET")
            return self._health(report) if request.path == "/health" else await self._ready(report)
        if request.path == "/dashboard" or (request.path == "/" and request.method in ("GET", "HEAD")):
            _check_method(request, "GET")
            return page_reply(await self._pages.text(request.path), report, is_secure=request.is_secure)
        if request.path == "/openapi.json":
            _check_method(request, "GET")
            return json_reply(await self._pages.text(request.path), report)
        if self._batches is not None and request.path.startswith(BATCH_PATHS):
            tenant = await self._let_in(request, "infer", report, background)
            return await self._batches.handle(request, tenant, self._key_id(request), report)
        method, endpoint, scope = self._endpoint(request.path)
        _check_method(request, method)
        report.is_asking = request.path in ASKING
        tenant = await self._let_in(request, scope, report, background)
        body: dict[str, Any] = {}
        if method == "POST":
            body = with_header_controls(await self._read_json(request, tenant), request.headers)
        elif method == "DELETE":
            body = parse_json_object(await request.body() or "{}")
        reply = await endpoint(
            Call(
                path=request.path,
                query=request.query if method != "POST" else "",
                body=body,
                tenant=tenant,
                cache_control=request.headers.get("cache-control"),
                forwarded={"x-request-id": report.request_id, **self._trace(request, report)},
                background=background,
                report=report,
                started_ms=started_ms,
            )
        )
        if self._hot is not None and report.served_by == "exact-cache" and request.path == CHAT_PATH:
            self._hot.note(report, self._key_id(request), body, background)
        if report.cache_tier == "memory" and isinstance(body, JsonBody):
            self._known_bodies.put(body.place, body, PARSED_SIZE * len(body.place), self._clock.now_s())
        return reply

    async def _read_json(self, request: Request, tenant: Tenant) -> JsonBody:
        """A text that was answered from memory a moment ago is not read anew."""
        text = await request.body()
        place = f"{tenant.id}\n{text}"  # not shared between tenants: how long it takes must tell nobody what others ask
        return self._known_bodies.get(place, self._clock.now_s()) or parse_json_object(text, place)

    def _trace(self, request: Request, report: Report) -> Mapping[str, str]:
        """The trace's headers for the cloud: of the caller, or of the span that begins here."""
        if self._sampling is not None and report.is_asking:
            report.span = self._sampling.begin(request.headers, request.path, self._clock.now_s())
            return report.span.context.headers()
        context = read_context(request.headers) if "traceparent" in request.headers else None
        return context.headers() if context else {}

    def _endpoint(self, path: str) -> tuple[str, Endpoint, Scope]:
        if path.startswith(MODELS_PREFIX):
            return "GET", self._model, "infer"
        found = self._endpoints.get(path)
        if found is None:
            raise NotFound("Unknown path. The API is under /v1, see the README.", code="unknown_path")
        return found

    def _refuse(self, error: GatewayError, report: Report, started_ms: float) -> Reply:
        report.timings_ms["total"] = self._clock.elapsed_ms() - started_ms
        report.retry_after_s = error.retry_after_s
        if not isinstance(error, RequestRejected):
            report.error_code = error.code or error.type
        self._log.event("refused", request_id=report.request_id, status=error.status, reason=error.code)
        return error_reply(error, report)

    def _crash(self, exc: Exception, report: Report, started_ms: float) -> Reply:
        trace = _traceback(exc)
        self._log.event("crash", request_id=report.request_id, reason=type(exc).__name__, traceback=trace)
        message = "The gateway failed. The request id finds the details in its log."
        return self._refuse(GatewayError(message, code="internal_error"), report, started_ms)

    def _key_id(self, request: Request) -> str | None:
        """Of the key that was let in; None when none is asked for."""
        return None if self._settings.auth == "open" else read_key(request.headers.get("authorization")).id

    def _record(self, report: Report, status: int, background: Background) -> None:
        if report.stay is not None:
            report.stay.end()
        if report.tenant is not None:
            for telemetry in self._telemetry:
                telemetry.record(report, background, tenant=report.tenant, status=status)

    def _health(self, report: Report) -> Reply:
        facts = {"status": "ok", "service": "nearside", "version": __version__, "colo": report.location.colo}
        return json_reply(completions.dump(facts), report)

    async def _ready(self, report: Report) -> Reply:
        """200 when everything that answers need is there, else 503; either way what is and what is not."""
        checks = await self.health_of()
        is_ready = all(checks.values())
        facts = {"status": "ready" if is_ready else "not ready", "checks": checks}
        return json_reply(completions.dump(facts), report, 200 if is_ready else 503)

    async def _ask(self, probe: Probe) -> bool:
        try:
            async with Deadline(self._clock, PROBE_TIMEOUT_S):
                return await probe()
        except (GatewayError, TimeoutError):
            return False

    async def _let_in(self, request: Request, scope: Scope, report: Report, background: Background) -> Tenant:
        """The tenant, who may ask this now; raises NotAuthenticated, RequestRejected or RateLimited."""
        tenant = OPEN_TENANT if self._settings.auth == "open" else await self._tenant_of(request, report)
        report.tenant = tenant.id
        if tenant is not OPEN_TENANT:  # whom nothing was agreed with
            check_scope(tenant, scope)
        if self._settings.rate_limit == "on" and not await self._may_ask(tenant.id, report):
            raise RateLimited("Too many requests: slow down and try again.", retry_after_s=RATE_PERIOD_S)
        if tenant.limits is not None:
            await self._limits.enter(tenant, tenant.limits, report, background)
        return tenant

    async def _tenant_of(self, request: Request, report: Report) -> Tenant:
        authorization, started_ms = request.headers.get("authorization"), self._clock.elapsed_ms()
        tenant = self._keys.known(authorization) or await self._keys.check(authorization)
        report.timings_ms["auth"] = self._clock.elapsed_ms() - started_ms
        return tenant

    async def _may_ask(self, tenant: str, report: Report) -> bool:
        """A limiter that fails lets everyone through: it is no accounting."""
        try:
            return await self._rate_limiter.allows(tenant)
        except StoreError as exc:
            self._log.event("rate_limiter_failed", request_id=report.request_id, reason=exc.message)
            return True

    def _request_id(self, request: Request) -> str:
        """The caller's, when it is safe in a header and a log; else a new one."""
        given = request.headers.get("x-request-id")
        return given if given and _SAFE_ID.fullmatch(given) else f"req_{self._new_id()}"


def _cors(settings: Settings) -> "Cors | None":
    """None, and nothing imported, when no page of another origin may ask."""
    if not settings.cors_origins:
        return None
    from .cors import Cors

    return Cors(settings.cors_origins)


def _check_method(request: Request, allowed: str) -> None:
    """What can be read can be asked for its head; the runtime leaves the body out."""
    if request.method != allowed and not (allowed == "GET" and request.method == "HEAD"):
        raise MethodNotAllowed(f"This path takes {allowed}.", allow="GET, HEAD" if allowed == "GET" else allowed)


def _traceback(exc: BaseException) -> str:
    """File, line and function of each frame, without source lines or messages: those may hold prompts."""
    frames = []
    trace = exc.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " > ".join(frames)
