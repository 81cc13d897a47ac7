"""The provider's own reuse of prompt prefixes: calls with the same static prefix are sent to the same cache.

A prompt is static first, dynamic last, when its instructions and tools lead. Messages are never put in another order:
what stands where is part of what is said. What can be done without changing a word is to name the prefix, so that the
provider sends calls that share it to the same machine (OpenAI's `prompt_cache_key`), and to tell what it saved.
"""

import hashlib
import json
from typing import Any, TypeGuard

from cloud_fallback.calls import Call

_INSTRUCTIONS = ("system", "developer")


def cache_key(call: Call) -> str | None:
    """A name for the static prefix, or None: there is none, or the caller has named it."""
    if "prompt_cache_key" in call.fields:
        return None
    messages = call.fields.get("messages")
    prefix: list[Any] = []
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict) or message.get("role") not in _INSTRUCTIONS:
            break
        prefix.append(message)
    tools = call.fields.get("tools")
    if not prefix and not tools:
        return None
    text = json.dumps([call.model, tools, prefix], sort_keys=True)
    return "nearside-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached_share(usage: object) -> tuple[int, int] | None:
    """(cached input tokens, all input tokens) as the upstream counted them, or None."""
    if not isinstance(usage, dict):
        return None
    details, total = usage.get("prompt_tokens_details"), usage.get("prompt_tokens")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if not _is_count(total) or not _is_count(cached) or not 0 <= cached <= total or total == 0:
        return None
    return cached, total


def hit_percent(usage: object) -> float | None:
    """Percentage of the input tokens that came from the provider's cache."""
    share = cached_share(usage)
    return None if share is None else round(100 * share[0] / share[1], 1)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
