"""Stored answers in memory and in the store, what was purged, and what happens when the store fails."""

import asyncio
from dataclasses import replace

import pytest

from edge_router.caching.answers import AnswerCache
from edge_router.caching.entries import Entry
from edge_router.caching.purges import MAX_KNOWN, Purges
from edge_router.errors import StoreError
from edge_router.ports import Store
from tests.fakes import START_S, CollectingLog, FailingStore, FakeClock, MemoryStore

ENTRY = Entry(body='{"choices":[]}', model="m", stored_at_s=START_S, ttl_s=3600.0)
TAGGED = replace(ENTRY, tags=("docs", "v1"))


class Isolate:
    """One isolate's cache over a store that several share."""

    def __init__(self, store: Store, clock: FakeClock, *, memory_bytes: int = 10_000, timeout_s: float = 5) -> None:
        self.log = CollectingLog()
        self.cache = AnswerCache(store, memory_bytes=memory_bytes, timeout_s=timeout_s, clock=clock, log=self.log)

    async def found(self, key: str = "k", tenant: str = "acme") -> str | None:
        """Where the entry was found; `failed` when nobody can tell."""
        try:
            found = await self.cache.look_up(tenant, key)
        except StoreError:
            return "failed"
        return None if found is None else found[1]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_answer_is_found_in_memory_before_the_store(clock: FakeClock, store: MemoryStore) -> None:
    """What was put, or once read, is answered by the isolate, for a minute, without another read."""
    here, there = Isolate(store, clock), Isolate(store, clock)
    assert await here.cache.put("acme", "k", ENTRY, "req")

    assert await here.cache.look_up("acme", "k") == (ENTRY, "memory")
    assert [await there.found(), await there.found()] == ["kv", "memory"]
    store.texts.clear()
    clock.advance(59)
    assert await there.found() == "memory"
    clock.advance(1)
    assert await there.found() is None


async def test_hit_does_not_prolong_the_stay_in_memory(clock: FakeClock, store: MemoryStore) -> None:
    """An entry that is asked for all the time is read again after a minute as well."""
    isolate = Isolate(store, clock)
    await isolate.cache.put("acme", "k", ENTRY, "req")
    for _ in range(3):
        clock.advance(20)
        found = await isolate.found()

    assert found == "kv"


async def test_answer_that_is_damaged_in_the_store(clock: FakeClock, store: MemoryStore) -> None:
    """Is not found, and the log says so."""
    isolate = Isolate(store, clock, memory_bytes=0)
    await isolate.cache.put("acme", "k", ENTRY, "req")
    store.texts = {name: text[:-2] + "!}" for name, text in store.texts.items()}

    assert await isolate.found() is None
    assert isolate.log.names() == ["entry_not_read"]


async def test_store_that_fails(clock: FakeClock) -> None:
    """A read tells so; a write is logged, and nobody waits for it."""
    isolate = Isolate(FailingStore(), clock, memory_bytes=0)

    assert not await isolate.cache.put("acme", "k", ENTRY, "req")
    assert await isolate.found() == "failed"
    assert isolate.log.names() == ["store_failed"]


async def test_memory_serves_while_the_store_is_down(clock: FakeClock) -> None:
    """As long as the isolate knows what was purged; then nobody can tell, and nothing is served."""

    class Breaking(MemoryStore):
        is_down = False

        async def get(self, key: str) -> str | None:
            if self.is_down:
                raise StoreError("down")
            return await super().get(key)

    store = Breaking()
    isolate = Isolate(store, clock)
    await isolate.cache.put("acme", "k", ENTRY, "req")
    await isolate.found()
    store.is_down = True
    clock.advance(30)
    await isolate.cache.put("acme", "late", ENTRY, "req")

    assert await isolate.found("late") == "memory"
    clock.advance(30)
    assert await isolate.found("late") == "failed"


# Purging


