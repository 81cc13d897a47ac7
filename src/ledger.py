"""Budgets across isolates: a Durable Object per tenant keeps what is spent and reserved, in its SQLite."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from edge_router.budgets import ledger
from edge_router.budgets.ledger import Left, Period, Refusal, Sums
from edge_router.budgets.money import Cost
from edge_router.budgets.policy import SpendingLimits
from edge_router.errors import StoreError


class Ledger(DurableObject):
    """The ledger of one tenant. Scope: tenant, worldwide, at the place where it was first asked.

    `fetch` takes JSON `{op, …}`: `reserve` with `id`, `cost` and `limits`, `settle` with `id`, `cost` and `model`,
    `release` with `id`, `sums`. It answers `{"result": …}`. Nothing is awaited in an operation, so none sees another's
    half; the runtime holds the answer back until what was written is safe.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._ledger = ledger.Ledger(ObjectSql(ctx.storage))

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        return answer_with(self._answer(call, time.time()))

    def _answer(self, call: Mapping[str, Any], now_s: float) -> dict[str, Any] | None:
        if call["op"] == "sums":
            return asdict(self._ledger.sums(now_s))
        if call["op"] == "reserve":
            answer = self._ledger.reserve(call["id"], Cost(**call["cost"]), SpendingLimits(**call["limits"]), now_s)
            return {"granted": isinstance(answer, Left), **asdict(answer)}
        if call["op"] == "settle":
            self._ledger.settle(call["id"], Cost(**call["cost"]), call["model"], now_s)
        else:
            self._ledger.release(call["id"], now_s)
        return None


class DurableLedger:
    """`LedgerStore` on a namespace of Ledger objects; None: the binding is missing, and every call fails.

    timeout_s: of one call.
    """

    def __init__(self, namespace: Any | None, *, timeout_s: float) -> None:
        self._namespace = namespace
        self._timeout_s = timeout_s

    async def reserve(self, tenant: str, reservation_id: str, most: Cost, limits: SpendingLimits) -> Left | Refusal:
        call = {"op": "reserve", "id": reservation_id, "cost": asdict(most), "limits": asdict(limits)}
        answer = await self._ask(tenant, call)
        try:
            return Left(**answer) if answer.pop("granted") else Refusal(**answer)
        except (AttributeError, KeyError, TypeError) as exc:
            raise StoreError("The ledger's answer can't be read.") from exc

    async def settle(self, tenant: str, reservation_id: str, cost: Cost, model: str) -> None:
        await self._ask(tenant, {"op": "settle", "id": reservation_id, "cost": asdict(cost), "model": model})

    async def release(self, tenant: str, reservation_id: str) -> None:
        await self._ask(tenant, {"op": "release", "id": reservation_id})

    async def sums(self, tenant: str) -> Sums:
        answer = await self._ask(tenant, {"op": "sums"})
        try:
            models = {model: (Cost(**cost), answers) for model, (cost, answers) in answer["models"].items()}
            return Sums(_period(answer["day"]), _period(answer["month"]), models)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise StoreError("The ledger's answer can't be read.") from exc

    async def _ask(self, tenant: str, call: Mapping[str, Any]) -> Any:
        if self._namespace is None:
            raise StoreError("The binding LEDGER is missing.")
        return await ask_object(self._namespace, tenant, call, what="ledger", timeout_s=self._timeout_s)


def _period(facts: Mapping[str, Any]) -> Period:
    return Period(**{**facts, "spent": Cost(**facts["spent"]), "reserved": Cost(**facts["reserved"])})
