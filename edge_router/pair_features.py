"""What the learned score sees of a pair: the cosine, how much the words agree, and which ones they do not share."""

from collections.abc import Mapping
from typing import Final

from edge_router.pair_guards import Comparison
from edge_router.pair_reading import Reading

FEATURES: Final = (
    "cosine", "shared", "unmatched", "unmatched_less", "unmatched_more", "content_overlap", "token_overlap",
    "length_ratio", "tokens", "question", "in_order", "prepositions", "persons", "modals", "numbers", "names_unmatched",
    "names_shared", "first_token", "last_word", "rarity_unmatched", "rarest_unmatched", "rarity_overlap", "word_score",
    "letters_overlap", "distance_per_word", "negations", "rarity_unmatched_less",
)  # fmt: skip
_SPECIFIC: Final = frozenset(("who", "when", "where", "why", "how_many", "how_much", "how_long", "how_often"))


def features(
    a: Reading,
    b: Reading,
    comparison: Comparison,
    cosine: float,
    rarity: Mapping[str, float],
    unseen: float,
    words: Mapping[str, float],
    unknown: float,
) -> list[float]:
    """In the order of FEATURES; symmetric in the two texts.

    rarity: by content word, its -log of the share of texts that have it; `unseen` for the rest.
    words: by content word, what it says when only one text has it (log odds of the same question); `unknown` for the rest.
    """
    left, right, shared = comparison.left, comparison.right, comparison.shared
    tokens_a, tokens_b = set(a.tokens), set(b.tokens)
    size_a, size_b = len(a.tokens), len(b.tokens)
    unmatched_left, unmatched_right = len(left), len(right)
    unmatched = unmatched_left + unmatched_right
    rare_left = rare_right = rarest = word_score = 0.0
    for word in left:
        rare = rarity.get(word, unseen)
        rare_left += rare
        if rare > rarest:
            rarest = rare
        word_score += words.get(word, unknown)
    for word in right:
        rare = rarity.get(word, unseen)
        rare_right += rare
        if rare > rarest:
            rarest = rare
        word_score += words.get(word, unknown)
    rare_shared = 0.0
    for word in shared:
        rare_shared += rarity.get(word, unseen)
    rare_unmatched = rare_left + rare_right
    question = a.question
    if question == b.question:
        asked = 2.0 if question in _SPECIFIC else 1.0
    else:
        asked = -1.0 if question in _SPECIFIC and b.question in _SPECIFIC else 0.0
    words_a, words_b = a.words, b.words
    both = len(shared)
    return [
        cosine,
        float(both),
        float(unmatched),
        float(min(unmatched_left, unmatched_right)),
        float(max(unmatched_left, unmatched_right)),
        2 * both / (2 * both + unmatched) if both or unmatched else 1.0,
        2 * len(tokens_a & tokens_b) / (len(tokens_a) + len(tokens_b) or 1),
        min(size_a, size_b) / (max(size_a, size_b) or 1),
        float(size_a + size_b),
        asked,
        1.0 if comparison.in_order else 0.0,
        float(len(a.telling ^ b.telling)),
        float(len(a.persons ^ b.persons)),
        float(len(a.modals ^ b.modals)),
        float(abs(len(a.numbers) - len(b.numbers))),
        float(len(a.names ^ b.names)),
        float(len(a.names & b.names)),
        1.0 if size_a and size_b and a.tokens[0] == b.tokens[0] else 0.0,
        1.0 if words_a and words_b and words_a[-1] == words_b[-1] else 0.0,
        rare_unmatched,
        rarest,
        rare_shared / (rare_shared + rare_unmatched) if rare_shared or rare_unmatched else 1.0,
        word_score,
        _letters_overlap(left, right) if left and right else 0.0,
        (1.0 - cosine) * (size_a + size_b) / (unmatched + 1),
        float(abs(a.negations - b.negations)),
        min(rare_left, rare_right),
    ]


def _letters_overlap(left: tuple[str, ...], right: tuple[str, ...]) -> float:
    """Dice of the letter pairs of what is not shared: high for typing errors and for forms of one word."""
    text_a, text_b = " ".join(left), " ".join(right)
    pairs_a = {text_a[at : at + 2] for at in range(len(text_a) - 1)}
    pairs_b = {text_b[at : at + 2] for at in range(len(text_b) - 1)}
    total = len(pairs_a) + len(pairs_b)
    return 2 * len(pairs_a & pairs_b) / total if total else 0.0
