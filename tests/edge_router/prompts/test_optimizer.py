"""The prompt optimizer: what goes, and what never does."""

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_router.prompts.optimizer import LONG_EXAMPLE_CHARACTERS, optimize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Could you please explain how tides work?", "Explain how tides work?", id="courtesy at the start"),
        pytest.param("In order to win, what do I do?", "To win, what do I do?", id="redundant phrase, large letter"),
        pytest.param("I left due to the fact that it rained.", "I left because it rained.", id="in the middle"),
        pytest.param("Too   many    gaps   here,   and   there.", "Too many gaps here, and there.", id="white space"),
        pytest.param("Your task is to make sure to list them all.", "List them all.", id="one after the other"),
    ],
)
def test_phrases(text: str, expected: str) -> None:
    """Go, or get shorter; the sentence still begins with a large letter."""
    assert optimize(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("What is the capital of France?", id="nothing to take out"),
        pytest.param("Who wrote Please Please Me?", id="a name in the middle of a sentence"),
        pytest.param('Translate "could you please note that" into Latin.', id="quoted"),
        pytest.param("Run `please  make sure to` now.", id="code"),
        pytest.param("```\nplease   note that\n```", id="a fence"),
        pytest.param("Fix:\n    in order to  =  please", id="indented"),
        pytest.param('{"text": "please   note that"}', id="JSON"),
        pytest.param("| in order to  |  please |", id="a table"),
        pytest.param("", id="nothing at all"),
    ],
)
def test_what_stays_as_it_is(text: str) -> None:
    """To the letter."""
    assert optimize(text).text == text


def test_paragraph_that_stands_there_twice() -> None:
    """The first one stays, in any language."""
    example = "Eingabe: ein roter Ball, der rollt\nAusgabe: Ball"

    result = optimize(f"Finde das Ding.\n\n{example}\n\n{example}\n\nEingabe: ein Haus")

    assert result.text == f"Finde das Ding.\n\n{example}\n\nEingabe: ein Haus"
    assert result.saved_percent > 20


def test_long_example() -> None:
    """Its first sentences stay, and of the others those with a number, a name or a quotation."""
    filler = "it goes on and on about nothing much at all and then some more of the same. " * 6
    example = f"Example: one thing. Another thing. A third thing. {filler}It cost 12 crowns. Then Anna came. Bye bye."
    assert len(example) > LONG_EXAMPLE_CHARACTERS

    text = optimize(f"Summarise.\n\n{example}").text

    assert text == "Summarise.\n\nExample: one thing. Another thing. A third thing. It cost 12 crowns. Then Anna came."


def test_figures() -> None:
    """Estimated tokens before and after, and the share that was saved."""
    result = optimize("Please note that I would like you to explain the tides in order to help me.")

    assert result.original_tokens > result.optimized_tokens > 0
    assert result.saved_percent == pytest.approx(100 * (1 - result.optimized_tokens / result.original_tokens))


_WORDS = st.sampled_from(
    [
        "please", "Please", "in order to", "could you please", "Could you please", "a number of", "make sure to",
        "kindly", "the", "tides", "Anna", "Paris", "NASA", "iPhone", "12", "3.5", "0x1F", "a_name", "thanks!",
        "due to the fact that", '"in order to"', "`please`", "“note that”", "'kindly'", "https://a.b/please",
        "x = please", "f(kindly)", "{1: 2}", "```\nplease  note\n```", "über", "日本", "...", "?", "\n", "\n\n",
        "    please", "  ", "|", "Example:", "mind",
    ]
)  # fmt: skip


@example("\n     please ```\nplease  note\n```")
@given(st.lists(_WORDS, max_size=40).map(" ".join) | st.text(string.printable, max_size=200))
def test_code_numbers_names_and_quotations(text: str) -> None:
    """Of whatever is written, each number, name and quotation that was there is still there."""
    shorter = optimize(text).text

    assert _kept(text) <= _kept(shorter)
    assert len(shorter) <= len(text)


def _kept(text: str) -> set[str]:
    """Numbers, names (capitals inside words, or inside sentences), quotations, code."""
    found = set(re.findall(r"\d+(?:\.\d+)?", text))
    found |= set(re.findall(r"\b(?:Anna|Paris|NASA|iPhone)\b", text))
    found |= set(re.findall(r"`[^`]*`|\"[^\"]*\"|“[^”]*”", text)) if not re.search(r"['«„]", text) else set()
    return found


@given(st.lists(_WORDS, max_size=40).map(" ".join))
def test_optimizing_twice(text: str) -> None:
    """Never undoes or lengthens what the first time did."""
    once = optimize(text)

    assert optimize(once.text).optimized_tokens <= once.optimized_tokens


def test_example_with_a_form_of_its_own() -> None:
    """Lines are a form: such an example is not cut, however long; one in prose is."""
    sentences = ["The tide comes in twice a day and goes out again."] * 12
    prose, lines = "Example: " + " ".join(sentences), "Example:\n" + "\n".join(sentences)

    assert len(optimize(prose).text) < len(prose)
    assert optimize(lines).text == lines


@pytest.mark.parametrize("start", ["# ", "// ", ">>> ", "$ ", "@"])
def test_lines_that_begin_like_code(start: str) -> None:
    """Comments, prompts of a shell and decorators stay as they are."""
    text = f"Explain this.\n{start}please kindly note that in order to run"

    assert optimize(text).text == text


def test_phrase_before_a_sign() -> None:
    """Stays: what the sign belongs to would be left behind."""
    text = "Explain the tides, please — and the moon, kindly +."

    assert optimize(text).text == text


def test_white_space_that_says_nothing() -> None:
    """At the ends of lines and between words; what indents a line stays."""
    assert optimize("Explain the  tides \nand \t\nplease the moon").text == "Explain the tides\nand\nthe moon"


@pytest.mark.parametrize("call", ["run please(now)", "when (you please): go"])
def test_calls(call: str) -> None:
    """A line with a call, or with what looks like a head, is code."""
    text = f"Explain this.\n{call} in order to"

    assert optimize(text).text == text
