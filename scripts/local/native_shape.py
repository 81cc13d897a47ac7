"""The shape of Workers AI's native models, and the service's errors. Source: workerd's internal ai-api.ts."""

import json
from collections.abc import Iterator
from typing import Any

from scripts.local.faulty_response import DONE, Event, PlainAnswer
from scripts.local.openai_shape import data_line, json_bytes
from scripts.local.simulated_chat import Outcome

# Facts, section 4.4. 3043, 5006, 5021 and 5025 are not in Cloudflare's table: seen in the wild, status assumed.
STATUSES = {
    3003: 400,
    3006: 413,
    3007: 408,
    3036: 429,
    3040: 429,
    3043: 500,
    5006: 400,
    5007: 400,
    5021: 400,
    5025: 400,
}
# Facts, section 4.2: (lowest, highest) of what a native model takes.
INPUT_RANGES = {
    "max_tokens": (0, float("inf")),
    "temperature": (0, 5),
    "top_p": (0.001, 1),
    "top_k": (1, 50),
    "seed": (1, 9_999_999_999),
    "repetition_penalty": (0, 2),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
ERROR_NAME = "InferenceUpstreamError"
PADDING = "abcdefghijklmnopqrstuvwxyz"  # `p` hides the token's length from who watches packet sizes


class AiDialect:
    """Failures as the binding's service words them."""

    def failure(self, kind: str, *, retry_after_s: int) -> PlainAnswer:
        if kind == "allowance":
            return ai_error(3036, "You have used up your daily free allocation of 10,000 neurons.")
        if kind in ("capacity", "429", "429-retry-after"):
            headers = {"Retry-After": str(retry_after_s)} if kind == "429-retry-after" else {}
            return ai_error(3040, "Capacity temporarily exceeded, please try again.", headers=headers)
        return ai_error(3043, "Internal server error: simulated fault.", status=503 if kind == "503" else 500)


def ai_error(
    code: int, description: str, *, status: int | None = None, headers: dict[str, str] | None = None
) -> PlainAnswer:
    """The binding throws `<code>: <description>` under the given name."""
    body = {
        "internalCode": code,
        "name": ERROR_NAME,
        "message": f"{code}: {description}",
        "description": description,
    }
    return PlainAnswer(json_bytes(body), status=status or STATUSES[code], headers=headers or {})


def native_problem(inputs: dict[str, Any]) -> PlainAnswer | None:
    """What a native model refuses in its inputs, or None."""
    if inputs.get("response_format") and inputs.get("stream"):
        return ai_error(5025, "JSON Mode couldn't be met: it is not available together with streaming")
    for name, (low, high) in INPUT_RANGES.items():
        value = inputs.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ai_error(5006, f"Error: Type mismatch of '/{name}', 'number' expected")
        if not low <= value <= high:
            return ai_error(5006, f"Error: '/{name}' must be from {low} to {high}, got {value}")
    return None


def native_body(model: str, outcome: Outcome, usage: dict[str, Any], *, is_json: bool) -> dict[str, Any]:
    """is_json: `response` is the parsed value, as JSON mode answers."""
    body: dict[str, Any] = {"response": outcome.text}
    if outcome.tool_name is not None:
        body = {"response": None, "tool_calls": [_tool_call(outcome)]}
    elif is_json:
        body = {"response": _parsed(outcome.text)}
    return {**body, "usage": usage, "model": model}


def native_events(model: str, outcome: Outcome, usage: dict[str, Any]) -> Iterator[Event]:
    """A chunk per token, then one with usage. A tool call comes in one piece."""
    if outcome.tool_name is not None:
        chunk = {"response": None, "tool_calls": [_tool_call(outcome)], "model": model, "p": PADDING[:8]}
        yield Event(data_line(chunk), "content")
    else:
        for token in outcome.tokens:
            yield Event(native_content(model, token), "content")
    yield native_end(model, usage)
    yield DONE


def native_content(model: str, text: str) -> bytes:
    return data_line({"response": text, "model": model, "p": PADDING[: -len(text) % 16]})


def native_end(model: str, usage: dict[str, Any] | None) -> Event:
    return Event(data_line({"response": "", "usage": usage, "model": model, "p": PADDING[:6]}))


def _tool_call(outcome: Outcome) -> dict[str, Any]:
    return {"name": outcome.tool_name, "arguments": _parsed(outcome.text)}


def _parsed(text: str) -> Any:
    """The JSON value, or the text itself when max_tokens cut it."""
    try:
        return json.loads(text)
    except ValueError:
        return text
