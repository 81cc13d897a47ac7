"""Batches across isolates: a Durable Object per tenant keeps what there is and gives out what is to be done."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pyodide.ffi import JsException
from workers import DurableObject

from adapters.bucket import R2Bucket
from adapters.javascript import from_object, to_object
from adapters.object_sql import ObjectSql
from adapters.objects import answer_with, ask_object, call_of
from adapters.runtime import CLOCK, ConsoleLog
from edge_router.batches.book import BatchBook
from edge_router.batches.sending import send_due
from edge_router.batches.storing import file_key
from edge_router.errors import StoreError

LEASE_S = 1200.0  # more than the 15 minutes that a delivery may take


class Batches(DurableObject):
    """The files and batches of one tenant. Scope: tenant, worldwide, at the place where it first left a file.

    `fetch` takes JSON `{op, tenant, facts}`, op being a method of BatchBook. It answers `{"result": …}`. The alarm
    sends to the queue what is due, so that neither a lost message nor a restart leaves a batch behind.
    """

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self._storage = ctx.storage
        lease_s = float(getattr(env, "BATCH_LEASE_S", LEASE_S))
        self._book = BatchBook(ObjectSql(ctx.storage), lease_s=lease_s)
        self._queue = CloudflareQueue(env.BATCH_QUEUE)
        self._bucket = R2Bucket(env.BATCH_FILES)
        self._wakes_at_s: float | None = None

    async def fetch(self, request: Any) -> Any:
        call = await call_of(request)
        result = getattr(self._book, call["op"])(**call["facts"], now_s=time.time())
        if call["op"] in CHANGING:
            await self._storage.put("tenant", call["tenant"])
            await self._wake()
        return answer_with(result)

    async def alarm(self, *_: Any) -> None:
        """Sends what is due. Any failure but the queue's is raised: then the runtime calls again."""
        self._wakes_at_s = None
        tenant = await self._storage.get("tenant")
        await send_due(self._book, self._queue, tenant, CLOCK, ConsoleLog())
        expired = self._book.take_expired_files(time.time())
        if expired:
            await self._bucket.delete([file_key(tenant, file_id) for file_id in expired])
        await self._wake()

    async def _wake(self) -> None:
        when_s = self._book.wake_s(time.time())
        if when_s is not None and (self._wakes_at_s is None or when_s < self._wakes_at_s):
            await self._storage.setAlarm(int(when_s * 1000) + 1)
            self._wakes_at_s = when_s


# Calls after which something may be due earlier than before.
CHANGING = frozenset(
    {"add_file", "create", "cancel", "start", "fail", "record", "give_up", "finish"}
    | {"note_upstream", "end_upstream", "take_back"}
)


class DurableBooks:
    """`TenantBooks` on a namespace of Batches objects; None: the binding is missing, and every call fails."""

    def __init__(self, namespace: Any | None) -> None:
        self._namespace = namespace

    async def ask(self, tenant: str, op: str, **facts: Any) -> Any:
        if self._namespace is None:
            raise StoreError("The binding BATCHES is missing.")
        call = {"op": op, "tenant": tenant, "facts": facts}
        return await ask_object(self._namespace, tenant, call, what="batches", timeout_s=10.0)


class CloudflareQueue:
    """`WorkQueue` of Cloudflare Queues."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        try:
            await self._queue.sendBatch([{"body": each, "contentType": "json"} for each in messages])
        except JsException as exc:
            raise StoreError("The queue did not take what was sent.") from exc


class WorkerMessage:
    """`QueueMessage` of Cloudflare Queues."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self.body: Mapping[str, Any] = from_object(message.body)

    def ack(self) -> None:
        self._message.ack()

    def retry(self, delay_s: int) -> None:
        self._message.retry(to_object({"delaySeconds": delay_s}))


def messages_of(delivery: Any) -> Sequence[WorkerMessage]:
    """delivery: what the runtime hands to `queue`, whether the SDK wrapped it or not."""
    return [WorkerMessage(message) for message in getattr(delivery, "_binding", delivery).messages]
