"""Whether an answer shows by its text alone that a stronger model should be asked. Pure, below a millisecond.

Each check has a name and rejects only what is wrong almost surely: a false rejection costs a call to the cloud. An
answer that is wrong and looks right passes. How often either happens: docs/cascade.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import json_schema, languages, patterns

Check = Literal[
    "empty",  # nothing, or nothing but punctuation
    "truncated",  # cut by a limit that is not the caller's, or in the middle of a sentence or code
    "refusal",  # declines to answer
    "boilerplate",  # talks about being an AI instead of answering
    "uncertain",  # says itself that it does not know
    "repetition",  # goes round in circles
    "json",  # JSON was asked for and it is none, or lacks what the schema requires
    "format",  # one word, yes or no, a number, a list of n, code: asked for and not there
    "language",  # in another language than the question
    "log-probability",  # the model itself found its words unlikely
]

HEAD, TAIL = 3000, 1500  # characters that the patterns read
OPENING = 240  # where refusals and the like stand
ENOUGH_CHARACTERS = 120  # of a stream's beginning, to tell a refusal from an answer
SHORT = 300  # an answer that may be nothing but a refusal
LOOP_WORDS = 16  # shorter runs occur in good answers
LOOP_TURNS = 4
LOOP_PERIODS = 40
MANY_WORDS = 60
FEW_DIFFERENT = 0.2  # of the runs of three words

# The mean of exp(-1) is a model that is wrong about every other word; one in a million is a slip. Not measured on
# Workers AI's models: they give no log-probabilities unless asked.
LOWEST_MEAN_LOG_PROBABILITY = -1.0
LOWEST_LOG_PROBABILITY = -14.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the checks need of a request.

    question: the last user message. instructions: the system messages. schema: JSON asked for by `response_format`,
    `{}` when any object will do. has_limit: whether the caller limits the answer or gives stop words.
    """

    question: str
    instructions: str = ""
    schema: dict[str, Any] | None = None
    has_limit: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. finish_reason: as OpenAI's. log_probabilities: natural, a token each, where the model gives them."""

    text: str
    finish_reason: str = "stop"
    refusal: str = ""
    calls_tools: bool = False
    log_probabilities: Sequence[float] = ()


def verify(asked: Asked, said: Said) -> Check | None:
    """The first check that rejects a whole answer, or None."""
    if said.refusal:
        return "refusal"
    if said.calls_tools:
        return None
    if _is_blank(said.text):
        return "empty"
    if said.finish_reason == "length" and not asked.has_limit:
        return "truncated"
    if said.finish_reason == "content_filter":
        return "refusal"
    if asked.schema is not None:
        return None if said.finish_reason == "length" else _json(said.text, asked.schema)
    text = _bounded(said.text)
    prose = patterns.CODE.sub(" ", text)
    return (
        _opening(asked, prose, is_whole=True)
        or ("uncertain" if _gives_up(asked, prose) else None)
        or ("repetition" if _repeats(asked, prose) else None)
        or ("format" if _ignores_format(asked.question, text) else None)
        or ("truncated" if _is_cut(said.text) and not asked.has_limit else None)
        or ("log-probability" if _is_unlikely(said.log_probabilities) else None)
    )


def verify_beginning(asked: Asked, text: str) -> tuple[Check | None, bool]:
    """(what rejects the beginning of an answer, whether enough of it is there to let it go)."""
    stripped = text.lstrip()
    if asked.schema is not None:
        return ("json" if stripped and stripped[0] not in "{[" else None), False
    prose = patterns.CODE.sub(" ", text)
    return _opening(asked, prose, is_whole=False), len(stripped) >= ENOUGH_CHARACTERS


def _opening(asked: Asked, prose: str, *, is_whole: bool) -> Check | None:
    """What shows in the first sentences."""
    opening = _plain(prose[:OPENING])
    question = asked.question[:HEAD]
    if _declines(opening, question, is_short=is_whole and len(prose) < SHORT):
        return "refusal"
    if patterns.BOILERPLATE.search(opening) and not patterns.ABOUT_THE_MODEL.search(question):
        return "boilerplate"
    if patterns.UNCERTAIN.match(opening) and not patterns.QUOTES.search(question):
        return "uncertain"
    if not patterns.OTHER_LANGUAGE.search(question) and not patterns.OTHER_LANGUAGE.search(asked.instructions[:HEAD]):
        has_words = len(prose) >= 4 * languages.FEWEST_LETTERS
        if has_words and languages.differ(patterns.CODE.sub(" ", question), prose):
            return "language"
    return None


