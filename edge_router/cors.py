"""Which web pages may ask the gateway from a browser (CORS: WHATWG Fetch, section 3.2) and read headers and timings.

Cookies play no part: a page sends a key like any other caller, so an origin on the list gets no right but to ask.
"""

import re
from collections.abc import Mapping

from .limits.telling import LIMIT_HEADERS
from .report import HEADER_NAMES
from .requests import CONTROL_HEADERS

METHODS = "GET, HEAD, POST, DELETE"
MAX_AGE_S = 7200  # Chromium remembers a preflight no longer
# What a request may carry. Names first for browsers that don't know `*`, which means any other name; a browser never
# takes `authorization` to be among those.
REQUEST_HEADERS = ", ".join(
    (
        "authorization",
        "cache-control",
        "content-type",
        "openai-organization",
        "openai-project",
        "traceparent",
        "tracestate",
        "x-request-id",
        *CONTROL_HEADERS,
        "*",
    )
)
# Written by others than the report: with errors, and by the limits.
FURTHER_HEADERS = ("allow", "retry-after", "www-authenticate", "x-should-retry", *LIMIT_HEADERS)
EXPOSED_HEADERS = ", ".join((*HEADER_NAMES, *FURTHER_HEADERS))

# As a browser writes it (RFC 6454, section 6.2): lower case, no path, and no port that the scheme implies.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Cors:
    """The headers of one list of origins."""

    def __init__(self, origins: frozenset[str]) -> None:
        """origins: as `read_origins` gives them; `*` alone stands for all."""
        self._origins = origins
        self._allows_all = "*" in origins

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """What any answer to a page of this origin carries; empty without an origin, which is no page's request."""
        if origin is None:
            return {}
        if self._allows_all:
            return _for_origin("*")
        vary = {"vary": "Origin"}  # also on a refusal, which is not to be kept for another page
        return {**_for_origin(origin), **vary} if origin in self._origins else vary

    def preflight(self, origin: str | None, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        """What a browser that asks for leave is told besides; None when this is no such question, or not allowed."""
        is_allowed = origin is not None and (self._allows_all or origin in self._origins)
        if not is_allowed or "access-control-request-method" not in headers:
            return None
        return {
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": REQUEST_HEADERS,
            "access-control-max-age": str(MAX_AGE_S),
        }


def read_origins(text: str) -> frozenset[str]:
    """Origins that commas separate, or `*`. Raises ValueError that says what is wrong with the first wrong one."""
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    if "*" in origins and len(origins) > 1:
        raise ValueError("'*' stands for every origin and goes with no other")
    for origin in origins:
        scheme = origin.partition(":")[0]
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin[:80]!r} is no origin, as https://app.example.com (lower case, no path)")
        if origin.endswith(_DEFAULT_PORTS.get(scheme, "\n")):
            raise ValueError(f"{origin[:80]!r} has its scheme's own port, which browsers leave out")
    return frozenset(origins)


def _for_origin(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": EXPOSED_HEADERS,
        "timing-allow-origin": origin,
    }
