"""Strict limits: a Durable Object per tenant counts its requests from everywhere."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from edge_router.errors import StoreError
from edge_router.limits.book import LimitBook, Verdict
from edge_router.limits.journal import Journal
from edge_router.limits.policy import Limits


class TenantLimits(DurableObject):
    """The limits of one tenant. Scope: tenant, worldwide, at the place where it first asked.

    `fetch` takes JSON `{op, lease, …}`: `enter` with `limits`, `renew`, `leave`. It answers `{"result": …}`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._journal = Journal(ObjectSql(ctx.storage))
        self._book: LimitBook | None = None

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        return answer_with(self._answer(call, time.time()))

    def _answer(self, call: Mapping[str, Any], now_s: float) -> dict[str, Any] | None:
        if self._book is None:
            self._book = LimitBook(self._journal, now_s=now_s)
        if call["op"] == "enter":
            return self._book.enter(Limits(**call["limits"]), call["lease"], now_s).encoded()
        if call["op"] == "renew":
            self._book.renew(call["lease"], now_s)
        else:
            self._book.leave(call["lease"])
        return None


class DurableLimits:
    """`LimitStore` on a namespace of TenantLimits objects; None: the binding is missing, and every call fails.

    timeout_s: of one call.
    """

    def __init__(self, namespace: Any | None, *, timeout_s: float) -> None:
        self._namespace = namespace
        self._timeout_s = timeout_s

    async def enter(self, tenant: str, limits: Limits, lease: str) -> Verdict:
        return Verdict.decoded(await self._ask(tenant, {"op": "enter", "lease": lease, "limits": asdict(limits)}))

    async def renew(self, tenant: str, lease: str) -> None:
        await self._ask(tenant, {"op": "renew", "lease": lease})

    async def leave(self, tenant: str, lease: str) -> None:
        await self._ask(tenant, {"op": "leave", "lease": lease})

    async def _ask(self, tenant: str, call: Mapping[str, Any]) -> Any:
        if self._namespace is None:
            raise StoreError("The binding LIMITS is missing.")
        return await ask_object(self._namespace, tenant, call, what="limits", timeout_s=self._timeout_s)
