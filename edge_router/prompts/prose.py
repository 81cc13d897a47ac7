"""Which parts of a prompt are plain prose: what is not code, quotation, data, table, address or indented."""

import re
from collections.abc import Callable

from ..exact_text import EXACT

# Lines that look like code, markup, data or a table, whole.
_CODE_LINE = re.compile(
    r"^(?=[^\n]*(?:[{}<>|=;\\]|\w\(|\)\s*:|://|^\s*(?:#|//|--|/\*|\$|>>>|@)))[^\n]*$"
    r"|^[ \t]*(?:def|class|import|from|return|for|while|if|else|elif|try|except|SELECT|INSERT|UPDATE)\b[^\n]*[:;(]\s*$",
    re.MULTILINE,
)
# Without one of these in a text no line of it looks like code.
_SIGNS = re.compile(r"[{}<>|=;\\@#$*]|\w\(|\)\s*:|//|--|[:(][ \t]*(?:\n|\Z)")
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
    if _SIGNS.search(text):
        spans += [found.span() for found in _CODE_LINE.finditer(text)]
    spans.sort()
    merged: list[tuple[int, int]] = []
    for start, stop in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
