"""The HTTP surface, and the one place where the parts are put together."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cloud_fallback import __version__
from cloud_fallback.boundary import Boundary, Exchange, error_response
from cloud_fallback.calls import Endpoint, parse_call
from cloud_fallback.errors import (
    BodyTooLarge,
    CallerGone,
    GatewayError,
    MethodNotAllowed,
    RequestRejected,
    UnknownPath,
    WrongMediaType,
)
from cloud_fallback.forwarding import Forwarder, while_connected
from cloud_fallback.logs import make_logger
from cloud_fallback.models import Catalog, load_catalog
from cloud_fallback.settings import Settings, load_settings
from cloud_fallback.upstream import HttpUpstream

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{1,256})?")


def create_app(settings: Settings | None = None, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The service. Raises ConfigError, which ends the process with one line.

    settings: None reads the environment. transport: instead of real connections to the upstream.
    """
    settings = settings or load_settings()
    catalog = load_catalog(settings.models_file)
    upstream = HttpUpstream(settings, transport)
    logger = make_logger()
    forwarder = Forwarder(upstream, settings, logger)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await upstream.aclose()

    app = FastAPI(
        title="Nearside cloud fallback",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Boundary, region=settings.region, logger=logger)
    app.add_exception_handler(GatewayError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)

    health = {"status": "ok", "service": "cloud_fallback", "region": settings.region, "version": __version__}

    async def get_health() -> Response:
        return JSONResponse(health)

    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [model.to_body() for model in catalog.models()]})

    async def get_model(model_id: str) -> Response:
        return JSONResponse(catalog.find(model_id).to_body())

    for path, answer in (
        ("/health", get_health),
        ("/v1/models", list_models),
        ("/v1/models/{model_id:path}", get_model),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)
    for endpoint in Endpoint:
        handler = _forwarding(endpoint, forwarder, catalog, settings.max_body_bytes)
        app.add_api_route(f"/v1{endpoint.value}", handler, methods=["POST"], response_model=None)
    return app


def __getattr__(name: str) -> FastAPI:
    """`app`, made when somebody asks: `uvicorn cloud_fallback.app:app` works, an import does nothing."""
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _forwarding(
    endpoint: Endpoint, forwarder: Forwarder, catalog: Catalog, max_body_bytes: int
) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        exchange: Exchange = request.state.exchange
        _check_media_type(request)
        with exchange.waiting_for_caller():
            body = await _read_body(request, max_body_bytes)
        call = parse_call(endpoint, body)
        model = catalog.find(call.model)
        exchange.model = model.id
        exchange.is_stream = call.is_stream
        headers = {"x-request-id": exchange.request_id}
        headers["accept"] = "text/event-stream" if call.is_stream else "application/json"
        traceparent = request.headers.get("traceparent", "")
        if _TRACEPARENT.fullmatch(traceparent):
            headers["traceparent"] = traceparent
        return await while_connected(request.receive, forwarder.forward(call, model, headers, exchange))

    return handler


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise WrongMediaType("The body must be application/json.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongMediaType("The body must not be compressed.")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    too_large = BodyTooLarge(f"The body must have at most {max_bytes} bytes.")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large
    except ClientDisconnect:
        raise CallerGone from None
    return bytes(body)


async def _on_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, GatewayError)
    exchange: Exchange = request.state.exchange
    exchange.reason = exc.code or type(exc).__name__
    return error_response(exc)


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    error: GatewayError
    if exc.status_code == 405:
        allow = ", ".join(sorted((exc.headers or {}).get("Allow", "").split(", ")))
        error = MethodNotAllowed(f"This path answers {allow} only.", allow=allow)
    elif exc.status_code == 404:
        error = UnknownPath("There is nothing at this path.")
    else:
        error = RequestRejected("The request could not be read.", status=exc.status_code)
    return await _on_error(request, error)
