"""Learning from ratings: what is read of an export, what changes in the weights, and when nothing does."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edge_router import text_features
from edge_router.feedback_records import hashed_terms
from edge_router.learned import LearnedRouter, pack, shipped_weights, unpack
from scripts.training.feedback import CannotLearn, Rated, learn, read_ratings

WEIGHTS = shipped_weights()
ROUTER = LearnedRouter(WEIGHTS)
WORDS = [term for term in WEIGHTS.models[0].term_steps if term.isalpha() and len(term) > 6][:60]
HARD = WORDS[0]


def rated(question: str, failed: bool) -> Rated:
    return Rated(ROUTER.score(question), frozenset(hashed_terms(text_features.read(question).terms())), failed)


def questions(count: int = 400) -> list[str]:
    """Of known words; every third with the one that the edge's model can't cope with."""
    chooser = random.Random(0)
    return [" ".join([*chooser.sample(WORDS[1:], 8), *([HARD] if number % 3 == 0 else [])]) for number in range(count)]


def test_word_that_the_edge_fails_at() -> None:
    """Its weight grows until questions with it score higher than others; the weights still fit their file."""
    asked = questions()

    learned = learn(WEIGHTS, [rated(question, HARD in question.split()) for question in asked])

    router = LearnedRouter(unpack(pack(learned.weights)))
    plain = "please tell me about " + " ".join(WORDS[1:6])
    before = ROUTER.score(f"{plain} {HARD}") - ROUTER.score(plain)
    assert router.score(f"{plain} {HARD}") - router.score(plain) > before + 0.1
    assert learned.losses[2] < learned.losses[1] < learned.losses[0]
    assert (learned.rows, learned.failed) == (400, 134)


def test_level_alone() -> None:
    """An edge that fails twice as often as thought, at anything: scores rise, and the same share stays at the edge."""
    chooser = random.Random(1)
    rows = [rated(question, False) for question in questions(1000)]
    rows = [Rated(row.score, row.words, chooser.random() < min(0.9, 2 * row.score)) for row in rows]

    learned = learn(WEIGHTS, rows)

    router = LearnedRouter(learned.weights)
    assert router.score("What is the capital of France?") > ROUTER.score("What is the capital of France?")
    for share in (0.3, 0.6):
        assert router.edge_share_at(router.threshold_for_edge_share(share)) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="nothing"),
        pytest.param([rated(question, False) for question in questions()], id="nothing bad"),
        pytest.param([rated(question, bool(i % 2)) for i, question in enumerate(questions(60))], id="too few"),
    ],
)
def test_too_little_to_learn_from(rows: list[Rated]) -> None:
    """The message says how much is there and how much is needed."""
    with pytest.raises(CannotLearn, match="at least 200 are needed"):
        learn(WEIGHTS, rows)


def test_weights_that_are_right_already() -> None:
    """Answers that fail as often as the scores say change nothing."""
    chooser = random.Random(5)
    rows = [rated(question, False) for question in questions(2000)]
    rows = [Rated(row.score, row.words, chooser.random() < row.score) for row in rows]

    with pytest.raises(CannotLearn, match="nothing predicts better"):
        learn(WEIGHTS, rows)


GOOD_LINE: dict[str, Any] = {
    "at_s": 1.0, "served_by": "edge-model", "score": 0.4, "features": [1, 2], "escalated": "", "rating": "good",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"rating": "bad"}, True),
        ({"rating": "", "escalated": "refusal", "served_by": "cloud"}, True),
        ({"rating": "good", "escalated": "refusal", "served_by": "cloud"}, True),
        ({"rating": "bad", "served_by": "cloud"}, None),
        ({"rating": ""}, None),
        ({"features": []}, None),
        ({"score": None}, None),
        ({"score": 2}, None),
        ({"features": "x"}, None),
    ],
)
def test_line_of_an_export(changes: dict[str, Any], expected: bool | None, tmp_path: Path) -> None:
    """Of an answer that says whether the edge's did; other lines, and broken ones, are passed over."""
    path = tmp_path / "export.jsonl"
    path.write_text("\n[1]\nbroken\n" + json.dumps({**GOOD_LINE, **changes}))

    assert [row.failed for row in read_ratings(path)] == ([] if expected is None else [expected])
