"""The upstreams over httpx: types in, errors in, types out; and of each how many calls, how quick, how healthy."""

import asyncio
import http.cookiejar
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from cloud_fallback.breaker import Breaker
from cloud_fallback.bulkhead import Bulkhead
from cloud_fallback.errors import GatewayError, UpstreamError, UpstreamTimeout, UpstreamUnavailable, UpstreamUnreachable
from cloud_fallback.latency import PeakEwma
from cloud_fallback.models import UpstreamEntry
from cloud_fallback.settings import Settings
from cloud_fallback.transport import AiohttpTransport

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_MODELS = 1000  # whose health is kept: behind a wildcard any name may be asked for


class Reply:
    """An upstream's answer with its headers read and its body not. Must be closed.

    chunks: the body's bytes as they arrive, once; raises GatewayError.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.retry_after: str | None = response.headers.get("retry-after")
        # Not aiter_bytes: its layers cost more than all else that a chunk goes through here.
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.chunks = _Chunks(response.stream.__aiter__())

    async def aclose(self) -> None:
        """Back into the pool when the body was read to its end, else cut: the upstream stops writing."""
        with suppress(httpx.HTTPError, OSError):
            await self._response.aclose()


class _Chunks:
    """The body's bytes, with httpx's errors as ours."""

    __slots__ = ("_body",)

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._body.__anext__()
        except httpx.HTTPError as exc:
            raise _translated(exc) from exc


@dataclass(slots=True)
class Health:
    """Of one model at one upstream."""

    breaker: Breaker
    latency: PeakEwma

    @property
    def is_closed(self) -> bool:
        return self.breaker.state == "closed"


@dataclass(slots=True)
class Lease:
    """One call that an upstream carries. It is ended once, with what became of it; more often is harmless."""

    upstream: "Upstream"
    health: Health
    model_id: str
    is_probe: bool
    began_s: float = field(default_factory=time.monotonic)
    is_over: bool = False

    def note_first_byte(self) -> None:
        self.health.latency.add(time.monotonic() - self.began_s)
        if self.is_probe:  # others need not wait for the end of a stream
            self._tell_breaker(has_succeeded=True)
            self.is_probe = False

    def end(self, has_succeeded: bool | None) -> None:
        """None: nobody knows, the caller left."""
        if self.is_over:
            return
        self.is_over = True
        self.upstream.bulkhead.leave()
        self._tell_breaker(has_succeeded)

    def _tell_breaker(self, has_succeeded: bool | None) -> None:
        counts = has_succeeded if self.upstream.breaks else None
        if self.health.breaker.leave(counts, is_probe=self.is_probe):
            self.upstream.opened.append(self.model_id)


class Upstream:
    """One OpenAI-compatible base URL with one pool of connections. Scope: process."""

    def __init__(
        self,
        entry: UpstreamEntry,
        key: str | None,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.id = entry.id
        self.bulkhead = Bulkhead(max_concurrency=entry.max_concurrency, max_queue=entry.max_queue)
        self.breaks = settings.breakers == "on"
        self.opened: list[str] = []  # models whose breaker has just opened, for the other replicas
        self._base_url = entry.base_url
        self._health: OrderedDict[str, Health] = OrderedDict()
        self._warm_connections = settings.warm_connections
        self._keepalive_s = settings.keepalive_s
        self._client = _client(entry, key, settings, transport)

    def health(self, model_id: str) -> Health:
        found = self._health.get(model_id)
        if found is None:
            found = self._health[model_id] = Health(Breaker(time.monotonic), PeakEwma(time.monotonic))
            if len(self._health) > MAX_MODELS:
                self._health.popitem(last=False)
        self._health.move_to_end(model_id)
        return found

    def known_health(self) -> Mapping[str, Health]:
        return self._health

    def open_by_hint(self, model_id: str, age_s: float) -> None:
        """Another replica found it failing. What was never asked here is not made up."""
        if self.breaks and model_id in self._health:
            self._health[model_id].breaker.open_by_hint(age_s)

    def cost(self, model_id: str) -> float:
        """Seconds that one more call would wait, roughly."""
        return self.health(model_id).latency.cost(self.bulkhead.in_flight)

    async def enter(self, model_id: str, deadline_s: float) -> Lease:
        """Raises UpstreamUnavailable when the breaker is open or there is no place. The lease must be ended."""
        health = self.health(model_id)
        if health.breaker.may_pass:
            await self.bulkhead.enter(deadline_s)
            if health.breaker.may_pass:  # it may have opened while we stood in the queue
                return Lease(self, health, model_id, health.breaker.enter())
            self.bulkhead.leave()
        raise UpstreamUnavailable(
            "The upstream keeps failing and is left alone for a moment.",
            code="upstream_open",
            retry_after_s=health.breaker.retry_after_s,
        )

    async def open(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Raises GatewayError when no headers came back. The Reply must be closed."""
        request = self._client.build_request("POST", self._base_url + path, content=body, headers=headers)
        try:
            return Reply(await self._client.send(request, stream=True))
        except httpx.HTTPError as exc:
            raise _translated(exc) from exc

    async def keep_warm(self) -> None:
        """Opens connections now, and uses them often enough that they stay open. Runs until cancelled.

        A request without a key for a path that need not exist: all that counts is the TLS handshake.
        """
        while self._warm_connections:
            await asyncio.gather(*(self._touch() for _ in range(self._warm_connections)))
            await asyncio.sleep(max(1.0, 0.6 * self._keepalive_s))

    async def _touch(self) -> None:
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(5):
                request = self._client.build_request("HEAD", self._base_url)
                request.headers.pop("authorization", None)
                await self._client.send(request)

    async def aclose(self) -> None:
        await self._client.aclose()


def _client(
    entry: UpstreamEntry, key: str | None, settings: Settings, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    headers = {"user-agent": "nearside-cloud", "content-type": "application/json"}
    # A compressed stream is held back by the compressor until a block is full.
    headers["accept-encoding"] = "identity"
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    # On this machine no proxy from the environment stands in between.
    trust_env = httpx.URL(entry.base_url).host not in LOOPBACK
    if transport is None and not entry.http2:
        transport = AiohttpTransport(
            connect_timeout_s=settings.connect_timeout_s, keepalive_s=settings.keepalive_s, trust_env=trust_env
        )
    # How long an answer may take is decided in forwarding.py; here only what httpx alone can see.
    timeout = httpx.Timeout(None, connect=settings.connect_timeout_s)
    limits = httpx.Limits(max_connections=None, keepalive_expiry=settings.keepalive_s)
    # One client serves many tenants: an upstream's cookie for one of them must not reach another.
    cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        headers=headers,
        timeout=timeout,
        limits=limits,
        http2=entry.http2,
        cookies=cookies,
        trust_env=trust_env,
        transport=transport,
    )


def _translated(exc: httpx.HTTPError) -> GatewayError:
    if isinstance(exc, httpx.TimeoutException):
        return UpstreamTimeout("The upstream did not answer in time.")
    if isinstance(exc, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        return UpstreamUnreachable("The upstream could not be reached.")
    return UpstreamError("The connection to the upstream broke.")
