"""The learned scorer: any text gets a score, the same everywhere; weights that are not ours are refused."""

import base64
import hashlib
import json
import subprocess
import sys
import zlib
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router import learned, router_weights
from edge_router.complexity import ComplexityScorer
from edge_router.learned import (
    LearnedRouter,
    ShapeModel,
    Weights,
    WeightsRejected,
    best_scorer,
    pack,
    shipped,
    unpack,
    weights_of,
)
from edge_router.text_features import NAMES, SHAPES

ROUTER = shipped()

any_text = st.text(alphabet=st.characters(codec=None, exclude_categories=[]), max_size=2000)


@given(any_text)
def test_any_text_has_a_score(text: str) -> None:
    """Any script, control characters, unpaired surrogates: in [0, 1], and no exception."""
    assert 0.0 <= ROUTER.score(text) <= 1.0


HARD_TO_READ = {
    "empty": "",
    "one emoji": "😀",
    "control characters": "\x00\x01\x1b[31m\x7f",
    "punctuation": "?!…" * 100,
    "200 KB of words": "lorem ipsum dolor sit amet 12 " * 7000,
    "200 KB of punctuation": "?!" * 100_000,
    "200 KB without a space": "a1" * 100_000,
    "200 KB of emoji": "😀" * 50_000,
    "200 KB of Japanese": "漢字かな。" * 13_000,
    "200 KB of options": "\nA) yes" * 28_000,
    "200 KB of code": "def add(a, b):\n    return a + b\n" * 6000,
    "200 KB of letters and digits": "a1b2c3" * 33_000,
    "200 KB of sentences of a letter": "A b. C d? " * 20_000,
    "26 options after a long question": "a1b2 " * 700 + "".join(f"\n{chr(65 + i)}) word a1 b2" for i in range(26)),
    "a story that asks without end": "1 2 " + "find t " * 280,
    "numbers that are none": "1.2.3,,4 9" + "9" * 400,
}


@pytest.mark.parametrize("text", HARD_TO_READ.values(), ids=HARD_TO_READ.keys())
def test_hard_text_has_a_score(text: str) -> None:
    """Of a long text the beginning and the end are read. How long that takes: docs/router.md."""
    assert 0.0 <= ROUTER.score(text) <= 1.0


def test_it_is_a_scorer() -> None:
    """The router takes it where it takes the keyword rules."""
    scorer: ComplexityScorer = ROUTER

    assert scorer.name == "learned"


def test_hard_questions_score_above_easy_ones() -> None:
    """Rough, as the figures of docs/router.md say; but these should never come out the other way."""
    easy = ["what is the capital of france", "who wrote hamlet", "what colour is the sky"]
    hard = [
        "Write a python function to find the longest palindromic substring of a given string.",
        "Find the value of $x$ such that $\\sqrt{x+7} = 9$ and prove that it is the only one.",
        "Write a function that merges overlapping intervals of a list and returns them sorted.",
    ]

    assert max(map(ROUTER.score, easy)) < min(map(ROUTER.score, hard))


def test_scores_are_the_same_in_another_process() -> None:
    """Nothing hangs on Python's string hashes, which differ from process to process."""
    texts = ["How many legs have 7 spiders and 2 ants?", "Explique-moi la photosynthèse.", "x = [1, 2]\nprint(x)"]
    program = (
        "import json, sys; from edge_router.learned import shipped; score = shipped().score;"
        " print(json.dumps([score(text) for text in json.load(sys.stdin)]))"
    )

    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(texts),
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0]) == [ROUTER.score(text) for text in texts]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_edge_share_has_a_higher_threshold(one: float, other: float) -> None:
    """Prompts below the threshold stay at the edge; 0 keeps none, 1 keeps all."""
    low, high = sorted([one, other])

    assert 0.0 <= ROUTER.threshold_for_edge_share(low) <= ROUTER.threshold_for_edge_share(high) <= 1.0


def test_edge_share_of_nothing_and_of_all() -> None:
    """The ends hold for any traffic, not only for what was seen in training."""
    assert (ROUTER.threshold_for_edge_share(0.0), ROUTER.threshold_for_edge_share(1.0)) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.1, 0.37, 0.6, 0.9])
