"""One chat request on its way, and the two forms that its answer takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from . import completions, workers_ai
from .auth import Tenant
from .catalog import Model
from .latency import Kind
from .ports import Background
from .report import Report
from .requests import ChatRequest
from .streaming import LiveChunks
from .tokens import estimate_tokens

_SCHEMAS = ("tools", "functions", "response_format")  # fields that models read as text


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One chat request on its way. `body` is the caller's JSON, our header fields merged in.

    is_part: its answer is not what its request's id stands for: one of several prompts, or a refreshed cache entry.
    """

    request: ChatRequest
    body: dict[str, Any]
    tenant: Tenant
    cache_control: str | None
    forwarded: Mapping[str, str]
    background: Background
    report: Report
    started_ms: float
    is_part: bool = False

    @property
    def message_text(self) -> str:
        return "\n".join(message.text for message in self.request.messages)

    @property
    def input_text(self) -> str:
        """All that a model reads: by it the input is estimated."""
        texts = [self.message_text]
        for message in self.body["messages"]:
            texts += completions.beside_content(message)
        texts += [completions.dump(self.body[name]) for name in _SCHEMAS if self.body.get(name)]
        return "\n".join(texts)

    def input_tokens(self, model: Model) -> int:
        """What the model will have counted, estimated; images and files as in the worst case."""
        return model.context_window_tokens if self.request.has_images else estimate_tokens(self.input_text)

    @property
    def kind(self) -> Kind:
        """What `max_latency_ms` and the measured times of this call count to: first content, or the whole answer."""
        return "ttft" if self.request.stream else "total"

    def left_ms(self, elapsed_ms: float) -> float:
        """Of `max_latency_ms`: infinite without, negative once it passed. elapsed_ms: the clock's."""
        limit_ms = self.request.max_latency_ms
        return inf if limit_ms is None else limit_ms - (elapsed_ms - self.started_ms)

    @property
    def limit_tokens(self) -> int:
        """Of the output: the caller's, or the one that we send."""
        return self.request.output_limit_tokens or workers_ai.DEFAULT_OUTPUT_TOKENS

    @property
    def imposed_limit_tokens(self) -> int | None:
        """What a cloud model is to be told of it: a budget needs an end to what an answer may cost."""
        is_open = self.tenant.budget is not None and self.request.output_limit_tokens is None
        return self.limit_tokens if is_open else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A plain answer: the completion as JSON text without the report."""

    text: str


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A streamed answer: live batches, or all chunks at once when it is replayed. `[DONE]` is not among them."""

    chunks: LiveChunks | list[str]
