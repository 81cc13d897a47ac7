"""Sentences out of a text that arrives in pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.client import SentenceSplitter


def split(*pieces: str) -> list[str]:
    splitter = SentenceSplitter()
    found = [sentence for piece in pieces for sentence in splitter.feed(piece)]
    return found + splitter.flush()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Paris. It is in France.", ["Paris.", "It is in France."], id="two"),
        pytest.param("Really?! Yes… Well.", ["Really?!", "Yes…", "Well."], id="other signs"),
        pytest.param('He said "No." Then he left.', ['He said "No."', "Then he left."], id="closing quote"),
        pytest.param("Dr. Smith met Mrs. Jones at 5 p.m. They ate.", 1, id="abbreviations"),
        pytest.param("See e.g. Paris, i.e. France. Good.", ["See e.g. Paris, i.e. France.", "Good."], id="e.g."),
        pytest.param("J. R. R. Tolkien wrote it. So did I. Then he slept.", 3, id="initials, but not I"),
        pytest.param("Pi is 3.14 and v1.2.3 is out. Fine.", ["Pi is 3.14 and v1.2.3 is out.", "Fine."], id="decimals"),
        pytest.param("It costs 5 $. Pay it.", ["It costs 5 $.", "Pay it."], id="no word before the stop"),
        pytest.param("Yahoo! was first. visit example.com.", 1, id="a lower-case letter goes on"),
        pytest.param("Das gilt z.B. Montags. Danach nicht.", 2, id="German"),
        pytest.param(
            "你好。今天很好！真的？是", ["你好。", "今天很好！", "真的？", "是"], id="Chinese, without spaces"
        ),
        pytest.param("「行こう。」と言った。次", ["「行こう。」", "と言った。", "次"], id="Japanese quotation"),
        pytest.param("كيف حالك؟ بخير.", ["كيف حالك؟", "بخير."], id="Arabic"),
        pytest.param("A title\n\nThe text", ["A title", "The text"], id="blank line"),
        pytest.param("Steps:\n1. Boil it.\n2. Eat it.", ["Steps:", "1. Boil it.", "2. Eat it."], id="list"),
        pytest.param("Call `a.b. C` now. Then stop.", ["Call `a.b. C` now.", "Then stop."], id="inline code"),
        pytest.param("A ` alone. Fine\nthere. Yes.", ["A ` alone.", "Fine\nthere.", "Yes."], id="backtick alone"),
        pytest.param(
            "Run this:\n```py\nx = 1. \n\nprint(x). Y\n```\nDone. Bye.",
            ["Run this:", "```py\nx = 1. \n\nprint(x). Y\n```", "Done.", "Bye."],
            id="fenced code is one piece",
        ),
        pytest.param("```\nnever. Closed", ["```\nnever. Closed"], id="fence without end"),
        pytest.param(" \n\n ", [], id="nothing"),
    ],
)
def test_sentences(text: str, expected: list[str] | int) -> None:
    """What ends a sentence, and what only looks like it."""
    found = split(text)

    assert (found if isinstance(expected, list) else len(found)) == expected


ALPHABET = st.sampled_from(
    ["Dr.", "e.g.", "3.14", "Hi", "no", ". ", "! ", "。", "」", "\n", "\n\n", "- ", "1. ", "`", "```", " "]
)


@given(st.lists(ALPHABET, max_size=30), st.lists(st.integers(0, 90), max_size=20))
def test_pieces_do_not_matter(parts: list[str], cuts: list[int]) -> None:
    """Cut anywhere, or not at all, the sentences are the same, and nothing but white space is lost."""
    text = "".join(parts)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(borders)]

    assert split(*pieces) == split(text) == split(*text)
    assert "".join("".join(split(text)).split()) == "".join(text.split())


def test_what_can_not_be_told_yet() -> None:
    """Code that is not closed, and a line break that may be before a list: nothing is said before that is known."""
    splitter = SentenceSplitter()

    assert splitter.feed("Call `a. B") == []
    assert splitter.feed("` now. Then:\n") == ["Call `a. B` now."]
    assert splitter.feed("- one thing\n") == ["Then:"]
    assert splitter.flush() == ["- one thing"]
