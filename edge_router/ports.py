"""What the gateway needs of the outside world. Adapters: `src/` in the Worker, `tests/fakes.py` in tests."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from .alerts.findings import Observed
from .alerts.rules import Rule
from .budgets.ledger import Left, Refusal, Sums
from .budgets.money import Cost
from .budgets.policy import SpendingLimits
from .counters import Amount
from .feedback_records import AnswerRecord, Rating
from .limits.book import Verdict
from .limits.policy import Limits
from .metrics.cells import Slice
from .metrics.shard import View
from .metrics.windows import Grouping, Window
from .prewarming.hot import Asked
from .report import Report
from .settings import BatchUpstream, Region


class Clock(Protocol):
    """Reads the time and waits. Inside a deployed Worker both readings only move after I/O."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...

    def elapsed_ms(self) -> float:
        """Milliseconds on a clock for durations; its zero means nothing."""
        ...

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, later. Returns what stops that; harmless after it has happened."""
        ...


class Store(Protocol):
    """Text by key, eventually consistent. Every method may raise StoreError."""

    async def get(self, key: str) -> str | None: ...

    async def put(self, key: str, value: str, *, ttl_s: int) -> None:
        """ttl_s: at least 60, the platform's minimum."""
        ...

    async def delete(self, key: str) -> None:
        """Harmless when there is nothing."""
        ...


