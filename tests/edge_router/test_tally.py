"""Counts that many requests add to, written together."""

import pytest

from edge_router.counters import Amount, CounterTable
from edge_router.flushing import DIED_AFTER_S
from edge_router.tally import LOST, MAX_NAMES, Tally
from tests.fakes import START_S, CollectingBackground, CollectingLog, FakeClock, FakeCounters, MemorySql


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_many_counts_are_one_write(clock: FakeClock) -> None:
    """The first one sets the time of the write; tenants stay apart."""
    counters, background = FakeCounters(clock), CollectingBackground()
    tally = Tally(counters, clock, CollectingLog(), flush_after_s=0)
    for _ in range(5):
        tally.add("a", background, {"hits": 1, "usd": 0.25})
    tally.add("b", background, {"hits": 1})

    assert len(background) == 1
    await background.finish()
    assert await counters.read("a") == {"hits": 5, "usd": 1.25}
    assert await counters.read("b") == {"hits": 1}


async def test_write_that_died_with_its_request(clock: FakeClock) -> None:
    """Another request's background takes over after a while."""
    counters, background = FakeCounters(clock), CollectingBackground()
    tally = Tally(counters, clock, CollectingLog(), flush_after_s=0)
    tally.add("a", background, {"hits": 1})
    clock.advance(DIED_AFTER_S + 1)
    tally.add("a", background, {"hits": 1})

    assert len(background) == 2
    await background.finish()
    assert await counters.read("a") == {"hits": 2}


async def test_lost_counts_are_counted(clock: FakeClock) -> None:
    """A write that failed is not repeated, because it may have arrived; how much it held is told by the next one."""
    counters, background, log = FakeCounters(clock, is_down=True), CollectingBackground(), CollectingLog()
    tally = Tally(counters, clock, log, flush_after_s=0)
    tally.add("a", background, {"hits": 1, "usd": 0.5})
    await tally.flush()
    tally.add("a", background, {"hits": 1})
    await tally.flush()
    counters.is_down = False
    tally.add("a", background, {"hits": 1})
    await tally.flush()

    assert await counters.read("a") == {"hits": 1, LOST: 3}
    assert log.names() == ["counts_lost", "counts_lost"]


async def test_too_many_names(clock: FakeClock) -> None:
    """Are counted as lost: the isolate's memory is bounded, whatever the store does."""
    counters, background = FakeCounters(clock), CollectingBackground()
    tally = Tally(counters, clock, CollectingLog(), flush_after_s=0)
    for number in range(MAX_NAMES + 5):
        tally.add("a", background, {str(number): 1})
    await tally.flush()
    sums = await counters.read("a")

    assert (len(sums), sums[LOST]) == (MAX_NAMES + 1, 5)


def test_sums_that_end() -> None:
    """They disappear at their time; a prefix takes along exactly what begins with it."""
    table = CounterTable(MemorySql())
    table.add([Amount("live.a", 2, START_S + 10), Amount("live.b", 1), Amount("live_c", 1), Amount("d", 1)], START_S)
    table.add([Amount("live.a", 3, START_S + 10)], START_S)

    assert table.read(START_S + 9) == {"live.a": 5, "live.b": 1, "live_c": 1, "d": 1}
    assert table.read(START_S + 10) == {"live.b": 1, "live_c": 1, "d": 1}
    table.forget("live.")
    assert table.read(START_S) == {"live_c": 1, "d": 1}


def test_sums_outlive_their_object() -> None:
    """They stand in one row, whatever their number; sums whose time is over are gone from it."""
    sql = MemorySql()
    CounterTable(sql).add([Amount("hits", 2), Amount("live.1", 1, until_s=START_S + 1)], START_S)

    again = CounterTable(sql)
    again.add([Amount("hits", 1)], START_S + 2)

    assert again.read(START_S + 2) == {"hits": 3}
    [row] = sql.exec("SELECT sums FROM counters")
    assert "live.1" not in row["sums"]
