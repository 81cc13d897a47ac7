"""The HTTP surface: paths and methods, authentication, and every outcome as a reply with a report."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from . import __version__, completions
from .answering import Answer, Answering, ChatCall, StreamedAnswer
from .auth import OPEN_TENANT, PresentedKey, read_key, tenant_of
from .catalog import Model
from .errors import GatewayError, MethodNotAllowed, NotFound, RateLimited, StoreError
from .location import Location
from .ports import Background, Clock, Log, RateLimiter, Store, Telemetry
from .report import Report, with_report
from .requests import parse_chat, parse_json_object, parse_prompt, with_header_controls
from .settings import Settings

PROBE_TIMEOUT_S = 2.0
RATE_PERIOD_S = 60  # of the binding in wrangler.toml

_SAFE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MODELS_PREFIX = "/v1/models/"
_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"


class Request(Protocol):
    """One HTTP request as the gateway sees it. Header names are lower case."""

    method: str
    path: str
    location: Location

    def header(self, name: str) -> str | None: ...

    def headers(self) -> Mapping[str, str]:
        """All of them, for the few requests that need more than a look-up."""
        ...

    async def body(self) -> str:
        """Raises BodyTooLarge, and RequestRejected when it is not UTF-8."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send. A body that is not a string is a stream of server-sent events."""

    status: int
    body: str | AsyncGenerator[str]
    headers: dict[str, str] = field(default_factory=dict)


Probe = Callable[[], Awaitable[bool]]
Handler = Callable[[Request, Background, Report, float], Awaitable[Reply]]


