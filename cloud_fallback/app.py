"""The one place where the parts are put together, and the paths that need no upstream."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from structlog.typing import FilteringBoundLogger

from cloud_fallback import __version__
from cloud_fallback.access import Access
from cloud_fallback.boundary import Boundary, Exchange, error_response
from cloud_fallback.budgets import Budgets
from cloud_fallback.dispatch import Dispatcher
from cloud_fallback.drain import Drain, drain_on_sigterm
from cloud_fallback.endpoints import Endpoints
from cloud_fallback.errors import ConfigError, GatewayError, MethodNotAllowed, RequestRejected, UnknownPath
from cloud_fallback.forwarding import Forwarder
from cloud_fallback.logs import make_logger
from cloud_fallback.metrics import Metrics
from cloud_fallback.models import DEFAULT_UPSTREAM, Catalog, UpstreamEntry, load_catalog
from cloud_fallback.settings import Settings, load_settings
from cloud_fallback.shared import MemoryState, RedisState, SharedState
from cloud_fallback.tracing import make_tracer
from cloud_fallback.upstream import Upstream

MIRROR_EVERY_S = 1.0
CANCEL_AGAIN_S = 0.5
DESCRIPTION = Path(__file__).with_name("openapi.json")  # made by scripts/openapi


def create_app(settings: Settings | None = None, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The service. Raises ConfigError, which ends the process with one line.

    settings: None reads the environment. transport: instead of real connections to the upstreams.
    """
    settings = settings or load_settings()
    catalog = load_catalog(settings.models_file)
    upstreams = make_upstreams(catalog, settings, transport)
    logger = make_logger()
    metrics = Metrics()
    drain = Drain(notice_s=settings.notice_s, drain_s=settings.drain_s)
    state: SharedState = MemoryState()
    if settings.redis_url is not None:
        state = RedisState(settings.redis_url.get_secret_value(), metrics)
    budgets = Budgets(state)
    dispatcher = Dispatcher(catalog, upstreams, settings, budgets, metrics)
    forwarder = Forwarder(dispatcher, settings, budgets, metrics, drain, logger)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _warn(settings, logger)
        drain_on_sigterm(drain)
        tasks = [asyncio.create_task(upstream.keep_warm()) for upstream in upstreams.values()]
        tasks.append(asyncio.create_task(_mirror(upstreams, state, budgets, metrics, logger)))
        try:
            yield
        finally:
            await end_all(tasks)
            await asyncio.gather(*(upstream.aclose() for upstream in upstreams.values()), state.aclose())

    app = FastAPI(
        title="Nearside cloud fallback",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(
        Endpoints,
        access=Access(settings.signing_keys, state, metrics),
        forwarder=forwarder,
        catalog=catalog,
        drain=drain,
        settings=settings,
    )
    app.add_middleware(
        Boundary,
        region=settings.region,
        logger=logger,
        metrics=metrics,
        drain=drain,
        tracer=make_tracer(settings.region),
    )
    app.add_exception_handler(GatewayError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    _add_paths(app, settings, catalog, upstreams, metrics, drain, state)
    return app


def make_upstreams(
    catalog: Catalog, settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> dict[str, Upstream]:
    """Raises ConfigError when an address or a key that the catalog names is not there."""
    entries = dict(catalog.upstreams)
    if catalog.needs_default:
        if settings.upstream_url is None:
            raise ConfigError("CLOUD_UPSTREAM_URL: must be set, because a model names no other upstream")
        entries[DEFAULT_UPSTREAM] = UpstreamEntry(id=DEFAULT_UPSTREAM, base_url=settings.upstream_url)
    made = {}
    for entry in entries.values():
        key = settings.upstream_key.get_secret_value() if settings.upstream_key is not None else None
        if entry.key_variable is not None:
            key = os.environ.get(entry.key_variable, "").strip()
            if not key or not all("!" <= char <= "~" for char in key):
                raise ConfigError(f"{entry.key_variable}: must be set, in visible ASCII, for the upstream {entry.id}")
        elif entry.id != DEFAULT_UPSTREAM:
            key = None  # the default's key is nobody else's
        made[entry.id] = Upstream(entry, key, settings, transport)
    return made


def __getattr__(name: str) -> FastAPI:
    """`app`, made when somebody asks: `uvicorn cloud_fallback.app:app` works, an import does nothing."""
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _add_paths(
    app: FastAPI,
    settings: Settings,
    catalog: Catalog,
    upstreams: Mapping[str, Upstream],
    metrics: Metrics,
    drain: Drain,
    state: SharedState,
) -> None:
    about = {"service": "cloud_fallback", "region": settings.region, "version": __version__}

    async def get_health() -> Response:
        return JSONResponse({"status": "ok", **about})

    async def get_ready() -> Response:
        """Whether to send calls here. A sick upstream or Redis is told and changes nothing: other replicas share it."""
        breakers = {
            upstream.id: sorted(model for model, health in upstream.known_health().items() if not health.is_closed)
            for upstream in upstreams.values()
        }
        store = "none" if settings.redis_url is None else "ok" if await state.is_up() else "down"
        body = {**about, "open_breakers": breakers, "store": store}
        if drain.is_draining:
            return JSONResponse({"status": "draining", **body}, status_code=503)
        return JSONResponse({"status": "ready", **body})

    async def get_metrics() -> Response:
        for upstream in upstreams.values():
            metrics.in_flight.labels(upstream.id).set(upstream.bulkhead.in_flight)
            metrics.queued.labels(upstream.id).set(upstream.bulkhead.queued)
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [model.to_body() for model in catalog.models()]})

    async def get_description() -> Response:
        return FileResponse(DESCRIPTION, media_type="application/json")

    async def get_model(model_id: str) -> Response:
        return JSONResponse(catalog.find(model_id).to_body())

    for path, answer in (
        ("/health", get_health),
        ("/ready", get_ready),
        ("/metrics", get_metrics),
        ("/openapi.json", get_description),
        ("/v1/models", list_models),
        ("/v1/models/{model_id:path}", get_model),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)


async def _mirror(
    upstreams: Mapping[str, Upstream],
    state: SharedState,
    budgets: Budgets,
    metrics: Metrics,
    logger: FilteringBoundLogger,
) -> None:
    """Tells the other replicas what happened here, and hears from them. Runs until cancelled."""
    while True:
        try:
            for upstream in upstreams.values():
                opened, upstream.opened = upstream.opened, []
                for model in opened:
                    metrics.breaker_opened.labels(upstream.id).inc()
                    logger.warning("breaker_opened", upstream=upstream.id, model=model[:128])
                    await state.tell_opened(upstream.id, model)
            for (upstream_id, model), age_s in (await state.opened_elsewhere()).items():
                if upstream_id in upstreams:
                    upstreams[upstream_id].open_by_hint(model, age_s)
            await budgets.mirror()
        except Exception:
            logger.exception("mirror_failed")
        await asyncio.sleep(MIRROR_EVERY_S)


async def end_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels them until they have ended: a cancellation that comes just as an answer does is lost in `wait_for` before
    Python 3.12, which libraries use, and a process that waits for such a task never ends.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def _warn(settings: Settings, logger: FilteringBoundLogger) -> None:
    if not settings.signing_keys:
        logger.warning(
            "auth_open", detail="FALLBACK_AUTH=open: anyone who reaches this port may spend on the upstreams"
        )
    if settings.redis_url is None and int(os.environ.get("WEB_CONCURRENCY", "1")) > 1:
        logger.warning("replay_window_per_worker", detail="without REDIS_URL a call can be replayed at another worker")


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
