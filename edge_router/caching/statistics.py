"""What the cache did for a tenant: which counts there are, and how they are told."""

from math import ceil
from typing import Any, get_args

from ..counters import Amount
from ..errors import GatewayError, StoreError
from ..ports import Background, CounterStore
from ..report import CacheTier, Report, SemanticOutcome
from ..tally import LOST, Tally
from .entries import Entry

_LIVE = "live."  # sums that disappear when the entries they count expire
_MEANT: tuple[SemanticOutcome, ...] = get_args(SemanticOutcome)
_TIERS: tuple[CacheTier, ...] = ("memory", "kv", "semantic")
_HOUR_S = 3600


class CacheStatistics:
    """Scope: isolate. Every method but `read` and `forget_entries` only notes; writing happens after the response."""

    def __init__(self, tally: Tally, store: CounterStore) -> None:
        self._tally = tally
        self._store = store

    def served(self, tenant: str, background: Background, entry: Entry, report: Report) -> None:
        """A stored answer, fresh or stale."""
        is_stale = report.cache_ttl_s is not None and report.cache_ttl_s <= 0
        name = "stale" if is_stale else f"hits.{report.cache_tier}"
        avoided = {"tokens_avoided": entry.tokens, "cost_avoided_usd": entry.cost_usd}
        self._tally.add(tenant, background, {name: 1, **avoided})

    def forwarded(self, tenant: str, background: Background, *, looked_up: bool) -> None:
        """A request that no stored answer served: a miss, or one for which none was looked up."""
        self._tally.add(tenant, background, {"misses" if looked_up else "bypass": 1})

    def looked_up_by_meaning(self, tenant: str, background: Background, outcome: SemanticOutcome) -> None:
        """Of a question that the exact cache did not have."""
        self._tally.add(tenant, background, {f"semantic.{outcome}": 1})

    async def false_hit(self, tenant: str) -> None:
        """A hit of the semantic cache that was rated bad. Never raises: the rating itself is kept elsewhere."""
        try:
            await self._store.add(tenant, [Amount("semantic.false_hit", 1, None)])
        except StoreError:
            return

    def collapsed(self, tenant: str, background: Background, *, tokens: int, cost_usd: float) -> None:
        """A miss that shared another caller's answer."""
        amounts = {"collapsed": 1, "tokens_avoided": tokens, "cost_avoided_usd": cost_usd}
        self._tally.add(tenant, background, amounts)

    def refreshed(self, tenant: str, background: Background, *, cost_usd: float) -> None:
        """A stale entry, after it was served. What that cost is in no caller's report."""
        self._tally.add(tenant, background, {"refreshes": 1, "refresh_cost_usd": cost_usd})

    def stored(self, tenant: str, background: Background, entry: Entry, *, replaced: Entry | None) -> None:
        self._tally.add(tenant, background, {"stored": 1, "stored_bytes": len(entry.body)})
        self._live(tenant, background, entry, 1)
        if replaced is not None:
            self._live(tenant, background, replaced, -1)

    async def forget_entries(self, tenant: str) -> None:
        """After all were purged. Never raises: it is an estimate anyway."""
        await self._tally.flush()
        try:
            await self._store.forget(tenant, _LIVE)
        except StoreError:
            return

    async def read(self, tenant: str) -> dict[str, Any]:
        """Raises GatewayError (503)."""
        await self._tally.flush()
        try:
            sums = await self._store.read(tenant)
        except StoreError as exc:
            message = "The counts can't be read right now; try again."
            raise GatewayError(message, code="stats_unavailable", status=503, retry_after_s=1) from exc
        return _told(sums)

    def _live(self, tenant: str, background: Background, entry: Entry, sign: int) -> None:
        """In sums by the hour in which entries expire, so that there are few of them."""
        hour = ceil((entry.stored_at_s + entry.kept_s) / _HOUR_S)
        amounts = {f"{_LIVE}entries.{hour}": sign, f"{_LIVE}bytes.{hour}": sign * len(entry.body)}
        self._tally.add(tenant, background, amounts, until_s=hour * _HOUR_S)


def _told(sums: dict[str, float]) -> dict[str, Any]:
    def count(name: str) -> int:
        return round(sums.get(name, 0))

    def live(what: str) -> int:
        return max(0, round(sum(value for name, value in sums.items() if name.startswith(f"{_LIVE}{what}."))))

    hits = {tier: count(f"hits.{tier}") for tier in _TIERS}
    answered = sum(hits.values()) + count("stale")
    looked_up = answered + count("misses")
    return {
        "object": "cache.stats",
        "entries": live("entries"),
        "bytes": live("bytes"),
        "hits": {**hits, "total": sum(hits.values())},
        **{name: count(name) for name in ("stale", "misses", "bypass", "collapsed", "stored", "refreshes")},
        "semantic": {name: count(f"semantic.{name}") for name in (*_MEANT, "false_hit")},
        "hit_rate": round(answered / looked_up, 4) if looked_up else None,
        "tokens_avoided": count("tokens_avoided"),
        "cost_avoided_usd": round(sums.get("cost_avoided_usd", 0.0), 9),
        "refresh_cost_usd": round(sums.get("refresh_cost_usd", 0.0), 9),
        "lost_counts": count(LOST),
    }
