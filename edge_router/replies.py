"""What the gateway sends back: plain bodies and streams of events, each with the report in headers and body."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from . import completions
from .errors import GatewayError, MethodNotAllowed
from .report import Report, with_report
from .sse import DONE_EVENT, KEEP_ALIVE, encode_event
from .streaming import LiveChunks

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
EVENTS = "text/event-stream; charset=utf-8"


class Encoder(Protocol):
    """Chat chunks as server-sent events of one API."""

    def encode(self, texts: list[str], is_last: bool) -> str:
        """texts: JSON of chunks that leave together. is_last: no more will come."""
        ...


class ChatEvents:
    """The chunks as they are, `[DONE]` last."""

    def encode(self, texts: list[str], is_last: bool) -> str:
        events = "".join(map(encode_event, texts))
        return events + DONE_EVENT if is_last else events


class EventStream:
    """Text to send, piece by piece, until the answer has ended. Close it when nobody listens any more.

    on_silence: set by whoever sends; called when a heartbeat should be sent while a piece is awaited.
    on_end: called once, when the stream has ended in whatever way. Scope: request.
    """

    def __init__(self, chunks: LiveChunks, encoder: Encoder, on_end: Callable[[], None] | None = None) -> None:
        self._chunks = chunks
        self._encoder = encoder
        self.on_end = on_end

    @property
    def on_silence(self) -> Callable[[], None] | None:
        return self._chunks.on_silence

    @on_silence.setter
    def on_silence(self, beat: Callable[[], None] | None) -> None:
        self._chunks.on_silence = beat

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error event."""
        return self._chunks.has_failed

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> str:
        batch = await anext(self._chunks)
        if not batch.texts and not batch.is_last:
            return KEEP_ALIVE
        text = self._encoder.encode(batch.texts, batch.is_last)
        if batch.is_last:
            self._end()
        return text

    async def aclose(self) -> None:
        await self._chunks.aclose()
        self._end()

    def _end(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()


class Stream(Protocol):
    """A body that is still coming."""

    on_end: Callable[[], None] | None
    on_silence: Callable[[], None] | None

    def __aiter__(self) -> "Stream": ...

    async def __anext__(self) -> str: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send. A body that is not a string is a stream of server-sent events."""

    status: int
    body: str | Stream
    headers: dict[str, str] = field(default_factory=dict)


def json_reply(body: str, report: Report, status: int = 200) -> Reply:
    return Reply(status, body, {**report.headers(), "content-type": JSON})


def reported_reply(body: Mapping[str, object], report: Report) -> Reply:
    """A JSON body with the report under `nearside`."""
    return json_reply(with_report(completions.dump(body), report.body_json()), report)


def json_lines_reply(body: str, report: Report) -> Reply:
    """Several JSON objects, one a line; the report is in the headers only."""
    return Reply(200, body, {**report.headers(), "content-type": JSON_LINES})


def event_reply(chunks: LiveChunks | list[str], encoder: Encoder, report: Report) -> Reply:
    """Live chunks are sent as they come, replayed ones in one piece."""
    headers = {**report.headers(), "content-type": EVENTS, "cache-control": "no-cache, no-transform"}
    body = encoder.encode(chunks, True) if isinstance(chunks, list) else EventStream(chunks, encoder)
    return Reply(200, body, headers)


def error_reply(error: GatewayError, report: Report) -> Reply:
    headers = {**report.headers(), "content-type": JSON}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Reply(error.status, with_report(completions.dump(error.to_body()), report.body_json()), headers)
