"""What is read of a prompt: its shape, its numbers and its words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.text_features import NAMES, read


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        pytest.param("Which is a fruit?\nA. apple\nB. stone\nC. chair\nD. rain\nAnswer:", "choice", id="exam question"),
        pytest.param("Pick one.\n" + "\n".join(f"({x}) {x}{x}" for x in "ABCDEFGH"), "long_choice", id="many options"),
        pytest.param("Ann has 3 bags of 12 nuts and eats half. How many are left?", "story", id="story with numbers"),
        pytest.param("How many moons has Mars?", "open", id="a quantity, but nothing to reckon with"),
        pytest.param("def add(a, b):\n    return a + b", "open", id="code"),
        pytest.param("", "open", id="empty"),
        pytest.param("Plan:\nA. begin", "open", id="a list of one is no choice"),
    ],
)
def test_shape(text: str, shape: str) -> None:
    """Each shape has weights of its own: what makes an exam question hard says little of a story."""
    assert read(text).shape == shape


def number(text: str, name: str) -> float:
    return read(text).numbers[NAMES.index(name)]


def test_numbers_have_names() -> None:
    """Counts are log1p, shares are shares; they are of the question without its options."""
    text = "Is 2.5 + 40 more than 42?\nA. yes\nB. no, less than 42"

    assert number(text, "numbers") == pytest.approx(math.log1p(3))
    assert number(text, "largest_number") == pytest.approx(math.log1p(42))
    assert number(text, "options") == 2
    assert number(text, "ends_with_question") == 1


def test_terms_are_words_and_pairs_once_each() -> None:
    """Lower case, no punctuation, numbers kept whole, options included."""
    assert list(read("To be, or not to be: 1,000").terms()) == [
        *("to", "be", "or", "not", "1,000"),
        *("to be", "be or", "or not", "not to", "be 1,000"),
    ]


def test_of_a_long_text_beginning_and_end_are_read() -> None:
    """The first 8 KB and the last 2 KB; what is between changes nothing."""
    start, end = "begin " * 1400, " finish" * 300

    assert read(start + "x y z " * 5000 + end) == read(start + "1 2 3 " * 5000 + end)
    assert "finish" in read(start + "x y z " * 5000 + end).tokens


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=[]), max_size=300))
def test_any_text_has_finite_numbers(text: str) -> None:
    """Any script, control characters, unpaired surrogates: all numbers are there and finite."""
    numbers = read(text).numbers

    assert len(numbers) == len(NAMES)
    assert all(map(math.isfinite, numbers))
