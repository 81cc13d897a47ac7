"""What a tenant's ratings move the router's thresholds by: bounded, cautious with few, nothing unless asked for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.complexity import Thresholds
from edge_router.feedback_records import AnswerRecord
from edge_router.location import UNKNOWN
from edge_router.threshold_offset import MOST, offset_of
from tests.edge_router.harness import FixedScore, World, chat_body
from tests.fakes import START_S, FakeFeedbackStore, FakeRequest


@given(st.integers(-5, 10_000), st.integers(-5, 10_000))
def test_offset_is_bounded(bad: int, rated: int) -> None:
    """Whatever the counts, within a tenth of the score's scale."""
    assert -MOST <= offset_of(bad, rated) <= MOST


@given(st.integers(1, 2000), st.data())
def test_more_bad_answers_move_it_down(rated: int, data: st.DataObject) -> None:
    """Never up."""
    few, many = sorted(data.draw(st.lists(st.integers(0, rated), min_size=2, max_size=2)))

    assert offset_of(many, rated) <= offset_of(few, rated)


@pytest.mark.parametrize(
    ("bad", "rated", "expected"),
    [(0, 0, 0.0), (20, 100, 0.0), (1, 1, -0.4 / 51), (500, 500, -MOST), (0, 500, 0.2 * 0.5 * 500 / 550)],
)
def test_offset(bad: int, rated: int, expected: float) -> None:
    """A fifth may be bad; one rating says nearly nothing; many bad ones say all they may."""
    assert offset_of(bad, rated) == pytest.approx(expected)


def test_thresholds_that_are_moved() -> None:
    """Within the scale, and one that was set to an end stays there."""
    assert Thresholds(0.25, 0.5, 0.95).moved(0.125) == Thresholds(0.375, 0.625, 1.0)
    assert Thresholds(0.0, 1.0, 1.0).moved(-0.1) == Thresholds(0.0, 1.0, 1.0)


@pytest.mark.parametrize(("switch", "side"), [("on", "cloud"), ("off", "edge-model")])
async def test_ratings_move_what_comes_next(switch: Any, side: str) -> None:
    """A tenant whose edge answers were bad has its next question of that kind answered by the cloud; if switched on."""
    store = FakeFeedbackStore()
    bad = [AnswerRecord(f"r{i}", START_S, served_by="edge-model", rating="bad") for i in range(400)]
    await store.add("open", bad)
    world = World(feedback=store, threshold_offset=switch, scorer=FixedScore(0.65))
    gateway = world.gateway()

    async def ask(prompt: str) -> str:
        request = FakeRequest("POST", "/v1/chat/completions", json.dumps(chat_body(prompt)), {}, UNKNOWN)
        reply = await gateway.handle(request, world.background)
        await world.background.finish()
        return reply.headers["nearside-served-by"]

    assert await ask("one") == "edge-model"  # this isolate has not heard of the ratings yet
    assert await ask("two") == side
