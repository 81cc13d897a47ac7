"""Counters across isolates: a Durable Object per tenant adds up what isolates send in batches."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from edge_router.counters import Amount, CounterTable
from edge_router.prewarming.hot import Asked, HotTable

HOT = "#hot"  # no tenant has such a name


class Counters(DurableObject):
    """The sums of one tenant. Scope: tenant, worldwide, at the place where it was first counted.

    `fetch` takes JSON `{op, …}`: `add` with `amounts`, `read`, `forget` with `prefix`. It answers `{"result": …}`.
    One object, HOT, counts for all tenants what is asked most: `note` with `asked`, `take` with `stale_by_s`, `limit`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._storage = ctx.storage
        self._table = CounterTable(ObjectSql(ctx.storage))

    @cached_property
    def _hot(self) -> HotTable:
        return HotTable(ObjectSql(self._storage))

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        return answer_with(self._answer(call))

    def _answer(self, call: Mapping[str, Any]) -> dict[str, float] | list[dict[str, Any]] | None:
        if call["op"] == "note":
            self._hot.note([Asked(**asked) for asked in call["asked"]], time.time())
        elif call["op"] == "take":
            return [asdict(asked) for asked in self._hot.take(call["stale_by_s"], call["limit"])]
        elif call["op"] == "add":
            self._table.add([Amount(**amount) for amount in call["amounts"]], time.time())
        elif call["op"] == "forget":
            self._table.forget(call["prefix"])
        else:
            return self._table.read(time.time())
        return None


class DurableCounters:
    """`CounterStore` on a namespace of Counters objects."""

    def __init__(self, namespace: Any) -> None:
        self._namespace = namespace

    async def add(self, tenant: str, amounts: Sequence[Amount]) -> None:
        await self._ask(tenant, {"op": "add", "amounts": [asdict(amount) for amount in amounts]})

    async def read(self, tenant: str) -> dict[str, float]:
        sums = await self._ask(tenant, {"op": "read"})
        return {str(name): float(value) for name, value in sums.items()}

    async def forget(self, tenant: str, prefix: str) -> None:
        await self._ask(tenant, {"op": "forget", "prefix": prefix})

    async def _ask(self, tenant: str, call: Mapping[str, Any]) -> Any:
        return await ask_object(self._namespace, tenant, call, what="counters")


class DurableHot:
    """`HotStore` on the object HOT of the same namespace."""

    def __init__(self, namespace: Any) -> None:
        self._namespace = namespace

    async def note(self, asked: Sequence[Asked]) -> None:
        await self._ask({"op": "note", "asked": [asdict(each) for each in asked]})

    async def take(self, stale_by_s: float, limit: int) -> Sequence[Asked]:
        return [Asked(**each) for each in await self._ask({"op": "take", "stale_by_s": stale_by_s, "limit": limit})]

    async def _ask(self, call: Mapping[str, Any]) -> Any:
        return await ask_object(self._namespace, HOT, call, what="hot entries")
