"""Counters across isolates: a Durable Object per tenant adds up what isolates send in batches."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from js import Response
from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import ask_object
from edge_router.counters import Amount, CounterTable


class Counters(DurableObject):
    """The sums of one tenant. Scope: tenant, worldwide, at the place where it was first counted.

    `fetch` takes JSON `{op, …}`: `add` with `amounts`, `read`, `forget` with `prefix`. It answers `{"result": …}`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._table = CounterTable(ObjectSql(ctx.storage))

    async def fetch(self, request: Any) -> Any:
        call = json.loads(await request.text())
        return Response.new(json.dumps({"result": self._answer(call)}))

    def _answer(self, call: Mapping[str, Any]) -> dict[str, float] | None:
        if call["op"] == "add":
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
