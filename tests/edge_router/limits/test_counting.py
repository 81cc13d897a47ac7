"""What is counted: requests in a sliding minute, leases of those that run, and what survives a restart."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.limits.book import LimitBook, Verdict
from edge_router.limits.journal import CHUNK_S, CHUNKS, Journal
from edge_router.limits.leases import LEASE_S, Leases
from edge_router.limits.policy import Limits
from edge_router.limits.window import WINDOW_S, Window
from tests.fakes import START_S, MemorySql

GAPS = st.lists(st.sampled_from([0.0, 0.001, 0.5, 3.0, 9.0, 20.0, 59.9, 60.0, 200.0, -2.0]), max_size=120)


def most_in_a_window(moments: list[float]) -> int:
    """The most that lie in any WINDOW_S."""
    return max((sum(start <= moment < start + WINDOW_S for moment in moments) for start in moments), default=0)


@given(gaps=GAPS, limit=st.integers(1, 20))
def test_never_more_than_the_limit_in_any_window(gaps: list[float], limit: int) -> None:
    """However requests come, also when the clock steps back; and what is refused had no room."""
    window, now_s = Window(), START_S
    admitted: list[float] = []
    for gap_s in gaps:
        now_s += gap_s
        before = window.used(now_s)
        if window.admit(limit, now_s):
            admitted.append(max(now_s, *admitted) if admitted else now_s)
        else:
            assert before >= limit

    assert most_in_a_window(admitted) <= limit


@given(gaps=GAPS, limit=st.integers(1, 20))
def test_time_to_wait_is_exact(gaps: list[float], limit: int) -> None:
    """Who waits so long is let in; who comes a millisecond before is not."""
    window, now_s = Window(), START_S
    for gap_s in gaps:
        now_s += abs(gap_s)
        if not window.admit(limit, now_s):
            wait_s = window.room_in_s(limit, now_s)
            assert 0 < wait_s <= WINDOW_S
            assert window.used(now_s + wait_s - 0.001) == limit
            assert window.used(now_s + wait_s + 0.000001) < limit
            return


@pytest.mark.parametrize("limit", [1, 7, 50])
@given(gaps=GAPS, restarts=st.sets(st.integers(0, 119)))
def test_restart_of_the_object(limit: int, gaps: list[float], restarts: set[int]) -> None:
    """Whenever it loses its memory, never more than the limit is let through in any window."""
    sql, now_s = MemorySql(), START_S
    admitted: list[float] = []
    book = LimitBook(Journal(sql), now_s=now_s)
    for place, gap_s in enumerate(gaps):
        now_s += abs(gap_s)
        if place in restarts:
            book = LimitBook(Journal(sql), now_s=now_s)
        if book.enter(Limits(limit), "", now_s).refused_by is None:
            admitted.append(now_s)

    assert most_in_a_window(admitted) <= limit


def test_what_a_restart_costs() -> None:
    """A tenth of the limit at most, once; after a minute nothing is left of it."""
    sql, limits = MemorySql(), Limits(100)
    LimitBook(Journal(sql), now_s=START_S).enter(limits, "", START_S)

    again = LimitBook(Journal(sql), now_s=START_S + 1)
    assert again.enter(limits, "", START_S + 1).remaining == 100 - 100 // CHUNKS - 1
    later_s = START_S + 1 + WINDOW_S
    assert LimitBook(Journal(sql), now_s=later_s + CHUNK_S).enter(limits, "", later_s + CHUNK_S).remaining == 99


@pytest.mark.parametrize(
    ("limit", "requests", "rows"),
    [
        pytest.param(1000, 1000, 10, id="a row for each tenth"),
        pytest.param(10, 10, 10, id="a row for each request of a small limit"),
        pytest.param(1000, 1, 1, id="one"),
    ],
)
def test_rows_that_are_written(limit: int, requests: int, rows: int) -> None:
    """Not one for each request, and those of past windows are removed."""
    sql = MemorySql()
    book = LimitBook(Journal(sql), now_s=START_S)
    for _ in range(requests):
        book.enter(Limits(limit), "", START_S)
    assert len(sql.exec("SELECT * FROM admitted")) == rows

    book.enter(Limits(limit), "", START_S + 1000)
    assert len(sql.exec("SELECT * FROM admitted")) == 1


def test_lease() -> None:
    """Takes a place until it is given back, or nobody renews it."""
    leases = Leases()
    assert [leases.take(name, 2, 0.0) for name in "abc"] == [True, True, False]
    leases.give_back("a")
    assert leases.take("c", 2, 1.0)

    leases.renew("c", LEASE_S - 1)
    assert leases.in_use(LEASE_S) == 1
    assert leases.in_use(2 * LEASE_S) == 0
    leases.give_back("c")


def test_lease_of_a_counter_that_was_restarted() -> None:
    """Counts again as soon as it is renewed."""
    leases = Leases()
    leases.renew("a", 0.0)

    assert not leases.take("b", 1, 1.0)


@given(st.lists(st.tuples(st.sampled_from(["take", "end", "lose"]), st.sampled_from([0.0, 5.0, 30.0])), max_size=80))
def test_never_more_than_the_limit_at_a_time(steps: list[tuple[str, float]]) -> None:
    """Of requests that are renewed; those of a lost Worker have their places for LEASE_S at most."""
    leases, now_s, names = Leases(), 0.0, iter(range(100))
    running: list[str] = []
    lost: list[float] = []
    for step, gap_s in steps:
        for _ in range(int(gap_s // 5)):
            now_s += 5
            for name in running:
                leases.renew(name, now_s)
        lost = [at_s for at_s in lost if at_s + LEASE_S > now_s]
        if step == "take":
            name = str(next(names))
            is_taken = leases.take(name, 3, now_s)
            assert is_taken == (len(running) + len(lost) < 3)
            running += [name] if is_taken else []
        elif running and step == "end":
            leases.give_back(running.pop())
        elif running:
            running.pop()
            lost.append(now_s)


def test_verdicts() -> None:
    """What remains and when there is more; a refusal takes neither a place nor a count."""
    book, limits = LimitBook(), Limits(requests_per_minute=2, concurrency=2)

    first, second = book.enter(limits, "a", 0.0), book.enter(limits, "b", 10.0)
    assert first == Verdict(None, 0.0, 1, 60.0, 60.0)
    assert second == Verdict(None, 0.0, 0, 50.0, 60.0)
    assert book.enter(limits, "c", 20.0).refused_by == "concurrency"
    book.leave("a")
    assert book.enter(limits, "c", 20.0) == Verdict("requests", 40.0, 0, 40.0, 50.0)
    assert book.enter(Limits(concurrency=2), "d", 20.0) == Verdict()
    assert not book.is_idle(20.0)
    assert book.is_idle(10.0 + WINDOW_S + LEASE_S)


def test_moments_are_in_order() -> None:
    """What a journal gives back is what a window takes."""
    sql = MemorySql()
    book = LimitBook(Journal(sql), now_s=START_S)
    for second in range(0, 60, 3):
        book.enter(Limits(1000), "", START_S + second)

    moments = Journal(sql).moments(START_S + 60)
    assert all(before <= after for before, after in pairwise(moments))
    assert max(moments) <= START_S + 60
