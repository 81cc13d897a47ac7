"""Workers AI's two dialects: what to send to a model and how to read its plain answer.

Native models take a flat body with a default limit of 256 tokens and answer `{response, usage}`; the newer
ones speak OpenAI's chat completions. Sources: Cloudflare's model pages and error table, September 2026.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from . import completions
from .catalog import Model
from .errors import EdgeClosed, UpstreamBusy, UpstreamError, UpstreamTimeout
from .requests import ChatRequest

DEFAULT_OUTPUT_TOKENS = 2048  # sent always: the platform's own default of 256 cuts answers short

# What a native model does not know, and would silently ignore.
NOT_NATIVE = ("stop", "n", "logprobs", "top_logprobs", "logit_bias")

_NATIVE_FIELDS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_OPENAI_FIELDS = (
    *_NATIVE_FIELDS,
    *NOT_NATIVE,
    "seed",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
)
_SEEDS = 9_999_999_999  # native seeds run from 1 to here
_INTERNAL_CODE = re.compile(r"\b(3\d{3}|5\d{3})\b")
_BUSY_CODES = {"3040"}  # out of capacity
_ALLOWANCE_CODES = {"3036"}  # the free allocation of this day
_TIMEOUT_CODES = {"3007", "3008"}


def build_inputs(model: Model, request: ChatRequest, body: Mapping[str, Any]) -> dict[str, Any]:
    """What `env.AI.run(model.id, …)` takes for this request.

    body: the caller's JSON, from which the parameters that the model knows are copied as they came.
    """
    limit_tokens = request.output_limit_tokens or DEFAULT_OUTPUT_TOKENS
    stream = {"stream": True} if request.stream else {}
    if model.shape == "native":
        messages = [{"role": _native_role(m.role), "content": m.text} for m in request.messages]
        inputs = {"messages": messages, "max_tokens": limit_tokens, **_given(body, _NATIVE_FIELDS), **stream}
        if request.seed is not None:
            inputs["seed"] = 1 + request.seed % _SEEDS
        if request.top_p is not None:
            inputs["top_p"] = max(request.top_p, 0.001)
        return inputs

    inputs = {"messages": body["messages"], "max_completion_tokens": limit_tokens}
    inputs.update(_given(body, _OPENAI_FIELDS))
    inputs.update(stream)
    if request.stream:
        inputs["stream_options"] = {"include_usage": True}
    if model.thinks:
        inputs["chat_template_kwargs"] = {"enable_thinking": False}
    return inputs


def affinity_of(tenant_id: str, body: Mapping[str, Any]) -> str:
    """One word for all requests that begin alike, so that the platform sends them where their prefix is cached:
    equal for the turns of one conversation and for calls with the same `prompt_cache_key`, never for two tenants.
    """
    key = body.get("prompt_cache_key")
    if not isinstance(key, str):
        first_user = next((i for i, m in enumerate(body["messages"]) if m.get("role") == "user"), 0)
        key = json.dumps(body["messages"][: first_user + 1])
    return hashlib.sha256(f"{tenant_id}\0{key}".encode(errors="replace")).hexdigest()[:32]


def parse_answer(model: Model, text: str, *, completion_id: str, created_s: int, limit_tokens: int) -> dict[str, Any]:
    """A plain answer of either dialect as a `chat.completion`, `usage` as it came or absent.

    Raises UpstreamError for anything that is not an answer.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UpstreamError("The edge model's answer was not valid JSON.") from exc
    if isinstance(body, dict) and "choices" not in body and "response" in body:
        return _from_native(model, body, completion_id, created_s, limit_tokens)
    parsed = completions.parse_completion(text)
    return {"id": completion_id, "object": "chat.completion", "created": created_s, "model": model.id, **parsed}


def finish_reason(output_tokens: object, limit_tokens: int, *, calls_tools: bool = False) -> str:
    """Native models do not say why they stopped; reaching the limit tells."""
    if calls_tools:
        return "tool_calls"
    return "length" if isinstance(output_tokens, int) and output_tokens >= limit_tokens else "stop"


def parse_error(status: int, text: str, *, retry_after_s: float | None = None) -> UpstreamError:
    """An error answer as ours, to be repeated after a second where it does not say when.

    The internal code is searched for, because its place in the text varies.
    """
    found = _INTERNAL_CODE.search(text)
    code = found.group(1) if found else None
    if code in _TIMEOUT_CODES or status == 408:
        return UpstreamTimeout("The edge model took too long.")
    if code in _ALLOWANCE_CODES:
        return EdgeClosed("The free allocation of Workers AI is used up; it returns at 00:00 UTC.")
    if code in _BUSY_CODES or status == 429:
        retry_after_s = 1 if retry_after_s is None else retry_after_s
        return UpstreamBusy("The edge model is out of capacity.", retry_after_s=retry_after_s)
    detail = f" (Workers AI code {code})" if code else f" (status {status})"
    return UpstreamError(f"The edge model failed{detail}.")


def tool_calls_of(raw: object, completion_id: str) -> list[dict[str, Any]]:
    """Native tool calls, `[{name, arguments}]`, as OpenAI's; raises UpstreamError when they are something else."""
    if raw is None:
        return []
    if not isinstance(raw, list) or not all(isinstance(call, dict) for call in raw):
        raise UpstreamError("The edge model sent tool calls that can't be read.")
    return [_tool_call(call, position, completion_id) for position, call in enumerate(raw)]


def _from_native(
    model: Model, body: dict[str, Any], completion_id: str, created_s: int, limit_tokens: int
) -> dict[str, Any]:
    response = body["response"]
    content = response if isinstance(response, str) or response is None else completions.dump(response)
    calls = tool_calls_of(body.get("tool_calls"), completion_id)
    if not content and not calls:
        raise UpstreamError("The edge model's answer was empty.")
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    reason = finish_reason(usage.get("completion_tokens"), limit_tokens, calls_tools=bool(calls))
    return completions.completion(
        completion_id=completion_id,
        created_s=created_s,
        model=str(body.get("model") or model.id),
        choices=[completions.choice(content, reason, tool_calls=calls)],
        usage=usage,
    )


def _tool_call(call: Mapping[str, Any], position: int, completion_id: str) -> dict[str, Any]:
    arguments = call.get("arguments")
    text = arguments if isinstance(arguments, str) else completions.dump(arguments or {})
    call_id = str(call.get("id") or f"call_{completion_id[-24:]}{position}")
    return {"id": call_id, "type": "function", "function": {"name": str(call.get("name")), "arguments": text}}


def _native_role(role: str) -> str:
    """Native chat templates know neither `developer` nor `function`."""
    return {"developer": "system", "function": "tool"}.get(role, role)


def _given(body: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: body[name] for name in fields if body.get(name) is not None}
