"""The stream law: a stream never just ends, and never claims to be complete when it is not.

Whole events pass as they came. Before the first one with data a failure is an exception, because a status
can still be set; after it a failure is one error event, then `[DONE]`. An event is held back until it is
whole: an error event behind half a line could not be read.
"""

import json
import time
from typing import Any

from cloud_fallback.answers import read_json, upstream_failure
from cloud_fallback.calls import Endpoint
from cloud_fallback.errors import GatewayError, UpstreamError, UpstreamTimeout
from cloud_fallback.sse import MAX_EVENT_BYTES, Event, EventScanner, EventTooLarge

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"


class StreamRelay:
    """Bytes of one upstream stream in, bytes for the caller out. Does no I/O.

    is_open: an event with data has passed, so headers may go out.
    is_done: all is said; the last bytes returned end with `[DONE]`.
    failure: what went wrong after is_open, as one word for the log, else None.
    """

    __slots__ = ("_endpoint", "_held", "_identity", "_scanner", "failure", "is_done", "is_open")

    def __init__(self, endpoint: Endpoint, *, model: str) -> None:
        self._endpoint = endpoint
        self._scanner = EventScanner()
        self._held: list[bytes] = []
        self._identity: dict[str, Any] = {"id": "", "created": 0, "model": model}
        self.is_open = False
        self.is_done = False
        self.failure: str | None = None

    def feed(self, chunk: bytes) -> bytes:
        """What may leave now, b"" when an event is not whole yet. Raises GatewayError before is_open."""
        if self.is_done:
            return b""
        out, self._held = self._held, []
        try:
            for event in self._scanner.feed(chunk):
                if event.data is not None and event.data.strip() == DONE:
                    return self._finish(out, event.raw)
                problem = self._problem(event)
                if problem is not None:
                    return b"".join(out) + self.fail(*problem)
                out.append(event.raw)
        except EventTooLarge:
            return b"".join(out) + self.fail("too_large")
        if self.is_open:
            return b"".join(out)
        # Comments wait for the first event with data: until then a status may still be needed.
        self._held = out
        return self.fail("too_large") if sum(map(len, out)) > MAX_EVENT_BYTES else b""

    def end(self) -> bytes:
        """The upstream has closed the stream. Raises GatewayError before is_open."""
        if self.is_done:
            return b""
        last = self._scanner.flush()
        # Some providers leave out the blank line after the very last event.
        if last is not None and last.data is not None and last.data.strip() == DONE:
            return self._finish([], DONE_EVENT)
        return self.fail("cut" if last is not None else "no_done")

    def fail(self, reason: str, error: GatewayError | None = None) -> bytes:
        """The error event and `[DONE]`. Before is_open: raises the error instead."""
        if self.is_done:
            return b""
        error = error or _error_for(reason)
        if not self.is_open:
            raise error
        self.is_done = True
        self.failure = reason
        return self._error_event(error) + DONE_EVENT

    def _finish(self, out: list[bytes], done: bytes) -> bytes:
        if not self.is_open:
            raise UpstreamError("The upstream's stream is empty.")
        self.is_done = True
        return b"".join(out) + done

    def _problem(self, event: Event) -> tuple[str, GatewayError | None] | None:
        """Why this event may not pass, or None. Learns the stream's id from the first one."""
        if event.is_malformed:
            return "malformed", None
        if event.data is None:
            return None
        chunk = read_json(event.data)
        if not isinstance(chunk, dict):
            return "malformed", None
        if event.is_error or chunk.get("error"):
            return "upstream_event", upstream_failure(chunk)
        if not self.is_open:
            if not isinstance(chunk.get("choices"), list):
                return "malformed", None
            self.is_open = True
            for key, value in self._identity.items():
                if isinstance(chunk.get(key), type(value)):
                    self._identity[key] = chunk[key]
        return None

    def _error_event(self, error: GatewayError) -> bytes:
        empty: dict[str, Any] = {"delta": {}} if self._endpoint is Endpoint.CHAT else {"text": ""}
        event = {
            **self._identity,
            "created": self._identity["created"] or int(time.time()),
            "object": self._endpoint.chunk_object,
            "choices": [{"index": 0, **empty, "finish_reason": "error"}],
            **error.to_body(),
        }
        return b"data: " + json.dumps(event).encode() + b"\n\n"


def _error_for(reason: str) -> GatewayError:
    if reason == "stalled":
        return UpstreamTimeout("The upstream's stream fell silent.")
    return UpstreamError("The upstream's stream broke off or could not be read.")
