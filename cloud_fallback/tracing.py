"""Traces, when OpenTelemetry is installed (group `otel`) and OTEL_EXPORTER_OTLP_ENDPOINT is set; else nothing.

One server span a request, one client span an upstream call; ids, models and outcomes, never a prompt.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from edge_router.tracing.context import TraceContext


class Traced(Protocol):
    """What a request's span is told at its end."""

    request_id: str
    trace: TraceContext | None
    model: str | None
    status: int
    reason: str | None


class Tracer(Protocol):
    def request(self, scope: Mapping[str, Any], exchange: Traced) -> AbstractContextManager[object]:
        """Around one request."""
        ...

    def upstream_call(
        self, upstream_id: str, model_id: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Around one upstream call, until its answer began; gives the headers to send."""
        ...


class NoTracer:
    """A caller's trace is passed on as it came."""

    def request(self, scope: Mapping[str, Any], exchange: Traced) -> AbstractContextManager[object]:
        return nullcontext()

    def upstream_call(
        self, upstream_id: str, model_id: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Mapping[str, str]]:
        return nullcontext(headers)


NO_TRACER = NoTracer()


def make_tracer(region: str) -> Tracer:
    """Reads OpenTelemetry's own variables."""
    if not any(name in os.environ for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return NO_TRACER
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return NO_TRACER
    resource = Resource.create({"service.name": "nearside-cloud", "cloud.region": region})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OpenTelemetryTracer(provider)


class OpenTelemetryTracer:
    """`provider`: an OpenTelemetry TracerProvider."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._tracer = provider.get_tracer("cloud_fallback")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, scope: Mapping[str, Any], exchange: Traced) -> Iterator[None]:
        carrier = exchange.trace.headers() if exchange.trace else {}
        with self._tracer.start_as_current_span(
            f"{scope['method']} {scope['path'][:128]}",
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            record_exception=False,
        ) as span:
            try:
                yield
            finally:
                span.set_attribute("nearside.request_id", exchange.request_id)
                span.set_attribute("http.response.status_code", exchange.status)
                if exchange.model is not None:
                    span.set_attribute("gen_ai.request.model", exchange.model)
                if exchange.reason is not None:
                    span.set_attribute("error.type", exchange.reason)

    @contextmanager
    def upstream_call(self, upstream_id: str, model_id: str, headers: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        with self._tracer.start_as_current_span(
            f"chat {model_id}", kind=self._trace.SpanKind.CLIENT, record_exception=False
        ) as span:
            span.set_attribute("gen_ai.request.model", model_id)
            span.set_attribute("nearside.upstream", upstream_id)
            carrier: MutableMapping[str, str] = dict(headers)
            self._propagator.inject(carrier)
            yield carrier
