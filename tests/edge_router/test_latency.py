"""Windows of latencies: EWMA, p95, an upper bound with few samples, and what isolates tell each other."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.latency import ENOUGH_SAMPLES, MAX_SAMPLES, WINDOW_S, LatencyTable, LatencyWindow

NOW_S = 1_795_000_000.0


def window_of(*times_ms: float) -> LatencyWindow:
    """One sample a second, the last one at NOW_S."""
    window = LatencyWindow()
    for place, ms in enumerate(times_ms):
        window.add(NOW_S - len(times_ms) + 1 + place, ms)
    return window


def test_summary_of_few_samples_is_their_plain_average() -> None:
    summary = window_of(100, 200, 300).summary(NOW_S)

    assert (summary.count, summary.p95_ms) == (3, 300)
    assert summary.ewma_ms == pytest.approx(200)
    assert summary.deviation_ms == pytest.approx(81.65, abs=0.01)


def test_ewma_follows_a_change() -> None:
    """After twenty slow calls the average of a fast past is forgotten to an eighth."""
    summary = window_of(*[100.0] * 40, *[900.0] * 20).summary(NOW_S)

    assert summary.ewma_ms == pytest.approx(900 - 800 * 0.9**20)


@given(st.lists(st.floats(0, 60_000), min_size=1, max_size=MAX_SAMPLES))
def test_p95_is_a_sample_that_19_of_20_do_not_exceed(times_ms: list[float]) -> None:
    rounded = [round(ms, 1) for ms in times_ms]
    p95 = window_of(*times_ms).summary(NOW_S).p95_ms

    assert p95 in rounded
    assert sum(ms <= p95 for ms in rounded) >= 0.95 * len(rounded)
    assert sum(ms < p95 for ms in rounded) < 0.95 * len(rounded)


def test_old_samples_leave_the_window() -> None:
    """A slow model that nobody dares to ask becomes unknown again, and so gets tried."""
    window = window_of(9000, 9000)

    assert window.summary(NOW_S + WINDOW_S - 2).count == 2
    assert window.summary(NOW_S + WINDOW_S - 0.5).count == 1
    assert window.summary(NOW_S + WINDOW_S).count == 0
    assert window.upper_ms(NOW_S + WINDOW_S, 200) == LatencyWindow().upper_ms(NOW_S, 200)


def test_memory_is_bounded() -> None:
    """The newest samples stay."""
    window = window_of(*range(1000))

    assert window.summary(NOW_S).count == MAX_SAMPLES
    assert window.samples(NOW_S)[0][1] == 1000 - MAX_SAMPLES


@pytest.mark.parametrize("ms", [-1.0, float("nan"), float("inf"), 1e12])
def test_impossible_times_are_ignored(ms: float) -> None:
    assert window_of(ms).summary(NOW_S).count == 0


class TestUpperBound:
    def test_unknown_candidate_gets_twice_the_declared_value(self) -> None:
        assert LatencyWindow().upper_ms(NOW_S, 300) == pytest.approx(600, rel=0.02)

    def test_more_equal_samples_make_it_tighter(self) -> None:
        bounds = [window_of(*[300.0] * count).upper_ms(NOW_S, 300) for count in range(ENOUGH_SAMPLES + 1)]

        assert bounds == sorted(bounds, reverse=True)
        assert bounds[ENOUGH_SAMPLES] == 300

    def test_few_slow_samples_outweigh_the_declared_value(self) -> None:
        assert window_of(2000, 2000, 2000).upper_ms(NOW_S, 300) > 1300

    def test_many_samples_speak_for_themselves(self) -> None:
        window = window_of(*[100.0] * 36, *[800.0] * 4)

        assert window.upper_ms(NOW_S, 5000) == 800

    def test_covers_19_of_20(self) -> None:
        """On exponential times, which are hard for a normal bound: at least 9 of 10 with few samples."""
        drawn = random.Random(5)
        below = 0
        for _ in range(2000):
            window = window_of(*[drawn.expovariate(1 / 300) for _ in range(8)])
            below += drawn.expovariate(1 / 300) <= window.upper_ms(NOW_S, 300)

        assert below >= 0.9 * 2000


class TestTable:
    def test_keys_do_not_mix(self) -> None:
        table = LatencyTable()
        table.add("CDG", "ttft", "small", now_s=NOW_S, ms=10)
        table.add("CDG", "total", "small", now_s=NOW_S, ms=20)
        table.add("SIN", "ttft", "small", now_s=NOW_S, ms=30)

        assert table.summary("CDG", "ttft", "small", now_s=NOW_S).ewma_ms == 10
        assert table.summary("CDG", "total", "small", now_s=NOW_S).ewma_ms == 20
        assert table.summary("SIN", "ttft", "small", now_s=NOW_S).ewma_ms == 30
        assert table.summary("SIN", "ttft", "large", now_s=NOW_S).count == 0

    def test_number_of_keys_is_bounded(self) -> None:
        """The least recently measured go first; asking adds none."""
        table = LatencyTable(max_keys=3)
        for name in ("a", "b", "c", "a", "d"):
            table.add("CDG", "rtt", name, now_s=NOW_S, ms=1)
        table.upper_ms("CDG", "rtt", "z", now_s=NOW_S, declared_ms=1)

        assert len(table) == 3
        assert [table.summary("CDG", "rtt", name, now_s=NOW_S).count for name in "abcd"] == [2, 0, 1, 1]

    def test_isolates_share_without_counting_twice(self) -> None:
        """Each writes what it knows and reads what is there, over and over."""
        first, second = LatencyTable(), LatencyTable()
        first.add("CDG", "ttft", "m", now_s=NOW_S, ms=100)
        second.add("CDG", "ttft", "m", now_s=NOW_S + 1, ms=300)
        for _ in range(3):
            second.merge("CDG", first.dump("CDG", NOW_S + 2), NOW_S + 2)
            first.merge("CDG", second.dump("CDG", NOW_S + 2), NOW_S + 2)

        for table in (first, second):
            summary = table.summary("CDG", "ttft", "m", now_s=NOW_S + 2)
            assert (summary.count, summary.ewma_ms) == (2, 200)

    def test_only_one_place_is_written(self) -> None:
        table = LatencyTable()
        table.add("CDG", "ttft", "m", now_s=NOW_S, ms=100)
        table.add("SIN", "ttft", "m", now_s=NOW_S, ms=300)
        table.add("CDG", "rtt", "old", now_s=NOW_S - WINDOW_S, ms=1)

        assert json.loads(table.dump("CDG", NOW_S)) == {"ttft": {"m": [NOW_S, 100.0]}}

    def test_samples_from_the_future_are_ignored(self) -> None:
        table = LatencyTable()
        table.merge("CDG", json.dumps({"ttft": {"m": [NOW_S + 3600, 5.0, NOW_S + 1, 7.0]}}), NOW_S)

        assert table.summary("CDG", "ttft", "m", now_s=NOW_S).ewma_ms == 7

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            '{"ttft": []}',
            '{"ttft": {"m": [1]}}',
            '{"ttft": {"m": ["1", 2]}}',
            '{"ttft": {"m": [true, 2]}}',
            '{"rtt": {"m": [NaN, 2]}}',
            '{"rtt": {"m": {"a": 1}}}',
        ],
    )
    def test_broken_text_changes_nothing(self, text: str) -> None:
        table = LatencyTable()

        with pytest.raises(ValueError, match=r"shared latencies|Expecting value"):
            table.merge("CDG", text, NOW_S)

        assert len(table) == 0
