"""What was purged: one time for all, per tenant and per tag. An entry that was asked for before it counts as gone.

Each time stands under a name of its own in the store, so that two purges can't overwrite each other, and is only ever
replaced by a later one. Nothing is listed and nothing is counted: Workers KV can't do that reliably.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from math import isfinite

from ..errors import StoreError
from ..memory_cache import MAX_AGE_S
from ..ports import Clock, Store
from .policy import MAX_TTL_S

MAX_KNOWN = 10_000
KEPT_S = 3 * MAX_TTL_S  # longer than any entry: its lifetime and then a window, each at most a year
VISIBLE_AFTER_S = 120  # elsewhere: a minute until KV shows it, a minute until an isolate looks again

Scope = tuple[str, str]  # tenant and tag; no tag: all of the tenant's; neither: everything
EVERYTHING: Scope = ("", "")


class Purges:
    """Scope: isolate. A time once read is believed for a minute, and never replaced by an earlier one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[Scope, tuple[float, float]] = {}  # scope -> when purged, when read; both Unix time

    def covers(self, tenant: str, tags: Sequence[str], asked_at_s: float, now_s: float) -> bool | None:
        """Whether an entry was purged; None when that has to be read first."""
        if not tags:  # the common case, on the way of every hit from memory
            everything, own = self._known.get(EVERYTHING), self._known.get((tenant, ""))
            if everything is None or own is None or now_s - min(everything[1], own[1]) >= MAX_AGE_S:
                return None
            return asked_at_s <= everything[0] or asked_at_s <= own[0]
        if not self.is_known(tenant, tags, now_s):
            return None
        return any(asked_at_s <= self._known[scope][0] for scope in _scopes(tenant, tags))

    def is_known(self, tenant: str, tags: Sequence[str], now_s: float) -> bool:
        return not self._unknown(tenant, tags, now_s)

    async def load(self, tenant: str, tags: Sequence[str] = ()) -> None:
        """Reads what is not known. Raises StoreError."""
        await asyncio.gather(*map(self._load, self._unknown(tenant, tags, self._clock.now_s())))

    async def purge(self, scope: Scope) -> None:
        """Takes along what was asked for until now. Raises StoreError; then nothing is purged elsewhere."""
        now_s = self._clock.now_s()
        self._note(scope, now_s)
        await self._store.put(_name(scope), repr(now_s), ttl_s=KEPT_S)

    async def _load(self, scope: Scope) -> None:
        text = await self._store.get(_name(scope))
        self._note(scope, 0.0 if text is None else _time(text))

    def _unknown(self, tenant: str, tags: Sequence[str], now_s: float) -> list[Scope]:
        oldest_s = now_s - MAX_AGE_S
        return [scope for scope in _scopes(tenant, tags) if self._known.get(scope, (0.0, 0.0))[1] <= oldest_s]

    def _note(self, scope: Scope, purged_at_s: float) -> None:
        before_s = self._known.pop(scope, (0.0, 0.0))[0]
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[scope] = (max(before_s, purged_at_s), self._clock.now_s())


def owner_of(tenant: str) -> str:
    """What stands for a tenant in the store's names, however long its id is."""
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _scopes(tenant: str, tags: Sequence[str]) -> list[Scope]:
    return [EVERYTHING, (tenant, ""), *((tenant, tag) for tag in tags)]


def _name(scope: Scope) -> str:
    tenant, tag = scope
    if not tenant:
        return "purged"
    return f"purged:{owner_of(tenant)}:{tag}" if tag else f"purged:{owner_of(tenant)}"


def _time(text: str) -> float:
    try:
        purged_at_s = float(text)
    except ValueError:
        purged_at_s = float("nan")
    if not isfinite(purged_at_s):
        raise StoreError("The time of a purge can't be read.")
    return purged_at_s
