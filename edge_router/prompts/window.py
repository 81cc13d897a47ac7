"""Fitting a conversation into a context window: what is oldest goes first.

Kept always: instructions (system, developer) and the last turn. Then whole turns from the newest backwards; an
assistant's tool calls and their results stay together. The first turn that does not fit is cut at a sentence, if it is
plain text, and all before it go. If the last turn alone is too long, the middle of its longest message goes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from ..errors import RequestRejected
from ..tokens import estimate_tokens

MESSAGE_TOKENS = 4  # what a message costs besides its text
LEAST_CUT_TOKENS = 32  # less of a message than this is not worth keeping
GAP = "[…]"
INSTRUCTIONS = ("system", "developer")
_BORDERS = re.compile(r"(?<=[.!?。！？\n])\s*")

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages that fit, and what it cost. cut: messages of which only a part is left."""

    messages: list[Any]
    dropped: int
    cut: int
    tokens: int


def fit(messages: Sequence[Message], *, budget_tokens: int) -> Fitted:
    """budget_tokens: the window less what is reserved for the answer and for tools.

    Raises RequestRejected (`context_length_exceeded`) when instructions and what can't be cut leave no room.
    """
    fixed = [i for i, message in enumerate(messages) if message.get("role") in INSTRUCTIONS]
    turns = _turns(messages, skip=set(fixed))
    left = budget_tokens - sum(_cost(messages[i]) for i in fixed)
    last = turns.pop() if turns else []
    if left < LEAST_CUT_TOKENS:
        raise RequestRejected(
            f"The instructions leave no room for a question in {budget_tokens} tokens.",
            param="messages",
            code="context_length_exceeded",
        )
    kept: dict[int, Any] = {i: messages[i] for i in fixed}
    cut = 0
    spent = sum(_cost(messages[i]) for i in last)
    kept.update((i, messages[i]) for i in last)
    if spent > left:
        longest = max(last, key=lambda i: _cost(messages[i]))
        kept[longest] = _without_middle(messages[longest], left - (spent - _cost(messages[longest])))
        cut, spent, turns = 1, left, []
    left -= spent
    while turns:
        turn = turns.pop()
        cost = sum(_cost(messages[i]) for i in turn)
        if cost > left:
            ending = _ending(messages[turn[0]], left) if len(turn) == 1 else None
            if ending is not None:
                kept[turn[0]] = ending
                cut += 1
            break
        kept.update((i, messages[i]) for i in turn)
        left -= cost
    fitted = [kept[i] for i in sorted(kept)]
    return Fitted(fitted, len(messages) - len(fitted), cut, sum(map(_cost, fitted)))


def _turns(messages: Sequence[Message], skip: set[int]) -> list[list[int]]:
    """Places of what must stay together: results of tools with the message that called them."""
    turns: list[list[int]] = []
    for i, message in enumerate(messages):
        if i in skip:
            continue
        if message.get("role") in ("tool", "function") and turns:
            turns[-1].append(i)
        else:
            turns.append([i])
    return turns


def _cost(message: Message) -> int:
    calls = message.get("tool_calls")
    return MESSAGE_TOKENS + estimate_tokens(_text(message)) + (estimate_tokens(str(calls)) if calls else 0)


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if isinstance(part.get("text"), str))


def _ending(message: Message, left: int) -> Message | None:
    """The last sentences of a text message that fit."""
    text = message.get("content")
    left -= MESSAGE_TOKENS + estimate_tokens(GAP)
    if not isinstance(text, str) or message.get("tool_calls") or left < LEAST_CUT_TOKENS:
        return None
    ending = _last(_sentences(text), left)
    return {**message, "content": f"{GAP} {ending.lstrip()}"} if ending.strip() else None


def _without_middle(message: Message, left: int) -> Message:
    """A third for the beginning, the rest for the end, where the question usually stands."""
    text = message.get("content")
    if not isinstance(text, str) or message.get("tool_calls") or left < LEAST_CUT_TOKENS:
        raise RequestRejected(
            "The last message does not fit, and only text can be cut.", param="messages", code="context_length_exceeded"
        )
    sentences = [part for sentence in _sentences(text) for part in _short_enough(sentence, left // 4)]
    left -= MESSAGE_TOKENS + estimate_tokens(GAP) + 1
    ending = _last(sentences, left - left // 3)
    beginning = _first(sentences, left - estimate_tokens(ending))
    return {**message, "content": f"{beginning.rstrip()} {GAP} {ending.lstrip()}"}


def _sentences(text: str) -> list[str]:
    """Joined they are the text."""
    ends = [found.end() for found in _BORDERS.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if start < end]


def _short_enough(sentence: str, most: int) -> list[str]:
    """A sentence that is too long to be one unit is cut between words, at last anywhere."""
    if estimate_tokens(sentence) <= max(1, most) or len(sentence) < 2:
        return [sentence]
    middle = len(sentence) // 2
    space = sentence.rfind(" ", 0, middle)
    middle = space + 1 if space > 0 else middle
    return [*_short_enough(sentence[:middle], most), *_short_enough(sentence[middle:], most)]


def _last(sentences: Sequence[str], left: int) -> str:
    kept = sentences[len(sentences) - _fitting(reversed(sentences), left) :]
    while estimate_tokens("".join(kept)) > left:
        kept = kept[1 + len(kept) // 8 :]
    return "".join(kept)


def _first(sentences: Sequence[str], left: int) -> str:
    kept = sentences[: _fitting(sentences, left)]
    while estimate_tokens("".join(kept)) > left:
        kept = kept[: len(kept) - 1 - len(kept) // 8]
    return "".join(kept)


def _fitting(sentences: Iterable[str], left: int) -> int:
    """How many, each counted by itself. Together they may be more: what is rounded down a hundred times adds up."""
    return sum(1 for _ in takewhile(lambda total: total <= left, accumulate(map(estimate_tokens, sentences))))
