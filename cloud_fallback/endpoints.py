"""The paths that forward, as plain ASGI: what FastAPI adds per request and per chunk is left to the other paths."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_fallback.access import PROTECTED_PREFIX, Access
from cloud_fallback.boundary import Exchange, error_response
from cloud_fallback.calls import Endpoint, parse_call
from cloud_fallback.drain import Drain
from cloud_fallback.errors import (
    BodyTooLarge,
    BodyTooSlow,
    CallerGone,
    GatewayError,
    MethodNotAllowed,
    RequestRejected,
    WrongMediaType,
)
from cloud_fallback.forwarding import Forwarder, while_connected
from cloud_fallback.models import Catalog
from cloud_fallback.settings import Settings
from edge_router.cloud_api import DEADLINE_HEADER, FALLBACKS_HEADER

_DEADLINE = re.compile(r"[0-9]{1,7}")
_PATHS = {f"/v1{endpoint.value}": endpoint for endpoint in Endpoint}


class Endpoints:
    """ASGI middleware: answers POST on `_PATHS`, guards all of /v1, and leaves the rest to `app`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        forwarder: Forwarder,
        catalog: Catalog,
        drain: Drain,
        settings: Settings,
    ) -> None:
        self._app = app
        self._access = access
        self._forwarder = forwarder
        self._catalog = catalog
        self._drain = drain
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PROTECTED_PREFIX):
            await self._app(scope, receive, send)
            return
        exchange: Exchange = scope["state"]["exchange"]
        endpoint = _PATHS.get(scope["path"])
        try:
            if endpoint is None:
                signed = self._access.check_headers(scope["method"], scope["path"], Headers(scope=scope))
                await self._access.check_body(signed, b"")
                await self._app(scope, receive, send)
                return
            if scope["method"] != "POST":
                raise MethodNotAllowed("This path answers POST only.", allow="POST")
            response = await self._answer(endpoint, Request(scope, receive), exchange)
        except GatewayError as exc:
            exchange.reason = exc.code or type(exc).__name__
            response = error_response(exc)
        await response(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request, exchange: Exchange) -> ASGIApp:
        now_s = asyncio.get_running_loop().time()
        headers = request.headers
        signed = self._access.check_headers(request.method, request.url.path, headers)
        _check_media_type(headers)
        deadline_s = now_s + self._wait_s(headers)
        exchange.may_fall_back = _may_fall_back(headers)
        with exchange.waiting_for_caller():
            body = await self._read_body(request)
        await self._access.check_body(signed, body)
        call = parse_call(endpoint, body)
        model = self._catalog.find(call.model)
        exchange.model = model.id
        exchange.is_stream = call.is_stream
        upstream_headers = {"x-request-id": exchange.request_id}
        upstream_headers["accept"] = "text/event-stream" if call.is_stream else "application/json"
        if exchange.trace is not None:
            upstream_headers.update(exchange.trace.headers())
        async with self._drain.bounded():
            work = self._forwarder.forward(call, model, upstream_headers, exchange, deadline_s)
            return await while_connected(request.receive, work)

    def _wait_s(self, headers: Headers) -> float:
        """How long the caller waits for the first byte."""
        asked = headers.get(DEADLINE_HEADER)
        if asked is None:
            return self._settings.first_byte_timeout_s
        if not _DEADLINE.fullmatch(asked) or int(asked) == 0:
            raise RequestRejected(
                f"{DEADLINE_HEADER} must be 1 to 9999999 milliseconds.", param=DEADLINE_HEADER, code="invalid_value"
            )
        return int(asked) / 1000

    async def _read_body(self, request: Request) -> bytes:
        max_bytes = self._settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        too_large = BodyTooLarge(f"The body must have at most {max_bytes} bytes.")
        if declared.isdecimal() and int(declared) > max_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > max_bytes:
                        raise too_large
        except ClientDisconnect:
            raise CallerGone from None
        except TimeoutError:
            raise BodyTooSlow(f"The body did not arrive within {self._settings.body_timeout_s:g} s.") from None
        return bytes(body)


def _may_fall_back(headers: Headers) -> bool:
    asked = headers.get(FALLBACKS_HEADER)
    if asked not in (None, "off"):
        raise RequestRejected(
            f"{FALLBACKS_HEADER} must be off, or absent.", param=FALLBACKS_HEADER, code="invalid_value"
        )
    return asked is None


def _check_media_type(headers: Headers) -> None:
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise WrongMediaType("The body must be application/json.")
    if headers.get("content-encoding", "identity") != "identity":
        raise WrongMediaType("The body must not be compressed.")
