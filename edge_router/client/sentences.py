"""Cuts a text that arrives in pieces into sentences, for voices and captions. The pieces' borders change nothing."""

import re

_CLOSERS = "\"'”’»)\\]}*_」』）】》"
_CJK = "。！？｡"
_CANDIDATE = re.compile(rf"`|[.!?…؟।{_CJK}]|\n")
_ENDING = re.compile(rf"[.!?…؟।{_CJK}]+[{_CLOSERS}]*")
_TICKS = re.compile(r"`+")
_BREAK = re.compile(r"\s+")
# A line that begins so is an item, a heading or a quotation: the line before it has ended.
_ITEM = re.compile(r"(?:[-*+•>]|\d{1,3}[.)]|#{1,6})\s|```")
_ITEM_LENGTH = 8  # characters that must be there to tell
_FENCE = "```"
_LIST_NUMBER = re.compile(r"\s*\d{1,3}")
_LAST_WORD = re.compile(r"[^\W\d_]+(?:\.[^\W\d_]+)*$")
_ABBREVIATIONS = frozenset(
    # English
    "mr mrs ms dr prof sr jr st rev gen col capt lt sgt hon pres gov sen rep vs etc inc ltd co corp dept est approx "
    "fig figs no nos vol pp ed eds cf al e.g i.e a.m p.m u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec "
    # German, French, Spanish
    "z.b d.h u.a o.ä bzw usw ggf evtl ca nr str bspw inkl vgl abs hr fr mme mlle m.e p.ex sra srta ud uds pág".split()
)


class SentenceSplitter:
    """`feed` returns the sentences that are complete, `flush` the rest; only white space between them is lost.

    A sentence ends at `.`, `!`, `?` or `…` before a space and no lower-case letter, but not after an abbreviation, an
    initial or the number of a list item; at 。！？ at once; at a blank line, and before a list item or heading. Code
    is never cut: a fenced block is one piece.
    """

    def __init__(self) -> None:
        self._text = ""
        self._at = 0  # before it, nothing can end any more
        self._in_fence = False

    def feed(self, piece: str) -> list[str]:
        self._text += piece
        return self._cut(is_last=False)

    def flush(self) -> list[str]:
        found = self._cut(is_last=True)
        rest, self._text, self._at, self._in_fence = self._text.strip(), "", 0, False
        return [*found, rest] if rest else found

    def _cut(self, *, is_last: bool) -> list[str]:
        found = []
        while (end := self._next_end(is_last)) is not None:
            sentence, self._text, self._at = self._text[:end].strip(), self._text[end:], 0
            if sentence:
                found.append(sentence)
        return found

    def _next_end(self, is_last: bool) -> int | None:
        """Where the first sentence of the text ends; None while that can't be told."""
        if self._in_fence:
            return self._fence_end()
        while (candidate := _CANDIDATE.search(self._text, self._at)) is not None:
            start, sign = candidate.start(), candidate.group()
            if sign == "`":
                if self._is_fence(start):
                    self._in_fence = True
                    self._at = start
                    return start if self._text[:start].strip() else self._fence_end()
                after = self._after_code(start, is_last)
                if after is None:
                    self._at = start
                    return None
                self._at = after
                continue
            known, is_end, after = (self._line_end if sign == "\n" else self._stop)(start, is_last)
            if not known:
                self._at = start
                return None
            if is_end:
                return after
            self._at = after
        self._at = len(self._text)
        return None

    def _is_fence(self, start: int) -> bool:
        """Three backticks that begin a line. While there are fewer, `_after_code` waits for what comes."""
        line = self._text[self._text.rfind("\n", 0, start) + 1 : start]
        return self._text.startswith(_FENCE, start) and not line.strip()

    def _fence_end(self) -> int | None:
        opening = self._text.find(_FENCE) + len(_FENCE)
        end = self._text.find(_FENCE, max(opening, self._at))
        if end < 0:
            self._at = max(opening, len(self._text) - len(_FENCE) + 1)
            return None
        self._in_fence = False
        return end + len(_FENCE)

    def _after_code(self, start: int, is_last: bool) -> int | None:
        """Behind inline code, or behind a backtick that nothing on its line closes; None while that can't be told."""
        ticks = _TICKS.match(self._text, start)
        assert ticks is not None
        line_end = self._text.find("\n", ticks.end())
        closing = self._text.find(ticks.group(), ticks.end(), line_end if line_end >= 0 else len(self._text))
        if closing >= 0:
            return closing + len(ticks.group())
        return ticks.end() if line_end >= 0 or is_last else None

    def _line_end(self, start: int, is_last: bool) -> tuple[bool, bool, int]:
        """Whether that is known, whether the line break at `start` ends a sentence, and where it goes on."""
        space = _BREAK.match(self._text, start)
        assert space is not None
        after = space.end()
        if "\n" in self._text[start + 1 : after]:
            return True, True, after
        if len(self._text) - after < _ITEM_LENGTH and not is_last:
            return False, False, start
        return True, _ITEM.match(self._text, after) is not None, after

    def _stop(self, start: int, is_last: bool) -> tuple[bool, bool, int]:
        """The same for a full stop or another sign at `start`."""
        ending = _ENDING.match(self._text, start)
        assert ending is not None
        signs, after = ending.group(), ending.end()
        if after == len(self._text):
            return is_last, is_last, after
        if any(sign in _CJK for sign in signs):
            return True, True, after
        space = _BREAK.match(self._text, after)
        if space is None:
            return True, False, after
        if space.end() == len(self._text):
            return is_last, is_last, space.end()
        goes_on = self._text[space.end()].islower() or (signs == "." and self._is_no_stop(start))
        return True, not goes_on, after

    def _is_no_stop(self, start: int) -> bool:
        """Whether the full stop belongs to an abbreviation, an initial or a list item's number."""
        line = self._text[self._text.rfind("\n", 0, start) + 1 : start]
        if _LIST_NUMBER.fullmatch(line):
            return True
        word = _LAST_WORD.search(line)
        if word is None:
            return False
        is_initial = len(word.group()) == 1 and word.group().isupper() and word.group() != "I"
        return is_initial or word.group().lower() in _ABBREVIATIONS