def _declines(opening: str, question: str, *, is_short: bool) -> bool:
    match = patterns.REFUSAL.match(opening)
    if match is None:
        return False
    # "I can't give legal advice, but …" may go on to an answer, and a letter may say such things to someone else.
    may_go_on = patterns.GOES_ON.search(opening, match.end()) or patterns.QUOTES.search(question)
    return is_short or not may_go_on


def _gives_up(asked: Asked, prose: str) -> bool:
    """Whether a short answer says anywhere that it does not know; a long one knows something."""
    return (
        len(prose) < SHORT
        and not patterns.QUOTES.search(asked.question[:HEAD])
        and bool(patterns.GIVES_UP.search(_plain(prose)))
    )


def _repeats(asked: Asked, prose: str) -> bool:
    """Whether the same words come again and again, at the end or all over."""
    if patterns.MAY_REPEAT.search(asked.question[:HEAD]):
        return False
    lines = [line for line in prose.split("\n") if "|" not in line]
    words = [word for word in patterns.WORD.findall(" ".join(lines).lower()) if not word.isdigit()]
    threes = list(zip(words, words[1:], words[2:], strict=False))
    if len(threes) >= MANY_WORDS and len(set(threes)) < FEW_DIFFERENT * len(threes):
        return True
    whole = words[:-1]  # the last one may be cut
    return any(_loops(whole, period) for period in range(1, LOOP_PERIODS))


def _loops(words: Sequence[str], period: int) -> bool:
    """Whether the end is the same `period` words over and over."""
    needed = max(LOOP_WORDS, LOOP_TURNS * period)
    if len(words) < needed:
        return False
    tail = words[-needed:]
    return tail[period:] == tail[:-period]


def _json(text: str, schema: dict[str, Any]) -> Check | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "json"
    is_fit = isinstance(value, dict | list) if schema else isinstance(value, dict)
    return None if is_fit and json_schema.fits(value, schema) else "json"


def _ignores_format(question: str, text: str) -> bool:
    """Only forms that can be seen: an answer that keeps to the form in other words must pass."""
    asked = question[-HEAD:]
    plain = _plain(text)
    if patterns.ONE_WORD.search(asked) and not patterns.MORE_THAN_FORM.search(asked):
        return len(plain.split()) > 6
    if patterns.YES_NO.search(asked):
        return not patterns.YES_NO_SAID.search(plain[:OPENING])
    if patterns.NUMBER.search(asked):
        return not patterns.NUMBER_SAID.search(plain)
    if patterns.CODE_ONLY.search(asked):
        return not patterns.CODE_SIGN.search(text)
    if patterns.JSON_ASKED.search(asked):
        return "{" not in text and "[" not in text
    return _has_short_list(asked, text)


def _has_short_list(asked: str, text: str) -> bool:
    """Whether a numbered list ends before the number of items that was asked for."""
    match = patterns.LIST_OF.search(asked)
    if match is None:
        return False
    wanted = patterns.COUNTS.get(match[1].lower()) or int(match[1])
    numbers = [int(number) for number in patterns.ITEM.findall(text)]
    return bool(numbers) and numbers[0] == 1 and len(numbers) < wanted and max(numbers) < wanted


def _is_cut(text: str) -> bool:
    """Whether it breaks off in code, or at a word or sign that no sentence ends with."""
    stripped = text.rstrip()
    if stripped.count("```") % 2:
        return True
    return len(stripped) >= OPENING and bool(patterns.OPEN_END.search(stripped[-40:]))


def _is_unlikely(log_probabilities: Sequence[float]) -> bool:
    if not log_probabilities:
        return False
    mean = sum(log_probabilities) / len(log_probabilities)
    return mean < LOWEST_MEAN_LOG_PROBABILITY or min(log_probabilities) < LOWEST_LOG_PROBABILITY


def _is_blank(text: str) -> bool:
    return not text.strip(" \t\r\n.…-_*#`\"'\u200b\ufeff")


def _bounded(text: str) -> str:
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def _plain(text: str) -> str:
    """Straight apostrophes, no marks of emphasis, one space between words."""
    return " ".join(text.translate(patterns.MARKS).split())
