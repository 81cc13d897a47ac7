"""One call without its I/O: what is sent, and what the bytes of the answer mean. Both clients are shells around it.

An instant is a reading of `time.monotonic`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from edge_router.sse import DONE, Decoder

from .errors import ClientError, ConnectionFailed, Phase, StreamFailed, TimedOut, UnreadableAnswer, api_error
from .reading import count_of, first_choice, mapping_of, object_of
from .report import EdgeReport, read_report
from .sentences import SentenceSplitter

Message = Mapping[str, Any]
Listener = Callable[[str], Awaitable[None] | None]  # coroutine functions with AsyncClient only
Notice = tuple[Listener, str]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """first_token_s: sent to first content, of each attempt. idle_s: silence after that, heartbeats count as none.
    total_s: the whole call, further attempts and the waits before them included.
    """

    connect_s: float = 10.0
    first_token_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 300.0


@dataclass(slots=True)
class Completion:
    """An answer, and its times at the caller: from the call, failed attempts included.

    report: what the gateway says itself. answer: the body of a plain answer, for what is not told here.
    ttft_s: to the first content; None for plain answers. tokens_per_s: after the first content; None when unknown.
    """

    text: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    model: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    report: EdgeReport = field(default_factory=EdgeReport)
    answer: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1
    ttft_s: float | None = None
    total_s: float = 0.0
    last_content_s: float | None = None

    @property
    def input_tokens(self) -> int:
        return count_of(self.usage.get("prompt_tokens"))

    @property
    def output_tokens(self) -> int:
        return count_of(self.usage.get("completion_tokens"))

    @property
    def tokens_per_s(self) -> float | None:
        if self.ttft_s is None or self.last_content_s is None or self.output_tokens < 2:
            return None
        taken_s = self.last_content_s - self.ttft_s
        return (self.output_tokens - 1) / taken_s if taken_s > 0 else None


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, and who listens. All attempts send the same request id: the gateway's log shows them together."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    timeouts: Timeouts
    started_s: float
    on_token: Listener | None = None
    on_sentence: Listener | None = None

    @property
    def ends_s(self) -> float:
        return self.started_s + self.timeouts.total_s


def chat_body(messages: str | Sequence[Message], *, stream: bool, fields: Mapping[str, Any]) -> dict[str, Any]:
    """messages: as in OpenAI's API, or one question as a text."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    body: dict[str, Any] = {"model": "auto", **fields, "messages": [dict(message) for message in messages]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True, **fields.get("stream_options", {})}}
    return body


def new_request_id() -> str:
    return f"req_{uuid4().hex}"


