"""Every port of `edge_router` for tests: scripted, deterministic, without I/O."""

import asyncio
import hashlib
import hmac
import json
import math
import sqlite3
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Literal, TypeVar

from edge_router.alerts.book import AlertBook
from edge_router.alerts.findings import Observed
from edge_router.alerts.rules import Rule
from edge_router.batches.book import BatchBook
from edge_router.budgets.ledger import Ledger, Left, Refusal, Sums
from edge_router.budgets.money import Cost
from edge_router.budgets.policy import SpendingLimits
from edge_router.cloud_api import ANSWER_HEADERS, WAITED_HEADER
from edge_router.counters import Amount, CounterTable
from edge_router.errors import DeliveryError, NotFound, StoreError, UpstreamError
from edge_router.feedback_records import AnswerRecord, FeedbackTable, Rating
from edge_router.gateway import Request
from edge_router.limits.book import LimitBook, Verdict
from edge_router.limits.journal import Journal
from edge_router.limits.policy import Limits
from edge_router.location import UNKNOWN, Location
from edge_router.metrics.cells import Slice
from edge_router.metrics.directory import Directory
from edge_router.metrics.shard import Shard, View
from edge_router.metrics.windows import Grouping, Window
from edge_router.ports import (
    Background,
    Clock,
    CloudRegions,
    EdgeModels,
    FeedbackStore,
    Flights,
    LedgerStore,
    LimitStore,
    Log,
    MetricsStore,
    RateLimiter,
    Store,
    Telemetry,
    Upload,
    UpstreamResponse,
    Vectors,
)
from edge_router.prewarming.hot import Asked, HotTable
from edge_router.replies import Stream
from edge_router.report import Report
from edge_router.settings import BatchUpstream, Region

_Answer = TypeVar("_Answer")

START_S = 1_790_000_000.0


class FakeClock:
    """Both clocks of the port; they move only by `advance`."""

    def __init__(self, now_s: float = START_S) -> None:
        self._start_s = self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s

    def elapsed_ms(self) -> float:
        return (self._now_s - self._start_s) * 1000

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """On the event loop's own time: tests that wait for a timer use milliseconds."""
        return asyncio.get_running_loop().call_later(delay_s, callback).cancel

    def advance(self, seconds: float) -> None:
        self._now_s += seconds


class RunningClock(FakeClock):
    """Moves by itself too, for what a timer of the event loop decides. Such tests wait for milliseconds."""

    def __init__(self, now_s: float = START_S) -> None:
        super().__init__(now_s)
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        return super().now_s() + time.monotonic() - self._began_s

    def elapsed_ms(self) -> float:
        return super().elapsed_ms() + (time.monotonic() - self._began_s) * 1000


