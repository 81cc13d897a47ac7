"""One stored answer: how it is written, how it is read back from whatever the store returns, and how fresh it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from sys import getsizeof
from typing import Any, Literal
from zlib import crc32

from .directives import Directives
from .policy import Lifetimes

VERSION = 3  # of the stored form; another version reads as a miss
MAX_ENTRY_BYTES = 1024 * 1024
_FACTS_BYTES = 1024  # what an entry's other fields take, generously
SPREAD = 0.1  # of a lifetime, either way: entries stored together would otherwise all expire together

# fresh: serve it. stale: serve it, and refresh it. fallback: only when every model fails. expired: of no use.
Freshness = Literal["fresh", "stale", "fallback", "expired"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored answer.

    body: the OpenAI completion as JSON text, without the `nearside` report.
    model: catalog id of the model that answered; cost_usd, tokens: what that answer cost.
    stored_at_s: when it was asked for, as RFC 9111 counts age (4.2.3); a purge since then takes it along.
    question: the last user message, where the semantic cache may find the entry by it.
    """

    body: str
    model: str
    stored_at_s: float
    ttl_s: float
    swr_s: float = 0.0
    stale_if_error_s: float = 0.0
    cost_usd: float = 0.0
    tokens: int = 0
    tags: tuple[str, ...] = ()
    question: str | None = None

    @property
    def size_bytes(self) -> int:
        """In memory, where text beyond Latin-1 takes two or four bytes a character."""
        return getsizeof(self.body) + getsizeof(self.question) + _FACTS_BYTES

    @property
    def kept_s(self) -> float:
        return Lifetimes(self.ttl_s, self.swr_s, self.stale_if_error_s).kept_s

    def age_s(self, now_s: float) -> float:
        return max(0.0, now_s - self.stored_at_s)

    def freshness(self, now_s: float, asked: Directives) -> Freshness:
        """By its own lifetime and by what this request accepts."""
        age_s = self.age_s(now_s)
        late_s = age_s + asked.min_fresh_s - self.ttl_s
        is_fresh = late_s < 0
        if asked.max_age_s is not None:
            is_fresh = is_fresh and age_s <= asked.max_age_s
            late_s = max(late_s, age_s - asked.max_age_s)
        if is_fresh:
            return "fresh"
        allowed_s = asked.allowed_stale_s
        if late_s < (self.swr_s if allowed_s is None else allowed_s):
            return "stale"
        # Who says how old an answer may be wants none that is older, a failure included.
        return "fallback" if allowed_s is None and late_s < self.stale_if_error_s else "expired"


def spread(ttl_s: float, key: str) -> float:
    """The lifetime of one entry: within SPREAD of ttl_s, the same for the same key. key: hex digits."""
    place = int(key[:8], 16) / 0xFFFFFFFF  # in [0, 1]
    return ttl_s * (1 + SPREAD * (2 * place - 1))


def may_store(completion: Mapping[str, Any], *, tool_calls: bool = False) -> bool:
    """Complete answers only: every choice says something, ended by itself or at the asked limit.

    tool_calls: whether an answer that calls tools will do as well.
    """
    choices = completion.get("choices")
    return bool(choices) and all(_is_whole(choice, tool_calls) for choice in choices or ())


def encode_entry(entry: Entry) -> str:
    """A short JSON line of facts, a line break, the body. Its checksum is a fact: reading an entry never parses it."""
    facts = {
        "v": VERSION,
        "model": entry.model,
        "at": entry.stored_at_s,
        "ttl": entry.ttl_s,
        "swr": entry.swr_s,
        "sie": entry.stale_if_error_s,
        "usd": entry.cost_usd,
        "tokens": entry.tokens,
        "tags": entry.tags,
        "question": entry.question,
        "crc": _checksum(entry.body),
    }
    return json.dumps(facts, separators=(",", ":")) + "\n" + entry.body


def decode_entry(text: str) -> Entry | None:
    """None for anything that encode_entry did not write, garbage included, or that was damaged since."""
    line, _, body = text.partition("\n")
    try:
        facts = json.loads(line)
        model, tags, question = facts["model"], facts["tags"], facts["question"]
        if facts["v"] != VERSION or not isinstance(model, str) or not isinstance(question, str | None):
            return None
        if facts["crc"] != _checksum(body):
            return None
        numbers = [float(facts[name]) for name in ("at", "ttl", "swr", "sie", "usd", "tokens")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not all(map(isfinite, numbers)) or not _are_texts(tags):
        return None
    at, ttl_s, swr_s, stale_if_error_s, cost_usd, tokens = numbers
    return Entry(body, model, at, ttl_s, swr_s, stale_if_error_s, cost_usd, int(tokens), tuple(tags), question)


def _checksum(body: str) -> int:
    return crc32(body.encode("utf-8", "replace"))


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_whole(choice: Mapping[str, Any], tool_calls: bool) -> bool:
    message, reason = choice["message"], choice.get("finish_reason")
    if message.get("tool_calls"):
        return tool_calls and reason == "tool_calls"
    return bool(message.get("content")) and reason in ("stop", "length")
