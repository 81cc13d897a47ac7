"""One text as the pair verifier sees it: content words by group, parts of the sentence, numbers, negations, names."""

import re
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from . import lexicon

READINGS: Final = 64  # an asked text meets up to five candidates; each reading is a few hundred bytes


WORD_ENTRIES: Final = 4_096  # a stem takes longer to find than to remember


class Kind(IntEnum):
    FILLER = 0
    CONTENT = 1
    PREPOSITION = 2
    AUXILIARY = 3
    MODAL = 4
    QUESTION = 5
    PERSON = 6
    NEGATION = 7
    CONJUNCTION = 8
    CLAUSE = 9
    NUMBER = 10
    MULTIPLIER = 11
    EXACT_NUMBER = 12


Entry = tuple[int, str]
FILLER: Final[Entry] = (0, "")

_EDGES: Final = "?!.,;:()[]{}<>\"'`“”‘’«»…*~^|\\—–¿¡"
_FRONT_EDGES: Final = _EDGES.replace(".", "")  # .NET, .env
_QUOTED: Final = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
_NUMERIC: Final = re.compile(r"([-+]?)([$€£₹¥]?)([-+]?)(\d+(?:,\d\d+)*|\d*)(\.\d+)?([a-z%°µ]*|°[cf])")
_DECIMAL: Final = re.compile(r"-?\d+\.\d+")
_TYPOGRAPHY: Final = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": " - ", "−": "-",
     "…": " ", "½": "0.5", "¼": "0.25", "¾": "0.75", "²": "2", "³": "3", "\u00a0": " ", "\u200b": None}
)  # fmt: skip
_SKIPPED: Final = frozenset("a an the please exactly actually really just basically simply -".split())
_EXPANDED: Final = {
    **{f"{word}'s": (word, "is") for word in "what who how where when why it that there he she".split()},
    **{f"{word}'re": (word, "are") for word in "you we they what there".split()},
    **{f"{word}'ve": (word, "have") for word in "i you we they".split()},
    **{f"{word}'ll": (word, "will") for word in "i you we they he she it".split()},
    **{f"{word}'d": (word, "would") for word in "i you we they he she it".split()},
    "i'm": ("i", "am"), "whats": ("what", "is"), "hows": ("how", "is"), "whos": ("who", "is"), "im": ("i", "am"),
    "and/or": ("and",), "e.g": (), "i.e": (), "etc": (), "let's": (), "ain't": ("not",), "w/o": ("without",),
    "w/": ("with",), "vs.": ("vs",), "a.m": ("am_time",), "p.m": ("pm_time",), "&": ("and",),
    "can't": ("can", "not"), "cannot": ("can", "not"), "cant": ("can", "not"), "u": ("you",), "ur": ("your",),
    "pls": (), "plz": (), "+": ("plus",), "=": ("equals",), "c": ("c_letter",), "c/c++": ("c_letter", "c++"),
}  # fmt: skip
# In capitals these are names, though their small forms are grammar.
_CAPITAL_NAMES: Final = {"us": "usa", "who": "who_org", "it": "it_field", "or": "or_abbr", "am": "am_time",
                         "pm": "pm_time", "aids": "aids_disease", "in": "in_abbr", "me": "me_abbr", "ms": "ms_abbr",
                         "may": "may_abbr", "can": "can_abbr", "un": "un_org", "let": "let_abbr"}  # fmt: skip


class Reading(NamedTuple):  # and not a dataclass, which takes four times as long to make
    """words: content in the order of the parts, "capital of France" as "France capital"; said: in that of the text.

    parts: (preposition, words...) in the order of the text.
    numbers: normalised, in the order of the text; counted: (number, the word after it).
    question: "", "yesno" or the question word.
    tokens: lower case, without punctuation. names: of the words, those written as names.
    """

    text: str
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    said: tuple[str, ...]
    bag: frozenset[str]
    parts: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...]
    counted: tuple[tuple[str, str], ...]
    negations: int
    question: str
    names: frozenset[str]
    telling: frozenset[str]
    modals: frozenset[str]
    persons: frozenset[str]
    conjunctions: frozenset[str]
    quoted: tuple[str, ...]
    passive: str


