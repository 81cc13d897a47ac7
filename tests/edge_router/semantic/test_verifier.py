"""Pair verifier: which stored answers may be given to another question. Figures: docs/semantic-cache.md."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.semantic import weights as shipped
from edge_router.semantic.features import FEATURES, features
from edge_router.semantic.guards import GUARDS, compare
from edge_router.semantic.reading import read
from edge_router.semantic.verifier import (
    BALANCED_THRESHOLD,
    DEFAULT_THRESHOLD,
    LOOSE_THRESHOLD,
    PairVerifier,
    Verdict,
    is_same,
    verify,
)
from edge_router.semantic.weighing import PairScore, Weights, encoded_words, load_weights, weights_source

DATA = Path(__file__).parents[2] / "data"
MAX_WEIGHTS_BYTES = 64 * 1024
MIN_PARAPHRASES_FOUND = 0.6


def written(name: str) -> list[dict[str, str]]:
    """Rows {text_a, text_b, kind, held_out, cosine}; cosine: of all-MiniLM-L6-v2, to four decimals."""
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


ADVERSARIAL = written("semantic_adversarial.jsonl")
PARAPHRASES = written("semantic_paraphrases.jsonl")


@pytest.mark.parametrize("kind", sorted({row["kind"] for row in ADVERSARIAL}))
@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.1], ids="cosine{:+}".format)
def test_no_false_hit(kind: str, shift: float) -> None:
    """Nearly the same words, another question: never a hit by default, whatever scale the embedder's cosines have."""
    false_hits = [
        row
        for row in ADVERSARIAL
        if row["kind"] == kind and is_same(verify(row["text_a"], row["text_b"], min(1.0, float(row["cosine"]) + shift)))
    ]

    assert false_hits == []


def test_paraphrases_found() -> None:
    """Other words, the same question: most are hits at the same threshold, also among those held out."""
    for rows in (PARAPHRASES, [row for row in PARAPHRASES if row["held_out"]]):
        found = sum(is_same(verify(row["text_a"], row["text_b"], float(row["cosine"]))) for row in rows)

        assert found / len(rows) >= MIN_PARAPHRASES_FOUND


def test_sets_are_as_large_as_promised() -> None:
    """At least 300 pairs each, no pair twice, of every kind that the design names."""
    for rows in (ADVERSARIAL, PARAPHRASES):
        assert len({(row["text_a"], row["text_b"]) for row in rows}) == len(rows) >= 300
    assert {row["kind"] for row in ADVERSARIAL} == {
        "negated", "number_changed", "unit_changed", "entity_changed", "comparison_swapped", "other_language",
        "words_reordered", "words_changed",
    }  # fmt: skip


def test_thresholds() -> None:
    """From strict to loose; a guard refuses at any of them."""
    assert 1.0 > DEFAULT_THRESHOLD > BALANCED_THRESHOLD > LOOSE_THRESHOLD > 0.0
    assert is_same(Verdict(0.7, None), BALANCED_THRESHOLD)
    assert not is_same(Verdict(0.7, None))
    assert not is_same(Verdict(1.0, "number"), LOOSE_THRESHOLD)


def test_doubted_pairs_are_below_the_default() -> None:
    """A word too many is no hit by default, though it may be one for a tenant who asks for less."""
    verdict = verify("How do I learn French fast?", "How do I learn French fast at home?", 0.99)

    assert verdict.guard is None
    assert 0.0 < verdict.score < DEFAULT_THRESHOLD


@given(st.text(), st.text(), st.floats(-1.0, 1.0))
def test_any_texts(asked: str, stored: str, cosine: float) -> None:
    """No text raises; the score is a share; the guard is a known one; the sides may be swapped."""
    verdict = verify(asked, stored, cosine)

    assert 0.0 <= verdict.score <= 1.0
    assert verdict.guard is None or verdict.guard in GUARDS
    assert is_same(verify(stored, asked, cosine)) == is_same(verdict)


QUESTION_WORDS = st.sampled_from(
    'what who how many is are the of to from than before not can\'t 5 kg 3.5% #1 -2 Paris NASA "x" `y` and or ? , . '
    "don't unable in/out a-b C++ first $5 5pm won't very was will do".split(" ")
)


@given(st.lists(QUESTION_WORDS, max_size=12), st.lists(QUESTION_WORDS, max_size=12), st.floats(-1.0, 1.0))
def test_any_words(asked: list[str], stored: list[str], cosine: float) -> None:
    """The same for texts made of what the guards look at: symmetric in verdict and guard."""
    forward = verify(" ".join(asked), " ".join(stored), cosine)
    backward = verify(" ".join(stored), " ".join(asked), cosine)

    assert (forward.guard is None) == (backward.guard is None)
    assert is_same(forward) == is_same(backward)


@given(st.text())
def test_same_text(text: str) -> None:
    """A text is the same as itself, unless it is blank."""
    assert is_same(verify(text, text, 1.0)) == bool(text.strip())


@pytest.mark.parametrize(("text", "score"), [("Why?", 1.0), ("", 0.0), (" \n", 0.0)])
def test_score_of_the_same_text(text: str, score: float) -> None:
    """Is certain, whatever the embedder says; nothing is asked by a blank one."""
    assert verify(text, text, 0.1) == Verdict(score, None)


