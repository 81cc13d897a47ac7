"""What every response tells: where it was answered, how far that was, by what, why, and how long each part took.

Headers: our `nearside-*`, plus the standards `Server-Timing` (W3C) and `Cache-Status` (RFC 9211). The same
facts stand in the body under `nearside`. A fact that is unknown is absent, never a guess.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any, Literal

from .cascade.outcome import Outcome
from .limits.stay import Stay
from .location import UNKNOWN, Location
from .tracing.context import RequestSpan

ServedBy = Literal["exact-cache", "semantic-cache", "edge-model", "cloud"]
CacheOutcome = Literal["hit", "miss", "stale", "bypass", "unserved"]
CacheTier = Literal["memory", "kv", "semantic"]
# Of the semantic cache: found or not; why it was not asked; what failed.
SemanticOutcome = Literal[
    "hit", "miss", "residency", "tools", "choices", "no_text", "too_long", "embed_failed", "vector_failed"
]


_encode = json.JSONEncoder(separators=(",", ":")).encode  # ASCII only; made once, not per response


@dataclass(slots=True)
class Report:
    """Filled in while one request is handled. Scope: request.

    tenant: who asks, once known; for telemetry, never shown. So are: is_asking, whether a model is asked for an answer;
    error_code, of a failure that is not the caller's; input_tokens and output_tokens of the answer that was given,
    avoided_tokens of one that was not asked for anew; span, when traces are exported; stay, to be ended with it.
    limit_headers: what is told of the tenant's limits.
    cache_ttl_s: below zero for a stale answer. cache_key: of the entry, by which it can be purged.
    residency: the area that the answer had to be made in, and was or it is an error.
    failed_status: why a stale answer was given: what asking the models came to.
    max_latency_ms: what the caller asked for.
    cache_failed: the store of answers could not be asked.
    semantic: what became of a look-up by meaning; similarity: the cosine of the two questions, for a hit.
    prompt: what was done to the prompt before it was sent; None: nothing.
    usage: token counts, in streams, whose body may not carry them.
    cached_input_share: of the input tokens, what the provider read from its own prompt cache; absent if it did not say.
    hedged: a second region was asked because the first one was late.
    budget: what is left of the tenant's; or that its ledger could not be asked.
    retry_after_s: of a failure; a stream has no header left to say it.
    timings_ms: part -> milliseconds, in the order in which the parts ended. In production the clock
    only moves at I/O, so a part that only computes reads 0.
    """

    request_id: str
    location: Location = UNKNOWN
    served_by: ServedBy | None = None
    model: str | None = None
    tier: str | None = None
    complexity: float | None = None
    route_reason: str | None = None
    residency: str | None = None
    max_latency_ms: float | None = None
    cloud_region: str | None = None
    cloud_rtt_ms: float | None = None
    cache: CacheOutcome | None = None
    cache_tier: CacheTier | None = None
    cache_ttl_s: float | None = None
    cache_age_s: float | None = None
    cache_failed: bool = False
    cache_stored: bool = False
    cache_key: str | None = None
    failed_status: int | None = None
    semantic: SemanticOutcome | None = None
    similarity: float | None = None
    collapsed: bool = False
    hedged: bool = False
    retry_after_s: float | None = None
    cascade: Outcome | None = None
    cost_usd: float | None = None
    cost_avoided_usd: float | None = None
    budget: Mapping[str, Any] | None = None
    prompt: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None
    cached_input_share: float | None = None
    usage_estimated: bool = False
    fallbacks: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    auth_open: bool = False
    tenant: str | None = None
    stay: Stay | None = None
    limit_headers: Mapping[str, str] = field(default_factory=dict)
    is_asking: bool = False
    error_code: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    avoided_tokens: int = 0
    span: RequestSpan | None = None

    def take_over(self, aside: "Report") -> None:
        """What calls learned that were made apart from this report, now that one of them has answered."""
        for name in ("cloud_region", "cloud_rtt_ms", "collapsed", "hedged"):
            setattr(self, name, getattr(aside, name))
        self.fallbacks += aside.fallbacks
        self.timings_ms.update(aside.timings_ms)

    @property
    def is_late(self) -> bool | None:
        """Whether `max_latency_ms` passed before the first content of a stream, or the whole plain answer, came."""
        taken_ms = self.timings_ms.get("ttft", self.timings_ms.get("total"))
        if self.max_latency_ms is None or taken_ms is None:
            return None
        return taken_ms > self.max_latency_ms

    def headers(self) -> dict[str, str]:
        """Everything known now, as response headers; values are ASCII and never echo prompt text."""
        return {name: value for name, value in self._header_facts().items() if value is not None}

    def _header_facts(self) -> dict[str, str | None]:
        """Every header that a report can have, in order; None when unknown."""
        location = self.location
        return {
            "x-request-id": self.request_id,
            "nearside-colo": location.colo,
            "nearside-client-rtt-ms": _decimal(location.rtt_ms),
            "nearside-served-by": self.served_by,
            "nearside-model": self.model,
            "nearside-tier": self.tier,
            "nearside-complexity": _decimal(self.complexity),
            "nearside-route-reason": self.route_reason,
            "nearside-cascade": self.cascade.header() if self.cascade else None,
            "nearside-residency": self.residency,
            "nearside-cloud-region": self.cloud_region,
            "nearside-cloud-rtt-ms": _decimal(self.cloud_rtt_ms),
            "nearside-cost-usd": _money(self.cost_usd),
            "nearside-cost-avoided-usd": _money(self.cost_avoided_usd),
            "nearside-auth": "open" if self.auth_open else None,
            "server-timing": ", ".join(f"{part};dur={ms:.1f}" for part, ms in self.timings_ms.items()) or None,
            "cache-status": self._cache_status(),
            "age": None if self.cache_age_s is None else str(int(self.cache_age_s)),
        }

    def body(self) -> dict[str, Any]:
        """The same facts as the object `nearside` in a body, with numbers as numbers."""
        return {name: value for name, value in self._body_facts().items() if value is not None}

    def _body_facts(self) -> dict[str, Any]:
        """Every field that a report can have, in order; None when unknown."""
        location = self.location
        return {
            "request_id": self.request_id,
            "colo": location.colo,
            "client_rtt_ms": location.rtt_ms,
            "served_by": self.served_by,
            "model": self.model,
            "tier": self.tier,
            "complexity": None if self.complexity is None else round(self.complexity, 3),
            "route_reason": self.route_reason,
            "cascade": self.cascade.body() if self.cascade else None,
            "residency": self.residency,
            "max_latency_ms": self.max_latency_ms,
            "is_late": self.is_late,
            "cloud_region": self.cloud_region,
            "cloud_rtt_ms": None if self.cloud_rtt_ms is None else round(self.cloud_rtt_ms, 1),
            "hedged": self.hedged or None,
            "retry_after_s": None if self.retry_after_s is None else whole_wait_s(self.retry_after_s),
            "cost_usd": _rounded(self.cost_usd),
            "cost_avoided_usd": _rounded(self.cost_avoided_usd),
            "budget": self.budget,
            "prompt": self.prompt,
            "usage": self.usage,
            "usage_estimated": self.usage_estimated or None,
            "prompt_cache": self._prompt_cache_body(),
            "fallbacks": self.fallbacks or None,
            "cache": self._cache_body(),
            "timings_ms": {part: round(ms, 1) for part, ms in self.timings_ms.items()} or None,
        }

    def body_json(self) -> str:
        return _encode(self.body())

    def _cache_body(self) -> dict[str, Any] | None:
        if self.cache is None:
            return None
        facts = {
            "status": self.cache,
            "tier": self.cache_tier,
            "ttl_s": _whole(self.cache_ttl_s),
            "age_s": _whole(self.cache_age_s),
            "key": self.cache_key,
            "failed_status": self.failed_status,
            "failed": self.cache_failed or None,
            "collapsed": self.collapsed or None,
            "semantic": self.semantic,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _prompt_cache_body(self) -> dict[str, float] | None:
        return None if self.cached_input_share is None else {"hit_percent": round(100 * self.cached_input_share, 1)}

    def _cache_status(self) -> str:
        if self.cache is None:  # refused before, or no business of the cache
            return "nearside; fwd=bypass"
        if self.cache == "unserved":  # neither a hit nor forwarded: `only-if-cached`
            return "nearside; detail=only-if-cached"
        parts = ["nearside; hit" if self.cache == "hit" else f"nearside; fwd={self.cache}"]
        if self.failed_status is not None:
            parts.append(f"fwd-status={self.failed_status}")
        if self.cache_stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.cache_ttl_s is not None:
            parts.append(f"ttl={floor(self.cache_ttl_s)}")
        if self.cache_tier is not None:
            parts.append(f"detail={self.cache_tier}")
        return "; ".join(parts)


def with_report(json_object: str, report_json: str) -> str:
    """A JSON object's text with the key `nearside` added last; the rest stays byte for byte."""
    body = json_object.strip()
    comma = "" if body[1:-1].isspace() or len(body) == 2 else ","
    return f'{body[:-1]}{comma}"nearside":{report_json}}}'


def whole_wait_s(after_s: float) -> int:
    """As Retry-After has it, and never too early."""
    return max(1, ceil(after_s))


def _decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _money(value: float | None) -> str | None:
    return None if value is None else f"{value:.9f}".rstrip("0").rstrip(".")


def _rounded(usd: float | None) -> float | None:
    """As in the header: sums of prices have digits that mean nothing."""
    return None if usd is None else round(usd, 9)


def _whole(value: float | None) -> int | None:
    return None if value is None else floor(value)


HEADER_NAMES = tuple(Report("-")._header_facts())
BODY_NAMES = tuple(Report("-")._body_facts())
