"""A text in pieces like those of a live stream."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router import completions
from edge_router.pieces import pieces
from tests.edge_router.harness import completion


@given(text=st.text() | st.text(alphabet="ab \n\u0301\u200d👍🏽🇫🇷👩한\u1112\u1161\u11ab\ud83d\ude00"))
def test_pieces_of_any_text(text: str) -> None:
    """Together they are the text, and none is empty."""
    found = pieces(text)

    assert "".join(found) == text
    assert all(found)


def test_pieces_of_prose() -> None:
    """Some words each, ending after white space."""
    found = pieces("The quick brown fox jumps over the lazy dog and runs away.\n\nThen it sleeps.")

    assert len(found) == 4
    assert all(piece[-1].isspace() for piece in found[:-1])
    assert max(map(len, found)) <= 26


def test_pieces_of_a_long_word() -> None:
    """It is cut: a text without spaces is still a stream."""
    assert [len(piece) for piece in pieces("x" * 60)] == [24, 24, 12]
    assert len(pieces("東京都" * 40)) == 5


@pytest.mark.parametrize(
    "character",
    [
        pytest.param("e\u0301", id="a letter with an accent of its own"),
        pytest.param("👩\u200d👩\u200d👧", id="a family"),
        pytest.param("👍🏽", id="a skin tone"),
        pytest.param("🇫🇷", id="a flag"),
        pytest.param("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", id="a flag with tags"),
        pytest.param("❤\ufe0f", id="a variation"),
        pytest.param("\u1112\u1161\u11ab", id="Hangul in parts"),
        pytest.param("하\u11ab", id="Hangul and a part"),
        pytest.param("नि", id="a vowel sign"),
        pytest.param("\ud83d\ude00", id="two halves of a surrogate pair"),
    ],
)
@pytest.mark.parametrize("offset", range(18, 25))
def test_character_of_several_code_points(character: str, offset: int) -> None:
    """Is never cut, wherever a piece would end."""
    found = pieces("x" * offset + character + "y" * 30)

    assert sum(character in piece for piece in found) == 1
    assert len(found) > 1


@given(text=st.text(st.characters()), model=st.text(), index=st.integers(0, 9))
def test_replayed_chunks(text: str, model: str, index: int) -> None:
    """Are what encoding each chunk as a whole would give, also for halves of surrogate pairs and control characters."""
    body = completion(text, model=model, id="\0")
    body["choices"][0]["index"] = index
    chunks = list(completions.replay(body, include_usage=False))[1:-1]

    wanted = [completions.chunk(body, {"content": piece}, index=index) for piece in pieces(text)]
    assert list(map(json.loads, chunks)) == wanted
    "".join(chunks).encode()
