"""A stored text in pieces like those of a live stream: some words each, never cut inside what a reader sees as one
character (Unicode's grapheme cluster, UAX #29, as far as cutting needs it).
"""

import re
import unicodedata

# Up to 24 characters that end at white space, or that much of a longer word.
_PIECE = re.compile(r".{1,24}(?:\s+|$)|\s*\S{1,24}", re.DOTALL)
_JOINER = "\u200d"


def pieces(text: str) -> list[str]:
    """Not empty, and together the text."""
    found = _PIECE.findall(text)
    if text.isascii():
        return found
    whole: list[str] = []
    for piece in found:
        if whole and _belongs(whole[-1][-1], piece[0]):
            whole[-1] += piece
        else:
            whole.append(piece)
    return whole


def _belongs(before: str, after: str) -> bool:
    """Whether two characters may be one to a reader; rather once too often than once too rarely."""
    return (
        before == _JOINER
        or after == _JOINER
        or unicodedata.category(after)[0] == "M"  # accents, vowel signs, variation selectors
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags, as in the flag of Scotland
        or ("\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff")  # flags
        or ("\u1100" <= before <= "\u11ff" and "\u1160" <= after <= "\u11ff")  # syllables of Hangul in parts
        or ("\uac00" <= before <= "\ud7a3" and "\u11a8" <= after <= "\u11ff")
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")  # halves that JSON carried apart
    )