def test_word_that_says_nothing_of_itself() -> None:
    """The rarity of one that is in every text is none, whichever of the two has it."""
    one, other = read("What purrs?"), read("What is a common purr?")
    words, unseen = {"common": (0.0, 0.0, 0.0, 0.0)}, (8.0, 0.0, 0.0, 0.0)
    for asked, stored in ((one, other), (other, one)):
        values = features(asked, stored, compare(asked, stored), 0.9, words, unseen)

        assert values[FEATURES.index("unmatched")] == 1
        assert values[FEATURES.index("rarest_unmatched")] == 0.0


def test_other_languages_are_stricter() -> None:
    """The lists are English: in another language only the same words in the same order are a hit."""
    assert is_same(verify("Wie spät ist es in Rom?", "wie spät ist es in Rom", 0.99))
    assert not is_same(verify("Wie spät ist es in Rom?", "Wie viel Uhr ist es in Rom?", 0.97))
    assert not is_same(verify("法国的首都是哪里?", "德国的首都是哪里?", 0.97))


def module(**changes: object) -> ModuleType:
    other = ModuleType("other_weights")
    kept = {name: value for name, value in vars(shipped).items() if name.isupper()}
    other.__dict__.update(kept | changes)
    return other


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"FORMAT": 0}, "format 0"), ({"FEATURES": "cosine shared"}, "other features")],
    ids=["format", "features"],
)
def test_other_weights_are_refused(changes: dict[str, object], message: str) -> None:
    """Weights made for another version of the code are not read as if they were of this one."""
    with pytest.raises(ValueError, match=message):
        load_weights(module(**changes))


def test_weights_are_small() -> None:
    """What the Worker loads at its start."""
    assert Path(shipped.__file__).stat().st_size <= MAX_WEIGHTS_BYTES


def test_weights_survive_their_file() -> None:
    """Written and read again they are the same."""
    weights = load_weights(shipped)
    written_again = ModuleType("again")
    exec(weights_source(weights, ["a note"]), written_again.__dict__)

    assert load_weights(written_again) == weights


def test_words_as_they_are_kept() -> None:
    """Training goes on with the words as a file gives them back: in steps, and within what a letter can hold."""
    words, unseen = {"cat": (3.014, -0.5, 0.2, 99.0)}, (8.0, 0.0, 0.0, 0.0)
    kept, kept_unseen = encoded_words(words, unseen)
    written = ModuleType("written")
    exec(weights_source(replace(load_weights(shipped), words=words, unseen=unseen), []), written.__dict__)

    assert kept["cat"][:3] == pytest.approx((3.0, -0.5, 0.2))
    assert kept["cat"][3] < 99.0
    assert encoded_words(kept, kept_unseen) == (kept, kept_unseen)
    assert (load_weights(written).words, load_weights(written).unseen) == (kept, kept_unseen)


def test_score_adds_tables() -> None:
    """Bins are closed above; a table of one feature and one of two add to the bias, in hundredths of log odds."""
    cosine, shared = FEATURES.index("cosine"), FEATURES.index("shared")
    edges: list[tuple[float, ...]] = [()] * len(FEATURES)
    edges[cosine], edges[shared] = (0.5,), (1.0, 2.0)
    tables = ((cosine, cosine, (0, 100)), (cosine, shared, (0, 0, 0, 0, 0, 50)))
    score = PairScore(Weights({}, (8.0, 0.0, 0.0, 0.0), tuple(edges), tables, -150))
    values = [0.0] * len(FEATURES)

    values[cosine] = 0.5
    assert score.chance(values) == pytest.approx(0.1824, abs=1e-4)
    values[cosine], values[shared] = 0.9, 3.0
    assert score.chance(values) == pytest.approx(0.5)


def test_features_are_symmetric() -> None:
    """The learned score does not know which text was stored."""
    words = {"cat": (3.0, -0.5, 0.2, 0.1), "cats": (3.0, -0.5, 0.2, 0.4)}
    one, other = read("Why do cats purr at night?"), read("What makes the cat of Ann purr?")

    forward = features(one, other, compare(one, other), 0.8, words, (8.0, -1.0, 0.0, 0.0))
    backward = features(other, one, compare(other, one), 0.8, words, (8.0, -1.0, 0.0, 0.0))

    assert forward == pytest.approx(backward)
    assert len(forward) == len(FEATURES)


def test_own_weights() -> None:
    """A verifier may be made with other weights, as training and evaluation do."""
    sure = Weights({}, (8.0, 0.0, 0.0, 0.0), ((),) * len(FEATURES), (), 500)

    assert is_same(PairVerifier(sure).verify("How can I sleep?", "How do I sleep?", 0.2))


SCORED = """
import json, sys
from edge_router.semantic.verifier import verify
print(json.dumps([verify(row["text_a"], row["text_b"], float(row["cosine"])).score for row in json.load(sys.stdin)]))
"""


def test_score_in_another_process() -> None:
    """Is the same to the last digit: isolates hash words otherwise, and a threshold is a threshold."""
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCORED],
            input=json.dumps(PARAPHRASES),
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(DATA.parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(printed) == 1
