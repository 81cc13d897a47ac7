"""Feedback across isolates: a Durable Object per tenant keeps which answers were rated, in its SQLite."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from workers import DurableObject

from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from edge_router.feedback_records import AnswerRecord, FeedbackTable, Rating


class FeedbackLog(DurableObject):
    """The answers of one tenant. Scope: tenant, worldwide, at the place where it was first asked.

    `fetch` takes JSON `{op, …}`: `add` with `records`, `rate` with `request_id` and `rating`, `labelled`. It answers
    `{"result": …}`.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._storage = ctx.storage
        self._table = FeedbackTable(ObjectSql(ctx.storage))
        self._has_alarm = False

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        return answer_with(await self._answer(call))

    async def alarm(self, *_: Any) -> None:
        """Forgets what is too old, and comes again when the next row will be."""
        self._has_alarm = False
        await self._wake_at(self._table.forget_old(time.time()))

    async def _answer(self, call: Mapping[str, Any]) -> Any:
        if call["op"] == "add":
            self._table.add([AnswerRecord(**record) for record in call["records"]])
            if not self._has_alarm:
                await self._wake_at(self._table.forget_old(time.time()))
            return self._table.offset()
        if call["op"] == "rate":
            rated = self._table.rate(call["request_id"], call["rating"])
            return None if rated is None else asdict(rated)
        return self._table.labelled()

    async def _wake_at(self, when_s: float | None) -> None:
        if when_s is not None:
            await self._storage.setAlarm(int(when_s * 1000) + 1)
            self._has_alarm = True


class DurableFeedback:
    """`FeedbackStore` on a namespace of FeedbackLog objects."""

    def __init__(self, namespace: Any) -> None:
        self._namespace = namespace

    async def add(self, tenant: str, records: Sequence[AnswerRecord]) -> float:
        return float(await self._ask(tenant, {"op": "add", "records": [record.facts() for record in records]}))

    async def rate(self, tenant: str, request_id: str, rating: Rating) -> AnswerRecord | None:
        rated = await self._ask(tenant, {"op": "rate", "request_id": request_id, "rating": rating})
        return None if rated is None else AnswerRecord(**rated)

    async def labelled(self, tenant: str) -> str:
        return str(await self._ask(tenant, {"op": "labelled"}))

    async def _ask(self, tenant: str, call: Mapping[str, Any]) -> Any:
        return await ask_object(self._namespace, tenant, call, what="feedback log")