class MemoryStore:
    """A dictionary. `texts` may be filled and read by the test; `ttl_s` is what the last write of a key asked for."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self.texts = dict(texts or {})
        self.ttl_s: dict[str, int] = {}

    async def get(self, key: str) -> str | None:
        return self.texts.get(key)

    async def put(self, key: str, value: str, *, ttl_s: int) -> None:
        self.texts[key] = value
        self.ttl_s[key] = ttl_s

    async def delete(self, key: str) -> None:
        self.texts.pop(key, None)


class FailingStore:
    """A store that is down."""

    async def get(self, key: str) -> str | None:
        raise StoreError("get failed")

    async def put(self, key: str, value: str, *, ttl_s: int) -> None:
        raise StoreError("put failed")

    async def delete(self, key: str) -> None:
        raise StoreError("delete failed")


class FakeVectors:
    """An index that finds at once what was written. `queries`: (namespace, filters) asked so far.

    answer: what a query gives instead, or the error that it raises.
    """

    def __init__(self) -> None:
        self.rows: dict[str, tuple[list[float], str, dict[str, str | int]]] = {}
        self.queries: list[tuple[str, dict[str, str]]] = []
        self.answer: Any = None
        self.is_writable = True
        self.pause_s = 0.0

    async def query(self, vector: Sequence[float], *, namespace: str, filters: Mapping[str, str], limit: int) -> Any:
        self.queries.append((namespace, dict(filters)))
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        matches = [
            {"id": vector_id, "score": _cosine(vector, values), "metadata": metadata}
            for vector_id, (values, place, metadata) in self.rows.items()
            if place == namespace and filters.items() <= metadata.items()
        ]
        return {"matches": sorted(matches, key=lambda match: -float(match["score"]))[:limit]}  # type: ignore[arg-type]

    async def upsert(
        self, vector_id: str, vector: Sequence[float], *, namespace: str, metadata: Mapping[str, str | int]
    ) -> None:
        if not self.is_writable:
            raise StoreError("upsert failed")
        self.rows[vector_id] = (list(vector), namespace, dict(metadata))

    async def delete(self, vector_ids: Sequence[str]) -> None:
        if not self.is_writable:
            raise StoreError("delete failed")
        for vector_id in vector_ids:
            self.rows.pop(vector_id, None)


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    norms = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


STALL: Literal["stall"] = "stall"  # as a step of a body: nothing more ever comes

Step = bytes | Exception | Literal["stall"] | float


class FakeUpstreamResponse:
    """A scripted answer: its body is `steps`, one after the other, read whole or as it arrives.

    A number is a pause in seconds. Cancelling ends the body, also for a read that is awaited at that moment.
    """

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        on_read: Callable[[], None] = (lambda: None),
    ) -> None:
        self._steps = list(steps)
        self._status = status
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._on_read = on_read
        self.is_read = asyncio.Event()
        self.ended = asyncio.Event()
        self.keeps = True
        self.cancels = 0
        self.open_reads = 0

    @classmethod
    def plain(
        cls, body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> "FakeUpstreamResponse":
        """One JSON text, or any other text as it is."""
        text = body if isinstance(body, str) else json.dumps(body)
        return cls(text.encode(), status=status, headers={"content-type": "application/json", **(headers or {})})

    @classmethod
    def stream(cls, *steps: Step, headers: Mapping[str, str] | None = None) -> "FakeUpstreamResponse":
        """Server-sent events, in the pieces in which they arrive."""
        return cls(*steps, headers={"content-type": "text/event-stream; charset=utf-8", **(headers or {})})

    @property
    def status(self) -> int:
        return self._status

    @property
    def is_cancelled(self) -> bool:
        return self.cancels > 0

    def header(self, name: str) -> str | None:
        return self._headers.get(name.lower())

    def keep_headers(self, names: Collection[str]) -> None:
        self._headers = {name: value for name, value in self._headers.items() if name in names}

    async def text(self) -> str:
        parts = []
        while (part := await self.read()) is not None:
            parts.append(part)
        return b"".join(parts).decode()

    async def read(self) -> bytes | None:
        while self._steps and not self.ended.is_set():
            step = self._steps.pop(0)
            self.is_read.set()
            self._on_read()
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                return step
            await self._pause(None if step == STALL else float(step))
        return None

    async def push(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        while (part := await self.read()) is not None:
            room = take(part)
            if room is not None:
                await room

    async def cancel(self) -> None:
        self.cancels += 1
        self.ended.set()

    async def _pause(self, seconds: float | None) -> None:
        """As long as a read that waits for bytes: until they come or the answer is cancelled."""
        self.open_reads += 1
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            pass
        finally:
            self.open_reads -= 1


@dataclass(frozen=True, slots=True)
class EdgeCall:
    """What Workers AI was asked."""

    model_id: str
    inputs: Mapping[str, Any]
    affinity: str | None = None


@dataclass(frozen=True, slots=True)
class CloudCall:
    """What a region was asked."""

    region_id: str
    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]


class FakeEdgeModels:
    """`handler` answers or raises; `calls` arrived so far."""

    def __init__(self, handler: Callable[[EdgeCall], FakeUpstreamResponse]) -> None:
        self.handler = handler
        self.calls: list[EdgeCall] = []
        self.is_bound = True

    async def run(
        self, model_id: str, inputs: Mapping[str, Any], *, affinity: str | None = None
    ) -> FakeUpstreamResponse:
        call = EdgeCall(model_id, inputs, affinity)
        self.calls.append(call)
        return self.handler(call)


class FakeCloudRegions:
    """`handler` answers or raises; `calls` arrived so far."""

    def __init__(self, handler: Callable[[CloudCall], FakeUpstreamResponse]) -> None:
        self.handler = handler
        self.calls: list[CloudCall] = []
        self.probes: list[str] = []

    async def post(self, region: Region, path: str, body: str, headers: Mapping[str, str]) -> FakeUpstreamResponse:
        call = CloudCall(region.id, path, json.loads(body), headers)
        self.calls.append(call)
        return self.handler(call)

    async def probe(self, region: Region) -> FakeUpstreamResponse:
        self.probes.append(region.id)
        return FakeUpstreamResponse.plain({"status": "ok"}, headers={"server-timing": "app;dur=1"})


@dataclass(slots=True)
class FakeFlights:
    """Single flight: alone through `cloud` and `edge`, or another caller's `landed` answer, or down.

    landed: an error is how the other caller's call fails; STALL: it goes on for ever.
    """

    cloud: FakeCloudRegions
    landed: FakeUpstreamResponse | Exception | Literal["stall"] | None = None
    is_down: bool = False
    keys: list[str] = field(default_factory=list)
    claims: set[str] = field(default_factory=set)
    edge: FakeEdgeModels | None = None

    async def claim(self, key: str, for_s: float) -> bool:
        """Claims last until a test takes them out of `claims`."""
        if self.is_down:
            raise StoreError("no flight")
        if key in self.claims:
            return False
        self.claims.add(key)
        return True

    async def post(
        self,
        key: str,
        region: Region,
        path: str,
        body: str,
        headers: Mapping[str, str],
        *,
        on_join: Callable[[], None],
    ) -> FakeUpstreamResponse:
        response = await self._join(key, on_join) or await self.cloud.post(region, path, body, headers)
        response.keep_headers((*ANSWER_HEADERS, WAITED_HEADER))
        return response

    async def run(
        self, key: str, model_id: str, inputs: Mapping[str, Any], *, affinity: str, on_join: Callable[[], None]
    ) -> FakeUpstreamResponse:
        assert self.edge is not None
        return await self._join(key, on_join) or await self.edge.run(model_id, inputs, affinity=affinity)

    async def _join(self, key: str, on_join: Callable[[], None]) -> FakeUpstreamResponse | None:
        self.keys.append(key)
        if self.is_down:
            raise StoreError("no flight")
        if self.landed is None:
            return None
        on_join()
        if isinstance(self.landed, Exception):
            raise self.landed
        if isinstance(self.landed, str):
            await asyncio.Event().wait()
        assert isinstance(self.landed, FakeUpstreamResponse)
        self.landed.keeps = False
        return self.landed


class MemorySql:
    """`Sql` on CPython's own SQLite."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:")
        self._database.row_factory = sqlite3.Row

    def exec(self, query: str, *values: str | int | float | None) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in self._database.execute(query, values)]

    def __del__(self) -> None:
        self._database.close()


