"""What came of one request, read from the answer as it arrives. Pure: bytes and instants in, facts out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_router.client.reading import count_of, first_choice, mapping_of, object_of
from edge_router.sse import DONE, Decoder

UNREADABLE = "unreadable_answer"


@dataclass(slots=True)
class Outcome:
    """One request, timed at the client from the moment it was sent.

    ttft_s: to the first chunk with content; None for a plain answer and where no content came.
    error: a code, ours or the gateway's; None when the answer is whole.
    text: the answer's.
    nearside: the gateway's own report, where the answer carries one.
    """

    status: int | None = None
    error: str | None = None
    ttft_s: float | None = None
    total_s: float = 0.0
    served_by: str | None = None
    colo: str | None = None
    model: str | None = None
    request_id: str | None = None
    text: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    nearside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_tokens(self) -> int:
        return count_of(self.usage.get("prompt_tokens"))

    @property
    def output_tokens(self) -> int:
        return count_of(self.usage.get("completion_tokens"))

    @property
    def cost_usd(self) -> float:
        return _number(self.nearside.get("cost_usd"))

    @property
    def cost_avoided_usd(self) -> float:
        return _number(self.nearside.get("cost_avoided_usd"))

    def note_headers(self, headers: Mapping[str, str]) -> None:
        self.served_by = headers.get("nearside-served-by")
        self.colo = headers.get("nearside-colo")
        self.model = headers.get("nearside-model")
        self.request_id = headers.get("x-request-id")

    def note_plain(self, body: bytes) -> None:
        """A whole plain answer, or an error of any status."""
        answer = object_of(body)
        self.nearside = mapping_of(answer.get("nearside"))
        self.usage = mapping_of(answer.get("usage"))
        if self.status != 200 or "error" in answer:
            self.error = error_code(answer) or f"status_{self.status}"
            return
        choice = first_choice(answer)
        content = mapping_of(choice.get("message")).get("content")
        self.text = content if isinstance(content, str) else ""
        _note_finish(self, choice)
        if self.error is None and not self.finish_reason:
            self.error = UNREADABLE


class StreamReading:
    """Fills an outcome from a stream's bytes. A stream that ends without `[DONE]` or a finish reason is an error."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._decoder = Decoder()
        self._texts: list[str] = []
        self._done = False

    def feed(self, data: bytes, *, elapsed_s: float) -> None:
        for event in self._decoder.feed(data):
            self._take(event, elapsed_s)

    def end(self) -> None:
        """To be called once, when the bytes are over, whatever ended them."""
        outcome = self._outcome
        outcome.text = "".join(self._texts)
        if outcome.error is None and not self._done:
            outcome.error = "stream_cut"
        if outcome.error is None and not outcome.finish_reason:
            outcome.error = "no_finish_reason"

    def _take(self, event: str, elapsed_s: float) -> None:
        outcome = self._outcome
        if event == DONE:
            self._done = True
            return
        chunk = object_of(event)
        if not chunk:
            outcome.error = outcome.error or UNREADABLE
            return
        outcome.nearside = {**outcome.nearside, **mapping_of(chunk.get("nearside"))}
        outcome.usage = mapping_of(chunk.get("usage")) or outcome.usage
        if "error" in chunk:
            outcome.error = error_code(chunk) or "stream_error"
        choice = first_choice(chunk)
        delta = mapping_of(choice.get("delta"))
        content = delta.get("content")
        if isinstance(content, str) and content:
            self._texts.append(content)
        if outcome.ttft_s is None and (content or delta.get("tool_calls")):
            outcome.ttft_s = elapsed_s
        _note_finish(outcome, choice)


def error_code(answer: Mapping[str, Any]) -> str | None:
    """The code of an OpenAI-shaped error, or its type where it has none."""
    error = mapping_of(answer.get("error"))
    code = error.get("code") or error.get("type")
    return str(code) if code else None


def _note_finish(outcome: Outcome, choice: Mapping[str, Any]) -> None:
    finish_reason = choice.get("finish_reason")
    if isinstance(finish_reason, str):
        outcome.finish_reason = finish_reason
        if finish_reason == "error":
            outcome.error = outcome.error or "finish_reason_error"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
