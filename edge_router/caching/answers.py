"""Stored answers by key: in the isolate's memory, then in a store. What was purged is never returned."""

import asyncio
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..memory_cache import MemoryCache
from ..ports import Clock, Log, Store
from ..report import CacheTier
from ..timers import Deadline
from .entries import Entry, decode_entry, encode_entry
from .purges import EVERYTHING, Purges, owner_of

if TYPE_CHECKING:
    from .sealing import Sealer

MIN_STORE_TTL_S = 60  # the platform's minimum; an entry knows by itself when it is too old


class AnswerCache:
    """Scope: isolate. memory_bytes: what the isolate may keep by itself; 0 asks the store each time.

    tenant: who asks. What was purged is never returned, and nothing is while nobody can tell.
    """

    def __init__(
        self,
        store: Store,
        *,
        memory_bytes: int,
        timeout_s: float,
        clock: Clock,
        log: Log,
        sealer: "Sealer | None" = None,
    ) -> None:
        """timeout_s: of a look-up's two reads one after the other; the store itself bounds each.

        sealer: None when the store may read what it keeps. The isolate's own memory holds plain text either way.
        """
        self._store = store
        self._sealer = sealer
        self._memory: MemoryCache[Entry] = MemoryCache(max_bytes=memory_bytes)
        self._purges = Purges(store, clock)
        self._timeout_s = timeout_s
        self._clock = clock
        self._log = log

    async def look_up(self, tenant: str, key: str, tags: Sequence[str] = ()) -> tuple[Entry, CacheTier] | None:
        """The stored answer, fresh or not, and where it was found. Raises StoreError.

        tags: that it probably has, to lose no time.
        """
        now_s = self._clock.now_s()
        kept = self._memory.get(key, now_s)
        if kept is not None and self._purges.covers(tenant, kept.tags, kept.stored_at_s, now_s) is False:
            return kept, "memory"
        entry = await self.read(tenant, key, tags)
        return None if entry is None else (entry, "kv" if kept is None else "memory")

    async def read(self, tenant: str, key: str, tags: Sequence[str] = ()) -> Entry | None:
        """As `look_up`, wherever it is found. Raises StoreError."""
        started_ms = self._clock.elapsed_ms()
        entry = kept = self._memory.get(key, self._clock.now_s())
        if entry is None:
            entry = await self._from_store(tenant, key, tags)
        if entry is None:
            return None
        if await self._is_purged(tenant, entry, started_ms):
            self._memory.drop(key)
            return None
        if kept is None:
            self._memory.put(key, entry, entry.size_bytes, self._clock.now_s())
        return entry

    async def put(self, tenant: str, key: str, entry: Entry, request_id: str) -> bool:
        """Whether the store has it; the isolate has it anyway."""
        self._memory.put(key, entry, entry.size_bytes, self._clock.now_s())
        ttl_s = max(MIN_STORE_TTL_S, ceil(entry.kept_s))
        try:
            text = encode_entry(entry)
            if self._sealer is not None:
                text = await self._sealer.seal(text, tenant=tenant, name=key)
            await self._store.put(_name(tenant, key), text, ttl_s=ttl_s)
        except StoreError as exc:
            self._log.event("store_failed", request_id=request_id, reason=exc.message)
            return False
        return True

    async def remove(self, tenant: str, key: str) -> None:
        """Of the tenant's own entries; harmless when there is none. Raises StoreError. Other isolates may go on seeing
        it for a while (`purges.VISIBLE_AFTER_S`).
        """
        self._memory.drop(key)
        await self._store.delete(_name(tenant, key))

    async def purge(self, tenant: str, tag: str = "") -> None:
        """All of the tenant's entries, or those with the tag. Raises StoreError."""
        await self._purges.purge((tenant, tag))

    async def purge_everything(self) -> None:
        """Every tenant's entries. Raises StoreError."""
        await self._purges.purge(EVERYTHING)

    async def _is_purged(self, tenant: str, entry: Entry, started_ms: float) -> bool:
        now_s = self._clock.now_s()
        if not self._purges.is_known(tenant, entry.tags, now_s):
            left_s = self._timeout_s - (self._clock.elapsed_ms() - started_ms) / 1000
            try:
                async with Deadline(self._clock, max(0.0, left_s)):
                    await self._purges.load(tenant, entry.tags)
            except TimeoutError as exc:
                raise StoreError("It took too long to tell whether an entry was purged.") from exc
        return self._purges.covers(tenant, entry.tags, entry.stored_at_s, now_s) is not False

    async def _from_store(self, tenant: str, key: str, tags: Sequence[str]) -> Entry | None:
        if self._purges.is_known(tenant, tags, self._clock.now_s()):
            text = await self._store.get(_name(tenant, key))
        else:
            text, _ = await asyncio.gather(self._store.get(_name(tenant, key)), self._purges.load(tenant, tags))
        if text and self._sealer is not None:
            text = await self._sealer.open(text, tenant=tenant, name=key)
            if text is None:  # written before there were keys, under one that is gone, or altered
                self._log.event("entry_not_opened", key=key[:12])
        entry = decode_entry(text) if text else None
        if text and entry is None:  # of another version, or damaged
            self._log.event("entry_not_read", key=key[:12])
        return entry


def _name(tenant: str, key: str) -> str:
    """Of an entry in the store. With the tenant in it, nobody can name another tenant's entry."""
    return f"{owner_of(tenant)}:{key}"
