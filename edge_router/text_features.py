"""What a prompt looks like, as a few dozen numbers and its words. Pure, and fast: it runs before every answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from math import log1p
from typing import Final, Literal

from edge_router.complexity import HEAD_CHARACTERS, TAIL_CHARACTERS

Shape = Literal["choice", "long_choice", "story", "open"]
SHAPES: Final[tuple[Shape, ...]] = ("choice", "long_choice", "story", "open")

LONG_CHOICE_FROM = 6  # options; four is the usual exam question, ten the hard kind
STORY_LINES = 6  # a longer one is a puzzle or a document
STORY_CHARACTERS = 2000
QUESTION_CHARACTERS = 600  # at the end of a story: where it asks for its quantity
NUMBERS_PARSED = 24
OPTIONS_READ = 26
SPLIT_HEAD, SPLIT_TAIL = 2048, 1024  # characters that are split into words and sentences; in the rest signs are counted
TOKENS_READ = 600  # bounds the time of a text whose words are single letters

_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*")
_OPTION = re.compile(r"\n[ \t]*\(?([A-Z])[.):][ \t]*([^\n]*)")
_NUMERIC = re.compile(r"[$\-+]?\s*[\d.,]")
_ROMAN = re.compile(r"(?:I|II|III|IV)\b(?: only|,| and)")
_CAPITALISED = re.compile(r"[a-z,] ([A-Z]\w*)")
_UPPER = re.compile(r"[A-Z][A-Z]+")
_DIGIT = re.compile(r"\d")
_FRACTION = re.compile(r"\d/\d")
_SENTENCE_END = re.compile(r"[.?!]\s+")
_QUANTITY = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|fast|big|heavy|often)\b"
    r"|\b(?:what|find|calculate)\b[^.?]{0,80}\b(?:total|number|amount|cost|price|average|percent\w*|difference|sum|profit|age"
    r"|weight|height|length|distance|speed|fraction|area|value|share|ratio|money|change)\b"
    r"|\bin (?:dollars|hours|minutes|years|cents|feet|inches)\b"
)

_GROUPS: Final[dict[str, str]] = {
    "number_words": "one two three four five six seven eight nine ten eleven twelve dozen hundred thousand million",
    "multiples": "half twice double triple thrice quarter third times fourth fifth tripled doubled halves thirds",
    "relations": "more less than fewer remaining left rest remainder another additional extra older younger longer",
    "rates": "each every per apiece rate speed hourly daily weekly average",
    "times": "day days week weeks month months year years hour hours minute minutes seconds monday tuesday wednesday"
    " thursday friday saturday sunday morning afternoon night yesterday today tomorrow",
    "conditions": "if then when after before until unless suppose assume assuming given let",
    "negations": "not except never false incorrect no none cannot",
    "questions": "what which who whom whose where why how",
    "superlatives": "best most likely primarily main primary greatest least correct",
    "code": "function def return code python java program algorithm array string list integer loop class import sql"
    " write implement",
    "mathematics": "equation solve compute calculate find determine evaluate polynomial matrix probability value sum"
    " product derivative integral triangle prime",
    "law": "court plaintiff defendant contract statute jury liable trial negligence state convicted owner landowner"
    " sued suit action judgment property",
    "medicine": "patient man woman pain blood treatment symptoms history diagnosis examination physician disease"
    " syndrome mg",
    "science": "energy velocity mass force temperature pressure atom electron acid reaction molecule cell gene protein"
    " wave field current voltage frequency",
    "definite": "the",
    "of": "of to",
    "joining": "and or but so because while however although",
    "being": "is are was were be been",
    "persons": "he she his her they their him them i my",
    "small_words": "a an in it that for on as with by at from this",
}
_GROUP_NAMES: Final = tuple(_GROUPS)
_GROUP_OF: Final = {word: index for index, words in enumerate(_GROUPS.values()) for word in words.split()}
_NUMBER_WORDS: Final = _GROUP_NAMES.index("number_words")
_MULTIPLES: Final = _GROUP_NAMES.index("multiples")
_FIRST_SMALL_WORDS: Final = _GROUP_NAMES.index("definite")  # this and all that follow

_STEM_NAMES: Final = (
    "characters", "stem_characters", "words", "lines", "numbers", "distinct_numbers", "number_share", "largest_number",
    "decimals", "large_numbers", "sentences", "question_marks", "commas", "comma_share", "ends_with_question", "blank",
    "ends_with_colon", "ends_with_stop", "percents", "dollars", "tex", "operators", "parentheses", "quotes", "colons",
    "hyphens", "not_ascii", "distinct_names", "endings_ing", "endings_ed", "longest_sentence", "last_has_number",
    "last_has_if", "sentences_with_numbers", "fractions", "compared", "word_length",
    "word_variety", "long_words", "long_word_share", "capitalised",
    "capitalised_share", "upper", "last_sentence", "sentence_length", "starts_upper", "small_word_share", "how_many",
    "how_much", "which_of", "total", "statement",
)  # fmt: skip
_OPTION_NAMES: Final = (
    "options", "option_length", "option_longest", "option_spread", "option_numeric", "option_all_numeric",
    "option_digits", "option_above", "option_roman", "option_true", "option_overlap", "option_in_stem", "option_tex",
    "option_upper", "option_stops", "option_words", "option_imbalance",
)  # fmt: skip
NAMES: Final = (*_STEM_NAMES, *_GROUP_NAMES, *_OPTION_NAMES)
_NO_OPTIONS: Final = (0.0,) * len(_OPTION_NAMES)


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """shape: which of the four kinds of prompt. numbers: in the order of NAMES. tokens: lower-case, in order."""

    shape: Shape
    numbers: tuple[float, ...]
    tokens: list[str]

    def terms(self) -> Iterator[str]:
        """The different words, then the different pairs of neighbours ("how many"), each once."""
        yield from dict.fromkeys(self.tokens)
        yield from dict.fromkeys([f"{a} {b}" for a, b in pairwise(self.tokens)])


def read(text: str) -> TextFeatures:
    """Any text. Of a long one only the beginning and the end are read."""
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{text[:HEAD_CHARACTERS]} {text[-TAIL_CHARACTERS:]}"
    options = [(match.start(), match[2].strip()) for match in islice(_OPTION.finditer(text), OPTIONS_READ)]
    is_choice = len(options) > 1
    stem = text[: options[0][0]] if is_choice else text
    lowered = stem.lower()
    stem_tokens = _tokens(lowered)
    numbers = [token for token in stem_tokens if not token.isalpha()]
    words = len(stem_tokens) - len(numbers)
    groups = [0] * len(_GROUP_NAMES)
    for group in [_GROUP_OF[token] for token in stem_tokens if token in _GROUP_OF]:
        groups[group] += 1
    shape: Shape
    if is_choice:
        shape = "long_choice" if len(options) >= LONG_CHOICE_FROM else "choice"
    elif (
        len(numbers) + groups[_NUMBER_WORDS] + groups[_MULTIPLES] > 1
        and len(stem) <= STORY_CHARACTERS
        and stem.count("\n") < STORY_LINES
        and "\\" not in stem
        and _QUANTITY.search(lowered[-QUESTION_CHARACTERS:])
    ):
        shape = "story"
    else:
        shape = "open"
    values = (
        *_stem(text, stem, lowered, stem_tokens, numbers, words, sum(groups[_FIRST_SMALL_WORDS:])),
        *[log1p(count) for count in groups],
        *(_options([option for _, option in options], lowered) if is_choice else _NO_OPTIONS),
    )
    tokens = stem_tokens
    if is_choice and len(tokens) < TOKENS_READ:
        tokens = (tokens + _tokens(text[len(stem) :].lower()))[:TOKENS_READ]
    return TextFeatures(shape, values, tokens)


def _tokens(lowered: str) -> list[str]:
    tokens: list[str] = _TOKEN.findall(_ends(lowered))
    return tokens[:TOKENS_READ]


def _ends(text: str) -> str:
    """What is split into words and sentences."""
    if len(text) > SPLIT_HEAD + SPLIT_TAIL:
        return f"{text[:SPLIT_HEAD]} {text[-SPLIT_TAIL:]}"
    return text


# Long: a list of numbers, each computed where it is named, in the order of the trained weights.
def _stem(
    text: str, stem: str, lowered: str, tokens: list[str], numbers: list[str], words: int, small_words: int
) -> tuple[float, ...]:
    count = stem.count
    per_word = 1.0 / (words + 1)
    stripped = stem.rstrip()
    last = stripped[-1:]
    split = _ends(stripped)
    sentences = _SENTENCE_END.split(split)
    names = _CAPITALISED.findall(split)
    capitalised = len(names)
    ing = len([1 for token in tokens if token.endswith("ing")])
    past = len([1 for token in tokens if token.endswith("ed")])
    questions, commas = count("?"), count(",")
    letters = sum(map(len, tokens)) - sum(map(len, numbers))
    long_words = len([1 for token in tokens if len(token) > 9])
    values = [_value(token) for token in numbers[:NUMBERS_PARSED]]
    return (
        log1p(len(text)),
        log1p(len(stem)),
        log1p(words),
        log1p(count("\n")),
        log1p(len(numbers)),
        log1p(len(set(numbers))),
        len(numbers) / (len(tokens) + 1),
        log1p(max(values, default=0.0)),
        log1p(sum(["." in token for token in numbers])),
        log1p(sum([value >= 100.0 for value in values])),
        log1p(count(".") + questions + count("!") + count(";")),
        log1p(questions),
        log1p(commas),
        commas * per_word,
        float(last == "?"),
        float("__" in stem),
        float(last == ":"),
        float(last == "."),
        log1p(count("%") + lowered.count("percent")),
        log1p(count("$")),
        log1p(count("\\") + count("^") + count("{")),
        log1p(count("=") + count("+") + count("*") + count("/")),
        log1p(count("(")),
        log1p(count('"') + count("“") + count("'")),
        log1p(count(":")),
        log1p(count("-")),
        0.0 if text.isascii() else log1p(len(text.encode("utf-8", "replace")) - len(text)),
        log1p(len(set(names))),
        ing * per_word,
        past * per_word,
        log1p(max([sentence.count(" ") for sentence in sentences])),
        float(_DIGIT.search(sentences[-1]) is not None),
        float(" if " in sentences[-1]),
        len([1 for sentence in sentences if _DIGIT.search(sentence)]) / len(sentences),
        log1p(len(_FRACTION.findall(split))),
        log1p(lowered.count(" than ") + lowered.count(" times as ") + lowered.count("twice as ")),
        letters * per_word,
        len(set(tokens)) / (len(tokens) + 1),
        log1p(long_words),
        long_words * per_word,
        log1p(capitalised),
        capitalised * per_word,
        log1p(len(_UPPER.findall(split))),
        log1p(sentences[-1].count(" ") + 1),
        log1p(words / len(sentences)),
        float(stem[:1].isupper()),
        small_words * per_word,
        float("how many" in lowered),
        float("how much" in lowered),
        float("which of the" in lowered),
        float("total" in lowered),
        float("statement" in lowered),
    )


def _value(number: str) -> float:
    try:
        return min(float(number.replace(",", "")), 1e9)
    except ValueError:  # 1.2.3
        return 0.0


def _options(options: list[str], stem: str) -> tuple[float, ...]:
    count = len(options)
    share = 1.0 / count
    lengths = [len(option) for option in options]
    longest, mean = max(lengths), sum(lengths) * share
    lowered = [option.lower() for option in options]
    split = [option.split() for option in lowered]
    words = [word for option in split for word in option]
    different = set(words)
    numeric = sum([_NUMERIC.match(option) is not None for option in options])
    joined = "\n".join(lowered)
    return (
        float(count),
        log1p(mean),
        log1p(longest),
        log1p(longest - min(lengths)),
        numeric * share,
        float(numeric == count),
        sum([not option.isalpha() and any(map(str.isdigit, option)) for option in options]) * share,
        float("the above" in joined or "none of" in joined or "all of" in joined),
        float(any(map(_ROMAN.match, options))),
        float(lowered[0].startswith(("true", "wrong", "not wrong", "yes", "no,"))),
        1.0 - len(different) / (len(words) + 1),
        len(different.intersection(stem.split())) / (len(different) + 1),
        float("\\" in joined or "^" in joined),
        sum([option[:1].isupper() for option in options]) * share,
        sum([option.endswith(".") for option in options]) * share,
        log1p(len(words) * share),
        log1p(longest) - log1p(mean),
    )
