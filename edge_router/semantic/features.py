"""What the learned score sees of a pair: the cosine, how much the words agree, and which ones they do not share."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from .guards import Comparison
from .reading import Reading

# rarity: -log of the share of texts with the word; then log odds of the same question when the word is in one text
# alone, when it is in both, and when the token as written is in one text alone.
Word = tuple[float, float, float, float]

FEATURES: Final = (
    "cosine", "shared", "unmatched", "unmatched_less", "unmatched_more", "content_overlap", "token_overlap",
    "length_ratio", "tokens", "question", "in_order", "prepositions", "persons", "modals", "numbers", "names_unmatched",
    "names_shared", "first_token", "last_word", "rarity_unmatched", "rarity_unmatched_less", "rarest_unmatched",
    "rarity_overlap", "rarity_shared", "rarity_shared_mean", "rarest_shared", "commonest_shared", "letters_overlap",
    "distance_per_word", "negations", "question_marks", "question_marks_differ", "capital_starts", "parts",
    "function_tokens", "characters_ratio", "characters", "words_less", "same_tokens", "rarity_mean",
    "asked", "unmatched_score", "shared_score", "token_score",
)  # fmt: skip
# Powers of three: a sum names the two kinds of question, whichever text has which.
_ASKED: Final = {"what": 0, "how": 1, "": 3, "yesno": 9, "why": 27, "who": 81, "when": 81, "where": 81, "how_many": 243,
                 "how_much": 243, "how_long": 243, "how_often": 243}  # fmt: skip
_SPECIFIC: Final = frozenset(("who", "when", "where", "why", "how_many", "how_much", "how_long", "how_often"))


# Long: a list of numbers, each computed where it is named; the whole may cost some ten microseconds.
def features(
    a: Reading, b: Reading, comparison: Comparison, cosine: float, words: Mapping[str, Word], unseen: Word
) -> list[float]:
    """In the order of FEATURES, symmetric in the texts. words: what training knows of each; unseen: of the rest."""
    left, right, shared = comparison.left, comparison.right, comparison.shared
    get = words.get
    rare_left = rare_right = rarest = unmatched_score = 0.0
    for word in left:
        rare, score, _, _ = get(word, unseen)
        rare_left += rare
        unmatched_score += score
        if rare > rarest:
            rarest = rare
    for word in right:
        rare, score, _, _ = get(word, unseen)
        rare_right += rare
        unmatched_score += score
        if rare > rarest:
            rarest = rare
    rare_shared = rarest_shared = shared_score = 0.0
    commonest_shared = 20.0 if shared else 0.0
    # In order: sets have another one in another process, and sums of floats another last digit, which may choose a bin.
    for word in sorted(shared):
        rare, _, score, _ = get(word, unseen)
        rare_shared += rare
        shared_score += score
        if rare > rarest_shared:
            rarest_shared = rare
        if rare < commonest_shared:
            commonest_shared = rare
    token_score = 0.0
    list_a, list_b = a.tokens, b.tokens
    tokens_a, tokens_b = set(list_a), set(list_b)
    for token in sorted(tokens_a ^ tokens_b):
        if token in words:
            token_score += words[token][3]
    size_a, size_b = len(list_a), len(list_b)
    sizes = size_a + size_b
    on_left, on_right, both = len(left), len(right), len(shared)
    unmatched = on_left + on_right
    rare_unmatched = rare_left + rare_right
    question = a.question
    if question == b.question:
        asked = 2.0 if question in _SPECIFIC else 1.0
    else:
        asked = -1.0 if question in _SPECIFIC and b.question in _SPECIFIC else 0.0
    words_a, words_b = a.words, b.words
    text_a, text_b = a.text, b.text
    characters_a, characters_b = len(text_a), len(text_b)
    marks_a, marks_b = text_a.count("?"), text_b.count("?")
    return [
        cosine,
        both,
        unmatched,
        on_left if on_left < on_right else on_right,
        on_left if on_left > on_right else on_right,
        2 * both / (2 * both + unmatched) if both or unmatched else 1.0,
        2 * len(tokens_a & tokens_b) / (len(tokens_a) + len(tokens_b) or 1),
        (size_a / size_b if size_a < size_b else size_b / size_a) if size_a and size_b else 0.0,
        sizes,
        asked,
        comparison.in_order,
        len(a.telling ^ b.telling) if a.telling is not b.telling else 0,
        len(a.persons ^ b.persons) if a.persons is not b.persons else 0,
        len(a.modals ^ b.modals) if a.modals is not b.modals else 0,
        abs(len(a.numbers) - len(b.numbers)),
        len(a.names ^ b.names),
        len(a.names & b.names),
        bool(size_a and size_b and list_a[0] == list_b[0]),
        bool(words_a and words_b and words_a[-1] == words_b[-1]),
        rare_unmatched,
        rare_left if rare_left < rare_right else rare_right,
        rarest,
        rare_shared / (rare_shared + rare_unmatched) if rare_shared or rare_unmatched else 1.0,
        rare_shared,
        rare_shared / both if both else 0.0,
        rarest_shared,
        commonest_shared,
        _letters_overlap(left, right) if left and right else 0.0,
        (1.0 - cosine) * sizes / (unmatched + 1),
        abs(a.negations - b.negations),
        marks_a + marks_b,
        abs(marks_a - marks_b),
        text_a[:1].isupper() + text_b[:1].isupper(),
        len(a.parts) + len(b.parts),
        sizes - len(words_a) - len(words_b),
        abs(characters_a - characters_b) / (characters_a if characters_a > characters_b else characters_b or 1),
        characters_a if characters_a > characters_b else characters_b,
        len(words_a) if len(words_a) < len(words_b) else len(words_b),
        list_a == list_b,
        (2 * rare_shared + rare_unmatched) / (2 * both + unmatched or 1),
        _ASKED[question] + _ASKED[b.question],
        unmatched_score,
        shared_score,
        token_score,
    ]


def _letters_overlap(left: tuple[str, ...], right: tuple[str, ...]) -> float:
    """Dice of the letter pairs of what is not shared: high for typing errors and for forms of one word."""
    text_a, text_b = " ".join(left), " ".join(right)
    pairs_a = set(pairwise(text_a))
    pairs_b = set(pairwise(text_b))
    total = len(pairs_a) + len(pairs_b)
    return 2 * len(pairs_a & pairs_b) / total if total else 0.0
