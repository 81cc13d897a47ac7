"""The key of a request: a hash that is equal exactly when two requests of one tenant may share an answer."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from .policy import Normalisation

# Fields that do not change the answer's text. Everything else a caller sends is part of the key,
# fields that we do not know included: a needless miss is cheap, a wrong hit is not.
_NOT_IN_KEY = frozenset(
    {
        "stream", "stream_options", "user", "metadata", "store", "service_tier", "prompt_cache_key",
        "safety_identifier", "use_cache", "semantic_cache", "cache_ttl_s", "cache_tags",
    }
)  # fmt: skip

# Where case and white space may carry the meaning: code, quotations, indented lines, and words that look like a
# name in a program, a path, an address or a unit. An apostrophe inside a word opens no quotation; a quotation or a
# fence that never closes goes on to the end.
_EXACT = re.compile(
    r"""```.*?(?:```|\Z)
      | `[^`]*(?:`|\Z)
      | "[^"]*(?:"|\Z)
      | [“„][^”“]*(?:[”“]|\Z)
      | «[^»]*(?:»|\Z)
      | (?<!\w)'[^'\n]*'(?!\w)
      | (?<=\n)(?:[ ]{2,}|\t)[^\n]*
      | [^\s"'`]*(?:[a-z][A-Z]|[0-9_/\\@=<>{}$#])[^\s"'`]*""",
    re.DOTALL | re.VERBOSE,
)
_SPACE = re.compile(r"\s+")

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
    for exact in _EXACT.finditer(text):
        parts += (_lowered(text[end : exact.start()]), exact.group())
        end = exact.end()
    parts.append(_lowered(text[end:]))
    return "".join(parts).strip()


def _lowered(prose: str) -> str:
    return _SPACE.sub(_one_space, prose).lower()


def _one_space(run: re.Match[str]) -> str:
    return "\n" if "\n" in run.group() else " "


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
