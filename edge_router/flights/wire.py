"""What a shared call's object tells each caller: a line of JSON, then the upstream's own bytes among a few marks.

The marks are control characters, which neither JSON nor event streams of JSON contain. A body that ends without one
is that of an object which was lost, and says nothing about the upstream.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import FlightLost, UpstreamError

KEEP = b"\x06"  # the caller who was to store the answer has left: now it is you
WHOLE = b"\x04"  # the upstream has ended
BROKEN = b"\x18"  # the upstream broke off, or took too long
_MARKS = KEEP + WHOLE + BROKEN

MAX_HEAD_BYTES = 16 * 1024
TAIL_BYTES = 4096

Failure = Literal["unreachable", "timeout", "broken"]


@dataclass(frozen=True, slots=True)
class Head:
    """How an upstream's answer begins. failure: why there is none."""

    status: int
    headers: Mapping[str, str]
    failure: Failure | None = None

    def encode(self) -> bytes:
        return (
            json.dumps({"status": self.status, "headers": dict(self.headers), "failure": self.failure}).encode() + b"\n"
        )


class FlightReading:
    """One caller's reading of a flight. keeps: whether this caller is the one to store the answer."""

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self.head: Head | None = None
        self._line = b""
        self._ending = b""

    def feed(self, data: bytes) -> bytes:
        """The upstream's bytes in this piece. Raises FlightLost when the head can't be read."""
        if self.head is None:
            line, found, data = (self._line + data).partition(b"\n")
            self._line = line
            if not found:
                if len(line) > MAX_HEAD_BYTES:
                    raise FlightLost("The flight said nothing that can be read.")
                return b""
            self.head = _decode_head(line)
        if KEEP in data:
            self.keeps = True
        for mark in (WHOLE, BROKEN):
            if mark in data:
                self._ending = mark
        return data.translate(None, _MARKS)

    def end(self) -> None:
        """To be called when the bytes are over. Raises FlightLost, or UpstreamError when it was the upstream."""
        if self._ending == BROKEN:
            raise UpstreamError("The connection to the model broke off.", code="stream_cut")
        if self._ending != WHOLE:
            raise FlightLost("The shared call was lost.")


def looks_whole(head: Head, tail: bytes) -> bool:
    """Whether an answer may be given to later callers. tail: of a stream the last TAIL_BYTES, else the whole body."""
    if head.status != 200:
        return False
    if is_event_stream(head.headers):
        says_something = b'"choices"' in tail or b'"response"' in tail
        return b"[DONE]" in tail and says_something and b'"error":' not in tail
    try:
        body = json.loads(tail)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and not body.get("error") and bool(body.get("choices") or body.get("response"))


def is_event_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("text/event-stream")


def _decode_head(line: bytes) -> Head:
    try:
        facts = json.loads(line)
        status, headers, failure = facts["status"], facts["headers"], facts["failure"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise FlightLost("The flight said nothing that can be read.") from exc
    if type(status) is not int or not isinstance(headers, dict):
        raise FlightLost("The flight said nothing that can be read.")
    return Head(status, headers, failure)
