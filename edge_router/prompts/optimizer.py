"""Prompt optimizer: the same request in fewer tokens.

Takes out filler and redundant phrases, wordy instructions, examples that stand there twice and the tail of long ones.
Never touches code, quotations, data, numbers or names. English phrases only; repeats go in any language.
"""

import re
from dataclasses import dataclass
from functools import cache

from ..tokens import estimate_tokens
from .prose import is_prose, rewrite_prose

LONG_EXAMPLE_CHARACTERS = 400
EXAMPLE_SENTENCES = 3  # that a long example keeps in any case
_LEAST_REPEATED_CHARACTERS = 24  # shorter paragraphs may be headings


def _listed(phrases: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in phrases.split(";"))


# What stands for nothing, then what stands for less. At the start of a sentence the first letter may be large.
_FILLERS = _listed(
    """
    please note that; it is important to note that; it should be noted that; it is worth noting that;
    it is worth mentioning that; keep in mind that; please keep in mind that; please be aware that; as you may know,;
    as you know,; needless to say,; i would like you to; i'd like you to; i want you to; i need you to;
    i would really appreciate it if you could; i would appreciate it if you could; i was wondering if you could;
    i am wondering if you could; it would be great if you could; it would be helpful if you could;
    would you be so kind as to; could you please; can you please; would you please; will you please;
    could you kindly; please kindly; kindly; please make sure to; please make sure that you; make sure to;
    make sure that you; be sure to; please be sure to; please ensure that you; ensure that you; you should always;
    you must always; remember to always; always remember to; remember to; don't forget to; do not forget to;
    your task is to; your job is to; the task is to; what i want is for you to; please try to; please; basically,;
    essentially,; actually,; in my opinion,; thank you in advance.; thanks in advance.; thank you very much.;
    thank you.; thanks!; thank you!
    """
)
_SHORTER = dict(
    pair.split(" -> ")
    for pair in _listed(
        """
    in order to -> to; so as to -> to; due to the fact that -> because; owing to the fact that -> because;
    because of the fact that -> because; in light of the fact that -> because;
    on account of the fact that -> because; despite the fact that -> although; in spite of the fact that -> although;
    regardless of the fact that -> although; in the event that -> if; in case that -> if;
    under the condition that -> if; for the purpose of -> for; with the purpose of -> for; with regard to -> about;
    with regards to -> about; in regard to -> about; with respect to -> about; in relation to -> about;
    in reference to -> about; at this point in time -> now; at the present time -> now; at the present moment -> now;
    at that point in time -> then; prior to -> before; subsequent to -> after; in close proximity to -> near;
    a large number of -> many; a great number of -> many; a number of -> some; a majority of -> most;
    the majority of -> most; a wide variety of -> many; a wide range of -> many; has the ability to -> can;
    have the ability to -> can; is able to -> can; are able to -> can;
    in the near future -> soon; on a regular basis -> regularly; on a daily basis -> daily; each and every -> every;
    first and foremost -> first; in a concise manner -> concisely; in a clear manner -> clearly;
    in a detailed manner -> in detail; in such a way that -> so that; for the reason that -> because;
    until such time as -> until; make use of -> use; take into consideration -> consider;
    take into account -> consider; come up with -> find; provide me with -> give me;
    provide a summary of -> summarize; give me a summary of -> summarize; provide an explanation of -> explain;
    give an explanation of -> explain; completely and totally -> completely; absolutely essential -> essential;
    advance planning -> planning; end result -> result; final outcome -> outcome; past history -> history;
    very unique -> unique
        """
    )
)


@dataclass(frozen=True, slots=True)
class Optimized:
    """A text and what it was, in estimated tokens."""

    text: str
    original_tokens: int
    optimized_tokens: int

    @property
    def saved_percent(self) -> float:
        """0 to 100."""
        return 100.0 * (self.original_tokens - self.optimized_tokens) / max(1, self.original_tokens)


def optimize(text: str) -> Optimized:
    """Never longer than before: a change that saves no token is not made."""
    shorter = _shorten_examples(_without_repeats(text))
    shorter = rewrite_prose(shorter, _simplify).strip()
    before = after = estimate_tokens(text)
    if shorter != text:
        after = estimate_tokens(shorter)
    if not shorter or after >= before:
        return Optimized(text, before, before)
    return Optimized(shorter, before, after)


@cache
def _pattern(phrase: str) -> re.Pattern[str]:
    """Small letters, or the first one large; any white space on one line between the words.

    The letter stands before the look behind it, so that the search skips all others.
    """
    first = f"[{phrase[0]}{phrase[0].upper()}]"
    rest = re.escape(phrase[1:]).replace(r"\ ", "[ ]+")
    return re.compile(
        rf"(?P<phrase>{first}(?<![^\s(].){rest})(?=[\s,.!?:;)]|$|(?<=[.!,]))(?P<gap>[ ]*)(?P<next>\S?)", re.DOTALL
    )


_COMMON = frozenset("a an and as at be for i in is it me of on so that the to with would you your".split())
_PHRASES = sorted((*_FILLERS, *_SHORTER), key=len, reverse=True)
_WORD = re.compile(r"[^\s.,!?:;)]+")
_SPACES = re.compile(r"[ ]{2,}")
_GAPS = re.compile(r"[ \t][ \t]+")
_BLANK_LINES = re.compile(r"\n\n\n+")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+|\n\s*)$")