def test_edge_share_and_threshold_are_inverse(share: float) -> None:
    """To the percent: the table has a hundred steps."""
    assert ROUTER.edge_share_at(ROUTER.threshold_for_edge_share(share)) == pytest.approx(share, abs=0.011)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_edge_share_out_of_range(share: float) -> None:
    """A share is a share; the message names it."""
    with pytest.raises(ValueError, match="edge_share must be in"):
        ROUTER.threshold_for_edge_share(share)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_quality_floor_keeps_less_at_the_edge(one: float, other: float) -> None:
    """0 keeps all, since nothing has to be recovered."""
    low, high = sorted([one, other])

    assert 0.0 <= ROUTER.threshold_for_quality_floor(high) <= ROUTER.threshold_for_quality_floor(low) <= 1.0
    assert ROUTER.threshold_for_quality_floor(0.0) == 1.0


def test_quality_floor_follows_the_curve() -> None:
    """The share of traffic that may stay is the largest that still recovers enough."""
    router = LearnedRouter(tiny_weights())

    assert [router.threshold_for_quality_floor(floor) for floor in (1.0, 0.81, 0.8, 0.01, 0.0)] == [
        0.0, 0.0, 0.5, 0.5, 1.0,
    ]  # fmt: skip


def test_thresholds_by_quality() -> None:
    """The cloud begins where the floor says."""
    router = LearnedRouter(tiny_weights())

    assert router.thresholds(edge_share=None, quality_floor=0.8).cloud_fast == router.threshold_for_quality_floor(0.8)


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_quality_floor_out_of_range(floor: float) -> None:
    with pytest.raises(ValueError, match="quality_floor must be in"):
        ROUTER.threshold_for_quality_floor(floor)


@given(st.floats(0, 1), st.booleans())
def test_thresholds_of_the_tiers(target: float, is_floor: bool) -> None:
    """In order, whatever is asked for; at the ends one side gets all."""
    found = ROUTER.thresholds(edge_share=None if is_floor else target, quality_floor=target if is_floor else None)

    assert 0.0 <= found.edge_large <= found.cloud_fast <= found.cloud_quality <= 1.0
    assert ROUTER.thresholds(edge_share=0.0, quality_floor=None).cloud_fast == 0.0
    assert ROUTER.thresholds(edge_share=1.0, quality_floor=None).cloud_fast == 1.0


def test_thresholds_of_nothing() -> None:
    with pytest.raises(ValueError, match="is needed"):
        ROUTER.thresholds(edge_share=None, quality_floor=None)


def test_shares_of_the_default_point() -> None:
    """60 % stay at the edge, half of them in its smaller tier; of the others three quarters go to cloud-fast."""
    found = ROUTER.thresholds(edge_share=0.6, quality_floor=None)
    shares = [ROUTER.edge_share_at(each) for each in (found.edge_large, found.cloud_fast, found.cloud_quality)]

    assert shares == pytest.approx([0.3, 0.6, 0.9], abs=0.011)


@given(any_text)
def test_scores_stay_inside_their_ends(text: str) -> None:
    """Never 0 or 1, so that an edge share of all or of nothing holds for every prompt."""
    assert 0.0 < ROUTER.score(text) < 1.0
    assert 0.0 < learned.logistic(-1e9) < learned.logistic(1e9) < 1.0


def test_best_scorer() -> None:
    """The shipped router, as long as its weights can be used."""
    scorer, why_not = best_scorer()

    assert (scorer.name, why_not) == ("learned", None)


