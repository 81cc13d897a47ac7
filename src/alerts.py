"""Alerts across isolates: one Durable Object keeps them, and the notices about them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from edge_router.alerts.book import AlertBook
from edge_router.alerts.findings import Observed
from edge_router.alerts.rules import Rule
from edge_router.errors import StoreError

NAME = "alerts"


class Alerts(DurableObject):
    """The alerts of the whole deployment. Scope: worldwide, at the place where they were first judged.

    `fetch` takes JSON `{op, …}`: `step` with `rules`, `observed` and `notify`; `read`; `take`; `settle` with
    `delivered`, `refused` and `failed`. It answers `{"result": …}`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._book = AlertBook(ObjectSql(ctx.storage))

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        return answer_with(self._answer(call, time.time()))

    def _answer(self, call: Mapping[str, Any], now_s: float) -> Any:
        if call["op"] == "step":
            rules = [Rule(**rule) for rule in call["rules"]]
            return self._book.step(rules, Observed.decoded(call["observed"]), notify=call["notify"])
        if call["op"] == "take":
            return self._book.take(now_s)
        if call["op"] == "settle":
            return self._book.settle(call["delivered"], call["refused"], failed=call["failed"], now_s=now_s)
        return self._book.read()


class DurableAlerts:
    """`AlertStore` on the namespace of Alerts; None: the binding is missing, and every call fails."""

    def __init__(self, namespace: Any | None) -> None:
        self._namespace = namespace

    async def step(self, rules: Sequence[Rule], observed: Observed, *, notify: bool) -> None:
        told = [asdict(rule) for rule in rules]
        await self._ask({"op": "step", "rules": told, "observed": observed.encoded(), "notify": notify})

    async def read(self) -> dict[str, Any]:
        return dict(await self._ask({"op": "read"}))

    async def take(self) -> Sequence[Mapping[str, Any]]:
        return list(await self._ask({"op": "take"}))

    async def settle(self, delivered: Sequence[str], refused: Sequence[str], *, failed: bool) -> None:
        await self._ask({"op": "settle", "delivered": [*delivered], "refused": [*refused], "failed": failed})

    async def _ask(self, call: Mapping[str, Any]) -> Any:
        if self._namespace is None:
            raise StoreError("The binding ALERTS is missing.")
        return await ask_object(self._namespace, NAME, call, what="alerts")
