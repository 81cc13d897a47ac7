"""What upstreams get wrong in an answer that is otherwise good, put right in place; the rest is refused.

Strict clients, OpenAI's own models among them, drop a whole body over one finish reason that they do not know.
Every function returns whether it changed something, so that what was right is passed on as it came.
"""

from collections.abc import Mapping
from typing import Any

from . import completions
from .errors import UpstreamError

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
_LENGTH = frozenset({"max_tokens", "model_length", "max_length", "MAX_TOKENS"})  # as others say it
_CALLS = frozenset({"tool_use", "tool_call"})


def mend_head(body: dict[str, Any], kind: str) -> bool:
    """kind: what `object` must be."""
    changed = body.get("object") != kind
    body["object"] = kind
    tier = body.get("service_tier")
    if tier is not None and not (isinstance(tier, str) and tier in SERVICE_TIERS):
        del body["service_tier"]
        changed = True
    if not isinstance(body.get("system_fingerprint"), str | None):
        del body["system_fingerprint"]
        changed = True
    return changed


def mend_choice(entry: dict[str, Any], position: int, completion_id: str) -> bool:
    """A choice of a plain answer whose message was checked. Raises UpstreamError."""
    message = entry["message"]
    changed = _put(message, "role", "assistant") | _mend_entry(entry, position)
    for place, call in enumerate(message.get("tool_calls") or ()):
        if call.get("type") != "custom":
            changed |= _mend_call(call, f"call_{completion_id[-24:]}{position}{place}")
    finish = entry.get("finish_reason")
    if not isinstance(finish, str | None):
        raise UpstreamError("The model's answer had a finish reason that is not text.")
    known = "tool_calls" if not finish and message.get("tool_calls") else finish_reason(finish or "stop")
    return changed | _put(entry, "finish_reason", known)


def mend_chunk(entry: dict[str, Any], delta: dict[str, Any]) -> bool:
    """A choice of a chunk and its delta. Raises UpstreamError; what a relay checks by itself is not looked at."""
    changed = _mend_entry(entry, 0)
    if delta.get("role") is not None:
        changed |= _put(delta, "role", "assistant")
    if not isinstance(delta.get("function_call"), Mapping | None):
        raise UpstreamError("The model sent a function call that can't be read.")
    calls = delta.get("tool_calls")
    for place, piece in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(piece, dict):
            changed |= "index" not in piece
            piece.setdefault("index", place)
            if piece.get("type") is not None:
                changed |= _put(piece, "type", "function")
    finish = entry.get("finish_reason")
    if isinstance(finish, str) and finish:
        changed |= _put(entry, "finish_reason", finish_reason(finish))
    return changed


def finish_reason(word: str) -> str:
    """OpenAI's word for an upstream's own; what is unknown has stopped somehow."""
    if word in FINISH_REASONS:
        return word
    if word in _CALLS:
        return "tool_calls"
    return "length" if word in _LENGTH else "stop"


def _mend_entry(entry: dict[str, Any], position: int) -> bool:
    changed = "index" not in entry
    entry.setdefault("index", position)
    if not isinstance(entry.get("logprobs"), Mapping | None):
        entry["logprobs"] = None
        changed = True
    return changed


def _mend_call(call: dict[str, Any], made_id: str) -> bool:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UpstreamError("The model's answer had a tool call without a function.")
    changed = _put(call, "type", "function")
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = completions.dump(function.get("arguments") or {})
        changed = True
    if not isinstance(call.get("id"), str) or not call["id"]:
        call["id"] = made_id
        changed = True
    return changed


def _put(place: dict[str, Any], name: str, value: object) -> bool:
    if place.get(name) == value:
        return False
    place[name] = value
    return True
