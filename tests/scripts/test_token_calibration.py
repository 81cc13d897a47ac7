"""The token estimate against a real tokenizer, on texts that it was not fitted with."""

from pathlib import Path

import pytest

from edge_router.tokens import read_words
from scripts.token_calibration.__main__ import errors, texts_to_check
from scripts.token_calibration.texts import ROOT
from scripts.token_calibration.tokenizer import count_tokens
from scripts.token_calibration.words import front_coded

DATA = ROOT.parent / "shared" / "data"
# Of the relative error, for each kind of text.
MEDIAN = 0.05
P95 = 0.15
KINDS = ("prompts.jsonl", "code", "German", "Chinese", "Japanese", "Arabic")


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    if not (DATA / "prompts.jsonl").exists():
        pytest.skip(f"{DATA} is not there: real prompts are not part of the repository")
    return texts_to_check(Path(DATA))


def test_tokenizer() -> None:
    """Counts as OpenAI's own do."""
    assert count_tokens("Hello, world!") == 4


@pytest.mark.parametrize("name", KINDS)
def test_errors(texts: dict[str, list[str]], name: str) -> None:
    """Within the bounds."""
    found = errors(texts[name])

    assert found[len(found) // 2] <= MEDIAN
    assert found[int(0.95 * len(found))] <= P95


def test_words_are_front_coded() -> None:
    """What is written down is read again, word for word."""
    words = [" ab", " abc", " b", "ab", "x" * 9 + "y", "x" * 9 + "z"]

    text = "".join(front_coded(words))

    assert text == "0 ab3c1b0ab0xxxxxxxxxy9z"
    assert read_words(text) == words