class Gateway:
    """Composition of everything that answers. Scope: isolate."""

    def __init__(
        self,
        settings: Settings,
        answering: Answering,
        *,
        keys: Store,
        rate_limiter: RateLimiter,
        telemetry: Telemetry,
        probes: Mapping[str, Probe],
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
    ) -> None:
        """probes: what `/ready` asks, by name."""
        self._settings = settings
        self._answering = answering
        self._keys = keys
        self._rate_limiter = rate_limiter
        self._telemetry = telemetry
        self._probes = probes
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._routes: dict[str, dict[str, Handler]] = {
            "/health": {"GET": self._health},
            "/ready": {"GET": self._ready},
            "/": {"POST": self._prompt},
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/route": {"POST": self._explain},
            "/v1/models": {"GET": self._models},
        }

    async def handle(self, request: Request, background: Background) -> Reply:
        """Never raises: every failure is a reply in the contract's form."""
        started_ms = self._clock.elapsed_ms()
        report = Report(self._request_id(request), request.location, auth_open=self._settings.auth == "open")
        try:
            reply = await self._handler(request)(request, background, report, started_ms)
        except GatewayError as exc:
            reply = self._refuse(exc, report, started_ms)
        except Exception as exc:  # the request boundary: a bug must still be an answer
            trace = _traceback(exc)
            self._log.event("crash", request_id=report.request_id, reason=type(exc).__name__, traceback=trace)
            message = "The gateway failed. The request id finds the details in its log."
            reply = self._refuse(GatewayError(message, code="internal_error"), report, started_ms)
        if isinstance(reply.body, str):
            self._record(report, reply.status)
            return reply
        return Reply(reply.status, self._recorded(reply.body, report), reply.headers)

    async def health_of(self, names: Iterable[str] | None = None) -> dict[str, bool]:
        """Name of each probe -> whether it answered well within PROBE_TIMEOUT_S."""
        names = list(self._probes if names is None else names)
        results = await asyncio.gather(*(self._ask(self._probes[name]) for name in names))
        return dict(zip(names, results, strict=True))

    def _refuse(self, error: GatewayError, report: Report, started_ms: float) -> Reply:
        report.timings_ms["total"] = self._clock.elapsed_ms() - started_ms
        self._log.event("refused", request_id=report.request_id, status=error.status, reason=error.code)
        return _error_reply(error, report)

    def _record(self, report: Report, status: int) -> None:
        if report.tenant is not None:
            self._telemetry.record(report, tenant=report.tenant, status=status)

    async def _recorded(self, events: AsyncGenerator[str], report: Report) -> AsyncGenerator[str]:
        """The same events; the record is written when they are over, because only then it is complete."""
        try:
            async for text in events:
                yield text
        finally:
            await events.aclose()
            self._record(report, 200)

    def _handler(self, request: Request) -> Handler:
        methods = self._routes.get(request.path)
        if methods is None and request.path.startswith(_MODELS_PREFIX):
            methods = {"GET": self._model}
        if methods is None:
            raise NotFound("Unknown path. The API is under /v1, see the README.", code="unknown_path")
        handler = methods.get(request.method)
        if handler is None:
            allow = ", ".join(methods)
            raise MethodNotAllowed(f"This path takes {allow}.", allow=allow)
        return handler

    async def _health(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        facts = {"status": "ok", "service": "nearside", "version": __version__, "colo": report.location.colo}
        return _json_reply(completions.dump(facts), report)

    async def _ready(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        """200 when everything that answers need is there, else 503; either way what is and what is not."""
        checks = await self.health_of()
        status = 200 if all(checks.values()) else 503
        facts = {"status": "ready" if status == 200 else "not ready", "checks": checks}
        return Reply(status, completions.dump(facts), {**report.headers(), "content-type": _JSON})

    async def _ask(self, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await probe()
        except (GatewayError, TimeoutError):
            return False

    async def _chat(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        answer = await self._answering.answer(await self._read_chat(request, background, report, started_ms))
        if isinstance(answer, StreamedAnswer):
            headers = {**report.headers(), "content-type": _EVENTS, "cache-control": "no-cache, no-transform"}
            return Reply(200, answer.events, headers)
        return _json_reply(with_report(answer.text, report.body_json()), report)

    async def _prompt(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        tenant = await self._authenticate(request, report)
        body = with_header_controls(parse_json_object(await request.body()), request.headers())
        chat_body = parse_prompt(body).to_chat_body(body)
        answer = await self._answering.answer(
            self._chat_call(chat_body, request, background, report, started_ms, tenant)
        )
        if not isinstance(answer, Answer):
            raise TypeError("a prompt is always answered plainly")
        simple = {
            "response": completions.text_of(completions.parse_completion(answer.text)),
            "location": report.location.colo,
            "latency_ms": round(report.timings_ms["total"], 1),
        }
        return _json_reply(with_report(completions.dump(simple), report.body_json()), report)

    async def _explain(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        """Decides and runs nothing."""
        route = self._answering.route(await self._read_chat(request, background, report, started_ms))
        facts = {
            "model": route.first.id,
            "tier": route.first.tier,
            "side": route.first.side,
            "reason": route.reason,
            "complexity": route.complexity,
            "candidates": [model.id for model in route.models],
        }
        report.model, report.tier = route.first.id, route.first.tier
        return _json_reply(with_report(completions.dump(facts), report.body_json()), report)

    async def _models(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        await self._authenticate(request, report)
        models = [
            *map(_virtual_model, ("auto", "edge", "cloud")),
            *map(_model_object, self._settings.catalog.models),
        ]
        return _json_reply(completions.dump({"object": "list", "data": models}), report)

    async def _model(self, request: Request, background: Background, report: Report, started_ms: float) -> Reply:
        await self._authenticate(request, report)
        model_id = unquote(request.path.removeprefix(_MODELS_PREFIX))
        if model_id in ("auto", "edge", "cloud"):
            return _json_reply(completions.dump(_virtual_model(model_id)), report)
        model = self._settings.catalog.find(model_id)
        if model is None:
            raise NotFound(
                "No such model. GET /v1/models lists those that exist.", param="model", code="model_not_found"
            )
        return _json_reply(completions.dump(_model_object(model)), report)

    async def _read_chat(self, request: Request, background: Background, report: Report, started_ms: float) -> ChatCall:
        tenant = await self._authenticate(request, report)
        body = with_header_controls(parse_json_object(await request.body()), request.headers())
        return self._chat_call(body, request, background, report, started_ms, tenant)

    def _chat_call(
        self,
        body: dict[str, Any],
        request: Request,
        background: Background,
        report: Report,
        started_ms: float,
        tenant: str,
    ) -> ChatCall:
        forwarded = {"x-request-id": report.request_id}
        traceparent = request.header("traceparent")
        if traceparent:
            forwarded["traceparent"] = traceparent
        return ChatCall(
            request=parse_chat(body),
            body=body,
            tenant=tenant,
            cache_control=request.header("cache-control"),
            forwarded=forwarded,
            background=background,
            report=report,
            started_ms=started_ms,
        )

    async def _authenticate(self, request: Request, report: Report) -> str:
        """The tenant, who may ask now; raises NotAuthenticated or RateLimited."""
        started_ms = self._clock.elapsed_ms()
        if self._settings.auth == "open":
            tenant = OPEN_TENANT
        else:
            key = read_key(request.header("authorization"))
            tenant = tenant_of(await self._key_record(key), key)
            report.timings_ms["auth"] = self._clock.elapsed_ms() - started_ms
        report.tenant = tenant
        if self._settings.rate_limit == "on" and not await self._may_ask(tenant, report):
            raise RateLimited("Too many requests: slow down and try again.", retry_after_s=RATE_PERIOD_S)
        return tenant

    async def _may_ask(self, tenant: str, report: Report) -> bool:
        """A limiter that fails lets everyone through: it is no accounting."""
        try:
            return await self._rate_limiter.allows(tenant)
        except StoreError as exc:
            self._log.event("rate_limiter_failed", request_id=report.request_id, reason=exc.message)
            return True

    async def _key_record(self, key: PresentedKey) -> str | None:
        """A key store that fails lets nobody in, and says that it is us."""
        try:
            return await self._keys.get(f"key:{key.id}")
        except StoreError as exc:
            raise GatewayError(
                "Keys can't be checked right now; try again.",
                code="auth_unavailable",
                status=503,
                retry_after_s=1,
            ) from exc

    def _request_id(self, request: Request) -> str:
        """The caller's, when it is safe in a header and a log; else a new one."""
        given = request.header("x-request-id")
        return given if given and _SAFE_ID.fullmatch(given) else f"req_{self._new_id()}"


def _json_reply(body: str, report: Report) -> Reply:
    return Reply(200, body, {**report.headers(), "content-type": _JSON})


def _error_reply(error: GatewayError, report: Report) -> Reply:
    headers = {**report.headers(), "content-type": _JSON}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Reply(error.status, with_report(completions.dump(error.to_body()), report.body_json()), headers)


def _model_object(model: Model) -> dict[str, Any]:
    owner = "cloudflare" if model.side == "edge" else "cloud"
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": owner,
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


def _traceback(exc: BaseException) -> str:
    """File, line and function of each frame, without the source line or the message: those may hold prompts."""
    frames = []
    trace = exc.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " > ".join(frames)