def _stem(word: str) -> str:
    """Plural, -ing, -ed, -ly, British spelling and a final e: equal for the forms of one word, not itself a word."""
    size = len(word)
    if size < 4:
        return word
    last = word[-1]
    if last == "s":
        if word.endswith("ies") and size > 4:
            word = word[:-3] + "y"
        elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
            word = word[:-2]
        elif word[-2] not in "sui":
            word = word[:-1]
    elif last == "g":
        if size > 5 and word.endswith("ing"):
            word = _base(word[:-3])
    elif last == "d":
        if size > 4 and word.endswith("ed") and word[-3] != "e":
            word = word[:-3] + "y" if word[-3] == "i" else _base(word[:-2])
    elif last == "y" and size > 6 and word.endswith("ly"):
        word = word[:-3] + "y" if word[-3] == "i" else word[:-2]
    if "our" in word and len(word) > 4:
        word = word.replace("our", "or")
    if "is" in word:
        word = word.replace("isation", "ization")
        if word.endswith(("ise", "is")) and len(word) > 5:
            word = word.rstrip("e")[:-1] + "z"
    if word[-1] == "e" and len(word) > 5:
        word = word[:-1]
    return word


def _base(word: str) -> str:
    """What -ing or -ed was put on: stopp -> stop, mak -> make, merg -> merge; wait -> wait."""
    size = len(word)
    if size > 2 and word[-1] == word[-2] and word[-1] not in "lsz":
        return word[:-1]
    if size <= 4 and word[-1] not in "aeiouwxy":
        if word[-2] in "aeiou" and (size < 3 or word[-3] not in "aeiou"):
            return word + "e"
        if word[-1] in "gcvz" and word[-2:] not in ("ng",):
            return word + "e"
    return word


def _entries() -> dict[str, Entry]:
    known: dict[str, Entry] = {}

    def put(kind: Kind, words: Iterable[str], key: str | None = None) -> None:
        for word in words:
            known[word] = (int(kind), word if key is None else key)

    forms: dict[str, list[str]] = {}
    stems: dict[str, str] = {}
    for line in lexicon.IRREGULAR:
        base, *rest = line.split()
        forms.setdefault(base, []).extend(rest)
    for base, rest in forms.items():
        put(Kind.CONTENT, rest, _stem(base))
        put(Kind.CONTENT, [base], _stem(base))
    for group in (lexicon.SYNONYMS, lexicon.UNITS, lexicon.MONTHS, lexicon.WEEKDAYS):
        for line in group:
            name, *rest = line.split()
            for word in (name, *rest):
                put(Kind.CONTENT, [word, *forms.get(word, ())], name)
                stems.setdefault(_stem(word), name)
    for stem, name in stems.items():
        known.setdefault(stem, (int(Kind.CONTENT), name))
    known.update(dict.fromkeys(lexicon.FILLERS, FILLER))
    for name, word in lexicon.PREPOSITIONS.items():
        put(Kind.PREPOSITION, [name], word)
    for name in (*lexicon.AUXILIARIES, "yesno"):
        put(Kind.AUXILIARY, [name], "do" if name in ("do", "does", "did") else "")
    for name, word in lexicon.MODALS.items():
        put(Kind.MODAL, [name], word)
    for name, word in lexicon.QUESTION_WORDS.items():
        put(Kind.QUESTION, [name], word)
    for name in ("how_many", "how_much", "how_long", "how_often"):
        put(Kind.QUESTION, [name], name)
    put(Kind.QUESTION, ["when_year", "when_month"], "when")
    for name, word in lexicon.PERSONS.items():
        put(Kind.PERSON, [name], word)
    put(Kind.NEGATION, lexicon.NEGATIONS, "")
    for name, word in lexicon.NEGATIVE_CONTENT.items():
        put(Kind.NEGATION, [name], word)
    put(Kind.CONJUNCTION, lexicon.CONJUNCTIONS, "and")
    put(Kind.CONJUNCTION, ["or"], "or")
    put(Kind.CLAUSE, lexicon.CLAUSES, "")
    for name, value in lexicon.NUMBER_WORDS.items():
        put(Kind.NUMBER, [name], str(value))
    for name, value in lexicon.MULTIPLIERS.items():
        put(Kind.MULTIPLIER, [name], str(value))
    for name, exact in (*lexicon.FRACTIONS.items(), *lexicon.ORDINALS.items()):
        put(Kind.EXACT_NUMBER, [name], exact)
    return known


