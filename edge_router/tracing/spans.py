"""A request's span and its parts, from the report. The names are OpenTelemetry's where ours mean the same.

The report knows how long each part took and in which order they ended, not when they began: they are laid one after the
other. Which of them ran side by side can't be seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .. import __version__
from ..report import Report
from .context import RequestSpan, TraceContext, read_context

SPAN_ID_BYTES: Final = 8
TRACE_ID_BYTES: Final = 16
_WHOLE: Final = frozenset({"total", "ttft"})  # of the timings; the others are parts
_OF_A_MODEL: Final = {"ai": "edge-model", "cloud": "cloud"}
_CLIENT_PARTS: Final = frozenset({"ai", "cloud", "embed", "vector"})
_INTERNAL, _SERVER, _CLIENT = 1, 2, 3
_ERROR: Final = 2
_OPERATIONS: Final = {
    "/v1/embeddings": "embeddings",
    "/v1/completions": "text_completion",
    "/v1/completions/stream": "text_completion",
    "/v1/completions/batch": "text_completion",
}

RandomHex = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which requests become spans: those whose caller samples, and of those without a trace this ratio."""

    ratio: float
    random_hex: RandomHex

    def begin(self, headers: Mapping[str, str], route: str, now_s: float) -> RequestSpan:
        """random_hex: so many random bytes as hex digits."""
        parent = read_context(headers)
        span_id = self.random_hex(SPAN_ID_BYTES)
        if parent is not None:
            context = TraceContext(parent.trace_id, span_id, parent.is_sampled, parent.state)
            return RequestSpan(context, parent.span_id, route, now_s)
        trace_id = self.random_hex(TRACE_ID_BYTES)
        # As OpenTelemetry's TraceIdRatioBased: the same for all who see the trace.
        is_sampled = int(trace_id[-14:], 16) < self.ratio * (1 << 56)
        return RequestSpan(TraceContext(trace_id, span_id, is_sampled), "", route, now_s)


def spans_of(report: Report, span: RequestSpan, *, tenant: str, status: int, random_hex: RandomHex) -> list[Any]:
    """The request's span and those of its parts, as OTLP's JSON has them."""
    total_ms = max([report.timings_ms.get("total", 0.0), *report.timings_ms.values()])
    shared = {"traceId": span.context.trace_id, "traceState": span.context.state}
    server = {
        **shared,
        "spanId": span.context.span_id,
        "parentSpanId": span.parent_id,
        "name": f"POST {span.route}",
        "kind": _SERVER,
        **_times(span.started_s, 0.0, total_ms),
        "attributes": _attributes(_request_facts(report, span.route, tenant, status)),
        "status": {"code": _ERROR} if report.error_code is not None or status >= 500 else {},
    }
    parts, began_ms = [], 0.0
    for part, lasted_ms in report.timings_ms.items():
        if part in _WHOLE:
            continue
        ended_ms = min(began_ms + lasted_ms, total_ms)
        parts.append(
            {
                **shared,
                "spanId": random_hex(SPAN_ID_BYTES),
                "parentSpanId": span.context.span_id,
                "name": part,
                "kind": _CLIENT if part in _CLIENT_PARTS else _INTERNAL,
                **_times(span.started_s, began_ms, ended_ms),
                "attributes": _attributes(_part_facts(report, part, span.route)),
                "status": {},
            }
        )
        began_ms = ended_ms
    return [server, *parts]


def export_request(spans: list[Any], lost: int) -> dict[str, Any]:
    """An ExportTraceServiceRequest. lost: spans that could not be sent before."""
    facts: dict[str, Any] = {"service.name": "nearside", "service.version": __version__, "cloud.provider": "cloudflare"}
    if lost:
        facts["nearside.lost_spans"] = lost
    scope = {"scope": {"name": "nearside", "version": __version__}, "spans": spans}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(facts)}, "scopeSpans": [scope]}]}


def _request_facts(report: Report, route: str, tenant: str, status: int) -> dict[str, Any]:
    ttft_ms = report.timings_ms.get("ttft")
    is_counted = not report.usage_estimated
    return {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": status,
        "error.type": report.error_code,
        "gen_ai.operation.name": _OPERATIONS.get(route, "chat"),
        "gen_ai.response.model": report.model,
        "gen_ai.response.time_to_first_chunk": None if ttft_ms is None else ttft_ms / 1000,
        "gen_ai.usage.input_tokens": report.input_tokens or None if is_counted else None,
        "gen_ai.usage.output_tokens": report.output_tokens or None if is_counted else None,
        "nearside.request_id": report.request_id,
        "nearside.tenant": tenant,
        "nearside.colo": report.location.colo,
        "nearside.client_rtt_ms": report.location.rtt_ms,
        "nearside.served_by": report.served_by,
        "nearside.tier": report.tier,
        "nearside.complexity": report.complexity,
        "nearside.route_reason": report.route_reason,
        "nearside.cache": report.cache,
        "nearside.cache_tier": report.cache_tier,
        "nearside.cloud_region": report.cloud_region,
        "nearside.cloud_rtt_ms": report.cloud_rtt_ms,
        "nearside.cascade": report.cascade.verdict if report.cascade else None,
        "nearside.fallbacks": len(report.fallbacks) or None,
        "nearside.collapsed": report.collapsed or None,
        "nearside.hedged": report.hedged or None,
        "nearside.cost_usd": report.cost_usd,
        "nearside.cost_avoided_usd": report.cost_avoided_usd,
    }


def _part_facts(report: Report, part: str, route: str) -> dict[str, Any]:
    if _OF_A_MODEL.get(part) != report.served_by:
        return {}
    facts = {"gen_ai.operation.name": _OPERATIONS.get(route, "chat"), "gen_ai.request.model": report.model}
    return {**facts, "nearside.cloud_region": report.cloud_region} if part == "cloud" else facts


def _times(started_s: float, from_ms: float, to_ms: float) -> dict[str, str]:
    """Nanoseconds since 1970, as text: JSON's numbers are too short for them."""
    started_ns = int(started_s * 1_000_000) * 1000
    return {
        "startTimeUnixNano": str(started_ns + int(from_ms * 1_000_000)),
        "endTimeUnixNano": str(started_ns + int(to_ms * 1_000_000)),
    }


def _attributes(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in facts.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