def test_best_scorer_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keyword rules with their own thresholds, and one line that says why."""
    monkeypatch.setattr(router_weights, "FORMAT", 99)
    scorer, why_not = best_scorer()

    assert scorer.name == "rules"
    assert why_not == f"router weights have format 99, not {learned.FORMAT}; run scripts/train_router"
    assert scorer.thresholds(edge_share=0.1, quality_floor=None) == scorer.thresholds(
        edge_share=None, quality_floor=0.9
    )


def tiny_weights(*, number: int = NAMES.index("words")) -> Weights:
    """Says that "prove" needs the strong model, and so does a long text."""
    tree = (number, 3.5, -0.25, (0, 5.0, 0.0, 0.5))
    model = ShapeModel(level=0.125, term_scale=0.5, term_steps={"prove": 2, "naïve": -1}, trees=(tree, 0.25))
    return Weights(
        (model,) * len(SHAPES), slope=2.0, intercept=-1.0, quantiles=(0.1, 0.5, 0.9), recovered=(1.0, 0.8, 0.0)
    )


def test_weights_survive_packing() -> None:
    """What is read is what was written."""
    assert unpack(pack(tiny_weights())) == tiny_weights()


def test_score_is_level_words_and_trees() -> None:
    """0.125 + 0.5 * 2 / sqrt(1) - 0.25 + 0.25 = 1.125, times the slope, plus the intercept, through the logistic."""
    assert LearnedRouter(tiny_weights()).score("Prove it!") == pytest.approx(learned.logistic(1.25))
    assert LearnedRouter(tiny_weights()).score("") == pytest.approx(learned.logistic(-0.75))


def as_module(raw: bytes, *, file_format: object = learned.FORMAT, checksum: str | None = None) -> ModuleType:
    packed = zlib.compress(raw)
    module = SimpleNamespace(
        FORMAT=file_format,
        SHA256=checksum or hashlib.sha256(packed).hexdigest(),
        DATA=base64.b64encode(packed).decode(),
    )
    return cast(ModuleType, module)


def head_changed(**changes: object) -> bytes:
    line, _, rest = pack(tiny_weights()).partition(b"\n")
    return json.dumps(json.loads(line) | changes).encode() + b"\n" + rest


@pytest.mark.parametrize(
    ("module", "message"),
    [
        pytest.param(as_module(pack(tiny_weights()), file_format=99), "format 99, not", id="another version"),
        pytest.param(as_module(pack(tiny_weights()), checksum="0" * 64), "checksum", id="changed after it was made"),
        pytest.param(cast(ModuleType, SimpleNamespace()), "lack FORMAT", id="another module"),
        pytest.param(as_module(pack(tiny_weights())[:-3]), "broken", id="cut off"),
        pytest.param(as_module(b"{}\n"), "broken", id="empty"),
        pytest.param(as_module(b"\xff\xfe"), "broken", id="not text"),
        pytest.param(as_module(b"[]"), "broken", id="another form"),
        pytest.param(as_module(head_changed(names=["other"])), "broken", id="other features"),
        pytest.param(as_module(head_changed(terms=-1)), "broken", id="a number of terms that cannot be"),
        pytest.param(as_module(head_changed(terms="2")), "broken", id="a number that is a string"),
        pytest.param(as_module(head_changed(slope=0)), "broken", id="a slope that would tie all scores"),
        pytest.param(as_module(head_changed(levels=None)), "broken", id="no levels"),
        pytest.param(as_module(head_changed(levels=["x"] * 4)), "broken", id="levels that are no numbers"),
        pytest.param(as_module(head_changed(quantiles=[])), "broken", id="no quantiles"),
        pytest.param(as_module(pack(tiny_weights(number=len(NAMES)))), "broken", id="a number that does not exist"),
        pytest.param(as_module(head_changed(trees=[99] * 4)), "broken", id="fewer trees than said"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(module: ModuleType, message: str) -> None:
    """One line that names the remedy; the caller goes on with the keyword rules."""
    with pytest.raises(WeightsRejected, match=message) as caught:
        weights_of(module)

    assert "\n" not in str(caught.value)
    assert "scripts/train_router" in str(caught.value)


@given(st.data())
def test_no_damage_goes_unseen(data: st.DataObject) -> None:
    """A flipped byte anywhere in the packed weights is a broken checksum, not another score."""
    packed = bytearray(zlib.compress(pack(tiny_weights())))
    at = data.draw(st.integers(0, len(packed) - 1))
    checksum = hashlib.sha256(packed).hexdigest()
    packed[at] ^= data.draw(st.integers(1, 255))
    module = SimpleNamespace(FORMAT=learned.FORMAT, SHA256=checksum, DATA=base64.b64encode(packed).decode())

    with pytest.raises(WeightsRejected, match="checksum"):
        weights_of(cast(ModuleType, module))


@given(st.binary(max_size=200))
def test_any_bytes_are_weights_or_refused(raw: bytes) -> None:
    """Even with a right checksum: refused as broken, never another exception."""
    with pytest.raises(WeightsRejected):
        weights_of(as_module(raw))


def test_shipped_weights_that_cannot_be_imported_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle without the file starts all the same."""
    monkeypatch.setitem(sys.modules, "edge_router.router_weights", None)

    with pytest.raises(WeightsRejected, match="cannot be imported"):
        shipped()


def test_shipped_weights_fit_the_bundle() -> None:
    """At most 256 KiB as uploaded."""
    assert router_weights.__file__ is not None
    with open(router_weights.__file__, "rb") as file:
        assert len(file.read()) <= 256 * 1024
