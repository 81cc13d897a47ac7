"""The stream law: a stream never just ends, and never claims to be complete when it is not.

Whole events pass as they came. Before the first one with data a failure is an exception, because a status
can still be set; after it a failure is one error event, then `[DONE]`. An event is held back until it is
whole: an error event behind half a line could not be read.
"""

import json
import time
from typing import Any

from cloud_fallback.answers import read_json, upstream_failure
from cloud_fallback.calls import Endpoint, count_chars
from cloud_fallback.errors import GatewayError, UpstreamError, UpstreamTimeout
from cloud_fallback.sse import MAX_EVENT_BYTES, Event, EventScanner, EventTooLarge

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"


class StreamRelay:
    """Bytes of one upstream stream in, bytes for the caller out. Does no I/O.

    is_open: an event with data has passed, so headers may go out.
    is_done: all is said; the last bytes returned end with `[DONE]`.
    failure: what went wrong after is_open, as one word for the log, else None.
    usage: the upstream's count of tokens, once it has come. chars: of what the model has said so far.
    """

    __slots__ = (
        "_choices", "_endpoint", "_finished", "_held", "_identity", "_scanner", "_seen",
        "chars", "failure", "is_done", "is_open", "usage",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, *, model: str, choices: int = 1) -> None:
        """choices: how many were asked for."""
        self._endpoint = endpoint
        self._choices = choices
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self.usage: dict[str, Any] | None = None
        self.chars = 0
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
        if last is None:
            return self.fail("no_done")
        # Some providers leave out the blank line after the very last event.
        if last.data is not None and last.data.strip() == DONE:
            return self._finish([], DONE_EVENT)
        problem = self._problem(last)
        if problem is not None:
            return self.fail("cut") if problem[1] is None else self.fail(*problem)
        return last.raw.rstrip(b"\r\n") + b"\n\n" + self.fail("no_done")

    def fail(self, reason: str, error: GatewayError | None = None) -> bytes:
        """The error event and `[DONE]`, or `[DONE]` alone when only that is missing.

        Before is_open: raises the error instead.
        """
        if self.is_done:
            return b""
        if error is None and reason in ("cut", "no_done", "stalled") and self._is_whole:
            self.is_done = True
            return DONE_EVENT
        error = error or _error_for(reason)
        if not self.is_open:
            raise error
        self.is_done = True
        self.failure = reason
        return self._error_event(error) + DONE_EVENT

    @property
    def _is_whole(self) -> bool:
        return len(self._finished) >= self._choices and self._seen == self._finished

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
        self._note(chunk)
        return None

    def _note(self, chunk: dict[str, Any]) -> None:
        """Which choices have ended, and what was counted. Odd values are the caller's to judge, not ours."""
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(index := choice.get("index", 0), int):
                self._seen.add(index)
                self.chars += count_chars(choice.get("delta") or choice.get("text"))
                if choice.get("finish_reason"):
                    self._finished.add(index)
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = usage

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
