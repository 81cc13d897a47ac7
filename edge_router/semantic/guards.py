"""What two texts have in common and where they part; the guards that refuse a pair whatever its cosine."""

from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

from . import lexicon
from .reading import DATES, UNITS, Reading, group_of

GUARDS: Final = (
    "number", "date", "unit", "negation", "quoted", "question", "target", "entity", "opposite", "direction",
    "comparison", "word_order",
)  # fmt: skip
DOUBTS: Final = (
    "extra_word", "replaced_word", "preposition", "person", "modal", "question", "order", "negation", "and_or", "empty",
    "extra_number", "tense",
)  # fmt: skip

# Of both texts: in longer ones a negation may be anywhere and the question still be the same; it stays a doubt there.
MAX_NEGATED_TOKENS: Final = 36

_TARGETS: Final = frozenset(group_of(word) for word in lexicon.TARGETS)
_NOUN_ENDINGS: Final = ("ion", "ation", "ment", "ement", "ance", "ence", "ness", "ity", "al", "ing")
_NEGATIVE_BEGINNINGS: Final = ("un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti", "a")
_OPPOSITES: Final = frozenset(
    pair
    for line in filter(str.strip, lexicon.ANTONYMS.split("|"))
    for left, right in [map(group_of, line.split())]
    for pair in ((left, right), (right, left))
    if left != right
)
_HAS_OPPOSITE: Final = frozenset(left for left, _ in _OPPOSITES)
# Kinds of question that may ask for the same; any other two differ.
_EXCHANGEABLE: Final = frozenset(
    pair
    for left, right in [
        ("", "what"), ("", "how"), ("what", "how"), ("", "yesno"), ("yesno", "what"), ("yesno", "how"),
        ("what", "who"), ("what", "where"), ("", "where"), ("", "who"), ("", "when"), ("how", "where"),
        ("", "why"), ("what", "when"), ("", "how_many"), ("", "how_much"), ("", "how_long"), ("", "how_often"),
        ("what", "why"), ("how", "why"), ("what", "how_much"), ("what", "how_many"), ("what", "how_long"),
    ]
    for pair in ((left, right), (right, left))
)  # fmt: skip
_SAME_QUESTION: Final = frozenset(
    pair for left, right in [("", "what"), ("", "how")] for pair in ((left, right), (right, left))
)
_NEIGHBOURS: Final = frozenset(
    pair
    for line in filter(str.strip, lexicon.NEIGHBOURS.split("|"))
    for left, right in [map(group_of, line.split())]
    for pair in ((left, right), (right, left))
    if pair not in _OPPOSITES
)
_HAS_NEIGHBOUR: Final = frozenset(left for left, _ in _NEIGHBOURS)
_OPTIONAL: Final = frozenset(map(group_of, lexicon.OPTIONAL))
_FREE: Final = frozenset(map(group_of, lexicon.FREE))
_SYMMETRIC: Final = frozenset(lexicon.SYMMETRIC)
_TENSES: Final = frozenset(("will", "was", "were"))


