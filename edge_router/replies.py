"""What the gateway sends back: plain bodies and streams of events, each with the report in headers and body."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import completions
from .errors import GatewayError, MethodNotAllowed, NotCached
from .report import Report, whole_wait_s, with_report
from .sse import DONE_EVENT, KEEP_ALIVE, encode_event
from .streaming import Batch, LiveChunks, Send

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
EVENTS = "text/event-stream; charset=utf-8"
HTML = "text/html; charset=utf-8"
# Pages load what lies beside them and ask this gateway, nobody else; no other site can frame them.
PAGE_HEADERS = {
    "content-type": HTML,
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


HTTPS_ONLY = {"strict-transport-security": "max-age=31536000"}


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


class Stream(Protocol):
    """A body that is still coming. on_end: called once, when it has ended in whatever way. Scope: request."""

    on_end: Callable[[], None] | None

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error event."""
        ...

    async def run(self, send: Send[str]) -> None:
        """Sends the body piece by piece until it has ended. Cancel it when nobody listens any more."""
        ...

    async def aclose(self) -> None:
        """To be awaited after `run`, however that ended: lets the upstream go."""
        ...


class EventStream:
    """`Stream` of live chunks as events."""

    def __init__(self, chunks: LiveChunks, encoder: Encoder, on_end: Callable[[], None] | None = None) -> None:
        self._chunks = chunks
        self._encoder = encoder
        self.on_end = on_end

    @property
    def has_failed(self) -> bool:
        return self._chunks.has_failed

    async def run(self, send: Send[str]) -> None:
        encode = self._encoder.encode

        def send_batch(batch: Batch, /) -> Awaitable[None] | None:
            if not batch.texts and not batch.is_last:
                return send(KEEP_ALIVE)
            return send(encode(batch.texts, batch.is_last))

        await self._chunks.run(send_batch)
        self._end()

    async def aclose(self) -> None:
        await self._chunks.aclose()
        self._end()

    def _end(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send. A body that is not a string is a stream of server-sent events.

    raw: the runtime's own stream, which it sends by itself instead of `body`.
    """

    status: int
    body: str | Stream
    headers: dict[str, str] = field(default_factory=dict)
    raw: Any = None


def json_reply(body: str, report: Report, status: int = 200) -> Reply:
    return Reply(status, body, {**report.headers(), "content-type": JSON})


def reported_reply(body: Mapping[str, object], report: Report) -> Reply:
    """A JSON body with the report under `nearside`."""
    return json_reply(with_report(completions.dump(body), report.body_json()), report)


def page_reply(html: str, report: Report, *, is_secure: bool) -> Reply:
    """is_secure: whether it was asked for over https, which browsers then are to keep to."""
    return Reply(200, html, {**report.headers(), **PAGE_HEADERS, **(HTTPS_ONLY if is_secure else {})})


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
        headers["retry-after"] = str(whole_wait_s(error.retry_after_s))
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    if isinstance(error, NotCached):
        headers["x-should-retry"] = "false"  # OpenAI's SDKs would ask again after any 5xx
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Reply(error.status, with_report(completions.dump(error.to_body()), report.body_json()), headers)