_KNOWN: Final = _entries()
_SYNONYM: Final = {word: key for word, (kind, key) in _KNOWN.items() if kind == Kind.CONTENT}


_CHANGED: Final = frozenset((*_EXPANDED, *_SKIPPED))


def _trie(lines: Iterable[str]) -> dict[str, Any]:
    """By first word, then by the next; under "" what the phrase is read as."""
    root: dict[str, Any] = {}
    for line in lines:
        left, _, right = line.partition(">")
        node = root
        for word in left.split():
            for part in _EXPANDED.get(word, (word,)):
                if part not in _SKIPPED:
                    node = node.setdefault(part, {})
        node[""] = tuple(entry for entry in map(_phrase_entry, right.split()) if entry is not FILLER)
    return root


def _phrase_entry(word: str) -> Entry:
    if word.isdigit():
        return (10, word)
    return (12, word) if word[0] == "#" else _word_entry(word)


def _word_entry(word: str) -> Entry:
    """For a word of letters, lower case."""
    return _KNOWN.get(word) or _unlisted_entry(word)


@lru_cache(maxsize=WORD_ENTRIES)
def _unlisted_entry(word: str) -> Entry:
    stem = _stem(word)
    return (1, _SYNONYM.get(stem, stem))


_PHRASES: Final = _trie(lexicon.PHRASES)
_OPENINGS: Final = _trie(lexicon.OPENINGS)
UNITS: Final = frozenset(line.split()[0] for line in lexicon.UNITS)
DATES: Final = frozenset(line.split()[0] for line in (*lexicon.MONTHS, *lexicon.WEEKDAYS))
_SYMMETRIC: Final = frozenset(lexicon.SYMMETRIC)
_TRAILING: Final = frozenset(("like", "use"))
_HAVING: Final = frozenset(("have", "use"))
_BE: Final = frozenset("is are was were be been being".split())
_PARTICIPLES: Final = frozenset(
    "bitten broken built bought brought born caught chosen cut done drawn driven eaten felt found frozen given grown "
    "held heard hit hurt kept known laid led left lent lost made meant met paid put read run said seen sent set shot "
    "shown shut sold spent spoken spread stolen struck stuck sung sunk swum taken taught thrown told torn won worn "
    "written".split()
)
_TELLING: Final = lexicon.TELLING_PREPOSITIONS
_NONE: Final[frozenset[str]] = frozenset()
_CURRENCY: Final = {"$": "usd", "€": "eur", "£": "gbp", "₹": "inr", "¥": "jpy"}


@lru_cache(maxsize=READINGS)
def read(text: str) -> Reading:
    """What the guards and the score need of one text. Cost: about 1 microsecond a word."""
    return read_uncached(text)