class Comparison(NamedTuple):  # and not a dataclass, which takes four times as long to make
    """left, right: content of one text alone, in its order. in_order: the common content comes in the same order."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    shared: frozenset[str]
    in_order: bool
    guard: str | None
    doubts: tuple[str, ...]


def compare(a: Reading, b: Reading) -> Comparison:
    """Symmetric but for the names of the sides. Cost: O(words)."""
    bag_a, bag_b = a.bag, b.bag
    if bag_a == bag_b:
        left: tuple[str, ...] = ()
        right: tuple[str, ...] = ()
        shared = bag_a
    else:
        left = tuple([word for word in a.words if word not in bag_b])
        right = tuple([word for word in b.words if word not in bag_a])
        shared = bag_a & bag_b
        if left and right:
            left, right = _resolved(left, right)
        if not (left and right) and _OPTIONAL.issuperset(left or right):
            left = right = ()
    turned = a.passive != b.passive and (a.passive in bag_b if a.passive else b.passive in bag_a)
    by = False
    if turned:
        a, b, by = _both_active(a, b)
    in_order = a.words == b.words or _in_order(a, b, shared)
    guard = _refusal(a, b, left, right, shared, in_order)
    return Comparison(left, right, shared, in_order, guard, _doubts(a, b, left, right, in_order, by))


def _refusal(
    a: Reading, b: Reading, left: tuple[str, ...], right: tuple[str, ...], shared: frozenset[str], in_order: bool
) -> str | None:
    if a.numbers != b.numbers and _both_differ(a.numbers, b.numbers):
        return "date" if _only_years_differ(a.numbers, b.numbers) else "number"
    if a.numbers != b.numbers and _counted_otherwise(a, b):
        return "number"
    if (a.negations ^ b.negations) & 1 and len(a.tokens) + len(b.tokens) <= MAX_NEGATED_TOKENS:
        return "negation"
    if a.quoted != b.quoted and not _quoted_anyway(a, b):
        return "quoted"
    if a.question != b.question and (a.question, b.question) not in _EXCHANGEABLE:
        return "question"
    if left and right:
        guard = _replaced(a, b, left, right)
        if guard is not None:
            return guard
    if a.telling != b.telling and _opposed(a.telling - b.telling, b.telling - a.telling):
        return "direction"
    if "from" in a.telling and "from" in b.telling and _direction_turned(a, b):
        return "direction"
    if not in_order:
        if len(left) + len(right) <= 2 and _goes_to(a) and _goes_to(b):
            return "direction"
        telling = a.telling | b.telling
        if "than" in telling or "vs" in telling:
            return "comparison"
        if not left and not right and a.question == b.question and not a.conjunctions and not b.conjunctions:
            return "word_order" if _core(a, b) != _core(b, a) else None
    return None


def _replaced(a: Reading, b: Reading, left: tuple[str, ...], right: tuple[str, ...]) -> str | None:
    """The guard for a word put in another's place, when it is of a kind that always changes the answer."""
    if not DATES.isdisjoint(left) and not DATES.isdisjoint(right):
        return "date"
    if not UNITS.isdisjoint(left) and not UNITS.isdisjoint(right):
        return "unit"
    if not _TARGETS.isdisjoint(left) and not _TARGETS.isdisjoint(right):
        return "target"
    if any(_is_name(word, a.names) for word in left) and any(_is_name(word, b.names) for word in right):
        return "entity"
    for one in left:
        if one in _HAS_OPPOSITE:
            for other in right:
                if (one, other) in _OPPOSITES:
                    return "opposite"
    return "negation" if _one_denied(left, right) or _one_denied(right, left) else None


def _one_denied(words: tuple[str, ...], plain: tuple[str, ...]) -> bool:
    """unsafe, safe; impossible, possible; nonlinear, linear. Stems may have lost an e."""
    bare = None
    for word in words:
        if word.startswith(_NEGATIVE_BEGINNINGS) and len(word) > 4:
            if bare is None:
                bare = {each.rstrip("e") for each in plain if len(each) > 2}
            word = word.rstrip("e")
            for beginning in _NEGATIVE_BEGINNINGS:
                if word.startswith(beginning) and word[len(beginning) :] in bare:
                    return True
    return False


def _doubts(
    a: Reading, b: Reading, left: tuple[str, ...], right: tuple[str, ...], in_order: bool, by: bool
) -> tuple[str, ...]:
    """Why the pair is not surely the same question: none of these may stand at the default threshold."""
    doubts = []
    if left and right:
        doubts.append("replaced_word")
    elif left or right:
        doubts.append("extra_word")
    if a.telling != b.telling and not (by and a.telling ^ b.telling == {"by"}):
        doubts.append("preposition")
    if len(a.numbers) != len(b.numbers):
        doubts.append("extra_number")
    if _tenses_differ(a, b):
        doubts.append("tense")
    if a.persons != b.persons and _persons_differ(a, b):
        doubts.append("person")
    if a.modals != b.modals and (a.question == "yesno" or b.question == "yesno"):
        doubts.append("modal")
    if a.question != b.question and (a.question, b.question) not in _SAME_QUESTION:
        doubts.append("question")
    if not in_order:
        doubts.append("order")
    if a.negations != b.negations:
        doubts.append("negation")
    if ("or" in a.conjunctions) != ("or" in b.conjunctions) and a.conjunctions and b.conjunctions:
        doubts.append("and_or")
    if not a.words and not a.numbers and a.tokens != b.tokens:
        doubts.append("empty")
    return tuple(doubts)


