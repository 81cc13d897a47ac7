"""The isolate's own memory before the store."""

import pytest

from edge_router.memory_cache import MAX_AGE_S, MemoryCache


def test_value_is_kept_until_its_age_is_over() -> None:
    """A value is returned up to the age limit, exclusive, and then gone from the count as well."""
    cache: MemoryCache[str] = MemoryCache(max_bytes=10)
    cache.put("k", "value", 5, now_s=100.0)

    assert cache.get("k", 100.0 + MAX_AGE_S - 0.1) == "value"
    assert cache.get("k", 100.0 + MAX_AGE_S) is None
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_clock_that_went_back_drops_the_value() -> None:
    """An age below zero says nothing, so the value is not trusted."""
    cache: MemoryCache[str] = MemoryCache(max_bytes=10)
    cache.put("k", "value", 5, now_s=100.0)

    assert cache.get("k", 99.0) is None


def test_least_recently_used_makes_room() -> None:
    """The bound is bytes, not entries; what was read last stays."""
    cache: MemoryCache[str] = MemoryCache(max_bytes=10)
    cache.put("old", "a", 4, now_s=0)
    cache.put("used", "b", 4, now_s=0)
    cache.get("old", 1)

    cache.put("new", "c", 4, now_s=1)

    assert [cache.get(key, 1) for key in ("old", "used", "new")] == ["a", None, "c"]
    assert cache.size_bytes == 8


@pytest.mark.parametrize(("max_bytes", "size_bytes"), [(0, 1), (10, 11)], ids=["off", "larger than all room"])
def test_value_that_does_not_fit(max_bytes: int, size_bytes: int) -> None:
    """It is not kept, and an older value of the same key is gone."""
    cache: MemoryCache[str] = MemoryCache(max_bytes=max_bytes)
    cache.put("k", "value", size_bytes, now_s=0)

    assert cache.get("k", 0) is None
    assert cache.size_bytes == 0


def test_replaced_value_is_counted_once() -> None:
    """Putting a key again frees what it held."""
    cache: MemoryCache[str] = MemoryCache(max_bytes=10)
    cache.put("k", "a", 4, now_s=0)
    cache.put("k", "b", 6, now_s=0)

    assert (cache.get("k", 0), cache.size_bytes) == ("b", 6)
