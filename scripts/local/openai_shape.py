"""OpenAI's wire shapes: chat completions and their chunks, text completions and errors."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from scripts.local.faulty_response import DONE, Event, PlainAnswer
from scripts.local.simulated_chat import Outcome

FINGERPRINT = "fp_simulated"


@dataclass(frozen=True, slots=True)
class Reply:
    """What every body or chunk of one answer repeats."""

    model: str
    prefix: str = "chatcmpl"
    created_s: int = field(default_factory=lambda: int(time.time()))
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:24])

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-{self.token}",
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


class OpenAIDialect:
    """Failures as OpenAI's API words them. capacity_status: what out of capacity is here."""

    def __init__(self, *, capacity_status: int = 429) -> None:
        self._capacity_status = capacity_status

    def failure(self, kind: str, *, retry_after_s: int) -> PlainAnswer:
        status = {"capacity": self._capacity_status, "503": 503, "429": 429, "429-retry-after": 429}.get(kind, 500)
        headers = {"Retry-After": str(retry_after_s)} if kind == "429-retry-after" else {}
        message, error_type, code = {
            429: ("Rate limit reached: simulated fault.", "requests", "rate_limit_exceeded"),
            503: ("The engine is currently overloaded: simulated fault.", "service_unavailable", None),
            500: ("The server had an error while processing your request: simulated fault.", "server_error", None),
        }[status]
        return error_answer(status, message, error_type=error_type, code=code, headers=headers)


def error_answer(
    status: int,
    message: str,
    *,
    error_type: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> PlainAnswer:
    error = {"message": message, "type": error_type, "param": param, "code": code}
    return PlainAnswer(json_bytes({"error": error}), status=status, headers=headers or {})


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def data_line(value: Any) -> bytes:
    return b"data: " + json_bytes(value)


def chat_body(reply: Reply, outcomes: Sequence[Outcome], usage: dict[str, Any]) -> dict[str, Any]:
    choices = [
        {"index": i, "message": _message(outcome), "logprobs": None, "finish_reason": outcome.finish_reason}
        for i, outcome in enumerate(outcomes)
    ]
    return {**reply.head("chat.completion"), "choices": choices, "usage": usage}


def chat_events(reply: Reply, outcomes: Sequence[Outcome], usage: dict[str, Any] | None) -> Iterator[Event]:
    """A chunk per token; n choices in alternation. usage: sent last when not None."""
    rows = zip_longest(*(_deltas(outcome) for outcome in outcomes))
    for row in rows:
        for i, delta in enumerate(row):
            if delta is not None:
                chunk = data_line(_chat_chunk(reply, i, delta, None, usage))
                yield Event(chunk, "content" if _has_content(delta) else "other")
    for i, outcome in enumerate(outcomes):
        yield Event(data_line(_chat_chunk(reply, i, {}, outcome.finish_reason, usage)))
    if usage is not None:
        yield Event(data_line({**reply.head("chat.completion.chunk"), "choices": [], "usage": usage}))
    yield DONE


def chat_content(reply: Reply, text: str) -> bytes:
    return data_line(_chat_chunk(reply, 0, {"content": text}, None, None))


def text_body(reply: Reply, outcomes: Sequence[Outcome], usage: dict[str, Any]) -> dict[str, Any]:
    choices = [_text_choice(i, each.text, each.finish_reason) for i, each in enumerate(outcomes)]
    return {**reply.head("text_completion"), "choices": choices, "usage": usage}


def text_events(reply: Reply, outcomes: Sequence[Outcome], usage: dict[str, Any] | None) -> Iterator[Event]:
    head = reply.head("text_completion")
    for row in zip_longest(*(outcome.tokens for outcome in outcomes)):
        for i, token in enumerate(row):
            if token is not None:
                yield Event(data_line({**head, "choices": [_text_choice(i, token, None)]}), "content")
    for i, outcome in enumerate(outcomes):
        yield Event(data_line({**head, "choices": [_text_choice(i, "", outcome.finish_reason)]}))
    if usage is not None:
        yield Event(data_line({**head, "choices": [], "usage": usage}))
    yield DONE


def text_content(reply: Reply, text: str) -> bytes:
    return data_line({**reply.head("text_completion"), "choices": [_text_choice(0, text, None)]})


def _text_choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _chat_chunk(
    reply: Reply, index: int, delta: dict[str, Any], finish_reason: str | None, usage: dict[str, Any] | None
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {**reply.head("chat.completion.chunk"), "choices": [choice]}
    return chunk if usage is None else {**chunk, "usage": None}


def _message(outcome: Outcome) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": outcome.text, "refusal": None}
    if outcome.tool_name is not None:
        message["content"] = None
        message["tool_calls"] = [_tool_call(outcome, outcome.text)]
    if outcome.reasoning_tokens:
        message["reasoning_content"] = "".join(outcome.reasoning_tokens)
    return message


def _deltas(outcome: Outcome) -> Iterator[dict[str, Any]]:
    is_text = outcome.tool_name is None
    yield {"role": "assistant", "content": "" if is_text else None, "refusal": None}
    for token in outcome.reasoning_tokens:
        yield {"reasoning_content": token}
    if is_text:
        for token in outcome.tokens:
            yield {"content": token}
        return
    yield {"tool_calls": [{"index": 0, **_tool_call(outcome, "")}]}
    for token in outcome.tokens:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}


def _tool_call(outcome: Outcome, arguments: str) -> dict[str, Any]:
    function = {"name": outcome.tool_name, "arguments": arguments}
    return {"id": outcome.tool_call_id, "type": "function", "function": function}


def _has_content(delta: dict[str, Any]) -> bool:
    return bool(delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content"))
