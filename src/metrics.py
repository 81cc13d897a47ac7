"""Metrics across isolates: a Durable Object for each location, and one that knows which locations there are."""

import time
from collections.abc import Mapping
from typing import Any

from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from edge_router.errors import StoreError
from edge_router.metrics.cells import Slice
from edge_router.metrics.directory import Directory
from edge_router.metrics.shard import Shard, View
from edge_router.metrics.windows import WINDOWS, Grouping, Window

DIRECTORY = "directory"  # locations have three letters


class Metrics(DurableObject):
    """What one location saw, at that location; the one named DIRECTORY knows which there are.

    `fetch` takes JSON `{op, …}`: `add` with `slice`, `view` with `window` and `by`, `all_time`; the directory `enroll`
    with `colo`, `colos`. It answers `{"result": …}`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        sql = ObjectSql(ctx.storage)
        self._shard, self._directory = Shard(sql), Directory(sql)

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        return answer_with(self._answer(call, time.time()))

    def _answer(self, call: Mapping[str, Any], now_s: float) -> Any:
        if call["op"] == "add":
            self._shard.add(Slice.decoded(call["slice"]), now_s)
            return None
        if call["op"] == "view":
            return self._shard.view(WINDOWS[call["window"]], call["by"], now_s).encoded()
        if call["op"] == "all_time":
            return self._shard.all_time(now_s).encoded()
        if call["op"] == "enroll":
            return self._directory.enroll(call["colo"], now_s)
        return self._directory.colos(now_s)


class DurableMetrics:
    """`MetricsStore` on a namespace of Metrics objects; None: the binding is missing, and every call fails."""

    def __init__(self, namespace: Any | None) -> None:
        self._namespace = namespace

    async def enroll(self, colo: str) -> str:
        return str(await self._ask(DIRECTORY, {"op": "enroll", "colo": colo}))

    async def colos(self) -> list[str]:
        return [str(colo) for colo in await self._ask(DIRECTORY, {"op": "colos"})]

    async def add(self, colo: str, more: Slice) -> None:
        await self._ask(colo, {"op": "add", "slice": more.encoded()})

    async def view(self, colo: str, window: Window, by: Grouping) -> View:
        return View.decoded(await self._ask(colo, {"op": "view", "window": window.name, "by": by}))

    async def all_time(self, colo: str) -> Slice:
        return Slice.decoded(await self._ask(colo, {"op": "all_time"}))

    async def _ask(self, name: str, call: Mapping[str, Any]) -> Any:
        if self._namespace is None:
            raise StoreError("The binding METRICS is missing.")
        return await ask_object(self._namespace, name, call, what="metrics")
