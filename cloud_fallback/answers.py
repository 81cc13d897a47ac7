"""What an upstream's answer means: a good one is checked, a bad one becomes one of our errors.

Nothing an upstream writes reaches a caller in an error, except a `type`, `param` or `code` that is a short
identifier: bodies may hold keys, traces or the prompt.
"""

import json
import re
from http import HTTPStatus
from typing import Any

from pydantic_core import from_json

from cloud_fallback.calls import Endpoint
from cloud_fallback.errors import (
    GatewayError,
    UpstreamAuth,
    UpstreamConfused,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)

CALLERS_FAULT = {
    HTTPStatus.BAD_REQUEST: "The upstream rejected the request.",
    HTTPStatus.NOT_FOUND: "The upstream does not know what was asked for.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request is too large for the upstream.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The upstream could not process the request.",
}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_LOOKS_LIKE_KEY = re.compile(r"(?i)^(sk|key|bearer|api)[-_][A-Za-z0-9_-]{16,}$")
_RETRY_AFTER = re.compile(r"[A-Za-z0-9 ,:.+-]{1,64}")


def read_json(data: bytes) -> object:
    """The value, or None when this is not JSON. Cost: about 1 us for an ordinary chunk."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        # pydantic's parser refuses half a surrogate pair; providers cut an emoji's escapes in two.
        return json.loads(data.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def failure_for_status(status: int, body: bytes, retry_after: str | None) -> GatewayError:
    """Our error for an upstream's status that is not 200."""
    answer = read_json(body)
    detail = answer.get("error") if isinstance(answer, dict) else None
    return _failure(status, detail if isinstance(detail, dict) else {}, retry_after)


def upstream_failure(answer: dict[str, Any]) -> GatewayError:
    """Our error for one that came with status 200: in a stream's event or in a plain body."""
    detail = answer.get("error")
    if not isinstance(detail, dict):
        detail = {}
    named = {detail.get("code"), detail.get("type")} if _are_hashable(detail) else set()
    if named & {"rate_limit_exceeded", "rate_limit_error"}:
        return _failure(HTTPStatus.TOO_MANY_REQUESTS, detail, None)
    for status in (detail.get("code"), detail.get("status")):
        if isinstance(status, int):
            return _failure(status, detail, None)
    return _failure(HTTPStatus.BAD_GATEWAY, detail, None)


def check_plain(endpoint: Endpoint, body: bytes) -> dict[str, Any]:
    """The parsed answer. Raises GatewayError when it is not what `endpoint` answers."""
    answer = read_json(body)
    if isinstance(answer, dict):
        if answer.get("error"):
            raise upstream_failure(answer)
        items = answer.get("data" if endpoint is Endpoint.EMBEDDINGS else "choices")
        if isinstance(items, list) and items and all(_is_item(endpoint, item) for item in items):
            return answer
    raise UpstreamError("The upstream's answer is not one that this endpoint gives.")


def as_stream(endpoint: Endpoint, answer: dict[str, Any], *, include_usage: bool) -> bytes:
    """A checked plain answer as the stream that was asked for, `[DONE]` included."""
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage", "object")}
    head["object"] = endpoint.chunk_object
    chunks: list[dict[str, Any]] = []
    for position, choice in enumerate(answer["choices"]):
        index = choice.get("index", position)
        finish = {"finish_reason": choice.get("finish_reason") or "stop"}
        if endpoint is Endpoint.CHAT:
            message = {key: value for key, value in choice["message"].items() if value is not None}
            role = {"role": message.pop("role", "assistant"), "content": ""}
            if "tool_calls" in message:
                message["tool_calls"] = [{"index": number, **call} for number, call in enumerate(message["tool_calls"])]
            logprobs = {"logprobs": choice["logprobs"]} if choice.get("logprobs") else {}
            chunks.append({"index": index, "delta": role, "finish_reason": None})
            chunks.append({"index": index, "delta": message, **logprobs, "finish_reason": None})
            chunks.append({"index": index, "delta": {}, **finish})
        else:
            chunks.append({**choice, "index": index, **finish})
    events: list[dict[str, Any]] = [{**head, "choices": [chunk]} for chunk in chunks]
    if include_usage and answer.get("usage"):
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + (b"data: [DONE]\n\n")


def _failure(status: int, detail: dict[str, Any], retry_after: str | None) -> GatewayError:
    if status in CALLERS_FAULT:
        return UpstreamRejected(
            CALLERS_FAULT[HTTPStatus(status)],
            status=status,
            type=_identifier(detail, "type") or UpstreamRejected.type,
            param=_identifier(detail, "param"),
            code=_identifier(detail, "code"),
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UpstreamAuth("The upstream does not accept this service's key.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        if retry_after is not None and not _RETRY_AFTER.fullmatch(retry_after):
            retry_after = None
        return UpstreamRateLimited("The upstream is limiting our rate.", retry_after=retry_after)
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return UpstreamTimeout("The upstream gave up waiting.")
    if status == HTTPStatus.CONFLICT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamError("The upstream failed.")
    return UpstreamConfused(f"The upstream answered with status {status}.")


def _identifier(detail: dict[str, Any], name: str) -> str | None:
    value = detail.get(name)
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value) or _LOOKS_LIKE_KEY.match(value):
        return None
    return value


def _are_hashable(detail: dict[str, Any]) -> bool:
    return all(not isinstance(detail.get(name), dict | list) for name in ("code", "type"))


def _is_item(endpoint: Endpoint, item: object) -> bool:
    if not isinstance(item, dict):
        return False
    if endpoint is Endpoint.EMBEDDINGS:
        return isinstance(item.get("embedding"), list | str)
    if not isinstance(item.get("finish_reason"), str | None) or not isinstance(item.get("index", 0), int):
        return False
    if endpoint is Endpoint.COMPLETIONS:
        return isinstance(item.get("text"), str)
    message = item.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | list | None):
        return False
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None) or not all(isinstance(call, dict) for call in calls or []):
        return False
    return "content" in message or bool(calls) or "refusal" in message
