"""What one request brought back, as it came over the wire, and how its stream reads. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Transcript:
    """One exchange. Header names are lower case.

    request_id: what was sent as `x-request-id`. trouble: how the exchange ended where it did not end properly.
    next_status: of the next request on the same connection; None when it needed another connection.
    """

    request_id: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    trouble: str | None = None
    next_status: int | None = 200

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


@dataclass(slots=True)
class Stream:
    """A stream's events in order: objects, or the text `[DONE]`. strays: lines that are no event of this API."""

    events: list[Any] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    heartbeats: int = 0

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [event for event in self.events if isinstance(event, dict)]

    @property
    def text(self) -> str:
        """The content of all choices' deltas."""
        deltas = (choice.get("delta") for chunk in self.chunks for choice in choices_of(chunk))
        return "".join(delta.get("content") or "" for delta in deltas if isinstance(delta, dict))

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [chunk for chunk in self.chunks if "error" in chunk]


def read_stream(body: bytes) -> Stream:
    """Never raises: what can't be read is a stray."""
    stream = Stream()
    *blocks, rest = body.split(b"\n\n")
    if rest:
        stream.strays.append(shown(rest))
    for block in blocks:
        if block.startswith(b":") and b"\n" not in block:
            stream.heartbeats += 1
        elif block.startswith(b"data: ") and b"\n" not in block:
            _read_data(block[6:], stream)
        else:
            stream.strays.append(shown(block))
    return stream


def read_json(data: bytes) -> Any:
    """The value, or None when it is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def choices_of(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def report_of(body: object) -> dict[str, Any]:
    report = body.get("nearside") if isinstance(body, dict) else None
    return report if isinstance(report, dict) else {}


def shown(data: bytes) -> str:
    """The beginning of something unreadable, for a message."""
    return repr(data[:60].decode(errors="replace"))


def _read_data(data: bytes, stream: Stream) -> None:
    if data == DONE.encode():
        stream.events.append(DONE)
        return
    event = read_json(data)
    if isinstance(event, dict):
        stream.events.append(event)
    else:
        stream.strays.append(shown(data))