@dataclass(slots=True)
class FakeHot:
    """The hot questions of all tenants, or down."""

    clock: FakeClock
    table: HotTable = field(default_factory=lambda: HotTable(MemorySql()))
    is_down: bool = False

    async def note(self, asked: Sequence[Asked]) -> None:
        if self.is_down:
            raise StoreError("The hot entries failed.")
        self.table.note(asked, self.clock.now_s())

    async def take(self, stale_by_s: float, limit: int) -> Sequence[Asked]:
        if self.is_down:
            raise StoreError("The hot entries failed.")
        return self.table.take(stale_by_s, limit)


@dataclass(slots=True)
class FakeFeedbackStore:
    """A table for each tenant, or down."""

    tables: dict[str, FeedbackTable] = field(default_factory=dict)
    is_down: bool = False

    def table(self, tenant: str) -> FeedbackTable:
        if self.is_down:
            raise StoreError("no feedback")
        return self.tables.setdefault(tenant, FeedbackTable(MemorySql()))

    async def add(self, tenant: str, records: Sequence[AnswerRecord]) -> float:
        self.table(tenant).add(records)
        return self.table(tenant).offset()

    async def rate(self, tenant: str, request_id: str, rating: Rating) -> AnswerRecord | None:
        return self.table(tenant).rate(request_id, rating)

    async def labelled(self, tenant: str) -> str:
        return self.table(tenant).labelled()


