"""The token estimate. How far off it is: tests/scripts/test_token_calibration.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.tokens import MOST_LETTERS, estimate_tokens, forget


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        pytest.param("", 0, 0, id="nothing"),
        pytest.param("a", 1, 1, id="one letter"),
        pytest.param("What is the capital of France?", 6, 8, id="a question"),
        pytest.param("1234567890", 4, 5, id="three digits a token"),
        pytest.param("x" * 100_000, 5_000, 100_000, id="a word without end"),
        pytest.param("今日はいい天気ですね。", 5, 10, id="Japanese"),
        pytest.param("ما هي عاصمة فرنسا؟", 4, 12, id="Arabic"),
        pytest.param("Какая столица Франции?", 4, 12, id="Russian"),
        pytest.param("🙂" * 10, 5, 40, id="pictures"),
        pytest.param("\ud800", 1, 4, id="half a surrogate"),
    ],
)
def test_estimates(text: str, least: int, most: int) -> None:
    """Of the right size for whatever is written."""
    assert least <= estimate_tokens(text) <= most


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """At least one token for a text that is not empty, and not many more than it has bytes."""
    estimate = estimate_tokens(text)

    assert (estimate >= 1) is bool(text)
    assert estimate <= 3 * len(text.encode("utf-8", "surrogatepass")) + 1


def test_words_that_are_forgotten() -> None:
    """Count as those that are known: what is remembered only saves time."""
    text = "What is the capital of France?  Paris, since 987."
    known = estimate_tokens(text)

    forget()

    assert estimate_tokens(text) == known


def test_long_words_count_in_proportion() -> None:
    """Only the beginning is looked at."""
    assert estimate_tokens("ab" * MOST_LETTERS) == pytest.approx(
        2 * estimate_tokens("ab" * (MOST_LETTERS // 2)), rel=0.1
    )