def _by_word() -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Phrases of one word, and the others by a word that few texts have. A last word may have a comma behind it, which
    the words of a text are not rid of.
    """
    single = tuple(phrase for phrase in _PHRASES if " " not in phrase)
    found: dict[str, list[str]] = {}
    for phrase in _PHRASES:
        words = phrase.split()[:-1]
        if words:
            found.setdefault(max(words, key=lambda word: (word not in _COMMON, len(word))), []).append(phrase)
    return single, found


_SINGLE, _BY_WORD = _by_word()
_KEY_WORDS = frozenset(_BY_WORD)


def _simplify(prose: str) -> str:
    """One stretch of prose."""
    if " " not in prose:
        return prose
    present = _present(prose)
    once = _without_phrases(prose, present)
    if once != prose:  # phrases may follow each other
        once = _without_phrases(once, present)
    return _narrowed(once)


def _present(prose: str) -> list[str]:
    """The phrases that may be in it, longest first."""
    lower = prose.lower()
    if "  " in lower:
        lower = _SPACES.sub(" ", lower)
    words = lower.replace("(", " ").split()
    found = [phrase for phrase in _SINGLE if phrase in lower]
    for word in _KEY_WORDS.intersection(words):
        found += [phrase for phrase in _BY_WORD[word] if phrase in lower]
    return sorted(found, key=len, reverse=True) if len(found) > 1 else found


def _without_phrases(prose: str, present: list[str]) -> str:
    for phrase in present:
        prose = _pattern(phrase).sub(_shorter, prose)
    return prose


def _narrowed(prose: str) -> str:
    """Without white space that says nothing."""
    if " \n" in prose or "\t\n" in prose:
        *lines, last = prose.split("\n")
        prose = "\n".join([*(line.rstrip(" \t") for line in lines), last])
    if "  " in prose or "\t" in prose:
        prose = _GAPS.sub(" ", prose)
    return _BLANK_LINES.sub("\n\n", prose) if "\n\n\n" in prose else prose


def _shorter(found: re.Match[str]) -> str:
    """A capital that is not at the start of a sentence begins a name, as in a title: such phrases stay."""
    phrase = found["phrase"]
    new = _SHORTER.get(" ".join(phrase.lower().split()))
    starts = _SENTENCE_START.search(found.string, max(0, found.start() - 4), found.start()) is not None
    if phrase[0].isupper() and not starts:
        return found[0]
    following = found["next"]
    if new is not None:
        return (new[0].upper() + new[1:] if phrase[0].isupper() else new) + found["gap"] + following
    if following and not following.isalnum() and following not in "\"'“„«`(":
        return found[0]  # what it belongs to would be left behind
    return following.upper() if starts and phrase[0].isupper() and _is_plain_word(found) else following


def _is_plain_word(found: re.Match[str]) -> bool:
    """Whether what follows may begin with a large letter: iPhone and x_1 may not."""
    word = _WORD.match(found.string, found.end() - 1)
    return word is not None and word[0].isalpha() and word[0].islower()


_PARAGRAPHS = re.compile(r"(\n[ \t]*\n\s*)")
_EXAMPLE = re.compile(r"^\W*(?:example|sample|e\.g\.|input|for example|beispiel|ejemplo|exemple)\b", re.IGNORECASE)
_SENTENCES = re.compile(r"(?<=[.!?])[ ]+")


def _without_repeats(text: str) -> str:
    """Paragraphs that stand there once more, to the letter but for white space: the first one stays."""
    if "\n" not in text:
        return text
    parts = _PARAGRAPHS.split(text)
    first_words = [word for part in parts[::2] for word in part.split(None, 1)[:1]]
    if len(set(first_words)) == len(first_words):
        return text
    seen: set[str] = set()
    kept: list[str] = []
    for i in range(0, len(parts), 2):
        known = " ".join(parts[i].split())
        if known in seen and len(known) >= _LEAST_REPEATED_CHARACTERS and "```" not in known:
            continue
        seen.add(known)
        kept += parts[max(0, i - 1) : i + 1] if kept else [parts[i]]
    return "".join(kept)


def _shorten_examples(text: str) -> str:
    """Of an example that is long, the sentences after the first few that hold no number, name, quotation or code go."""
    if len(text) <= LONG_EXAMPLE_CHARACTERS:
        return text
    parts = _PARAGRAPHS.split(text)
    return "".join(
        _shortened(part) if len(part) > LONG_EXAMPLE_CHARACTERS and _EXAMPLE.match(part) else part for part in parts
    )


def _shortened(example: str) -> str:
    if "\n" in example.strip():
        return example  # has a form of its own
    sentences = _SENTENCES.split(example)
    kept = sentences[:EXAMPLE_SENTENCES]
    kept += [sentence for sentence in sentences[EXAMPLE_SENTENCES:] if not is_prose(sentence) or _has_name(sentence)]
    return " ".join(kept)


def _has_name(sentence: str) -> bool:
    return any(word[:1].isupper() for word in sentence.split()[1:])
