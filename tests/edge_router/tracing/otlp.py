"""What a collector does with OTLP's JSON: parses it by the protocol's own schema, in which no unknown field passes."""

import base64
import json
import re
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def read_spans(body: str | bytes) -> list[Span]:
    """Of one export request."""
    request = ExportTraceServiceRequest()
    json_format.ParseDict(_with_binary_ids(json.loads(body)), request)
    return [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


def resource_of(body: str | bytes) -> dict[str, Any]:
    request = ExportTraceServiceRequest()
    json_format.ParseDict(_with_binary_ids(json.loads(body)), request)
    return _values(request.resource_spans[0].resource.attributes)


def attributes(span: Span) -> dict[str, Any]:
    return _values(span.attributes)


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _with_binary_ids(data: Any) -> Any:
    """OTLP's JSON has ids in hex and enumerations as numbers, where protobuf's own would have base64 and names."""
    if isinstance(data, list):
        return [_with_binary_ids(each) for each in data]
    if not isinstance(data, dict):
        return data
    read = {}
    for name, value in data.items():
        if name in _IDS and value:
            assert re.fullmatch(rf"[0-9a-f]{{{_IDS[name]}}}", value), (name, value)
            value = base64.b64encode(bytes.fromhex(value)).decode()
        if name in ("kind", "code"):
            assert isinstance(value, int), (name, value)
        read[name] = _with_binary_ids(value)
    return read
