"""Trace context as it travels in headers: W3C Trace Context, level 1, sections 2 and 3."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<span_id>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-[!-~]*)?"
)
_SAMPLED: Final = 1
MAX_TRACESTATE: Final = 512  # characters; section 3.3.1.5 asks for at least so many
_TRACESTATE: Final = re.compile(r"[\t -~]+")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """trace_id: 32 hex digits. span_id: 16, of who is the parent of what comes next. state: `tracestate`, or empty."""

    trace_id: str
    span_id: str
    is_sampled: bool
    state: str = ""

    def headers(self) -> dict[str, str]:
        """To be sent on."""
        sent = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"}
        return {**sent, "tracestate": self.state} if self.state else sent


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """The span of one request, begun. context: with its own id; parent_id: of the caller's span, or empty."""

    context: TraceContext
    parent_id: str
    route: str
    started_s: float


def read_context(headers: Mapping[str, str]) -> TraceContext | None:
    """The caller's; None when there is none, or none that is valid. headers: names in lower case."""
    given = headers.get("traceparent")
    found = _TRACEPARENT.fullmatch(given.strip(" \t")) if given else None
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"] is not None):
        return None
    if not found["trace_id"].strip("0") or not found["span_id"].strip("0"):
        return None
    state = headers.get("tracestate", "").strip(" \t")
    if len(state) > MAX_TRACESTATE or not _TRACESTATE.fullmatch(state):
        state = ""
    return TraceContext(found["trace_id"], found["span_id"], bool(int(found["flags"], 16) & _SAMPLED), state)
