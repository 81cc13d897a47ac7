"""The upstream over httpx: types in, errors in, types out. Scope: one pool of connections per process."""

import http.cookiejar
from collections.abc import AsyncGenerator, Mapping

import httpx

from cloud_fallback.errors import GatewayError, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from cloud_fallback.settings import Settings


class Reply:
    """An upstream's answer with its headers read and its body not. Must be closed.

    chunks: the body's bytes as they arrive, once; raises GatewayError.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.retry_after: str | None = response.headers.get("retry-after")

        self.chunks = self._chunks()

    async def aclose(self) -> None:
        """Back into the pool when the body was read to its end, else cut: the upstream stops writing."""
        await self.chunks.aclose()
        await self._response.aclose()

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._response.aiter_bytes():
                yield chunk
        except httpx.HTTPError as exc:
            raise _translated(exc) from exc


class HttpUpstream:
    """One OpenAI-compatible base URL, one shared client."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._base_url = settings.upstream_url
        headers = {"user-agent": "nearside-cloud", "content-type": "application/json"}
        # A compressed stream is held back by the compressor until a block is full.
        headers["accept-encoding"] = "identity"
        if settings.upstream_key is not None:
            headers["authorization"] = f"Bearer {settings.upstream_key.get_secret_value()}"
        # How long an answer may take is decided in forwarding.py; here only what httpx alone can see.
        timeout = httpx.Timeout(None, connect=settings.connect_timeout_s, pool=settings.connect_timeout_s)
        limits = httpx.Limits(
            max_connections=settings.pool_size,
            max_keepalive_connections=settings.pool_size,
            keepalive_expiry=settings.keepalive_s,
        )
        # One client serves many tenants: an upstream's cookie for one of them must not reach another.
        cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=timeout,
            limits=limits,
            http2=settings.http2,
            cookies=cookies,
            trust_env=not settings.is_upstream_local,
            transport=transport,
        )

    async def open(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Raises GatewayError when no headers came back. The Reply must be closed."""
        request = self._client.build_request("POST", self._base_url + path, content=body, headers=headers)
        try:
            return Reply(await self._client.send(request, stream=True))
        except httpx.HTTPError as exc:
            raise _translated(exc) from exc

    async def aclose(self) -> None:
        await self._client.aclose()


def _translated(exc: httpx.HTTPError) -> GatewayError:
    if isinstance(exc, httpx.TimeoutException):
        return UpstreamTimeout("The upstream did not answer in time.")
    if isinstance(exc, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        return UpstreamUnreachable("The upstream could not be reached.")
    return UpstreamError("The connection to the upstream broke.")