def _resolved(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Without the words that only look different: data base, database; delete, deletion; UN, United Nations."""
    gone_left: set[str] = set()
    gone_right: set[str] = set()
    heads = {other[:4] for other in right}
    for one in left:
        if one in _HAS_NEIGHBOUR or one[:4] in heads:
            for other in right:
                if (one, other) in _NEIGHBOURS or _is_noun_of(one, other) or _is_noun_of(other, one):
                    gone_left.add(one)
                    gone_right.add(other)
    for short, long, gone_short, gone_long in (
        (left, right, gone_left, gone_right),
        (right, left, gone_right, gone_left),
    ):
        if len(long) > 1:
            whole, initials = "".join(long), "".join([word[0] for word in long])
            for word in short:
                if word in whole and (halves := _halves(word, long)):
                    gone_short.add(word)
                    gone_long.update(halves)
                elif 1 < len(word) < 6 and (at := initials.find(word)) >= 0:
                    gone_short.add(word)
                    gone_long.update(long[at : at + len(word)])
    if not gone_left:
        return left, right
    return (
        tuple(word for word in left if word not in gone_left),
        tuple(word for word in right if word not in gone_right),
    )


def _halves(word: str, words: tuple[str, ...]) -> tuple[str, str] | tuple[()]:
    """The last two neighbours that make the word when they are joined."""
    return next((pair for pair in reversed(list(pairwise(words))) if pair[0] + pair[1] == word), ())


def _is_noun_of(verb: str, noun: str) -> bool:
    size = len(verb)
    return size > 3 and len(noun) > size and noun.startswith(verb) and noun[size:] in _NOUN_ENDINGS


def _in_order(a: Reading, b: Reading, shared: frozenset[str]) -> bool:
    """Whether the common words keep their roles: the same order, or whole parts of the sentence or qualities moved."""
    if not _SYMMETRIC.isdisjoint(shared) and max(len(a.parts), len(b.parts)) < 4:
        return True
    ordered_a = [word for word in a.words if word in shared]
    ordered_b = [word for word in b.words if word in shared]
    if len(ordered_a) != len(ordered_b):  # a word said twice in one of them
        return False
    if ordered_a == ordered_b:
        return True
    said_a = [word for word in a.said if word in shared]
    said_b = [word for word in b.said if word in shared]
    if said_a in (said_b, ordered_b) or ordered_a == said_b:
        return True
    if _kept_parts(a, shared) == _kept_parts(b, shared):
        return True
    free = {word for word in shared & _FREE if _stands_free(word, a) and _stands_free(word, b)}
    if free:
        if [word for word in ordered_a if word in free] != [word for word in ordered_b if word in free]:
            return False
        bound = shared - free
        if [word for word in ordered_a if word in bound] != [word for word in ordered_b if word in bound]:
            return _kept_parts(a, bound) == _kept_parts(b, bound)
        return "than" not in a.telling or _kept_parts(a, bound) == _kept_parts(b, bound)
    return False


def _core(reading: Reading, other: Reading) -> list[str]:
    """The words that stand under no preposition in either text: who does what to whom."""
    theirs = {word for part in other.parts if not part[0] for word in part[1:]}
    return [word for part in reading.parts if not part[0] for word in part[1:] if word in theirs]


def _stands_free(word: str, reading: Reading) -> bool:
    return next((part[0] for part in reading.parts if word in part[1:]), "") in ("", "in", "for")


def _kept_parts(reading: Reading, shared: frozenset[str]) -> list[list[str]]:
    """By preposition, in the order of the text for each: a part may move past others, not past its own kind."""
    kept = ([part[0], *(word for word in part[1:] if word in shared)] for part in reading.parts)
    return sorted(
        (part for part in kept if len(part) > 1), key=itemgetter(0) if "or" not in reading.conjunctions else None
    )


def _both_active(a: Reading, b: Reading) -> tuple[Reading, Reading, bool]:
    """The passive one of the two said actively; whether who did it was named after `by`."""
    if a.passive and a.passive in b.bag:
        active, by = _active(a)
        return active, b, by
    active, by = _active(b)
    return a, active, by


def _active(reading: Reading) -> tuple[Reading, bool]:
    """The door was opened by Ann: Ann, open, door."""
    verb = reading.passive
    doers = next((part for part in reading.parts if part[0] == "by"), None)
    parts = []
    for part in reading.parts:
        if part is doers:
            continue
        if verb in part[1:]:
            at = part.index(verb, 1)
            moved = ("", *(doers[1:] if doers else ()), verb, *part[1:at], *part[at + 1 :])
            parts.append(moved if not part[0] else (part[0], *moved[1:]))
        else:
            parts.append(part)
    by = "by" in reading.telling
    words = tuple(word for part in parts for word in part[1:])
    return reading._replace(parts=tuple(parts), words=words, said=words), by


def _direction_turned(a: Reading, b: Reading) -> bool:
    """What one text goes to, the other comes from."""
    before_a = {part[1]: part[0] for part in a.parts}
    return any({before_a.get(part[1]), part[0]} == {"from", "to"} for part in b.parts)


def _goes_to(reading: Reading) -> bool:
    return any(part[0] == "to" for part in reading.parts)


def _both_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Each has a number that the other lacks; one more number on one side alone is a doubt and no more."""
    return not (set(a) <= set(b) or set(b) <= set(a))


def _only_years_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    other = set(a) ^ set(b)
    return bool(other) and all(len(each) == 4 and each.isdigit() and "1000" <= each <= "2100" for each in other)


def _counted_otherwise(a: Reading, b: Reading) -> bool:
    """The same numbers count other things: 5 eggs and 3 apples, 3 eggs and 5 apples."""
    if len(a.numbers) != len(b.numbers):
        return False
    words = [word for _, word in a.counted]
    return a.counted != b.counted or len(set(words)) < len(a.numbers)


def _tenses_differ(a: Reading, b: Reading) -> bool:
    """One is about what is and the other about what was; or one alone about what will be."""
    tokens_a, tokens_b = a.tokens, b.tokens
    if _TENSES.isdisjoint(tokens_a) and _TENSES.isdisjoint(tokens_b):
        return False
    if ("will" in tokens_a) != ("will" in tokens_b):
        return True
    past_a, past_b = "was" in tokens_a or "were" in tokens_a, "was" in tokens_b or "were" in tokens_b
    if past_a == past_b:
        return False
    present = tokens_b if past_a else tokens_a
    return "is" in present or "are" in present


def _quoted_anyway(a: Reading, b: Reading) -> bool:
    """What one quotes, the other has too, if without the quotes."""
    low_a, low_b = a.text.casefold(), b.text.casefold()
    return all(each.casefold() in low_b for each in a.quoted) and all(each.casefold() in low_a for each in b.quoted)


def _opposed(left: frozenset[str], right: frozenset[str]) -> bool:
    return any((one, other) in _TURNED for one in left for other in right)


_TURNED: Final = frozenset(
    pair
    for left, right in [("before", "after"), ("off", "up"), ("up", "down"), ("over", "under"), ("above", "below"),
                        ("until", "since"), ("until", "after"), ("before", "since"), ("over", "below"),
                        ("above", "under")]
    for pair in ((left, right), (right, left))
)  # fmt: skip


def _is_name(word: str, names: frozenset[str]) -> bool:
    return word in names or not word.isalpha()


def _persons_differ(a: Reading, b: Reading) -> bool:
    """my and your are one in a general question; he and she never are, and neither is whoever only one text has."""
    only_a, only_b = a.persons - b.persons, b.persons - a.persons
    if not only_a or not only_b:
        return bool((only_a | only_b) & {"he", "she", "self"})
    if {*only_a, *only_b} == {"my", "your"}:
        mine, yours = (a, b) if "my" in a.persons else (b, a)
        return "i" not in mine.tokens or "you" not in yours.tokens
    return True
