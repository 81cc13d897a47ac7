"""Cuts a byte stream into server-sent events and keeps their bytes as they came.

Rules: WHATWG HTML, section 9.2.6. `edge_router.sse.Decoder` gives text; a relay needs the bytes.
"""

import re
from dataclasses import dataclass

# Two line ends, each \n, \r\n or \r. A \r that ends the buffer counts: its \n, should one follow, opens the
# next event's bytes, where it is no line of its own.
_BLANK_LINE = re.compile(rb"\n\n|\r(?:\r\n?|\n(?:\r\n?|\n))|\n\r\n?")
_LONGEST_BLANK_LINE = 4
_BOM = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventTooLarge(ValueError):
    """More than MAX_EVENT_BYTES and no end: no model sends that."""


@dataclass(frozen=True, slots=True)
class Event:
    """`raw` is all of it, blank line included; `data` is None when there is none, as in a comment."""

    raw: bytes
    data: bytes | None
    is_error: bool = False
    is_malformed: bool = False


class EventScanner:
    """Cut anywhere, the events are the same, and their `raw` joined with `tail` is the input."""

    __slots__ = ("_is_first", "_searched", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._searched = 0
        self._is_first = True

    @property
    def tail(self) -> bytes:
        """Bytes of an event that has not ended."""
        return bytes(self._tail)

    def feed(self, chunk: bytes) -> list[Event]:
        """Events that end in `chunk`. Raises EventTooLarge. Cost: each byte is looked at once."""
        tail = self._tail
        buffer: bytes | bytearray = chunk
        if tail:
            tail += chunk
            buffer = tail
        events = []
        start = 0
        search_from = max(0, self._searched - _LONGEST_BLANK_LINE + 1)
        while match := _BLANK_LINE.search(buffer, search_from):
            search_from = match.end()
            events.append(self._event(bytes(buffer[start:search_from])))
            start = search_from
        if buffer is tail:
            del tail[:start]
        elif start < len(chunk):
            tail += chunk[start:]
        self._searched = len(tail)
        if len(tail) > MAX_EVENT_BYTES:
            raise EventTooLarge
        return events

    def flush(self) -> Event | None:
        """What is left when the stream ends, read as if its blank line had come."""
        return self._event(bytes(self._tail)) if self._tail else None

    def _event(self, raw: bytes) -> Event:
        text = raw
        if self._is_first:
            self._is_first = False
            text = raw.removeprefix(_BOM)
        if text.startswith(b"data: ") and text.find(b"\n") == len(text) - 2 and b"\r" not in text:
            return Event(raw, text[6:-2])
        return _parse(raw, text)


def _parse(raw: bytes, text: bytes) -> Event:
    data: list[bytes] = []
    is_error = is_malformed = False
    for line in text.splitlines():
        if not line or line.startswith(b":"):
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            is_error = value == b"error"
        elif name not in (b"id", b"retry"):
            # The standard says to pass over unknown fields; here they are an HTML page or half a line.
            is_malformed = True
    return Event(raw, b"\n".join(data) if data else None, is_error, is_malformed)