@pytest.mark.parametrize(
    ("tag", "gone"),
    [
        pytest.param("", {"plain", "tagged"}, id="all of the tenant's"),
        pytest.param("docs", {"tagged"}, id="by tag"),
        pytest.param("other", set(), id="by another tag"),
    ],
)
async def test_purge(clock: FakeClock, store: MemoryStore, tag: str, gone: set[str]) -> None:
    """At once in the isolate that purges; elsewhere within two minutes; what is stored after it stays."""
    here, there = Isolate(store, clock), Isolate(store, clock)
    for key, entry in (("plain", ENTRY), ("tagged", TAGGED)):
        await here.cache.put("acme", key, entry, "req")
        assert await there.found(key) == "kv"
    clock.advance(5)
    await here.cache.purge("acme", tag)

    assert {key for key in ("plain", "tagged") if await here.found(key) is None} == gone
    clock.advance(60)
    assert {key for key in ("plain", "tagged") if await there.found(key) is None} == gone
    await here.cache.put("acme", "tagged", replace(TAGGED, stored_at_s=clock.now_s()), "req")
    assert await here.found("tagged") == "memory"


async def test_answer_that_was_asked_for_before_the_purge(clock: FakeClock, store: MemoryStore) -> None:
    """Counts as purged, although it was stored later: it may rest on what the purge was about."""
    isolate = Isolate(store, clock)
    clock.advance(10)
    await isolate.cache.purge("acme")
    clock.advance(1)
    await isolate.cache.put("acme", "k", ENTRY, "req")

    assert await isolate.found() is None


async def test_purge_of_one_key(clock: FakeClock, store: MemoryStore) -> None:
    """The store's copy is deleted; others stay."""
    isolate = Isolate(store, clock)
    for key in ("k", "other"):
        await isolate.cache.put("acme", key, ENTRY, "req")
    await isolate.cache.remove("acme", "k")

    assert [await isolate.found("k"), await isolate.found("other")] == [None, "memory"]
    assert not any(name.endswith(":k") for name in store.texts)


async def test_purges_of_other_tenants(clock: FakeClock, store: MemoryStore) -> None:
    """Reach none but their own entries, whatever they name."""
    isolate = Isolate(store, clock)
    await isolate.cache.put("acme", "k", TAGGED, "req")
    await isolate.cache.purge("evil")
    await isolate.cache.purge("evil", "docs")
    await isolate.cache.remove("evil", "k")
    fresh = Isolate(store, clock)

    assert await fresh.found() == "kv"
    await isolate.cache.purge_everything()
    assert await isolate.found() is None


async def test_purge_is_not_undone_by_an_old_copy(clock: FakeClock, store: MemoryStore) -> None:
    """KV may still show the time of the purge before: the later one counts."""
    purges = Purges(store, clock)
    clock.advance(10)
    await purges.purge(("acme", ""))
    store.texts.clear()
    clock.advance(61)
    await purges.load("acme")

    assert purges.covers("acme", (), START_S, clock.now_s()) is True


@pytest.mark.parametrize("text", ["garbage", "", "nan", "1e999"])
async def test_purge_that_can_not_be_read(clock: FakeClock, store: MemoryStore, text: str) -> None:
    """Nothing is served, because nobody can tell what was purged."""
    isolate = Isolate(store, clock, memory_bytes=0)
    await isolate.cache.put("acme", "k", ENTRY, "req")
    store.texts["purged"] = text

    assert await isolate.found() == "failed"


async def test_purge_that_can_not_be_written(clock: FakeClock) -> None:
    """Is an error for who purges."""
    with pytest.raises(StoreError):
        await AnswerCache(FailingStore(), memory_bytes=0, timeout_s=5, clock=clock, log=CollectingLog()).purge("acme")


async def test_tags_that_take_too_long(clock: FakeClock) -> None:
    """Reading the purges of an entry's tags comes after reading the entry: both together have one deadline."""

    class SlowTags(MemoryStore):
        async def get(self, key: str) -> str | None:
            if key.endswith(":docs"):
                await asyncio.sleep(10)
            return await super().get(key)

    isolate = Isolate(SlowTags(), clock, memory_bytes=0, timeout_s=0.05)
    await isolate.cache.put("acme", "k", TAGGED, "req")

    assert await isolate.found() == "failed"


async def test_memory_of_purges_is_bounded(clock: FakeClock, store: MemoryStore) -> None:
    """However many tags are asked for; the oldest are read again when needed."""
    purges = Purges(store, clock)
    for number in range(MAX_KNOWN // 8 + 1):
        await purges.load("acme", [f"{number}-{place}" for place in range(8)])

    assert not purges.is_known("acme", ["0-0"], clock.now_s())
    await purges.load("acme", ["0-0"])
    assert purges.is_known("acme", ["0-0"], clock.now_s())
