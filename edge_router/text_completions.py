"""OpenAI's older text completions, answered as chats: `/v1/completions`, its list of prompts, its stream.

Source: OpenAI API reference, "Create completion".
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from . import completions
from .errors import GatewayError, RequestRejected
from .requests import Choices, Controls, StreamOptions, validated
from .sse import DONE_EVENT, encode_event

MAX_PROMPTS = 128
_NOT_FOR_CHAT = frozenset({"prompt", "prompts", "best_of", "echo", "logprobs", "suffix", "stream_options"})


class _TextFields(Controls):
    """What only text completions have; the rest is checked as a chat."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None


class TextRequest(_TextFields):
    """`POST /v1/completions`."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class BatchRequest(_TextFields):
    """`POST /v1/completions/batch`: many prompts, the other fields shared."""

    prompts: Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]


def parse_text(body: dict[str, Any]) -> TextRequest:
    """Raises RequestRejected, also for what chats can't do: token arrays, suffixes, echoes, log-probabilities."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and not all(isinstance(item, str) for item in prompt):
        message = "Token arrays are not served: send 'prompt' as text or a list of texts."
        raise RequestRejected(message, param="prompt", code="invalid_type")
    request = validated(TextRequest, body)
    _refuse(request, body)
    return request


def parse_batch(body: dict[str, Any]) -> BatchRequest:
    """Raises RequestRejected, for a stream as well: its answers come together."""
    request = validated(BatchRequest, body)
    _refuse(request, body, "stream")
    return request


def _refuse(request: _TextFields, body: Mapping[str, Any], *more: str) -> None:
    asked_for = {
        "echo": request.echo,
        "suffix": request.suffix,
        "logprobs": request.logprobs is not None,
        "best_of": request.best_of is not None and request.best_of > (request.n or 1),
        **{name: body.get(name) for name in more},
    }
    for name, is_asked in asked_for.items():
        if is_asked:
            raise RequestRejected(f"'{name}' is not served.", param=name, code="unsupported_value")


def chat_bodies(body: Mapping[str, Any], prompts: Sequence[str], *, stream: bool) -> list[dict[str, Any]]:
    """One chat per prompt, with the parameters that both have."""
    shared = {name: value for name, value in body.items() if name not in _NOT_FOR_CHAT}
    if stream:
        shared |= {"stream": True, "stream_options": body.get("stream_options")}
    else:
        shared.pop("stream", None)
    return [{**shared, "messages": [{"role": "user", "content": prompt}]} for prompt in prompts]


def from_chats(chats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One text completion from the chat completions of its prompts, in their order."""
    first = chats[0]
    choices = [
        _choice(
            entry["message"].get("content") or "",
            len(chat["choices"]) * place + position,
            entry.get("finish_reason") or "stop",
        )
        for place, chat in enumerate(chats)
        for position, entry in enumerate(chat["choices"])
    ]
    return {
        "id": _text_id(first["id"]),
        "object": "text_completion",
        "created": first["created"],
        "model": first["model"],
        "choices": choices,
        "usage": _sum(chat["usage"] for chat in chats),
    }


class TextEvents:
    """Chat chunks as text completion chunks: of one prompt, or of one in a list whose streams follow each other.

    first_index: of this prompt's choices, which count on from those before. is_final: no prompt follows. usages: of the
    prompts before, this one's is added; the last prompt tells the sum.
    """

    def __init__(
        self, *, first_index: int = 0, is_final: bool = True, usages: list[Mapping[str, Any]] | None = None
    ) -> None:
        self._first_index = first_index
        self._is_final = is_final
        self._usages = [] if usages is None else usages

    def encode(self, texts: list[str], is_last: bool) -> str:
        events = "".join(encode_event(text) for text in map(self._translated, texts) if text is not None)
        return events + DONE_EVENT if is_last and self._is_final else events

    def _translated(self, text: str) -> str | None:
        """None for the token counts of a prompt that is not the last."""
        chunk = json.loads(text)
        if not chunk["choices"]:
            self._usages.append(chunk["usage"])
            if not self._is_final:
                return None
            if len(self._usages) > 1:
                chunk["usage"] = _sum(self._usages)
        choices = [
            _choice(
                entry["delta"].get("content") or "",
                self._first_index + entry.get("index", 0),
                entry.get("finish_reason"),
            )
            for entry in chunk["choices"]
        ]
        text_id = _text_id(chunk["id"])
        return completions.dump({**chunk, "id": text_id, "object": "text_completion", "choices": choices})


def failed_chunk(error: GatewayError, index: int, request_id: str, created_s: int) -> str:
    """JSON of the chunk that ends a stream whose next prompt nobody could answer."""
    head = {"id": f"cmpl-{request_id}", "object": "text_completion", "created": created_s, "model": ""}
    return completions.dump({**head, "choices": [_choice("", index, "error")], **error.to_body()})


def _choice(text: str, index: int, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def _text_id(chat_id: str) -> str:
    return "cmpl-" + chat_id.removeprefix("chatcmpl-")


def _sum(usages: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    total = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for usage in usages:
        for name in total:
            total[name] += usage[name]
    return total
