"""Exact cache: the same canonical request of the same tenant gets the stored answer.

One entry serves plain answers and streams. HTTP rules: RFC 9111 (request directives), RFC 9211
(`Cache-Status`).
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

Outcome = Literal["hit", "miss", "bypass"]

VERSION = 1  # of the stored form; another version reads as a miss
MAX_ENTRY_BYTES = 1024 * 1024

# Fields that do not change the answer's text. Everything else a caller sends is part of the key,
# fields that we do not know included: a needless miss is cheap, a wrong hit is not.
_NOT_IN_KEY = frozenset(
    {
        "stream", "stream_options", "user", "metadata", "store", "service_tier", "prompt_cache_key",
        "safety_identifier", "use_cache", "semantic_cache",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Directives:
    """What a request says about caching. `max_age_s`: the oldest entry it accepts."""

    look_up: bool = True
    store: bool = True
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored answer.

    body: the OpenAI completion as JSON text, without the `nearside` report.
    model: catalog id of the model that answered; cost_usd: what that answer cost.
    question: the last user message, where the semantic cache may find the entry by it.
    """

    body: str
    model: str
    stored_at_s: float
    ttl_s: float
    cost_usd: float = 0.0
    question: str | None = None

    def age_s(self, now_s: float) -> float:
        return max(0.0, now_s - self.stored_at_s)

    def is_fresh(self, now_s: float, directives: Directives) -> bool:
        """Within its own lifetime and within what this request accepts."""
        age_s = self.age_s(now_s)
        return age_s < self.ttl_s and (directives.max_age_s is None or age_s <= directives.max_age_s)


def read_directives(body: Mapping[str, Any], cache_control: str | None) -> Directives:
    """`use_cache`, `Cache-Control` and the sampling parameters, in that order of strength.

    An explicit temperature above 0 asks for variety, so it is not cached unless `use_cache` says so.
    Tools: their calls have effects, so they are not cached by default either.
    """
    wanted = body.get("use_cache")
    if wanted is False:
        return Directives(look_up=False, store=False)
    allowed = bool(wanted) or not ((body.get("temperature") or 0) > 0 or body.get("tools") or body.get("functions"))
    if not cache_control:
        return Directives(look_up=allowed, store=allowed)

    parsed = _parse_cache_control(cache_control)
    max_age_s = _seconds(parsed.get("max-age"))
    return Directives(
        look_up=allowed and "no-cache" not in parsed and "no-store" not in parsed and max_age_s != 0,
        store=allowed and "no-store" not in parsed,
        max_age_s=max_age_s,
    )


def cache_key(body: Mapping[str, Any], *, tenant: str, endpoint: str, catalog_version: str) -> str:
    """Hex SHA-256 over the canonical request: key order, Unicode form and outer white space do not matter.

    endpoint: requests to different endpoints never share an entry.
    """
    canonical = {key: value for key, value in body.items() if key not in _NOT_IN_KEY and value is not None}
    canonical["messages"] = [_trimmed(message) for message in body["messages"]]
    canonical.setdefault("model", "auto")
    text = json.dumps(
        [tenant, endpoint, catalog_version, canonical],
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def may_store(completion: Mapping[str, Any]) -> bool:
    """Complete answers only: every choice says something, ended by itself or at the asked limit, calls no tool."""
    choices = completion.get("choices")
    return bool(choices) and all(
        choice.get("finish_reason") in ("stop", "length")
        and choice["message"].get("content")
        and not choice["message"].get("tool_calls")
        for choice in choices or ()
    )


def encode_entry(entry: Entry) -> str:
    """A short JSON line of facts, a line break, the body: reading an entry never parses the body."""
    facts = {
        "v": VERSION,
        "model": entry.model,
        "at": entry.stored_at_s,
        "ttl": entry.ttl_s,
        "usd": entry.cost_usd,
    }
    if entry.question is not None:
        facts["q"] = entry.question
    return json.dumps(facts, separators=(",", ":")) + "\n" + entry.body


def decode_entry(text: str) -> Entry | None:
    """None for anything that encode_entry did not write, garbage included."""
    line, separator, body = text.partition("\n")
    if not separator or not body.startswith("{") or not body.endswith("}"):
        return None
    try:
        facts = json.loads(line)
        if facts["v"] != VERSION or not isinstance(facts["model"], str):
            return None
        question = facts.get("q")
        if not isinstance(question, str | None):
            return None
        numbers = [float(facts[name]) for name in ("at", "ttl", "usd")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not all(map(isfinite, numbers)):
        return None
    stored_at_s, ttl_s, cost_usd = numbers
    return Entry(
        body=body,
        model=facts["model"],
        stored_at_s=stored_at_s,
        ttl_s=ttl_s,
        cost_usd=cost_usd,
        question=question,
    )


def _trimmed(message: Any) -> Any:
    content = message.get("content")
    if not isinstance(content, str):
        return message
    trimmed = content.strip()
    return message if len(trimmed) == len(content) else {**message, "content": trimmed}


def _parse_cache_control(header: str) -> dict[str, str]:
    """Directive name -> value, empty for those without one."""
    directives: dict[str, str] = {}
    for part in header.lower().split(","):
        name, _, value = part.strip().partition("=")
        if name:
            directives[name] = value.strip('"')
    return directives


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdecimal() else None