class FakeCipher:
    """`Cipher` with the properties of one, made of hashes."""

    async def encrypt(self, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        hidden = _masked(key + nonce, data)
        return hidden + hmac.digest(key, nonce + bound + hidden, "sha256")

    async def decrypt(self, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        hidden, tag = data[:-32], data[-32:]
        is_right = hmac.compare_digest(tag, hmac.digest(key, nonce + bound + hidden, "sha256"))
        return _masked(key + nonce, hidden) if is_right else None


def _masked(seed: bytes, data: bytes) -> bytes:
    mask = hashlib.shake_256(seed).digest(len(data))
    return bytes(byte ^ other for byte, other in zip(data, mask, strict=True))


class FakePages:
    """`Pages` with a page at `/`, a document at `/openapi.json`, and nothing elsewhere."""

    async def text(self, path: str) -> str:
        if path == "/openapi.json":
            return '{"openapi": "3.1.0"}'
        if path != "/":
            raise NotFound("This deployment has no such page.", code="unknown_path")
        return "<!doctype html><title>Nearside</title>"


@dataclass(slots=True)
class FakeRateLimiter:
    """Lets `left` requests of a tenant through; None: as many as come."""

    left: int | None = None
    is_down: bool = False

    async def allows(self, tenant: str) -> bool:
        if self.is_down:
            raise StoreError("no counter")
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


@dataclass(slots=True)
class FakeLimits:
    """The real books, one a tenant, or down. calls: operations so far."""

    clock: Clock
    is_down: bool = False
    calls: list[str] = field(default_factory=list)
    sql: dict[str, MemorySql] = field(default_factory=dict)
    books: dict[str, LimitBook] = field(default_factory=dict)

    def restart(self) -> None:
        """As when objects are moved: memory is lost, SQLite is not."""
        self.books.clear()

    async def enter(self, tenant: str, limits: Limits, lease: str) -> Verdict:
        verdict = self._book("enter", tenant).enter(limits, lease, self.clock.now_s())
        return Verdict.decoded(json.loads(json.dumps(verdict.encoded())))

    async def renew(self, tenant: str, lease: str) -> None:
        self._book("renew", tenant).renew(lease, self.clock.now_s())

    async def leave(self, tenant: str, lease: str) -> None:
        self._book("leave", tenant).leave(lease)

    def _book(self, op: str, tenant: str) -> LimitBook:
        self.calls.append(op)
        if self.is_down:
            raise StoreError("no limits")
        if tenant not in self.books:
            journal = Journal(self.sql.setdefault(tenant, MemorySql()))
            self.books[tenant] = LimitBook(journal, now_s=self.clock.now_s())
        return self.books[tenant]


@dataclass(slots=True)
class CollectingTelemetry:
    """One record a request: tenant, status and the report as it then was."""

    records: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)

    def record(self, report: Report, background: Background, *, tenant: str, status: int) -> None:
        self.records.append((tenant, status, report.body()))


class CollectingBackground:
    """Work waits until the test runs it, as it waits for the response in a Worker."""

    def __init__(self) -> None:
        self._work: list[Coroutine[Any, Any, None]] = []
        weakref.finalize(self, _close_all, self._work)  # what a test does not run ends without Python's warning

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._work.append(work)

    def __len__(self) -> int:
        return len(self._work)

    async def finish(self) -> None:
        """Runs what was collected."""
        work = list(self._work)
        self._work.clear()
        for each in work:
            await each


def _close_all(work: list[Coroutine[Any, Any, None]]) -> None:
    for each in work:
        each.close()


class CollectingLog:
    """The lines, as (name, facts); `warnings`: the names of those that are one."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, str | int | float | None]]] = []
        self.warnings: list[str] = []

    def event(self, name: str, **facts: str | int | float | None) -> None:
        self.lines.append((name, facts))

    def warning(self, name: str, **facts: str | int | float | None) -> None:
        self.warnings.append(name)
        self.event(name, **facts)

    def names(self) -> list[str]:
        return [name for name, _ in self.lines]

    def text(self) -> str:
        """Everything that was logged, to look for what must not be there."""
        return json.dumps(self.lines)


@dataclass(slots=True)
class FakeRequest:
    """A request for the gateway. `content`: the body, or the error that reading it raises."""

    method: str = "POST"
    path: str = "/v1/chat/completions"
    content: str | Exception = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    location: Location = UNKNOWN
    query: str = ""
    is_secure: bool = True

    async def body(self) -> str:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    async def pieces(self) -> AsyncIterator[bytes]:
        for byte in (await self.body()).encode():
            yield bytes([byte])

    async def discard(self) -> None:
        """There is nothing on the way."""


class Caller:
    """Listens to a streamed body as the Worker's own sink does. pause_s: until there is room after each piece."""

    def __init__(self, body: Stream, *, pause_s: float | None = None) -> None:
        self.parts: list[str] = []
        self._body = body
        self._pause_s = pause_s
        self._running: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    async def hear_all(self) -> list[str]:
        """Every piece until the end."""
        try:
            await self._body.run(self._send)
        finally:
            await self._body.aclose()
        return self.parts

    async def hear(self, count: int) -> None:
        """Waits until so many pieces have come; nothing is run for none."""
        if count and self._running is None:
            self._running = asyncio.ensure_future(self._body.run(self._send))
        async with asyncio.timeout(5):
            while len(self.parts) < count:
                self._heard.clear()
                await self._heard.wait()

    async def leave(self) -> None:
        """In the middle."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._body.aclose()

    def _send(self, part: str, /) -> Awaitable[None] | None:
        self.parts.append(part)
        self._heard.set()
        if self._pause_s is None:
            return None
        loop = asyncio.get_running_loop()
        room = loop.create_future()

        def clear() -> None:
            if not room.done():
                room.set_result(None)

        loop.call_later(self._pause_s, clear)
        return room


@dataclass(slots=True)
class FakeCounters:
    """The real tables, one a tenant, or down."""

    clock: Clock
    is_down: bool = False
    tables: dict[str, CounterTable] = field(default_factory=dict)

    def _table(self, tenant: str) -> CounterTable:
        if self.is_down:
            raise StoreError("no counters")
        return self.tables.setdefault(tenant, CounterTable(MemorySql()))

    async def add(self, tenant: str, amounts: Sequence[Amount]) -> None:
        self._table(tenant).add(amounts, self.clock.now_s())

    async def read(self, tenant: str) -> dict[str, float]:
        return self._table(tenant).read(self.clock.now_s())

    async def forget(self, tenant: str, prefix: str) -> None:
        self._table(tenant).forget(prefix)


@dataclass(slots=True)
class FakeLedger:
    """The real ledgers, one a tenant. failures: how many of the next calls fail; None: all. is_deaf: a call that fails
    was heard all the same. calls: that arrived so far.
    """

    clock: Clock
    failures: int | None = 0
    is_deaf: bool = False
    calls: int = 0
    ledgers: dict[str, Ledger] = field(default_factory=dict)

    async def reserve(self, tenant: str, reservation_id: str, most: Cost, limits: SpendingLimits) -> Left | Refusal:
        return self._answer(lambda: self._of(tenant).reserve(reservation_id, most, limits, self.clock.now_s()))

    async def settle(self, tenant: str, reservation_id: str, cost: Cost, model: str) -> None:
        self._answer(lambda: self._of(tenant).settle(reservation_id, cost, model, self.clock.now_s()))

    async def release(self, tenant: str, reservation_id: str) -> None:
        self._answer(lambda: self._of(tenant).release(reservation_id, self.clock.now_s()))

    async def sums(self, tenant: str) -> Sums:
        return self._answer(lambda: self._of(tenant).sums(self.clock.now_s()))

    def _of(self, tenant: str) -> Ledger:
        return self.ledgers.setdefault(tenant, Ledger(MemorySql()))

    def _answer(self, act: Callable[[], _Answer]) -> _Answer:
        self.calls += 1
        if self.failures == 0:
            return act()
        if self.is_deaf:
            act()
        if self.failures is not None:
            self.failures -= 1
        raise StoreError("no ledger")


@dataclass(slots=True)
class FakeMetrics:
    """The real shards and directory. down: locations that do not answer, or `directory`.

    hangs: nothing that is added is ever taken.
    """

    clock: Clock
    down: set[str] = field(default_factory=set)
    hangs: bool = False
    shards: dict[str, Shard] = field(default_factory=dict)
    directory: Directory = field(default_factory=lambda: Directory(MemorySql()))

    async def enroll(self, colo: str) -> str:
        self._check("directory")
        return self.directory.enroll(colo, self.clock.now_s())

    async def colos(self) -> list[str]:
        self._check("directory")
        return self.directory.colos(self.clock.now_s())

    async def add(self, colo: str, more: Slice) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        self._shard(colo).add(Slice.decoded(json.loads(json.dumps(more.encoded()))), self.clock.now_s())

    async def view(self, colo: str, window: Window, by: Grouping) -> View:
        return View.decoded(json.loads(json.dumps(self._shard(colo).view(window, by, self.clock.now_s()).encoded())))

    async def all_time(self, colo: str) -> Slice:
        return self._shard(colo).all_time(self.clock.now_s())

    def _shard(self, colo: str) -> Shard:
        self._check(colo)
        return self.shards.setdefault(colo, Shard(MemorySql()))

    def _check(self, name: str) -> None:
        if name in self.down:
            raise StoreError("no metrics")


@dataclass(slots=True)
class FakeAlerts:
    """The real book, or down."""

    clock: Clock
    is_down: bool = False
    sql: MemorySql = field(default_factory=MemorySql)

    async def step(self, rules: Sequence[Rule], observed: Observed, *, notify: bool) -> None:
        sent = Observed.decoded(json.loads(json.dumps(observed.encoded())))
        self._book().step([Rule(**asdict(rule)) for rule in rules], sent, notify=notify)

    async def read(self) -> dict[str, Any]:
        return self._book().read()

    async def take(self) -> Sequence[Mapping[str, Any]]:
        return self._book().take(self.clock.now_s())

    async def settle(self, delivered: Sequence[str], refused: Sequence[str], *, failed: bool) -> None:
        self._book().settle(delivered, refused, failed=failed, now_s=self.clock.now_s())

    def _book(self) -> AlertBook:
        """A new one each time, as after a restart: all that it knows must be in the database."""
        if self.is_down:
            raise StoreError("no alerts")
        return AlertBook(self.sql)


@dataclass(slots=True)
class FakeReceiver:
    """Answers with the statuses given, the last one again and again; None: it can't be reached."""

    statuses: list[int | None] = field(default_factory=lambda: [200])
    posts: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    async def post(self, url: str, body: str, headers: Mapping[str, str]) -> int:
        self.posts.append((url, body, dict(headers)))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            raise DeliveryError("not there")
        return status


class CountingIds:
    """`1`, `2`, … instead of random ids."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> str:
        self._last += 1
        return str(self._last)


def _types_prove_the_ports(response: FakeUpstreamResponse, request: FakeRequest) -> Sequence[object]:
    """Never called: mypy checks here that each fake is what the core asks for."""
    clock: Clock = FakeClock()
    stores: list[Store] = [MemoryStore(), FailingStore()]
    upstream: UpstreamResponse = response
    edge: EdgeModels = FakeEdgeModels(lambda call: response)
    regions = FakeCloudRegions(lambda call: response)
    cloud: CloudRegions = regions
    flights: Flights = FakeFlights(regions)
    feedback: FeedbackStore = FakeFeedbackStore()
    vectors: Vectors = FakeVectors()
    limiter: RateLimiter = FakeRateLimiter()
    limits: LimitStore = FakeLimits(clock)
    telemetry: Telemetry = CollectingTelemetry()
    background: Background = CollectingBackground()
    log: Log = CollectingLog()
    asked: Request = request
    metrics: MetricsStore = FakeMetrics(clock)
    ledger: LedgerStore = FakeLedger(clock)
    several = (clock, stores, upstream, edge, cloud, flights, feedback, vectors, limiter, limits, telemetry, metrics)
    return *several, ledger, background, log, asked


@dataclass(slots=True)
class MemoryBucket:
    """Objects in a dictionary, or down."""

    objects: dict[str, bytes] = field(default_factory=dict)
    is_down: bool = False

    async def put(self, key: str, data: bytes) -> None:
        self._check()
        self.objects[key] = data

    async def begin(self, key: str) -> Upload:
        self._check()
        return MemoryUpload(self, key)

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self._check()
        if key not in self.objects:
            raise StoreError("no such object")
        return self.objects[key][offset : None if length is None else offset + length]

    async def body(self, key: str) -> Any:
        self._check()
        return self.objects.get(key)

    async def keys(self, prefix: str) -> list[str]:
        self._check()
        return [key for key in self.objects if key.startswith(prefix)][:1000]

    async def delete(self, keys: Sequence[str]) -> None:
        self._check()
        for key in keys:
            self.objects.pop(key, None)

    def _check(self) -> None:
        if self.is_down:
            raise StoreError("no bucket")


@dataclass(slots=True)
class MemoryUpload:
    """Parts that become an object at the end."""

    bucket: MemoryBucket
    key: str
    parts: list[bytes] = field(default_factory=list)

    async def part(self, data: bytes) -> None:
        self.parts.append(data)

    async def complete(self) -> None:
        self.bucket.objects[self.key] = b"".join(self.parts)

    async def abort(self) -> None:
        self.parts.clear()


@dataclass(slots=True)
class MemoryBooks:
    """A book for each tenant, or down."""

    clock: Clock
    lease_s: float = 60.0
    books: dict[str, BatchBook] = field(default_factory=dict)
    is_down: bool = False

    def book(self, tenant: str) -> BatchBook:
        return self.books.setdefault(tenant, BatchBook(MemorySql(), lease_s=self.lease_s))

    async def ask(self, tenant: str, op: str, **facts: Any) -> Any:
        if self.is_down:
            raise StoreError("no books")
        sent = json.loads(json.dumps(facts))
        result = getattr(self.book(tenant), op)(**sent, now_s=self.clock.now_s())
        return json.loads(json.dumps(result))


@dataclass(slots=True)
class FakeBatchProviders:
    """A provider with OpenAI's batch API: a batch ends, in reverse order, at the poll after `polls`.

    answer: of a line's body, (status, body); None: the line has no result. failures: statuses of the next calls, 0 for
    a connection that fails; None: the call that then dies was heard all the same. calls: method and path.
    """

    answer: Callable[[Mapping[str, Any]], tuple[int, Mapping[str, Any]] | None]
    polls: int = 1
    failures: list[int | None] = field(default_factory=list)
    ending: str = "completed"
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    async def ask(
        self, upstream: BatchUpstream, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> UpstreamResponse:
        return self._faulty(f"{method} {path}", lambda: self._answer(method, path.partition("?")[0], body))

    async def upload(self, upstream: BatchUpstream, content: Any, size_bytes: int, filename: str) -> UpstreamResponse:
        assert len(content) == size_bytes
        return self._faulty("POST /files", lambda: {"id": self._keep(content)})

    def _faulty(self, call: str, act: Callable[[], Any]) -> UpstreamResponse:
        self.calls.append(call)
        status = self.failures.pop(0) if self.failures else 200
        if status is None:
            act()
        if not status:
            raise UpstreamError("no provider")
        if status != 200:
            return FakeUpstreamResponse.plain({"error": {"message": "no"}}, status=status)
        found = act()
        if isinstance(found, bytes):
            return FakeUpstreamResponse(*(found[at : at + 100] for at in range(0, len(found), 100)))
        return FakeUpstreamResponse.plain(found or {"error": {}}, status=200 if found else 404)

    def _keep(self, content: bytes) -> str:
        file_id = f"file-there{next(self._numbers)}"
        self.files[file_id] = content
        return file_id

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        match (method, *path.strip("/").split("/")):
            case ("POST", "batches"):
                assert body is not None
                batch = {"id": f"batch_there{len(self.batches)}", "status": "in_progress", "polled": 0, **body}
                self.batches[batch["id"]] = batch
                return batch
            case ("GET", "batches"):
                return {"data": list(self.batches.values())}
            case ("GET", "batches", batch_id):
                return self._polled(self.batches.get(batch_id))
            case ("POST", "batches", batch_id, "cancel"):
                self.batches[batch_id]["ending"] = "cancelled"
                return self.batches[batch_id]
            case ("GET", "files", file_id, "content"):
                return self.files.get(file_id)
            case ("DELETE", "files", file_id):
                return {"deleted": self.files.pop(file_id, None) is not None}
        raise AssertionError(path)

    def _polled(self, batch: dict[str, Any] | None) -> dict[str, Any] | None:
        if batch is None or batch["status"] not in ("in_progress", "cancelling"):
            return batch
        batch["polled"] += 1
        batch["request_counts"] = {"total": 9, "completed": batch["polled"], "failed": 0}
        if batch["polled"] > self.polls:
            batch["status"] = batch.get("ending", self.ending)
            self._write(batch)
        return batch

    def _write(self, batch: dict[str, Any]) -> None:
        lines: dict[bool, list[str]] = {True: [], False: []}
        for text in reversed(self.files[batch["input_file_id"]].splitlines()):
            line = json.loads(text)
            answered = self.answer(line["body"])
            if answered is not None:
                response = {"status_code": answered[0], "request_id": "r", "body": answered[1]}
                result = {"id": "there", "custom_id": line["custom_id"], "response": response, "error": None}
                lines[answered[0] < 400].append(json.dumps(result))
        for name, is_ok in (("output_file_id", True), ("error_file_id", False)):
            batch[name] = self._keep("".join(f"{each}\n" for each in lines[is_ok]).encode()) if lines[is_ok] else None


@dataclass(slots=True)
class FakeQueue:
    """takes: how many calls it takes before it is down; None: all of them. `sent`: what each of those brought."""

    takes: int | None = None
    sent: list[list[Mapping[str, Any]]] = field(default_factory=list)

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        if len(self.sent) == self.takes:
            raise StoreError("no queue")
        self.sent.append(list(messages))


@dataclass(slots=True)
class FakeMessage:
    """A queue's message. outcome: what became of it; None: its consumer died."""

    body: Mapping[str, Any]
    outcome: Literal["ack", "retry"] | None = None

    def ack(self) -> None:
        self.outcome = "ack"

    def retry(self, delay_s: int) -> None:
        self.outcome = "retry"
