"""The request boundary: request id, timings and region on every answer, one log line, no crash gets through.

Server-Timing's `app` is the time from the first byte we read to the first we send, less `upstream` (waiting
for the upstream) and less waiting for the caller's body.
"""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from cloud_fallback.drain import Drain
from cloud_fallback.errors import CallerGone, GatewayError, UpstreamRateLimited
from cloud_fallback.metrics import Metrics
from cloud_fallback.tracing import NO_TRACER, Tracer
from edge_router.cloud_api import REGION_HEADER
from edge_router.report import whole_wait_s
from edge_router.tracing.context import TraceContext, read_context

CALLER_GONE_STATUS = 499  # nginx's number; nobody receives it, the log has it

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SAFE_MODEL = re.compile(r"[A-Za-z0-9_@./:-]{1,128}")
_PROBES = frozenset({"/health", "/ready", "/metrics"})  # their good answers are not worth a line
_ENDPOINTS = _PROBES | {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"}


@dataclass(slots=True)
class Exchange:
    """What is known about one request; lives in `scope["state"]["exchange"]`.

    may_fall_back: whether the model's fallbacks may answer.
    """

    request_id: str
    started_s: float = field(default_factory=time.perf_counter)
    upstream_s: float = 0.0
    caller_s: float = 0.0
    trace: TraceContext | None = None
    model: str | None = None
    is_stream: bool = False
    may_fall_back: bool = True
    answered_by: str | None = None
    attempts: int = 0
    prompt_cache_percent: float | None = None
    tracer: Tracer = NO_TRACER
    status: int = CALLER_GONE_STATUS
    reason: str | None = None

    @property
    def trace_id(self) -> str | None:
        return None if self.trace is None else self.trace.trace_id

    @contextmanager
    def waiting_for_upstream(self) -> Iterator[None]:
        since_s = time.perf_counter()
        try:
            yield
        finally:
            self.upstream_s += time.perf_counter() - since_s

    @contextmanager
    def waiting_for_caller(self) -> Iterator[None]:
        since_s = time.perf_counter()
        try:
            yield
        finally:
            self.caller_s += time.perf_counter() - since_s


class Boundary:
    """Pure ASGI middleware around everything else."""

    def __init__(
        self, app: ASGIApp, *, region: str, logger: FilteringBoundLogger, metrics: Metrics, drain: Drain, tracer: Tracer
    ) -> None:
        self._app = app
        self._region = region.encode()
        self._logger = logger
        self._metrics = metrics
        self._drain = drain
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, trace = _ids(scope)
        exchange = Exchange(request_id=request_id, trace=trace, tracer=self._tracer)
        scope.setdefault("state", {})["exchange"] = exchange
        app_s: float | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal app_s
            if message["type"] == "http.response.start":
                waited_s = exchange.upstream_s + exchange.caller_s
                app_s = time.perf_counter() - exchange.started_s - waited_s
                message["headers"] = [*message["headers"], *self._headers(exchange, app_s)]
                exchange.status = message["status"]
            await send(message)

        self._metrics.open_requests.inc()
        try:
            with self._tracer.request(scope, exchange):
                await self._app(scope, receive, send_with_headers)
        except CallerGone:
            exchange.reason = "caller_gone"
        except Exception:
            exchange.reason = "crash"
            self._logger.exception("crash", request_id=exchange.request_id)
            if app_s is None:
                error = GatewayError("Something went wrong here; the request id is in x-request-id.")
                await error_response(error)(scope, receive, send_with_headers)
        finally:
            self._metrics.open_requests.dec()
        self._note(scope, exchange, app_s or 0.0)

    def _headers(self, exchange: Exchange, app_s: float) -> list[tuple[bytes, bytes]]:
        timing = f"app;dur={app_s * 1e3:.2f}, upstream;dur={exchange.upstream_s * 1e3:.2f}"
        headers = [
            (b"x-request-id", exchange.request_id.encode()),
            (REGION_HEADER.encode(), self._region),
            (b"server-timing", timing.encode()),
        ]
        if exchange.attempts:
            headers.append((b"nearside-cloud-attempts", b"%d" % exchange.attempts))
        if exchange.answered_by is not None and _SAFE_MODEL.fullmatch(exchange.answered_by):
            headers.append((b"nearside-cloud-model", exchange.answered_by.encode()))
        if exchange.prompt_cache_percent is not None:
            headers.append((b"nearside-prompt-cache-percent", b"%.1f" % exchange.prompt_cache_percent))
        if self._drain.is_draining:
            headers.append((b"connection", b"close"))
        return headers

    def _note(self, scope: Scope, exchange: Exchange, app_s: float) -> None:
        """One log line, and the counters."""
        total_s = time.perf_counter() - exchange.started_s
        path = scope["path"]
        endpoint = path if path in _ENDPOINTS else "other"
        self._metrics.requests.labels(endpoint, exchange.status).inc()
        self._metrics.app_seconds.labels(endpoint).observe(app_s)
        self._metrics.total_seconds.labels(endpoint).observe(total_s)
        if path in _PROBES and exchange.status == 200:
            return
        self._logger.info(
            "request",
            request_id=exchange.request_id,
            trace_id=exchange.trace_id,
            method=scope["method"],
            path=path[:128],
            model=exchange.model,
            answered_by=exchange.answered_by,
            attempts=exchange.attempts,
            status=exchange.status,
            stream=exchange.is_stream,
            app_ms=round(app_s * 1e3, 2),
            upstream_ms=round(exchange.upstream_s * 1e3, 2),
            total_ms=round(total_s * 1e3, 2),
            reason=exchange.reason,
        )


def error_response(error: GatewayError) -> Response:
    """One of our errors as HTTP."""
    headers = {}
    if isinstance(error, UpstreamRateLimited) and error.retry_after is not None:
        headers["retry-after"] = error.retry_after
    elif error.retry_after_s is not None:
        headers["retry-after"] = str(whole_wait_s(error.retry_after_s))
    allow = getattr(error, "allow", None)
    if allow:
        headers["allow"] = allow
    return JSONResponse(error.to_body(), status_code=error.status, headers=headers)


def _ids(scope: Scope) -> tuple[str, TraceContext | None]:
    """The request id, made up when there is none that can be taken, and the caller's trace."""
    request_id = None
    trace: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            asked = value.decode("latin-1")
            request_id = asked if _REQUEST_ID.fullmatch(asked) else None
        elif name in (b"traceparent", b"tracestate"):
            trace[name.decode()] = value.decode("latin-1")
    return request_id or f"req_{uuid.uuid4().hex}", read_context(trace)
