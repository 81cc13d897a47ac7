"""Traces on the real runtime: a request's spans at the edge and in the cloud, as a collector receives them."""

import json
import secrets
import time
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.edge.conftest import Received
from tests.edge.control import Control, becomes_true, chat, hard
from tests.edge_router.tracing.otlp import attributes, read_spans

pytestmark = pytest.mark.workerd

WITHIN_S = 20.0
CALLER = secrets.token_hex(8)


def received(receiver: Received, trace_id: str) -> dict[str, list[Span]]:
    """By who sent them: the Worker sends JSON, the service protobuf."""
    spans: dict[str, list[Span]] = {"edge": [], "cloud": []}
    for path, body, headers in receiver.posts:
        if path == "/v1/traces" and headers["content-type"] == "application/json":
            spans["edge"] += read_spans(body)
        elif path == "/v1/traces":
            request = ExportTraceServiceRequest.FromString(body)
            for each in request.resource_spans:
                spans["cloud"] += [span for scope in each.scope_spans for span in scope.spans]
    return {who: [span for span in each if span.trace_id.hex() == trace_id] for who, each in spans.items()}


def is_whole(spans: dict[str, list[Span]]) -> bool:
    """Whether the edge's spans are there, which come together, and both kinds of the cloud's, which may not."""
    kinds = {span.kind for span in spans["cloud"]}
    return bool(spans["edge"]) and {Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT} <= kinds


def test_one_trace_through_edge_and_cloud(edge: httpx.Client, control: Control, receiver: Received) -> None:
    """The caller's span is the parent of the edge's, and that of the cloud's; no prompt is in any of them."""
    trace_id, prompt = secrets.token_hex(16), hard()
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    response = edge.post("/v1/chat/completions", json=chat(prompt, model="cloud"), headers=headers)
    assert becomes_true(lambda: is_whole(received(receiver, trace_id)), within_s=WITHIN_S), receiver.posts
    spans = received(receiver, trace_id)
    server, *parts = spans["edge"]
    cloud = {span.kind: span for span in spans["cloud"]}

    assert response.status_code == 200
    assert server.parent_span_id.hex() == CALLER
    assert {part.parent_span_id for part in parts} == {server.span_id}
    assert {"cache", "decide", "cloud"} <= {part.name for part in parts}
    assert cloud[Span.SPAN_KIND_SERVER].parent_span_id == server.span_id
    assert cloud[Span.SPAN_KIND_CLIENT].parent_span_id == cloud[Span.SPAN_KIND_SERVER].span_id
    assert attributes(server)["nearside.request_id"] == response.headers["x-request-id"]
    assert attributes(server)["nearside.request_id"] == attributes(cloud[Span.SPAN_KIND_SERVER])["nearside.request_id"]
    assert server.end_time_unix_nano >= server.start_time_unix_nano > time.time_ns() - 120 * 10**9
    assert not any(prompt.encode() in body for _, body, _ in receiver.posts)


def test_collector_that_is_down(edge: httpx.Client, control: Control, receiver: Received, worker_log: Any) -> None:
    """The request is answered as ever; the loss is logged."""
    trace_id = secrets.token_hex(16)
    receiver.statuses[:] = [503]
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    response = edge.post("/v1/chat/completions", json=chat(hard(), model="edge"), headers=headers)

    assert response.status_code == 200
    line = next(line for line in worker_log("worker", until="spans_lost").splitlines() if "spans_lost" in line)
    assert json.loads(line[line.index("{") :])["reason"] == "status 503"
