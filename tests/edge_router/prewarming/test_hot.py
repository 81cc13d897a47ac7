"""Which questions are hot: a bounded table that is nearly right."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edge_router.prewarming.hot import FORGOTTEN_AFTER_S, Asked, HotTable
from tests.fakes import MemorySql


def asked(key: str, hits: float = 1, stale_at_s: float = 100.0) -> Asked:
    return Asked("t", key, "k001", "{}", hits, stale_at_s)


def test_the_most_asked_that_are_due_come_first() -> None:
    """Hits add up; what is fresh for longer stays for a later run, and what was taken is gone."""
    table = HotTable(MemorySql())
    table.note([asked("a", 2), asked("b", 5), asked("fresh", 9, stale_at_s=1_000)], now_s=0)
    table.note([asked("a", 4)], now_s=1)

    assert [(each.key, each.hits) for each in table.take(400, 10)] == [("a", 6), ("b", 5)]
    assert table.take(400, 10) == []
    assert [each.key for each in table.take(1_000, 10)] == ["fresh"]


def test_forgotten_a_day_after_they_became_stale() -> None:
    table = HotTable(MemorySql())
    table.note([asked("old", stale_at_s=10)], now_s=0)
    table.note([], now_s=11 + FORGOTTEN_AFTER_S)

    assert table.take(1e12, 10) == []


@given(st.lists(st.sampled_from("aaaabbbcdefghij"), max_size=120))
def test_what_is_really_hot_is_never_missing(keys: list[str]) -> None:
    """Of m hits in k places, whatever was asked for more than m/k times is in the table, and never counted short."""
    places = 4
    table = HotTable(MemorySql(), places=places)
    for key in keys:
        table.note([asked(key)], now_s=0)

    counted = {each.key: each.hits for each in table.take(1e12, 100)}

    assert len(counted) <= places
    for key, count in Counter(keys).items():
        if count > len(keys) / places:
            assert counted[key] >= count


def test_full_table() -> None:
    """A new question takes the place of the one that was asked least, and its count: nothing hot is counted short."""
    table = HotTable(MemorySql(), places=2)
    table.note([asked("a", 5), asked("b", 2)], now_s=0)
    table.note([asked("new")], now_s=1)

    assert [(each.key, each.hits) for each in table.take(400, 10)] == [("a", 5), ("new", 3)]
