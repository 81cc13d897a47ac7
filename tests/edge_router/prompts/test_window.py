"""Fitting a conversation into a window."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.errors import RequestRejected
from edge_router.prompts.window import GAP, fit

SENTENCE = "The cat sat on the mat and looked at the moon. "


def say(role: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **fields}


def test_conversation_that_fits() -> None:
    """Nothing is changed."""
    messages = [say("system", "Be brief."), say("user", "Hello"), say("assistant", "Hi"), say("user", "How are you?")]

    fitted = fit(messages, budget_tokens=1000)

    assert (fitted.messages, fitted.dropped, fitted.cut) == (messages, 0, 0)


def test_oldest_goes_first() -> None:
    """Instructions and the last message stay; of what does not fit whole, the last sentences."""
    messages = [
        say("system", "Be brief."),
        *(say("user", f"{number}. " + SENTENCE * 20) for number in range(5)),
        say("user", "And now?"),
    ]

    fitted = fit(messages, budget_tokens=700)

    assert fitted.messages[0] == messages[0]
    assert fitted.messages[-1] == messages[-1]
    assert fitted.messages[-2] == messages[-2]
    assert fitted.messages[1]["content"].startswith(f"{GAP} The cat")
    assert (fitted.dropped, fitted.cut) == (2, 1)
    assert fitted.tokens <= 700


def test_tool_calls_and_their_results() -> None:
    """Stay together, or go together."""
    call = say(
        "assistant", "", tool_calls=[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    )
    result = say("tool", SENTENCE * 30, tool_call_id="c1")
    messages = [say("user", "Call it"), call, result, say("user", "And now?")]

    small, large = fit(messages, budget_tokens=100), fit(messages, budget_tokens=600)

    assert small.messages == [messages[-1]]
    assert large.messages == messages


def test_last_message_too_long() -> None:
    """Its beginning and, more of it, its end stay: there the question stands."""
    text = "Here is a story. " + SENTENCE * 200 + "Who sat on the mat?"

    fitted = fit([say("system", "Be brief."), say("user", "old"), say("user", text)], budget_tokens=200)

    assert [message["role"] for message in fitted.messages] == ["system", "user"]
    assert fitted.messages[1]["content"].startswith("Here is a story.")
    assert fitted.messages[1]["content"].endswith("Who sat on the mat?")
    assert GAP in fitted.messages[1]["content"]
    assert (fitted.dropped, fitted.cut) == (1, 1)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([say("system", SENTENCE * 100), say("user", "Hello")], id="instructions alone fill it"),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": SENTENCE * 100}]}], id="parts, which are not cut"
        ),
        pytest.param(
            [say("assistant", SENTENCE * 20, tool_calls=[{"id": "c1"}]), say("tool", "Fine.")], id="a long call"
        ),
        pytest.param(
            [say("assistant", "", tool_calls=[{"id": "c"}]), *(say("tool", SENTENCE * 5) for _ in range(3))],
            id="too many results",
        ),
    ],
)
def test_what_can_not_fit(messages: list[dict[str, Any]]) -> None:
    """Is refused, as without fitting."""
    with pytest.raises(RequestRejected) as caught:
        fit(messages, budget_tokens=100)

    assert caught.value.code == "context_length_exceeded"


_TEXTS = st.text("ab .\n!日本", max_size=300) | st.integers(0, 60).map(SENTENCE.__mul__)
_MESSAGES = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), _TEXTS).map(lambda pair: say(*pair)),
    max_size=12,
)


@given(_MESSAGES, _TEXTS, st.integers(40, 2000))
def test_any_conversation(before: list[dict[str, Any]], question: str, budget: int) -> None:
    """What is left is within the budget, in the old order, with all instructions and the end of the last message."""
    messages = [*before, say("user", question)]
    try:
        fitted = fit(messages, budget_tokens=budget)
    except RequestRejected:
        return

    assert fitted.tokens <= budget
    roles = iter(messages)
    assert all(any(kept["role"] == message["role"] for message in roles) for kept in fitted.messages)
    assert [m for m in fitted.messages if m["role"] == "system"] == [m for m in messages if m["role"] == "system"]
    assert fitted.messages[-1]["content"].split()[-1:] == question.split()[-1:] or not question.strip()


def test_words_without_end() -> None:
    """Where there is no sentence to cut at and no space, the cut is anywhere; beginning and end stay."""
    fitted = fit([say("user", "x1y2" * 400)], budget_tokens=100)

    (message,) = fitted.messages
    beginning, _, ending = message["content"].partition(f" {GAP} ")
    assert set(beginning + ending) == set("x1y2")
    assert len(beginning) < len(ending)
    assert fitted.tokens <= 100


@pytest.mark.parametrize("question", ["And now?", ""], ids=["before the question", "the question itself"])
def test_many_short_sentences(question: str) -> None:
    """Together they are more tokens than one by one; the whole is what has to fit."""
    numbers = say("user", "1 . 12. " * 400)

    fitted = fit([numbers, say("user", question)] if question else [numbers], budget_tokens=900)

    assert fitted.cut == 1
    assert 600 < fitted.tokens <= 900


def test_tool_result_that_does_not_fit() -> None:
    """Is cut, and stays with the call that asked for it and with the other results: alone it would be refused."""
    calls = [{"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    messages = [
        say("user", "Call it"),
        say("assistant", "", tool_calls=calls),
        say("tool", "First. " + SENTENCE * 100 + "Last.", tool_call_id="c0"),
        say("tool", "Fine.", tool_call_id="c1"),
    ]

    fitted = fit(messages, budget_tokens=300)

    assert [message["role"] for message in fitted.messages] == ["assistant", "tool", "tool"]
    assert fitted.messages[1]["content"].startswith("First. ")
    assert fitted.messages[1]["content"].endswith(" Last.")
    assert fitted.messages[2] == messages[3]
    assert (fitted.dropped, fitted.cut) == (1, 1)
    assert fitted.tokens <= 300
