"""The edge report of an answer, typed: docs/report.md. What is unknown, or not as described there, is None."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What the caches did. status: `hit`, `miss`, `stale`, `bypass` or `unserved`."""

    status: str | None = None
    tier: str | None = None
    ttl_s: float | None = None
    age_s: float | None = None
    key: str | None = None
    failed_status: int | None = None
    failed: bool = False
    collapsed: bool = False
    semantic: str | None = None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """Where an answer was made, by what, why, and how long each part took. Empty for servers that are no Nearside.

    budget, cascade, prompt_cache: as in the body; docs/budgets.md, docs/cascade.md.
    """

    request_id: str | None = None
    colo: str | None = None
    client_rtt_ms: float | None = None
    served_by: str | None = None
    model: str | None = None
    tier: str | None = None
    complexity: float | None = None
    route_reason: str | None = None
    cascade: Mapping[str, Any] | None = None
    residency: str | None = None
    max_latency_ms: float | None = None
    is_late: bool | None = None
    cloud_region: str | None = None
    cloud_rtt_ms: float | None = None
    hedged: bool = False
    retry_after_s: float | None = None
    cost_usd: float | None = None
    cost_avoided_usd: float | None = None
    budget: Mapping[str, Any] | None = None
    prompt: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None
    usage_estimated: bool = False
    prompt_cache: Mapping[str, Any] | None = None
    fallbacks: tuple[str, ...] = ()
    cache: CacheReport | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_cached(self) -> bool:
        return self.served_by in ("exact-cache", "semantic-cache")


def read_report(headers: Mapping[str, str], body: object) -> EdgeReport:
    """headers: by names in lower case. body: the object `nearside`, which says more and wins; None without one."""
    told = body if isinstance(body, dict) else {}

    def text(name: str) -> str | None:
        value = told.get(name, headers.get("x-request-id" if name == "request_id" else _header(name)))
        return value if isinstance(value, str) else None

    def number(name: str) -> float | None:
        return _number(told.get(name, headers.get(_header(name))))

    fallbacks = told.get("fallbacks")
    timings = told.get("timings_ms")
    return EdgeReport(
        request_id=text("request_id"),
        colo=text("colo"),
        client_rtt_ms=number("client_rtt_ms"),
        served_by=text("served_by"),
        model=text("model"),
        tier=text("tier"),
        complexity=number("complexity"),
        route_reason=text("route_reason"),
        cascade=_mapping(told.get("cascade")),
        residency=text("residency"),
        max_latency_ms=number("max_latency_ms"),
        is_late=told["is_late"] if isinstance(told.get("is_late"), bool) else None,
        cloud_region=text("cloud_region"),
        cloud_rtt_ms=number("cloud_rtt_ms"),
        hedged=told.get("hedged") is True,
        retry_after_s=_number(told.get("retry_after_s")),
        cost_usd=number("cost_usd"),
        cost_avoided_usd=number("cost_avoided_usd"),
        budget=_mapping(told.get("budget")),
        prompt=_mapping(told.get("prompt")),
        usage=_mapping(told.get("usage")),
        usage_estimated=told.get("usage_estimated") is True,
        prompt_cache=_mapping(told.get("prompt_cache")),
        fallbacks=tuple(map(str, fallbacks)) if isinstance(fallbacks, list) else (),
        cache=_cache(_mapping(told.get("cache"))),
        timings_ms=_timings(timings) if isinstance(timings, dict) else _server_timing(headers.get("server-timing", "")),
    )


def _cache(told: Mapping[str, Any] | None) -> CacheReport | None:
    if told is None:
        return None
    status = _number(told.get("failed_status"))
    texts = {name: told[name] for name in ("status", "tier", "key", "semantic") if isinstance(told.get(name), str)}
    return CacheReport(
        **texts,
        ttl_s=_number(told.get("ttl_s")),
        age_s=_number(told.get("age_s")),
        similarity=_number(told.get("similarity")),
        failed_status=None if status is None else int(status),
        failed=told.get("failed") is True,
        collapsed=told.get("collapsed") is True,
    )


def _server_timing(value: str) -> dict[str, float]:
    parts = (entry.strip().partition(";dur=") for entry in value.split(","))
    return _timings({name: duration for name, _, duration in parts})


def _timings(told: Mapping[str, Any]) -> dict[str, float]:
    read = {name: _number(value) for name, value in told.items()}
    return {name: value for name, value in read.items() if value is not None}


def _header(name: str) -> str:
    return f"nearside-{name.replace('_', '-')}"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None
