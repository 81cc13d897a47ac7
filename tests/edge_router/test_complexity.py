"""The readable baseline of complexity, and the token estimate."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.complexity import COMPLEX, HEAD_CHARACTERS, MEDIUM, SIMPLE, TAIL_CHARACTERS, KeywordRules
from edge_router.tokens import estimate_tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", SIMPLE, id="nothing"),
        pytest.param("What is the capital of France?", SIMPLE, id="short look-up"),
        pytest.param("Hello there", SIMPLE, id="a few words"),
        pytest.param("Please tell me something nice about the city that I visit tomorrow", MEDIUM, id="a sentence"),
        pytest.param("EXPLAIN why the sky is blue", COMPLEX, id="asks for reasoning"),
        pytest.param("What is " + "very " * 20 + "hard to explain", COMPLEX, id="long look-up that reasons"),
        pytest.param("word " * 51, COMPLEX, id="many words"),
        pytest.param("whyever", SIMPLE, id="only whole words count"),
        pytest.param("x" * (HEAD_CHARACTERS + TAIL_CHARACTERS) + " explain", COMPLEX, id="the end of a long text"),
        pytest.param("x" * HEAD_CHARACTERS + " explain " + "x" * 9_000, SIMPLE, id="not the middle of a long text"),
    ],
)
def test_keyword_rules(text: str, expected: float) -> None:
    """Short look-ups are simple; long texts and requests to reason are not."""
    assert KeywordRules().score(text) == expected


@settings(max_examples=100)
@given(text=st.text(st.characters(), max_size=200))
def test_any_text(text: str) -> None:
    """Has a score in [0, 1] and an estimate that is not negative, lone surrogates included."""
    assert 0 <= KeywordRules().score(text) <= 1
    assert estimate_tokens(text) >= (1 if text else 0)
