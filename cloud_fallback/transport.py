"""httpx's transport over aiohttp's client: HTTP/1.1 parsed in C, which costs a fifth of httpcore's CPU a chunk.

Measured on streams of one token a chunk, docs/benchmarks/fallback.md. HTTP/2 stays with httpx's own transport.
"""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from yarl import URL

# aiohttp would add its own; httpx has set those that are wanted.
_SET_BY_HTTPX = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AiohttpTransport(httpx.AsyncBaseTransport):
    """One pool of connections. Scope: the event loop of the first call."""

    def __init__(self, *, connect_timeout_s: float, keepalive_s: float, trust_env: bool) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._keepalive_s = keepalive_s
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx's own errors. How many calls there are at a time is the caller's business."""
        with _translated_errors():
            response = await self._opened().request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=request.content or None,
                allow_redirects=False,
                skip_auto_headers=_SET_BY_HTTPX,
            )
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=self._keepalive_s, ssl=ssl.create_default_context(), ttl_dns_cache=30
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                auto_decompress=False,
                # One client serves many tenants: a cookie of one of them must not reach another.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._session


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        with _translated_errors():
            while chunk := await content.readany():
                yield chunk

    async def aclose(self) -> None:
        """Back into the pool when the body was read to its end; else the connection is cut."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except aiohttp.ServerTimeoutError as exc:
        raise httpx.ConnectTimeout("no connection in time") from exc
    except aiohttp.ClientConnectorError as exc:
        raise httpx.ConnectError("no connection") from exc
    except aiohttp.InvalidURL as exc:
        raise httpx.UnsupportedProtocol("not a URL that can be asked") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise httpx.RemoteProtocolError("the connection broke") from exc
