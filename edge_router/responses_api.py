"""OpenAI's Responses API, text in and text out, answered as a chat. Stateless: nothing is kept to be continued.

Source: OpenAI API reference, "Responses" and "Streaming events".
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from . import completions
from .errors import RequestRejected
from .requests import Controls, Name, TokenLimit, validated
from .sse import encode_event

_PASSED_ON = ("model", "temperature", "top_p", "user", "metadata", *Controls.model_fields)
_STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
_INPUT_TEXT = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_Kind = Literal["output_text", "refusal"]
_KINDS: dict[str, _Kind] = {"content": "output_text", "refusal": "refusal"}
_ROLES = ("user", "assistant", "system", "developer")


class TextFormat(BaseModel):
    """What the answer must parse as; the fields of `json_schema` lie flat beside its type."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextConfig(BaseModel):
    """How the text of the answer looks."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(BaseModel):
    """How much the model is to think before it answers."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    effort: str | None = None
    summary: str | None = None


class ResponsesRequest(Controls):
    """`POST /v1/responses`."""

    input: str | Annotated[list[dict[str, Any]], Field(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: TokenLimit | None = None
    text: TextConfig | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    include: list[str] | None = None
    reasoning: Reasoning | None = None
    store: bool | None = None
    stream_options: dict[str, Any] | None = None
    service_tier: str | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None


def parse_responses(body: dict[str, Any]) -> ResponsesRequest:
    """Raises RequestRejected that names what is wrong or not served."""
    for name in _STATEFUL:
        if body.get(name):
            message = f"'{name}' is not served: send the whole conversation as 'input'."
            raise RequestRejected(message, param=name, code="unsupported_value")
    request = validated(ResponsesRequest, body)
    if request.tools:
        raise RequestRejected("Tools are served by /v1/chat/completions.", param="tools", code="unsupported_value")
    wanted = request.text.format if request.text else None
    for name in ("name", "json_schema") if wanted and wanted.type == "json_schema" else ():
        if getattr(wanted, name) is None:
            param = "text.format." + name.removeprefix("json_")
            message = f"Missing required parameter: '{param}'."
            raise RequestRejected(message, param=param, code="missing_required_parameter")
    return request


def chat_body(request: ResponsesRequest, body: Mapping[str, Any]) -> dict[str, Any]:
    """The same request as a chat; raises RequestRejected for input that is not text."""
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        messages.append({"role": "user", "content": request.input})
    else:
        messages += [_message(item, place) for place, item in enumerate(request.input)]
    chat: dict[str, Any] = {name: body[name] for name in _PASSED_ON if body.get(name) is not None}
    chat["messages"] = messages
    if request.max_output_tokens:
        chat["max_completion_tokens"] = request.max_output_tokens
    if request.text and request.text.format:
        chat["response_format"] = _response_format(body["text"]["format"])
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def from_chat(chat: Mapping[str, Any], request: ResponsesRequest, body: Mapping[str, Any]) -> dict[str, Any]:
    """The finished `response` object."""
    entry = chat["choices"][0]
    refusal = entry["message"].get("refusal")
    text = entry["message"].get("content") or ""
    part = _part("refusal", refusal) if refusal else _part("output_text", text)
    is_cut = entry.get("finish_reason") == "length"
    return _response(
        chat,
        request,
        body,
        status="incomplete" if is_cut else "completed",
        output=[_output_message(_message_id(chat["id"]), "incomplete" if is_cut else "completed", [part])],
        usage=chat["usage"],
        incomplete_details={"reason": "max_output_tokens"} if is_cut else None,
    )


class ResponsesEvents:
    """Chat chunks as the typed events of the Responses API, numbered, ended by completed, incomplete or failed."""

    def __init__(self, request: ResponsesRequest, body: Mapping[str, Any]) -> None:
        self._request = request
        self._body = body
        self._number = 0
        self._chat: dict[str, Any] | None = None
        self._text: list[str] = []
        self._kind: _Kind | None = None
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._error: Mapping[str, Any] | None = None
        self._report: Any = None

    def encode(self, texts: list[str], is_last: bool) -> str:
        events = [event for text in texts for event in self._take(json.loads(text))]
        if is_last:
            events += self._end()
        return "".join(events)

    def _take(self, chunk: dict[str, Any]) -> list[str]:
        events: list[str] = []
        self._report = chunk.get("nearside", self._report)
        self._usage = chunk.get("usage") or self._usage
        self._error = chunk.get("error") or self._error
        if self._chat is None:
            self._chat = {name: chunk[name] for name in ("id", "created", "model")}
            events += self._begin()
        for entry in chunk["choices"]:
            self._finish = entry.get("finish_reason") or self._finish
            for name, kind in _KINDS.items():
                piece = entry["delta"].get(name)
                if piece:
                    events += self._open_part(kind)
                    self._text.append(piece)
                    more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
                    events.append(self._part_event(f"{kind}.delta", delta=piece, **more))
        return events

    def _begin(self) -> list[str]:
        started = self._snapshot("in_progress", [])
        item = _output_message(self._message_id, "in_progress", [])
        return [
            self._event("response.created", response=started),
            self._event("response.in_progress", response=started),
            self._event("response.output_item.added", output_index=0, item=item),
        ]

    def _open_part(self, kind: _Kind) -> list[str]:
        """The part is announced when it is known whether the model answers or refuses."""
        if self._kind is not None:
            return []
        self._kind = kind
        return [self._part_event("content_part.added", part=_part(kind, ""))]

    def _end(self) -> list[str]:
        if self._chat is None:
            return []
        text, kind = "".join(self._text), self._kind or "output_text"
        if self._error is not None:
            error = {"code": self._error.get("code") or "server_error", "message": self._error.get("message")}
            item = _output_message(self._message_id, "incomplete", [_part(kind, text)])
            failed = {**self._snapshot("failed", [item]), "error": error}
            return [self._event("response.failed", response=failed)]
        status: Literal["completed", "incomplete"] = "incomplete" if self._finish == "length" else "completed"
        item = _output_message(self._message_id, status, [_part(kind, text)])
        finished = self._snapshot(status, [item])
        done = {"text": text, "logprobs": []} if kind == "output_text" else {"refusal": text}
        return [
            *self._open_part(kind),
            self._part_event(f"{kind}.done", **done),
            self._part_event("content_part.done", part=_part(kind, text)),
            self._event("response.output_item.done", output_index=0, item=item),
            self._event(f"response.{status}", response=finished),
        ]

    @property
    def _message_id(self) -> str:
        assert self._chat is not None
        return _message_id(self._chat["id"])

    def _snapshot(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        assert self._chat is not None
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        usage = self._usage if status in ("completed", "incomplete") else None
        snapshot = _response(
            self._chat, self._request, self._body, status=status, output=output, usage=usage, incomplete_details=details
        )
        return snapshot if self._report is None else {**snapshot, "nearside": self._report}

    def _part_event(self, name: str, **fields: Any) -> str:
        return self._event(f"response.{name}", item_id=self._message_id, output_index=0, content_index=0, **fields)

    def _event(self, name: str, **fields: Any) -> str:
        data = completions.dump({"type": name, "sequence_number": self._number, **fields})
        self._number += 1
        return f"event: {name}\n" + encode_event(data)


def _message(item: Mapping[str, Any], place: int) -> dict[str, Any]:
    """One input item, `{role, content}` with text alone, as a chat message."""
    where = f"input[{place}]"
    if item.get("type", "message") != "message":
        raise RequestRejected("Only messages are served as input.", param=f"{where}.type", code="unsupported_value")
    content = item.get("content")
    if isinstance(content, list):
        content = "\n".join(_part_text(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    for name, value, is_right in (
        ("role", item.get("role"), item.get("role") in _ROLES),
        ("content", content, isinstance(content, str)),
    ):
        if value is None:
            message = f"Missing required parameter: '{where}.{name}'."
            raise RequestRejected(message, param=f"{where}.{name}", code="missing_required_parameter")
        if not is_right:
            code = "invalid_value" if isinstance(value, str) else "invalid_type"
            raise RequestRejected(f"Invalid '{where}.{name}'.", param=f"{where}.{name}", code=code)
    return {"role": item["role"], "content": content}


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, dict) and isinstance(part.get("type"), str):
        text = part.get(_INPUT_TEXT.get(part["type"], ""))
        if isinstance(text, str):
            return text
    raise RequestRejected("Only text parts are served.", param=where, code="unsupported_value")


def _response_format(text_format: Mapping[str, Any]) -> dict[str, Any]:
    """The Responses API has the schema's fields flat, chats have them under `json_schema`."""
    kind = text_format.get("type")
    if kind != "json_schema":
        return {"type": kind}
    schema = {name: value for name, value in text_format.items() if name != "type"}
    return {"type": kind, "json_schema": schema}


def _response(
    chat: Mapping[str, Any],
    request: ResponsesRequest,
    body: Mapping[str, Any],
    *,
    status: str,
    output: list[dict[str, Any]],
    usage: Mapping[str, Any] | None,
    incomplete_details: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "id": "resp_" + chat["id"].removeprefix("chatcmpl-"),
        "object": "response",
        "created_at": chat["created"],
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": incomplete_details,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "model": chat["model"],
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": body.get("temperature") if body.get("temperature") is not None else 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": body.get("top_p") if body.get("top_p") is not None else 1.0,
        "truncation": "disabled",
        "usage": None if usage is None else _usage(usage),
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    def detail(group: str, name: str) -> int:
        details = usage.get(group)
        count = details.get(name) if isinstance(details, dict) else None
        return count if isinstance(count, int) else 0

    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": detail("prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": detail("prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": detail("completion_tokens_details", "reasoning_tokens")},
        "total_tokens": usage["total_tokens"],
    }


def _message_id(chat_id: str) -> str:
    return "msg_" + chat_id.removeprefix("chatcmpl-")


def _output_message(message_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": message_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _part(kind: _Kind, text: str) -> dict[str, Any]:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