class Cipher(Protocol):
    """Authenticated encryption with 256-bit keys and 96-bit nonces, each nonce used once. Raises StoreError.

    bound: what is not encrypted but must be the same again.
    """

    async def encrypt(self, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes: ...

    async def decrypt(self, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        """None when key, nonce, data and bound are not those of one encryption."""
        ...


class Pages(Protocol):
    """What was deployed beside the code: the pages for people, and the API's description."""

    async def text(self, path: str) -> str:
        """What a path such as `/dashboard` names. Raises NotFound when it was not deployed."""
        ...


class UpstreamBody(Protocol):
    """An upstream's answer while it arrives."""

    @property
    def keeps(self) -> bool:
        """Whether who reads this is the one to store it: of several who read along, one is. Final at the end."""
        ...

    async def read(self) -> bytes | None:
        """The next piece of the body as it arrives, None at its end. Raises UpstreamError when it breaks off."""
        ...

    async def push(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """Hands over the rest of the body, each piece as it arrives; what `take` returns is waited for first.

        Raises UpstreamError when it breaks off. `take` must not raise.
        """
        ...

    async def cancel(self) -> None:
        """Tells the upstream that nobody listens any more. Never raises; harmless after the end."""
        ...


class UpstreamResponse(UpstreamBody, Protocol):
    """An upstream's answer whose headers have arrived."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None: ...

    async def text(self) -> str:
        """The whole body. Raises UpstreamError when it breaks off."""
        ...


class EdgeModels(Protocol):
    """Workers AI. is_bound: whether there is any, in this deployment."""

    @property
    def is_bound(self) -> bool: ...

    async def run(self, model_id: str, inputs: Mapping[str, Any], *, affinity: str | None = None) -> UpstreamResponse:
        """Any status. affinity: calls with the same one should reach the same instance.

        Raises UpstreamError when the platform can't be reached.
        """
        ...


class CloudRegions(Protocol):
    """cloud_fallback in its regions."""

    async def post(self, region: Region, path: str, body: str, headers: Mapping[str, str]) -> UpstreamResponse:
        """Any status. Raises CloudUnavailable when the region can't be reached."""
        ...

    async def probe(self, region: Region) -> UpstreamResponse:
        """Its `/health`: any status. Raises CloudUnavailable when the region can't be reached."""
        ...


class Vectors(Protocol):
    """An index of embeddings, eventually consistent: what is written is found after seconds to minutes.

    Every method may raise StoreError.
    """

    async def query(self, vector: Sequence[float], *, namespace: str, filters: Mapping[str, str], limit: int) -> Any:
        """The index's answer as JSON-like data, unchecked: `{"matches": [{"id", "score", "metadata"}, …]}`."""
        ...

    async def upsert(
        self, vector_id: str, vector: Sequence[float], *, namespace: str, metadata: Mapping[str, str | int]
    ) -> None:
        """vector_id, namespace: at most 64 bytes."""
        ...

    async def delete(self, vector_ids: Sequence[str]) -> None: ...


class Flights(Protocol):
    """Single flight: one call per key at a time, which all who ask meanwhile, or just after, read along.

    Both kinds of call return the answer, any status. They raise StoreError when the flight itself fails: the caller
    then goes alone. A flight that fails later raises FlightLost where it is read.

    on_join: called when the call turns out to be another caller's, before its answer or failure is known.
    """

    async def claim(self, key: str, for_s: float) -> bool:
        """True for the first who asks within for_s seconds, False for the others. Raises StoreError.

        For work that one caller should do. A claim may be forgotten early, so doing it twice must be harmless.
        """
        ...

    async def post(
        self,
        key: str,
        region: Region,
        path: str,
        body: str,
        headers: Mapping[str, str],
        *,
        on_join: Callable[[], None],
    ) -> UpstreamResponse:
        """A call of `CloudRegions`. Raises UpstreamError as well, CloudUnavailable when the region can't be reached."""
        ...

    async def run(
        self, key: str, model_id: str, inputs: Mapping[str, Any], *, affinity: str, on_join: Callable[[], None]
    ) -> UpstreamResponse:
        """A call of `EdgeModels`. Raises UpstreamError as well."""
        ...


class FeedbackStore(Protocol):
    """Answers and their ratings, each tenant's apart. Every method may raise StoreError."""

    async def add(self, tenant: str, records: Sequence[AnswerRecord]) -> float:
        """What the tenant's ratings so far move the router's thresholds by."""
        ...

    async def rate(self, tenant: str, request_id: str, rating: Rating) -> AnswerRecord | None:
        """The record with its new rating; None when the tenant has none of that request."""
        ...

    async def labelled(self, tenant: str) -> str:
        """Records with a rating or an escalation, as JSON Lines."""
        ...


class CounterStore(Protocol):
    """Sums by name, each tenant's apart, from everywhere. Every method may raise StoreError."""

    async def add(self, tenant: str, amounts: Sequence[Amount]) -> None: ...

    async def read(self, tenant: str) -> dict[str, float]: ...

    async def forget(self, tenant: str, prefix: str) -> None:
        """Removes the sums whose names begin like that."""
        ...


class HotStore(Protocol):
    """The questions that are asked most, of all tenants. Every method may raise StoreError."""

    async def note(self, asked: Sequence[Asked]) -> None: ...

    async def take(self, stale_by_s: float, limit: int) -> Sequence[Asked]:
        """The most asked for of those whose entries are stale by then; they are noted no more."""
        ...


class LimitStore(Protocol):
    """Who counts what a tenant asks: how often, and how much at a time. Every method may raise StoreError."""

    async def enter(self, tenant: str, limits: Limits, lease: str) -> Verdict:
        """Counts a request that may go on, which then holds the lease, if its number is limited."""
        ...

    async def renew(self, tenant: str, lease: str) -> None:
        """The request goes on. Without this a lease is over after `leases.LEASE_S`."""
        ...

    async def leave(self, tenant: str, lease: str) -> None:
        """The request has ended; harmless when it never held the lease."""
        ...


class LedgerStore(Protocol):
    """What tenants spend, each one's apart. Every method may raise StoreError; a call that comes again with the same
    reservation_id changes nothing.
    """

    async def reserve(self, tenant: str, reservation_id: str, most: Cost, limits: SpendingLimits) -> Left | Refusal: ...

    async def settle(self, tenant: str, reservation_id: str, cost: Cost, model: str) -> None:
        """What an answer cost, in place of what was reserved for it."""
        ...

    async def release(self, tenant: str, reservation_id: str) -> None: ...

    async def sums(self, tenant: str) -> Sums: ...


class RateLimiter(Protocol):
    """Requests of a tenant per minute, counted at each location of its own."""

    async def allows(self, tenant: str) -> bool:
        """Counts one request. Raises StoreError when it can't."""
        ...


class Telemetry(Protocol):
    """One record a request, written after the answer, without any prompt text. Never raises."""

    def record(self, report: Report, background: "Background", *, tenant: str, status: int) -> None: ...


class PointStore(Protocol):
    """A dataset of points, one a request."""

    def write(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Hands them over and waits for nothing. Never raises: who keeps them may drop them anyway."""
        ...


class MetricsStore(Protocol):
    """What each location saw, in a place of its own. Every method may raise StoreError."""

    async def enroll(self, colo: str) -> str:
        """Notes that there is such a location. Returns where its metrics belong: to it, or to `other`."""
        ...

    async def colos(self) -> list[str]:
        """Those enrolled in the last day."""
        ...

    async def add(self, colo: str, more: Slice) -> None: ...

    async def view(self, colo: str, window: Window, by: Grouping) -> View: ...

    async def all_time(self, colo: str) -> Slice: ...


class AlertStore(Protocol):
    """The alerts of all locations, in one place. Every method may raise StoreError."""

    async def step(self, rules: Sequence[Rule], observed: Observed, *, notify: bool) -> None:
        """Judges what was observed. notify: whether changes make notices."""
        ...

    async def read(self) -> dict[str, Any]:
        """evaluated_at_s, active, pending, resolved, notices: docs/alerts.md."""
        ...

    async def take(self) -> Sequence[Mapping[str, Any]]:
        """Notices to send now, in order; whoever takes them settles them."""
        ...

    async def settle(self, delivered: Sequence[str], refused: Sequence[str], *, failed: bool) -> None:
        """Ids of notices that need not be sent again; failed: the next one could not be sent."""
        ...


class Receiver(Protocol):
    """Who is told something by HTTP: alerts, traces."""

    async def post(self, url: str, body: str, headers: Mapping[str, str]) -> int:
        """The status of the answer. Raises DeliveryError when there is none."""
        ...


class Background(Protocol):
    """Work that goes on after the response, up to 30 s in a Worker. Scope: request."""

    def run(self, work: Coroutine[Any, Any, None]) -> None: ...


class Log(Protocol):
    """One structured line. Never given prompts, answers or keys."""

    def event(self, name: str, **facts: str | int | float | None) -> None: ...

    def warning(self, name: str, **facts: str | int | float | None) -> None:
        """Of what somebody should change."""
        ...


class Upload(Protocol):
    """One object that is being written in parts. Every method may raise StoreError."""

    async def part(self, data: bytes) -> None:
        """All parts but the last are of one size, at least 5 MiB."""
        ...

    async def complete(self) -> None: ...

    async def abort(self) -> None: ...


class Bucket(Protocol):
    """Objects of any size by key, consistent. Every method may raise StoreError."""

    async def put(self, key: str, data: bytes) -> None: ...

    async def begin(self, key: str) -> Upload: ...

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """length: None for the rest. An object that is not there is a StoreError."""
        ...

    async def body(self, key: str) -> Any:
        """The whole as a stream that the runtime sends by itself; None when it is not there."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """The first 1,000."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """At most 1,000; harmless for what is not there."""
        ...


class TenantBooks(Protocol):
    """The `BatchBook` of each tenant (edge_router/batches/book.py), in a place of its own."""

    async def ask(self, tenant: str, op: str, **facts: Any) -> Any:
        """What the book's method `op` returns, as JSON-like data. Raises StoreError."""
        ...


class BatchProviders(Protocol):
    """OpenAI's `/files` and `/batches` at the providers that have them. Any status; raises UpstreamError when one can't
    be reached.
    """

    async def ask(
        self, upstream: BatchUpstream, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> UpstreamResponse: ...

    async def upload(self, upstream: BatchUpstream, content: Any, size_bytes: int, filename: str) -> UpstreamResponse:
        """A file for a batch. content: what `Bucket.body` gave, sent on as it is read."""
        ...


class WorkQueue(Protocol):
    """Where work waits for a consumer."""

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """JSON-like messages, at most a hundred. Raises StoreError when they were not taken, or nobody knows."""
        ...


class QueueMessage(Protocol):
    """A message that comes again unless it is done with. Delivered at least once."""

    body: Mapping[str, Any]

    def ack(self) -> None: ...

    def retry(self, delay_s: int) -> None: ...
