"""The key of a request: a hash that is equal exactly when two requests of one tenant may share an answer."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ..exact_text import EXACT
from .policy import Normalisation

# Fields that do not change the answer's text. Everything else a caller sends is part of the key,
# fields that we do not know included: a needless miss is cheap, a wrong hit is not.
_NOT_IN_KEY = frozenset(
    {
        "stream", "stream_options", "user", "metadata", "store", "service_tier", "prompt_cache_key",
        "safety_identifier", "use_cache", "semantic_cache", "cache_ttl_s", "cache_tags",
    }
)  # fmt: skip

# In a word, what makes it a name in a program, a path, an address, a number or a unit: such words stay as they are.
# A capital only after a small letter.
_SIGN = re.compile(r"[A-Z0-9_/\\@=<>{}$#](?<![^a-z][A-Z])(?<!^[A-Z])")

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def cache_key(
    body: Mapping[str, Any],
    *,
    tenant: str,
    endpoint: str,
    catalog_version: str,
    normalisation: Normalisation = "strict",
) -> str:
    """Hex SHA-256 over the canonical request: key order, Unicode form and outer white space do not matter.

    endpoint: requests to different endpoints never share an entry. `relaxed`: case and white space of the user's own
    words do not matter either. What that costs: docs/caches.md.
    """
    canonical = {name: value for name, value in body.items() if name not in _NOT_IN_KEY and value is not None}
    prepare = _trimmed if normalisation == "strict" else _relaxed
    canonical["messages"] = [prepare(message) for message in body["messages"]]
    canonical.setdefault("model", "auto")
    text = _encode([tenant, endpoint, catalog_version, normalisation, canonical])
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def relaxed_text(text: str) -> str:
    """Lower case and single spaces, line breaks kept as one, where that can't change what is meant."""
    parts: list[str] = []
    end = 0
    for exact in EXACT.finditer(text):
        parts += (_relaxed_prose(text[end : exact.start()]), exact.group())
        end = exact.end()
    parts.append(_relaxed_prose(text[end:]))
    return "".join(parts).strip()


def _relaxed_prose(prose: str) -> str:
    """What lies beside it is exact, so one space is left at each end that had any."""
    if "\n" not in prose:
        return _relaxed_line(prose)
    first, *between, last = map(_relaxed_line, prose.split("\n"))
    lines = [line.strip() for line in between]
    return "\n".join([first.rstrip(), *filter(None, lines), last.lstrip()])


def _relaxed_line(line: str) -> str:
    text = " ".join(line.split())
    if text != line:
        text = " " * line[0].isspace() + text + " " * (bool(text) and line[-1].isspace())
    parts: list[str] = []
    end = 0
    for sign in _SIGN.finditer(text):
        if sign.start() < end:
            continue
        begin = text.rfind(" ", 0, sign.start()) + 1
        parts.append(text[end:begin].lower())
        end = text.find(" ", sign.end()) + 1 or len(text)
        parts.append(text[begin:end])
    parts.append(text[end:].lower())
    return "".join(parts)


def _trimmed(message: Any) -> Any:
    content = message.get("content")
    if not isinstance(content, str):
        return message
    trimmed = content.strip()
    return message if len(trimmed) == len(content) else {**message, "content": trimmed}


def _relaxed(message: Any) -> Any:
    """What users say, in text or in parts; instructions, earlier answers and results of tools stay as they are."""
    content = message.get("content")
    if message.get("role") != "user":
        return _trimmed(message)
    if isinstance(content, str):
        return {**message, "content": relaxed_text(content)}
    parts = [
        {**part, "text": relaxed_text(part["text"])} if isinstance(part.get("text"), str) else part
        for part in content or ()
    ]
    return {**message, "content": parts}