# Long: one pass over the words, a microsecond each; calls would cost as much again.
def read_uncached(text: str) -> Reading:
    original = text
    if not text.isascii():
        text = text.translate(_TYPOGRAPHY)
    quoted: tuple[str, ...] = ()
    if '"' in text or "'" in text or "`" in text:
        quoted = tuple(sorted(next(filter(None, found)).strip() for found in _QUOTED.findall(text)))
    tokens, marks, capitals = _tokens(text)
    last = tokens.pop() if tokens and tokens[-1] in _TRAILING else ""  # what is it like, which one do they use

    entries: list[Entry] = []
    breaks: set[int] = set()
    capital_at: set[int] = set()
    at, count = 0, len(tokens)
    passive_at = -1
    after_be = False
    phrase, known_entry, add = _PHRASES.get, _KNOWN.get, entries.append
    while at < count:
        token = tokens[at]
        if token in _BE:
            after_be = True
        elif after_be:
            if token == "to":  # noqa: S105
                after_be = False
            elif token[-2:] == "ed" or token in _PARTICIPLES:
                passive_at = len(entries)
                after_be = False
        if marks and at in marks:
            breaks.add(len(entries))
        node = phrase(token)
        if (at == 0 or at in marks) and token in _OPENINGS:
            end = _longest(_OPENINGS, tokens, at)
            if end > at and (node is None or _longest(_PHRASES, tokens, at) < end):
                at = end
                continue
        if node is not None:
            ahead, found, end = at + 1, node.get(""), at + 1
            while ahead < count and (node := node.get(tokens[ahead])) is not None:
                ahead += 1
                if "" in node:
                    found, end = node[""], ahead
            if found is not None:
                if capitals and any(place in capitals for place in range(at, end)):
                    capital_at.update(range(len(entries), len(entries) + len(found)))
                entries.extend(found)
                at = end
                continue
        known = known_entry(token)
        if known is None:
            if token.isalpha():
                known = _unlisted_entry(token)
            else:
                first = len(entries)
                entries.extend(_odd_entries(token))
                if at in capitals:
                    capital_at.update(range(first, len(entries)))
                at += 1
                continue
        at += 1
        if known is FILLER:
            continue
        if capitals and at - 1 in capitals:
            capital_at.add(len(entries))
        add(known)
    passive = entries[passive_at][1] if 0 <= passive_at < len(entries) else ""
    return _assembled(original, tuple(tokens), entries, breaks, capital_at, quoted, passive, last)


def _longest(trie: dict[str, Any], tokens: list[str], at: int) -> int:
    """Where the longest phrase that starts at `at` ends; `at` when there is none."""
    end = ahead = at
    while ahead < len(tokens) and tokens[ahead] in trie:
        trie = trie[tokens[ahead]]
        ahead += 1
        if "" in trie:
            end = ahead
    return end


def _tokens(text: str) -> tuple[list[str], set[int], set[int]]:
    """Lower-case tokens; where a clause begins; which were written as names (capitals inside a sentence)."""
    tokens: list[str] = []
    marks: set[int] = set()
    capitals: set[int] = set()
    capital_count = 0
    starts = True
    shouted = text.isupper()
    chunks = text.split()
    for chunk in chunks:
        if chunk.islower() and chunk.isalpha() and chunk not in _CHANGED:  # most words: quickly
            tokens.append(chunk)
            starts = False
            continue
        core = chunk if chunk.isalnum() else chunk.rstrip(_EDGES).lstrip(_FRONT_EDGES)
        low = core.lower()
        if low != core:
            capital_count += 1
            if not shouted and low != "i":
                if core.isupper() and len(core) > 1:
                    low = _CAPITAL_NAMES.get(low, low)
                    capitals.add(len(tokens))
                elif not starts:
                    if low == "may":
                        low = "may_month"
                    capitals.add(len(tokens))
                elif core[1:] != low[1:]:
                    capitals.add(len(tokens))
                if core[-1] in "MB" and core[-2:-1].isdigit():
                    low = f"{low}n"  # 2M, 3B: millions and billions, not metres
        if low in _EXPANDED:
            capitals.discard(len(tokens))
            tokens.extend(_EXPANDED[low])
        elif low and low not in _SKIPPED:
            tokens.append(low)
        else:
            capitals.discard(len(tokens))
        starts = False
        if core is not chunk and (tail := chunk[-1]) in ".?!,;:-":
            marks.add(len(tokens))
            starts = tail in ".?!:"
    if len(chunks) > 3 and capital_count - 1 > 0.6 * (len(chunks) - 1):
        capitals.clear()  # Title Case says nothing
    return tokens, marks, capitals


