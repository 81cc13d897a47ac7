"""Files and batches with everything around them in memory, and a queue that the test turns by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_router.batches.api import BatchApi
from edge_router.batches.whole import WholeBatches
from edge_router.batches.worker import BatchWorker
from edge_router.budgets.charging import Budgets
from edge_router.catalog import Catalog
from edge_router.gateway import Gateway
from edge_router.replies import Reply
from edge_router.settings import BatchUpstream
from tests.edge_router.harness import World, chat_body
from tests.fakes import FakeBatchProviders, FakeLedger, FakeMessage, MemoryBooks, MemoryBucket

CHAT = "/v1/chat/completions"
BOUNDARY = "b0und"
TENANT = "open"


def line(custom_id: str, url: str = CHAT, **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body or chat_body(custom_id)})


def form(data: bytes, **fields: str) -> str:
    """An upload as SDKs send it: fields first, then the file."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    parts.append(f'Content-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n{data.decode()}')
    return "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts) + f"--{BOUNDARY}--\r\n"


@dataclass(slots=True)
class BatchWorld:
    """One gateway with files and batches, all asked as `key` or openly."""

    world: World = field(default_factory=World)
    bucket: MemoryBucket = field(default_factory=MemoryBucket)
    upstreams: Sequence[BatchUpstream] = ()
    providers: FakeBatchProviders = field(default_factory=lambda: FakeBatchProviders(lambda body: None))
    ledger: FakeLedger = field(init=False)
    books: MemoryBooks = field(init=False)
    gateway: Gateway = field(init=False)
    worker: BatchWorker = field(init=False)

    def __post_init__(self) -> None:
        world = self.world
        self.books = MemoryBooks(world.clock)
        world.batches = BatchApi(self.bucket, self.books, world.clock, world.new_id)
        self.gateway = world.gateway()
        self.ledger = world.ledger or FakeLedger(world.clock)
        self.start_worker()

    def start_worker(self) -> None:
        """Anew, with the providers that are configured now."""
        world = self.world
        whole = WholeBatches(
            self.upstreams,
            Catalog(world.models),
            self.providers,
            self.bucket,
            self.books,
            Budgets(self.ledger, world.clock, world.log, world.new_id, settle_again_after_s=(0, 0)),
            self.gateway,
            clock=world.clock,
            log=world.log,
            poll_s=60,
        )
        self.worker = BatchWorker(
            self.bucket,
            self.books,
            self.gateway,
            whole,
            clock=world.clock,
            log=world.log,
            new_id=world.new_id,
            retry_s=2,
        )

    async def ask(self, method: str, path: str, body: object = "", **headers: str) -> Reply:
        return await self.world.ask(body, path=path, method=method, headers=headers, of=self.gateway)

    async def get(self, path: str, **headers: str) -> dict[str, Any]:
        reply = await self.ask("GET", path, **headers)
        assert isinstance(reply.body, str)
        body = json.loads(reply.body)
        assert isinstance(body, dict)
        return body

    async def upload(self, data: bytes | str, *, purpose: str = "batch", **headers: str) -> str:
        """The new file's id."""
        content = data.encode() if isinstance(data, str) else data
        kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        reply = await self.ask("POST", "/v1/files", form(content, purpose=purpose), **{**kind, **headers})
        assert isinstance(reply.body, str)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["id"])

    async def create(self, data: bytes | str, *, endpoint: str = CHAT, **headers: str) -> str:
        """The new batch's id."""
        file_id = await self.upload(data, **headers)
        asked = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        reply = await self.ask("POST", "/v1/batches", asked, **headers)
        assert isinstance(reply.body, str)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["id"])

    def due(self, tenant: str = TENANT) -> list[FakeMessage]:
        """What the tenant's object would send to the queue now."""
        orders = self.books.book(tenant).due(self.world.clock.now_s(), 500)
        return [FakeMessage({**order, "tenant": tenant}) for order in orders]

    async def take(self, messages: Sequence[FakeMessage]) -> None:
        await self.worker.take(messages, self.world.background)

    async def run(
        self, batch_id: str, tenant: str = TENANT, *, within_s: float = 7200, **headers: str
    ) -> dict[str, Any]:
        """Works until the batch has ended, letting time pass when nothing is due."""
        for _ in range(10_000):
            batch = await self.get(f"/v1/batches/{batch_id}", **headers)
            if batch["status"] in ("completed", "failed", "expired", "cancelled"):
                return batch
            messages = self.due(tenant)
            if messages:
                await self.take(messages)
            else:
                self.world.clock.advance(1)
                within_s -= 1
                assert within_s > 0, batch
        raise AssertionError("the batch never ends")

    def lines_of(
        self, batch: dict[str, Any], name: str = "output_file_id", tenant: str = TENANT
    ) -> list[dict[str, Any]]:
        """The lines of a result file; none when there is no such file."""
        if batch[name] is None:
            return []
        data = self.bucket.objects[f"files/{tenant}/{batch[name]}"]
        return [json.loads(text) for text in data.decode().splitlines()]