class Exchange:
    """One attempt of a call: its answer's head, then its bytes, then its end. All of them raise ClientError."""

    def __init__(self, call: Call, *, attempt: int, now_s: float) -> None:
        self._call = call
        self._sent_s = self._heard_s = now_s
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._is_stream = False
        self._reading = _StreamReading()
        self._plain = bytearray()
        self._sentences = SentenceSplitter()
        self._texts: list[str] = []
        self._notices: list[Notice] = []
        self.completion = Completion(attempts=attempt)
        self.is_over = False

    @property
    def has_begun(self) -> bool:
        """Whether content was seen: from then on, no other attempt may be made."""
        return self.completion.ttft_s is not None

    def deadline(self) -> tuple[float, Phase]:
        """The next instant at which this call has taken too long, and for what."""
        timeouts = self._call.timeouts
        next_one: tuple[float, Phase] = (self._sent_s + timeouts.first_token_s, "first_token")
        if self.has_begun:
            next_one = (self._heard_s + timeouts.idle_s, "idle")
        return min(next_one, (self._call.ends_s, "total"))

    def too_late(self, phase: Phase | None = None) -> TimedOut:
        """phase: that of the next deadline when it is not given."""
        phase = phase or self.deadline()[1]
        return TimedOut(phase, getattr(self._call.timeouts, f"{phase}_s"))

    def broken(self, reason: str) -> ClientError:
        """The connection ended in the middle of an answer."""
        if self.has_begun:
            return self._failed({"code": "connection_broken", "message": reason})
        return ConnectionFailed(reason, is_connected=True)

    def take(self) -> tuple[list[str], list[Notice]]:
        """The texts that came since the last time, and who is to be told what."""
        taken = self._texts, self._notices
        self._texts, self._notices = [], []
        return taken

    def open(self, status: int, headers: Mapping[str, str]) -> None:
        """headers: by names in lower case, as httpx has them."""
        self._status, self._headers = status, headers
        self._is_stream = status == 200 and headers.get("content-type", "").startswith("text/event-stream")
        self.completion.report = read_report(headers, None)

    def feed(self, data: bytes, now_s: float) -> None:
        ends_s, phase = self.deadline()
        if now_s >= ends_s:
            raise self.too_late(phase)
        if not self._is_stream:
            self._plain += data
            return
        reading, done = self._reading, self.completion
        pieces = reading.pieces
        texts = reading.feed(data)
        if reading.pieces > pieces:
            self._heard_s, done.last_content_s = now_s, now_s - self._call.started_s
            if done.ttft_s is None:
                done.ttft_s = done.last_content_s
        self._note(texts)
        if reading.error is not None:
            raise self._failed(reading.error)

    def end(self, now_s: float) -> None:
        """The bytes are over; the completion is whole, or this raises."""
        self.is_over = True
        self.completion.total_s = now_s - self._call.started_s
        if not self._is_stream:
            self._read_plain()
        elif not self._reading.is_done:
            raise self._failed({"code": "stream_cut", "message": "The stream ended without [DONE]."})
        elif not self._reading.finish_reason:
            raise self._failed({"code": "stream_cut", "message": "The stream ended without a finish reason."})
        if listener := self._call.on_sentence:
            self._notices += [(listener, sentence) for sentence in self._sentences.flush()]

    def _read_plain(self) -> None:
        answer = object_of(bytes(self._plain))
        if self._status >= 400 or "error" in answer:
            raise api_error(self._status, answer, self._headers)
        choice = first_choice(answer)
        message = mapping_of(choice.get("message"))
        if not message:
            raise UnreadableAnswer(f"status {self._status}, and no chat completion")
        done = self.completion
        done.tool_calls = [call for call in message.get("tool_calls") or [] if isinstance(call, dict)]
        done.finish_reason, done.model = choice.get("finish_reason"), answer.get("model")
        done.usage, done.answer = mapping_of(answer.get("usage")), answer
        done.report = read_report(self._headers, answer.get("nearside"))
        if isinstance(message.get("content"), str):
            self._hear([message["content"]])

    def _note(self, texts: Sequence[str]) -> None:
        reading, done = self._reading, self.completion
        done.tool_calls = list(reading.tool_calls.values())
        done.finish_reason, done.model, done.usage = reading.finish_reason, reading.model, reading.usage
        if reading.nearside:
            done.report = read_report(self._headers, reading.nearside)
        self._hear(texts)

    def _hear(self, texts: Sequence[str]) -> None:
        """Listeners hear in the order of the text: the tokens of a sentence, then the sentence."""
        call = self._call
        self._texts += texts
        self.completion.text += "".join(texts)
        for text in texts:
            if call.on_token:
                self._notices.append((call.on_token, text))
            if call.on_sentence:
                self._notices += [(call.on_sentence, sentence) for sentence in self._sentences.feed(text)]

    def _failed(self, error: Mapping[str, Any]) -> ClientError:
        return StreamFailed(error, self.completion.report, self.completion.text)


class _StreamReading:
    """What the events of a stream add up to. Of several choices, the first. pieces: those of content, so far."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self.pieces = 0
        self.tool_calls: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: Mapping[str, Any] = {}
        self.nearside: dict[str, Any] = {}
        self.error: Mapping[str, Any] | None = None
        self.is_done = False

    def feed(self, data: bytes) -> list[str]:
        """The new texts. Raises BadStream, UnreadableAnswer. After an error or `[DONE]` the rest counts for nothing."""
        texts: list[str] = []
        for event in self._decoder.feed(data):
            if self.is_done or self.error is not None:
                break
            if event == DONE:
                self.is_done = True
            else:
                texts += self._take(object_of(event))
        return texts

    def _take(self, chunk: Mapping[str, Any]) -> list[str]:
        if not chunk:
            raise UnreadableAnswer("an event of the stream is no JSON object")
        self.nearside |= mapping_of(chunk.get("nearside"))
        self.usage = mapping_of(chunk.get("usage")) or self.usage
        self.model = chunk.get("model") or self.model
        choice = first_choice(chunk)
        delta = mapping_of(choice.get("delta"))
        content, calls = delta.get("content"), delta.get("tool_calls") or []
        for call in calls:
            self._add_tool_call(mapping_of(call))
        self.pieces += bool(content or calls)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if "error" in chunk or self.finish_reason == "error":
            self.error = mapping_of(chunk.get("error"))
        return [content] if isinstance(content, str) and content else []

    def _add_tool_call(self, piece: Mapping[str, Any]) -> None:
        whole = self.tool_calls.setdefault(
            count_of(piece.get("index")), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        whole["id"] = piece.get("id") or whole["id"]
        for name in ("name", "arguments"):
            whole["function"][name] += mapping_of(piece.get("function")).get(name) or ""
