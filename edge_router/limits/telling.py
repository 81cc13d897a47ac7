"""What callers are told of their limits: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11),
and OpenAI's `x-ratelimit-*`. What is not known is not there.
"""

from math import ceil
from typing import Final

from .book import Verdict
from .policy import Limits
from .window import WINDOW_S

LIMIT_HEADERS: Final = (
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
)


def limit_headers(limits: Limits, verdict: Verdict | None) -> dict[str, str]:
    """verdict: None when whoever counts does not know of all the tenant's requests."""
    policies = []
    headers = {}
    if limits.requests_per_minute is not None:
        policies.append(f'"requests";q={limits.requests_per_minute};w={WINDOW_S:.0f}')
        headers["x-ratelimit-limit-requests"] = str(limits.requests_per_minute)
    if limits.concurrency is not None:
        policies.append(f'"concurrency";q={limits.concurrency};qu="concurrent-requests"')
    headers["ratelimit-policy"] = ", ".join(policies)
    if verdict and verdict.remaining is not None:
        assert verdict.room_in_s is not None
        assert verdict.empty_in_s is not None
        headers["ratelimit"] = f'"requests";r={verdict.remaining};t={ceil(verdict.room_in_s)}'
        headers["x-ratelimit-remaining-requests"] = str(verdict.remaining)
        headers["x-ratelimit-reset-requests"] = _duration(verdict.empty_in_s)
    return headers


def token_headers(allowed: int, left: int, resets_in_s: float) -> dict[str, str]:
    """Of a budget of tokens. resets_in_s: until its day or month ends."""
    return {
        "x-ratelimit-limit-tokens": str(allowed),
        "x-ratelimit-remaining-tokens": str(left),
        "x-ratelimit-reset-tokens": _duration(resets_in_s),
    }


def _duration(seconds: float) -> str:
    """As OpenAI writes them: 20ms, 8.64s, 1m0s, 11h0m0s."""
    ms = ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1000:g}s"
    hours, rest_ms = divmod(ms, 3_600_000)
    return f"{f'{hours}h' if hours else ''}{rest_ms // 60_000}m{rest_ms % 60_000 / 1000:g}s"
