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

from cloud_fallback.errors import CallerGone, GatewayError, UpstreamRateLimited

CALLER_GONE_STATUS = 499  # nginx's number; nobody receives it, the log has it

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """What is known about one request; lives in `scope["state"]["exchange"]`."""

    request_id: str
    started_s: float = field(default_factory=time.perf_counter)
    upstream_s: float = 0.0
    caller_s: float = 0.0
    model: str | None = None
    is_stream: bool = False
    status: int = CALLER_GONE_STATUS
    reason: str | None = None

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

    def __init__(self, app: ASGIApp, *, region: str, logger: FilteringBoundLogger) -> None:
        self._app = app
        self._region = region.encode()
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(request_id=_request_id(scope))
        scope.setdefault("state", {})["exchange"] = exchange
        app_s = 0.0
        is_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal app_s, is_started
            if message["type"] == "http.response.start":
                is_started = True
                waited_s = exchange.upstream_s + exchange.caller_s
                app_s = time.perf_counter() - exchange.started_s - waited_s
                timing = f"app;dur={app_s * 1e3:.2f}, upstream;dur={exchange.upstream_s * 1e3:.2f}"
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", exchange.request_id.encode()),
                    (b"nearside-cloud-region", self._region),
                    (b"server-timing", timing.encode()),
                ]
                exchange.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except CallerGone:
            exchange.reason = "caller_gone"
        except Exception:
            exchange.reason = "crash"
            self._logger.exception("crash", request_id=exchange.request_id)
            if not is_started:
                error = GatewayError("Something went wrong here; the request id is in x-request-id.")
                await error_response(error)(scope, receive, send_with_headers)
        self._logger.info(
            "request",
            request_id=exchange.request_id,
            method=scope["method"],
            path=scope["path"][:128],
            model=exchange.model,
            status=exchange.status,
            stream=exchange.is_stream,
            app_ms=round(app_s * 1e3, 2),
            upstream_ms=round(exchange.upstream_s * 1e3, 2),
            total_ms=round((time.perf_counter() - exchange.started_s) * 1e3, 2),
            reason=exchange.reason,
        )


def error_response(error: GatewayError) -> Response:
    """One of our errors as HTTP."""
    headers = {}
    if isinstance(error, UpstreamRateLimited) and error.retry_after is not None:
        headers["retry-after"] = error.retry_after
    allow = getattr(error, "allow", None)
    if allow:
        headers["allow"] = allow
    return JSONResponse(error.to_body(), status_code=error.status, headers=headers)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            asked = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(asked):
                return str(asked)
            break
    return f"req_{uuid.uuid4().hex}"
