"""Traces: one span a request, one an upstream call, joined to the caller's, without a prompt."""

import json
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cloud_fallback import app as app_module
from cloud_fallback.tracing import NO_TRACER, OpenTelemetryTracer, make_tracer
from tests.cloud_fallback.harness import COMPLETION, FakeUpstream, call, service

TRACE = "a" * 32
PARENT = f"00-{TRACE}-{'b' * 16}-01"
PROMPT = "a very private prompt"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(app_module, "make_tracer", lambda region: OpenTelemetryTracer(provider))
    yield exporter
    provider.shutdown()


async def test_spans(spans: InMemorySpanExporter) -> None:
    """The upstream's traceparent is the client span's, in the caller's trace."""
    upstream = FakeUpstream.plain(COMPLETION)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}]}

    await call(service(upstream), "POST", "/v1/chat/completions", body, {"traceparent": PARENT, "x-request-id": "id-1"})

    client, server = spans.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in (client, server)} == {TRACE}
    assert client.parent is not None
    assert client.parent.span_id == server.context.span_id
    assert upstream.asked[0].headers["traceparent"] == f"00-{TRACE}-{client.context.span_id:016x}-01"
    assert server.attributes is not None
    assert (server.attributes["nearside.request_id"], server.attributes["http.response.status_code"]) == ("id-1", 200)
    assert PROMPT not in json.dumps([json.loads(span.to_json()) for span in (client, server)])


async def test_failure_is_named(spans: InMemorySpanExporter) -> None:
    """A failed request has its error code; the caller's trace is not needed."""
    await call(service(FakeUpstream.plain({}, 500)), "POST", "/v1/chat/completions", {"model": "gpt-4o"})

    server = spans.get_finished_spans()[-1]
    assert server.attributes is not None
    assert server.attributes["error.type"] == "upstream_error"


def test_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint nothing is loaded or sent."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert make_tracer("weur") is NO_TRACER

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert isinstance(make_tracer("weur"), OpenTelemetryTracer)


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are an extra: where they were not installed there are no traces, and calls go on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    assert make_tracer("weur") is NO_TRACER


async def test_request_without_a_model(spans: InMemorySpanExporter) -> None:
    """Has a span that names none."""
    await call(service(FakeUpstream()), "GET", "/health")

    (server,) = spans.get_finished_spans()
    assert server.attributes is not None
    assert "gen_ai.request.model" not in server.attributes
