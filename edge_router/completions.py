"""OpenAI's completion objects: building them, reading what upstreams send, replaying one as a stream."""

import json
from collections.abc import Callable, Iterator, Mapping
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from .errors import UpstreamError
from .pieces import pieces
from .tokens import estimate_tokens

_DETAILS = ("prompt_tokens_details", "completion_tokens_details")


# Made once: `json.dumps` with options makes an encoder at each call.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


def dump(value: object) -> str:
    """Compact JSON, always valid as UTF-8: half of a surrogate pair, which JSON may carry, is escaped."""
    text = _encode(value)
    return text if text.isascii() or _is_utf8(text) else _encode_ascii(value)


def completion(
    *,
    completion_id: str,
    created_s: int,
    model: str,
    choices: list[dict[str, Any]],
    usage: Mapping[str, Any],
) -> dict[str, Any]:
    """A `chat.completion` object."""
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": choices,
        "usage": dict(usage),
    }


def choice(
    content: str | None,
    finish_reason: str,
    *,
    index: int = 0,
    tool_calls: list[dict[str, Any]] | None = None,
    refusal: str | None = None,
) -> dict[str, Any]:
    """One entry of `choices` in a plain answer."""
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if tool_calls:
        message["tool_calls"] = tool_calls
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}


def usage_of(
    raw: object, input_tokens: Callable[[], int], output_text: Callable[[], str]
) -> tuple[dict[str, Any], bool]:
    """Token counts as OpenAI names them, and whether they had to be estimated.

    raw: the upstream's `usage`, or anything else when it sent none; only then the others are asked.
    """
    if isinstance(raw, Mapping):
        counts = [raw.get("prompt_tokens"), raw.get("completion_tokens")]
        if all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
            details = {name: value for name, value in raw.items() if name in _DETAILS and isinstance(value, Mapping)}
            return {**_counts(int(counts[0] or 0), int(counts[1] or 0)), **details}, False
    return _counts(input_tokens(), estimate_tokens(output_text())), True


def cached_input_share(usage: Mapping[str, Any]) -> float | None:
    """Of the input tokens, those from the provider's own prompt cache, in [0, 1]; None when it does not say."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    total: int = usage["prompt_tokens"]
    if isinstance(cached, bool) or not isinstance(cached, int) or not 0 <= cached <= total or total == 0:
        return None
    return cached / total


def _counts(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def parse_completion(text: str) -> dict[str, Any]:
    """An upstream's plain answer, checked as far as we rely on it; raises UpstreamError."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UpstreamError("The model's answer was not valid JSON.") from exc
    if not isinstance(body, dict):
        raise UpstreamError("The model's answer was not a JSON object.")
    if body.get("error"):
        raise UpstreamError("The model answered with an error.")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamError("The model's answer had no choices.")
    for entry in choices:
        if not isinstance(entry, dict) or not isinstance(entry.get("message"), dict):
            raise UpstreamError("The model's answer had a choice without a message.")
        _check_message(entry["message"])
    return body


def is_like(value: object, made: object) -> bool:
    """Whether an upstream's value can stand where we would put our own: of the same type, and not empty."""
    return bool(value) and type(value) is type(made)


def _check_message(message: Mapping[str, Any]) -> None:
    for name in ("content", "refusal"):
        if not isinstance(message.get(name), str | None):
            raise UpstreamError(f"The model's answer had {name} that is not text.")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise UpstreamError("The model's answer had tool calls that can't be read.")


def text_of(body: Mapping[str, Any]) -> str:
    """All visible text of a completion, for simple clients."""
    return "".join(entry["message"].get("content") or "" for entry in body["choices"])


def output_text(body: Mapping[str, Any]) -> str:
    """All that a model wrote into a completion: by it the output is estimated."""
    return text_of(body) + "".join(text for entry in body["choices"] for text in beside_content(entry["message"]))


def beside_content(message: Mapping[str, Any]) -> list[str]:
    """What counts in a message or a delta beside its content: refusals, thoughts, and calls with their arguments."""
    texts = [message.get("refusal"), message.get("reasoning_content") or message.get("reasoning")]
    if isinstance(message.get("content"), list):
        texts += [part.get("refusal") for part in message["content"]]
    calls = [message.get("function_call")]
    for call in message.get("tool_calls") or ():
        calls += [call.get("function"), call.get("custom")]
    for call in calls:
        if isinstance(call, dict):
            texts += [call.get("name"), call.get("arguments"), call.get("input")]
    return [text for text in texts if isinstance(text, str)]


def chunk(
    body: Mapping[str, Any], delta: Mapping[str, Any], *, index: int = 0, finish_reason: str | None = None
) -> dict[str, Any]:
    """A `chat.completion.chunk` that belongs to `body` (same id, created, model)."""
    return {
        "id": body["id"],
        "object": "chat.completion.chunk",
        "created": body["created"],
        "model": body["model"],
        "choices": [{"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}],
    }


def replay(body: Mapping[str, Any], *, include_usage: bool) -> Iterator[str]:
    """JSON texts of the chunks that a live stream of this completion would have had, without `[DONE]`."""
    for entry in body["choices"]:
        index, message = entry.get("index", 0), entry["message"]
        yield dump(chunk(body, {"role": "assistant", "content": ""}, index=index))
        for name in ("refusal", "content"):
            yield from _replay_text(body, name, message.get(name) or "", index)
        if message.get("tool_calls"):
            calls = [{"index": i, **call} for i, call in enumerate(message["tool_calls"])]
            yield dump(chunk(body, {"tool_calls": calls}, index=index))
        yield dump(chunk(body, {}, index=index, finish_reason=entry.get("finish_reason") or "stop"))
    if include_usage:
        yield dump({**chunk(body, {}), "choices": [], "usage": body.get("usage")})


def _replay_text(body: Mapping[str, Any], name: str, text: str, index: int) -> Iterator[str]:
    """The chunks differ in one string only, so each is encoded once around it."""
    before, _, after = dump(chunk(body, {name: "\0"}, index=index)).rpartition('"\\u0000"')
    quote = encode_basestring if _is_utf8(text) else encode_basestring_ascii
    for piece in pieces(text):
        yield f"{before}{quote(piece)}{after}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
