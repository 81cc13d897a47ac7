"""Token estimate without a vocabulary, calibrated against o200k: docs/prompts.md, "Counting tokens".

A text is cut into pieces about as a tokenizer cuts it; a piece costs the sum of the weights of its features, which are
its length, its case and the groups of two or three letters in it. Arabic, Chinese and Japanese, whose letters say
little about where a tokenizer cuts, are cut by a list of words.
"""

import re
from functools import cache, lru_cache
from typing import Literal

# Words, numbers, punctuation, line breaks with what indents the next line, wide gaps, then other scripts.
PIECE = re.compile(
    r"[A-Za-z\u00c0-\u024f]+| ?[0-9]+|[!-/:-@\[-`{-~]+|\n\s*|[ \t]{2,}| ?[\u0600-\u06ff]+|[\u0400-\u04ff]+"
    r"|[\u3040-\u30ff\u4e00-\u9fff]+|[^\s\x00-\x7f]"
)
_GAPS = re.compile(r"(\n\s*|[ ][ \t]+|\t[ \t]+)")  # as in PIECE
LONGEST_WORD = 12
MOST_LETTERS = 64  # of a piece that are looked at; longer ones count in proportion
_KNOWN_PIECES = 8192


def estimate_tokens(text: str) -> int:
    """At least 1 for text that is not empty. Marked as an estimate wherever it is shown.

    About 10 µs for 60 words that were seen before, 150 µs for new ones.
    """
    if not text:
        return 0
    parts = _GAPS.split(text) if "  " in text or "\t" in text or "\n " in text else [text]
    tokens = sum(map(_tokens_of, parts[1::2]))
    for part in parts[::2]:
        # A single space belongs to what follows it, so words with what stands behind them are known as a whole.
        first, *others = part.split(" ")
        tokens += _tokens_of_first(first) + sum(map(_tokens_after_space, others))
    return max(1, round(tokens))


def forget() -> None:
    """What is remembered of words, for measurements."""
    for known in (_tokens_of, _tokens_of_first, _tokens_after_space):
        known.cache_clear()


def features(piece: str) -> list[str]:
    """What the weights belong to; one that occurs twice counts twice."""
    first, length = piece[0], len(piece)
    if first == " " and piece[1] in "0123456789":  # a number does not take the space before it along
        return [" 0", *["0"] * (-(-(length - 1) // 3))]
    if "\u0600" <= piece[first == " "] < "\u0700":
        words, letters = _cut(piece, _known_words("ARABIC"))
        return ["a", *["a2"] * words, *["a1"] * letters]
    if first.isdigit() and first.isascii():
        return ["0"] * (-(-length // 3))
    if first == "\n":
        return ["\n" + str(min(length, 9))]
    if first in " \t":
        return [" " + str(min(length, 16))]
    if first.isascii() and not first.isalpha():
        pairs = ["p" + piece[i : i + 2] for i in range(length - 1)]
        return ["p", "p" + first, *["p1"] * (length - 1), *pairs]
    if first < "\u0250":
        return _word_features(piece)
    if "\u0400" <= first < "\u0500":
        return ["c", *["c1"] * length]
    if "\u3040" <= first < "\ua000":
        words, letters = _cut(piece, _known_words("EAST_ASIAN"))
        kind = "h" if min(piece) >= "\u4e00" else "j"
        return [kind, *[f"{kind}2"] * words, *[f"{kind}1"] * letters]
    return ["o"]


def _cut(piece: str, words: frozenset[str]) -> tuple[int, int]:
    """How many of the words, the longest first, and how many letters by themselves."""
    start = found = letters = 0
    while start < len(piece):
        for end in range(min(start + LONGEST_WORD, len(piece)), start + 1, -1):
            if piece[start:end] in words:
                found += 1
                start = end
                break
        else:
            letters += 1
            start += 1
    return found, letters


@cache
def _known_words(script: Literal["ARABIC", "EAST_ASIAN"]) -> frozenset[str]:
    """Read at the first text that needs them."""
    from .token_words import ARABIC, EAST_ASIAN

    return frozenset(read_words(ARABIC if script == "ARABIC" else EAST_ASIAN))


def read_words(text: str) -> list[str]:
    """Sorted words, before each the number of letters that it shares with the one before and does not repeat."""
    found: list[str] = []
    word = ""
    for shared, rest in re.findall(r"(\d)(\D+)", text):
        word = word[: int(shared)] + rest
        found.append(word)
    return found


def _word_features(word: str) -> list[str]:
    lower, length = word.lower(), len(word)
    found = ["w", f"w{min(length, 24)}", *["wx"] * (length - 9)]
    if word[1:] != lower[1:]:
        kind = "U" if word.isupper() else "M"
        found += [kind, *[kind + "1"] * sum(map(str.isupper, word[1:]))]
    elif word[0] != lower[0]:
        found.append("C")
    marked = f"^{lower}$"
    return [*found, *([marked[i : i + 3] for i in range(length)] if length > 3 else [marked] if length > 1 else [])]


@lru_cache(maxsize=_KNOWN_PIECES)
def _tokens_after_space(word: str) -> float:
    return sum(map(_tokens_of, PIECE.findall(f" {word}")))


@lru_cache(maxsize=_KNOWN_PIECES)
def _tokens_of_first(word: str) -> float:
    return sum(map(_tokens_of, PIECE.findall(word)))


@lru_cache(maxsize=_KNOWN_PIECES)
def _tokens_of(piece: str) -> float:
    looked_at = piece[:MOST_LETTERS]
    weights = _weights()
    cost = sum(weights.get(feature, 0.0) for feature in features(looked_at))
    return max(0.1, cost) * len(piece) / len(looked_at)


@cache
def _weights() -> dict[str, float]:
    """Read at the first estimate: most answers bring their own counts."""
    from .token_weights import STEP, WEIGHTS

    return {name: int(units) * STEP for units, names in WEIGHTS.items() for name in names.split("\x1f")}