def _odd_entries(token: str) -> list[Entry]:
    """For what is not a plain word: numbers with their units, contractions, compounds, identifiers."""
    if token[-1].isdigit() or token[0].isdigit() or (len(token) > 1 and token[0] in "-+$€£₹¥.°"):
        found = _NUMERIC.fullmatch(token)
        if found is not None and (found[4] or found[5]):
            return _numeric_entries(*(part or "" for part in found.groups()))
        if token[0].isdigit():
            if "-" in token and not token.replace("-", "").isdigit():
                left, _, right = token.partition("-")
                return [*_piece(left), *_piece(right)]
            return [(12, token)]
    if "'" in token:
        base, _, ending = token.partition("'")
        if token.endswith("n't"):
            return [(7, "")]
        if ending in ("s", "", "re", "ll", "ve", "d", "m"):
            return [] if _KNOWN.get(base) is FILLER else _piece(base)
        return [(1, token)]
    if "-" in token and "." not in token and "_" not in token and token[0] != "-":
        whole = token.replace("-", "")
        if whole in _SYNONYM:
            return [(1, _SYNONYM[whole])]
        return [entry for part in token.split("-") for entry in _piece(part)]
    if "/" in token and "." not in token and ":" not in token and token[0] != "/":
        return [entry for part in token.split("/") for entry in _piece(part)]
    return [(1, token)]


def _piece(part: str) -> list[Entry]:
    """A part of a compound: there, what says nothing elsewhere is a name or a word like others (A/B, US/UK)."""
    if not part:
        return []
    if part.isalpha():
        known = _word_entry(part)
        return [(1, part) if known is FILLER else known]
    found = _NUMERIC.fullmatch(part)
    if found is not None and (found[4] or found[5]):
        return _numeric_entries(*(each or "" for each in found.groups()))
    return [(1, part)]


def _numeric_entries(sign: str, currency: str, inner: str, whole: str, decimals: str, unit: str) -> list[Entry]:
    minus = "-" if "-" in (sign, inner) else ""
    whole = whole.replace(",", "").lstrip("0") or "0"
    if unit in ("st", "nd", "rd", "th"):
        return [(12, f"#{whole}")]
    if decimals:
        # 3.10 is a version and not 3.1; $1.50 and 1.50 kg are amounts.
        short = decimals.rstrip("0").rstrip(".")
        decimals = short if currency or unit or not short else decimals
    value = minus + whole + decimals
    entries: list[Entry] = [(12, value) if decimals or minus else (10, value)]
    if currency:
        entries.append((1, _CURRENCY[currency]))
    if unit:
        known = _KNOWN.get(unit)
        if known is not None and known[0] == Kind.MULTIPLIER:
            entries.append(known) if not decimals else entries.__setitem__(0, _scaled(value, known[1]))
        elif known is not None and known[1] in UNITS:
            entries.append(known)
        elif unit in ("am", "pm"):
            entries.append((1, f"{unit}_time"))
        else:
            entries[0] = (12, value + unit)
    return entries


def _scaled(value: str, factor: str) -> Entry:
    scaled = float(value) * int(factor)
    return (12, str(int(scaled)) if scaled.is_integer() else str(scaled))


def _adds(number: int, value: int) -> bool:
    """twenty five, two hundred thirty."""
    if number >= 100:
        return value < 100 and number % 100 == 0
    return number >= 20 and number % 10 == 0 and value < 10


