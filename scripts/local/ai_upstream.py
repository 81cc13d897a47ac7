"""Real answers for the emulated Workers AI, from any OpenAI-compatible server, put into the model's own shape."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from scripts.local.faulty_response import DONE, Answer, ConnectionCut, Event, PlainAnswer, StreamAnswer
from scripts.local.native_shape import ai_error, native_content, native_end
from scripts.local.openai_shape import Reply, chat_content, data_line, json_bytes

NATIVE_INPUTS = (
    "messages",
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "stream",
    "tool_choice",
    "stop",
)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AiUpstream:
    """base_url: with or without its /v1. model: sent instead of the @cf name when not None."""

    base_url: str
    key: str | None = None
    model: str | None = None

    @property
    def chat_url(self) -> str:
        base = self.base_url.rstrip("/")
        return f"{base}/chat/completions" if base.endswith("/v1") else f"{base}/v1/chat/completions"


async def upstream_answer(
    session: aiohttp.ClientSession, upstream: AiUpstream, model: str, inputs: Json, *, is_native: bool
) -> Answer:
    """The upstream's answer in the model's shape; a Workers AI error when it refuses or cannot be reached."""
    body = _openai_body(inputs) if is_native else dict(inputs)
    body["model"] = upstream.model or model
    headers = {"Authorization": f"Bearer {upstream.key}"} if upstream.key else {}
    try:
        response = await session.post(upstream.chat_url, json=body, headers=headers)
    except aiohttp.ClientError as exc:
        return ai_error(3043, f"the upstream of the AI emulator cannot be reached: {exc}")
    if response.status >= 400:
        text = (await response.text())[:500]
        return ai_error({429: 3040, 400: 5006}.get(response.status, 3043), text)
    if response.content_type == "text/event-stream":
        if is_native:
            return StreamAnswer(
                _native_events(response), lambda text: native_content(model, text), close=response.close
            )
        reply = Reply(model)
        return StreamAnswer(_openai_events(response), lambda text: chat_content(reply, text), close=response.close)
    answer = await response.json()
    if is_native:
        answer = _native_answer(answer, is_json=bool(inputs.get("response_format")))
    return PlainAnswer(json_bytes(answer))


def _openai_body(inputs: Json) -> Json:
    body = {name: inputs[name] for name in NATIVE_INPUTS if name in inputs}
    if "messages" not in body:
        body["messages"] = [{"role": "user", "content": inputs.get("prompt", "")}]
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    if inputs.get("tools"):
        body["tools"] = [
            tool if "function" in tool else {"type": "function", "function": tool} for tool in inputs["tools"]
        ]
    wanted = inputs.get("response_format")
    if wanted and wanted.get("type") == "json_schema":
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": wanted.get("json_schema")},
        }
    elif wanted:
        body["response_format"] = wanted
    return body


def _native_answer(answer: Json, *, is_json: bool) -> Json:
    message = answer["choices"][0]["message"]
    native: Json = {"response": message.get("content"), "usage": answer.get("usage"), "model": answer.get("model")}
    if is_json and native["response"]:
        native["response"] = _parsed(native["response"])
    if message.get("tool_calls"):
        native["tool_calls"] = [_native_call(call["function"]) for call in message["tool_calls"]]
    return native


async def _native_events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Text as it comes; tool calls, whose arguments arrive in pieces, whole at the end."""
    calls: dict[int, Json] = {}
    model, counts = "", None
    async for data in _data(response):
        if data == "[DONE]":
            break
        chunk = json.loads(data)
        model = chunk.get("model") or model
        counts = chunk.get("usage") or counts
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if delta.get("content"):
                yield Event(native_content(model, delta["content"]), "content")
            for piece in delta.get("tool_calls") or []:
                call = calls.setdefault(piece.get("index", 0), {"name": "", "arguments": ""})
                function = piece.get("function") or {}
                call["name"] += function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
    if calls:
        tool_calls = [_native_call(call) for call in calls.values()]
        yield Event(data_line({"response": None, "tool_calls": tool_calls, "model": model}), "content")
    yield native_end(model, counts)
    yield DONE


async def _openai_events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    async for data in _data(response):
        if data == "[DONE]":
            yield DONE
            continue
        choices = json.loads(data).get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        has_content = any(delta.get(part) for part in ("content", "tool_calls", "reasoning_content", "reasoning"))
        yield Event(f"data: {data}".encode(), "content" if has_content else "other")


async def _data(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Each data line's payload; a broken stream stays broken."""
    try:
        async for line in response.content:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode()
    except aiohttp.ClientError as exc:
        raise ConnectionCut from exc


def _native_call(function: Json) -> Json:
    return {"name": function["name"], "arguments": _parsed(function.get("arguments") or "{}")}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
