"""Which parts of a prompt are plain prose: what is not code, quotation, data, table, address or indented."""

import re
from collections.abc import Callable

from ..exact_text import EXACT

# Lines that look like code, markup, data or a table are kept whole: those that hold one of these signs, a call, or
# the end of a head; that begin like a comment or a prompt; or that begin and end like a statement.
_CODE_SIGNS = ("{", "}", "<", ">", "|", "=", ";", "\\", "://")
_CALL = re.compile(r"\((?<=\w\()")
_HEAD = re.compile(r"\)\s*:")
_LINE_STARTS = ("#", "//", "--", "/*", "$", ">>>", "@")
_STATEMENT = re.compile(
    r"(?:def|class|import|from|return|for|while|if|else|elif|try|except|SELECT|INSERT|UPDATE)\b.*[:;(]", re.DOTALL
)
# Words with a sign in them: paths, names in programs, addresses, numbers with units.
_SIGNED_WORD = re.compile(r"\S*[0-9_/\\@$%^&*~+]\S*")


def rewrite_prose(text: str, rewrite: Callable[[str], str]) -> str:
    """The text with each stretch of prose rewritten and all else as it was."""
    parts: list[str] = []
    end = 0
    for start, stop in _exact_spans(text):
        parts += (rewrite(text[end:start]), text[start:stop])
        end = stop
    parts.append(rewrite(text[end:]))
    return "".join(parts)


def is_prose(text: str) -> bool:
    """Whether all of it may be rewritten."""
    return not any(_exact_spans(text)) and not _SIGNED_WORD.search(text)


def _exact_spans(text: str) -> list[tuple[int, int]]:
    """In order, none within another."""
    spans = [found.span() for found in EXACT.finditer(text)]
    signs = [sign for sign in _CODE_SIGNS if sign in text]
    start = 0
    for line in text.split("\n"):
        if _is_code(line, signs):
            spans.append((start, start + len(line)))
        start += len(line) + 1
    spans.sort()
    merged: list[tuple[int, int]] = []
    for start, stop in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _is_code(line: str, signs: list[str]) -> bool:
    """signs: those of _CODE_SIGNS that the whole text has."""
    for sign in signs:
        if sign in line:
            return True
    if ("(" in line and _CALL.search(line)) or (")" in line and _HEAD.search(line)):
        return True
    stripped = line.strip()
    if stripped.startswith(_LINE_STARTS):
        return True
    return stripped.endswith((":", ";", "(")) and _STATEMENT.fullmatch(stripped) is not None
