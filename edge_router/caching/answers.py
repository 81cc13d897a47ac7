"""Stored answers by key: in the isolate's memory, then in a store. A store that fails is a miss, never an error."""

from math import ceil

from ..errors import StoreError
from ..memory_cache import MemoryCache
from ..ports import Clock, Log, Store
from ..report import CacheTier
from .entries import Entry, decode_entry, encode_entry

MIN_STORE_TTL_S = 60  # the platform's minimum; an entry knows by itself when it is too old


class AnswerCache:
    """Scope: isolate. memory_bytes: what the isolate may keep by itself; 0 asks the store each time."""

    def __init__(self, store: Store, *, memory_bytes: int, clock: Clock, log: Log) -> None:
        self._store = store
        self._memory: MemoryCache[Entry] = MemoryCache(max_bytes=memory_bytes)
        self._clock = clock
        self._log = log

    async def look_up(self, key: str, request_id: str) -> tuple[Entry, CacheTier] | None:
        """The stored answer, fresh or not, and where it was found."""
        kept = self._memory.get(key, self._clock.now_s())
        if kept is not None:
            return kept, "memory"
        try:
            entry = await self._from_store(key)
        except StoreError as exc:
            self._log.event("store_failed", request_id=request_id, reason=exc.message)
            return None
        return None if entry is None else (entry, "kv")

    async def read(self, key: str) -> Entry | None:
        """As `look_up`, for who has to tell a store that fails from an entry that is gone. Raises StoreError."""
        return self._memory.get(key, self._clock.now_s()) or await self._from_store(key)

    async def put(self, key: str, entry: Entry, request_id: str) -> bool:
        """Whether the store took it."""
        self._memory.put(key, entry, len(entry.body), self._clock.now_s())
        ttl_s = max(MIN_STORE_TTL_S, ceil(entry.kept_s))
        try:
            await self._store.put(key, encode_entry(entry), ttl_s=ttl_s)
        except StoreError as exc:
            self._log.event("store_failed", request_id=request_id, reason=exc.message)
            return False
        return True

    async def remove(self, key: str) -> None:
        """Raises StoreError. Other isolates may go on seeing the entry for a minute."""
        self._memory.drop(key)
        await self._store.delete(key)

    def forget(self, key: str) -> None:
        """What turned out to be damaged is not looked at again."""
        self._memory.drop(key)

    async def _from_store(self, key: str) -> Entry | None:
        text = await self._store.get(key)
        entry = decode_entry(text) if text else None
        if entry is not None:
            self._memory.put(key, entry, len(entry.body), self._clock.now_s())
        return entry