# Long: as above; its state is ten short lists that every kind of word may touch.
def _assembled(
    text: str,
    tokens: tuple[str, ...],
    entries: list[Entry],
    breaks: set[int],
    capital_at: set[int],
    quoted: tuple[str, ...],
    passive: str,
    last: str,
) -> Reading:
    part: list[str] = [""]
    parts = [part]
    said: list[str] = []
    numbers: list[str] = []
    counted: list[tuple[str, str]] = []
    telling: list[str] = []
    modals: list[str] = []
    persons: list[str] = []
    conjunctions: list[str] = []
    names: list[str] = []
    negations = 0
    question = ""
    opened = False  # a word that decides the kind of question was read
    number: int | None = None
    waiting = 0  # of `numbers`, how many still have no word
    inserting = -1
    joined = -1
    exact_at = -2
    rotate = 0
    for at, (kind, key) in enumerate(entries):
        if number is not None and kind != 10 and kind != 11:
            numbers.append(str(number))
            waiting += 1
            number = None
        if breaks and at in breaks and len(part) > 1:
            part = [""]
            parts.append(part)
            inserting = joined = -1
        if kind == 1:
            opened = True
            said.append(key)
            if inserting > 0:
                part.insert(inserting, key)
                inserting += 1
            elif joined == len(part) and key < part[-1]:
                part.insert(joined - 1, key)
            else:
                part.append(key)
            if waiting:
                counted.extend((value, key) for value in numbers[-waiting:])
                waiting = 0
            if capital_at and at in capital_at:
                names.append(key)
        elif kind == 2:
            if key == "of":
                if len(part) > 1:
                    inserting = len(part) - 1
                continue
            if key in _TELLING:
                telling.append(key)
            inserting = joined = -1
            if len(part) == 1 and part[0] in _TELLING:  # than in, from under
                part[0] = f"{part[0]} {key}"
                continue
            part = [key]
            parts.append(part)
        elif kind == 3:
            inserting = -1
            if not opened:
                question, opened = "yesno", True
            if part[0] and len(part) > 1:
                part = [""]
                parts.append(part)
            elif key and question == "what" and len(parts) == 1 and len(part) > 1 and (last or tokens[-1]) in _HAVING:
                rotate = len(part) - 1
        elif kind == 4:
            inserting = -1
            modals.append(key)
            if not opened:
                question, opened = "yesno", True
        elif kind == 5:
            if not question and (not opened or key == "who" or at in breaks or (len(parts) == 1 and part[0])):
                question = key
            opened = True
            inserting = joined = -1
            if len(part) > 1:
                part = [""]
                parts.append(part)
        elif kind == 6:
            persons.append(key)
        elif kind == 7:
            negations += 1
            inserting = -1
            opened = True
            if key:
                part.append(key)
                said.append(key)
        elif kind == 8:
            inserting = -1
            conjunctions.append(key)
            if key == "or":
                part = [part[0]]
                parts.append(part)
                joined = -1
            elif part[0] == "between":
                joined = len(part) if len(part) > 1 else -1
        elif kind == 9:
            inserting = joined = -1
            if len(part) > 1:
                part = [""]
                parts.append(part)
        elif kind == 10:
            value = int(key)
            if number is None:
                number = value
            elif _adds(number, value):
                number += value
            else:
                numbers.append(str(number))
                waiting += 1
                number = value
            opened = True
        elif kind == 11 and number is None and at == exact_at + 1 and _DECIMAL.fullmatch(numbers[-1]):
            numbers[-1] = _scaled(numbers[-1], key)[1]
        elif kind == 11:
            number = int(key) if number is None else number * int(key)
        else:
            numbers.append(key)
            waiting += 1
            opened = True
            exact_at = at
    if number is not None:
        numbers.append(str(number))
    if rotate:  # what side effects does it have: the side effects of it
        first = parts[0]
        first[1:] = first[1 + rotate :] + first[1 : 1 + rotate]
    words = [word for each in parts for word in each[1:]]
    bag = frozenset(words)
    if not _SYMMETRIC.isdisjoint(bag):
        telling = [each for each in telling if each != "from" and each != "vs"]
        question = "what" if question == "how" else question
    if question == "how_much" and ("cost" in bag or "weight" in bag):
        question = "what"
    return Reading(  # by position, in the order of its fields: by name takes twice as long
        text,
        tokens,
        tuple(words),
        tuple(said),
        bag,
        tuple([tuple(each) for each in parts if len(each) > 1]),
        tuple(numbers),
        tuple(sorted(counted)) if counted else (),
        negations,
        question,
        frozenset(names) if names else _NONE,
        frozenset(telling) if telling else _NONE,
        frozenset(modals) if modals else _NONE,
        frozenset(persons) if persons else _NONE,
        frozenset(conjunctions) if conjunctions else _NONE,
        quoted,
        passive,
    )


def group_of(word: str) -> str:
    """The name that a word of content is compared by."""
    stem = _stem(word)
    return _SYNONYM.get(word) or _SYNONYM.get(stem) or stem
