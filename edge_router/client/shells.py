"""The two clients, blocking and for asyncio: what they do beside I/O is in `exchange`, `retries` and `errors`.

Who leaves a stream (the end of `with`, a cancelled task, an exception of a listener) closes the connection, and the
gateway then stops the model. A proxy from the environment is used for the network, never for this machine.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self

import httpx
from tenacity import AsyncRetrying, Retrying

from edge_router.sse import BadStream

from .errors import ConnectionFailed, UnreadableAnswer
from .exchange import Call, Completion, Exchange, Listener, Message, Timeouts, chat_body, new_request_id
from .retries import Retries

DEFAULT_URL = "http://127.0.0.1:8787"
PATH = "/v1/chat/completions"
WhenWhole = Callable[[Completion], Any]


class _Asking:
    """What both clients know: how a call is put together."""

    def __init__(
        self, key: str | None, headers: Mapping[str, str] | None, timeouts: Timeouts, retries: Retries
    ) -> None:
        self._headers = dict(headers or {}) | ({"authorization": f"Bearer {key}"} if key else {})
        self._timeouts = timeouts
        self._retries = retries

    def call(
        self,
        messages: str | Sequence[Message],
        fields: Mapping[str, Any],
        *,
        stream: bool,
        on_token: Listener | None,
        on_sentence: Listener | None,
        request_id: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Call:
        return Call(
            body=chat_body(messages, stream=stream, fields=fields),
            headers={**self._headers, **(headers or {}), "x-request-id": request_id or new_request_id()},
            timeouts=self._timeouts,
            started_s=time.monotonic(),
            on_token=on_token,
            on_sentence=on_sentence,
        )

    def retrying(self) -> dict[str, Any]:
        return self._retries.arguments(self._timeouts.total_s)


class Client(_Asking):
    """Blocking; may be shared by threads."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  frozen
        retries: Retries = Retries(),  # noqa: B008  frozen
        connections: int = 100,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """base_url: of the gateway, or of any OpenAI-compatible server, with or without `/v1`. transport: instead of
        the network. sleep: waits between attempts.
        """
        super().__init__(key, headers, timeouts, retries)
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **_settings(base_url, connections, transport))

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        on_token: Listener | None = None,
        on_sentence: Listener | None = None,
        on_complete: WhenWhole | None = None,
        stream: bool | None = None,
        request_id: str | None = None,
        **fields: Any,
    ) -> Completion:
        """The whole answer. Streamed if somebody listens, or as `stream` says. fields: more of the body (`model`,
        `max_tokens`, `use_cache`, …). Raises ClientError.
        """
        streamed = bool(on_token or on_sentence) if stream is None else stream
        call = self.call(
            messages, fields, stream=streamed, on_token=on_token, on_sentence=on_sentence, request_id=request_id
        )
        with Stream(self._http, call, self.retrying(), self._sleep, on_complete) as answer:
            for _ in answer:
                pass
            return answer.completion

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        on_token: Listener | None = None,
        on_sentence: Listener | None = None,
        on_complete: WhenWhole | None = None,
        request_id: str | None = None,
        **fields: Any,
    ) -> "Stream":
        """To be entered by `with`, and iterated over for its texts."""
        call = self.call(
            messages, fields, stream=True, on_token=on_token, on_sentence=on_sentence, request_id=request_id
        )
        return Stream(self._http, call, self.retrying(), self._sleep, on_complete)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """One answer as it arrives. `completion` holds what has come, and its times."""

    def __init__(
        self,
        http: httpx.Client,
        call: Call,
        retrying: Mapping[str, Any],
        sleep: Callable[[float], None],
        on_complete: WhenWhole | None,
    ) -> None:
        self._http, self._call, self._on_complete = http, call, on_complete
        self._retrying = Retrying(sleep=sleep, **retrying)
        self._response: httpx.Response | None = None

    @property
    def completion(self) -> Completion:
        return self._exchange.completion

    def __enter__(self) -> Self:
        """Waits for the first content; until then, what fails is tried again."""
        for attempt in self._retrying:
            with attempt:
                self._open(attempt.retry_state.attempt_number)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __iter__(self) -> Iterator[str]:
        try:
            while True:
                texts, notices = self._exchange.take()
                for listener, text in notices:
                    listener(text)
                yield from texts
                if self._exchange.is_over:
                    break
                self._read()
        finally:
            self._close()
        if self._on_complete:
            self._on_complete(self.completion)

    def _open(self, attempt: int) -> None:
        self._exchange = Exchange(self._call, attempt=attempt, now_s=time.monotonic())
        try:
            with _as_client_errors(self._exchange):
                self._response = self._http.send(_request(self._http, self._call), stream=True)
                self._exchange.open(self._response.status_code, self._response.headers)
                self._bytes = self._response.iter_bytes()
            while not (self._exchange.has_begun or self._exchange.is_over):
                self._read()
        except BaseException:
            self._close()
            raise

    def _read(self) -> None:
        exchange = self._exchange
        with _as_client_errors(exchange):
            data = next(self._bytes, None)
            if data is None:
                exchange.end(time.monotonic())
            else:
                exchange.feed(data, time.monotonic())

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class AsyncClient(_Asking):
    """For asyncio; cancel the task to stop a call."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  frozen
        retries: Retries = Retries(),  # noqa: B008  frozen
        connections: int = 100,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """As `Client`."""
        super().__init__(key, headers, timeouts, retries)
        self._sleep = sleep
        self._http = httpx.AsyncClient(transport=transport, **_settings(base_url, connections, transport))

    async def chat(
        self,
        messages: str | Sequence[Message],
        *,
        on_token: Listener | None = None,
        on_sentence: Listener | None = None,
        on_complete: WhenWhole | None = None,
        stream: bool | None = None,
        request_id: str | None = None,
        **fields: Any,
    ) -> Completion:
        """As `Client.chat`; listeners may be coroutine functions."""
        streamed = bool(on_token or on_sentence) if stream is None else stream
        call = self.call(
            messages, fields, stream=streamed, on_token=on_token, on_sentence=on_sentence, request_id=request_id
        )
        async with AsyncStream(self._http, call, self.retrying(), self._sleep, on_complete) as answer:
            async for _ in answer:
                pass
            return answer.completion

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        on_token: Listener | None = None,
        on_sentence: Listener | None = None,
        on_complete: WhenWhole | None = None,
        request_id: str | None = None,
        **fields: Any,
    ) -> "AsyncStream":
        """To be entered by `async with`, and iterated over for its texts."""
        call = self.call(
            messages, fields, stream=True, on_token=on_token, on_sentence=on_sentence, request_id=request_id
        )
        return AsyncStream(self._http, call, self.retrying(), self._sleep, on_complete)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncStream:
    """As `Stream`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        call: Call,
        retrying: Mapping[str, Any],
        sleep: Callable[[float], Any],
        on_complete: WhenWhole | None,
    ) -> None:
        self._http, self._call, self._on_complete = http, call, on_complete
        self._retrying = AsyncRetrying(sleep=sleep, **retrying)
        self._response: httpx.Response | None = None

    @property
    def completion(self) -> Completion:
        return self._exchange.completion

    async def __aenter__(self) -> Self:
        async for attempt in self._retrying:
            with attempt:
                await self._open(attempt.retry_state.attempt_number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while True:
                texts, notices = self._exchange.take()
                for listener, heard in notices:
                    if isawaitable(told := listener(heard)):
                        await told
                for text in texts:
                    yield text
                if self._exchange.is_over:
                    break
                await self._read()
        finally:
            await self._close()
        if self._on_complete and isawaitable(told := self._on_complete(self.completion)):
            await told

    async def _open(self, attempt: int) -> None:
        self._exchange = exchange = Exchange(self._call, attempt=attempt, now_s=time.monotonic())
        try:
            with _as_client_errors(exchange):
                async with asyncio.timeout(_left_s(exchange)):
                    self._response = await self._http.send(_request(self._http, self._call), stream=True)
                exchange.open(self._response.status_code, self._response.headers)
                self._bytes = self._response.aiter_bytes()
            while not (exchange.has_begun or exchange.is_over):
                await self._read()
        except BaseException:
            await self._close()
            raise

    async def _read(self) -> None:
        exchange = self._exchange
        with _as_client_errors(exchange):
            async with asyncio.timeout(_left_s(exchange)):
                data = await anext(self._bytes, None)
            if data is None:
                exchange.end(time.monotonic())
            else:
                exchange.feed(data, time.monotonic())

    async def _close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None


def _settings(base_url: str, connections: int, transport: object) -> dict[str, Any]:
    """For either of httpx's clients."""
    url = httpx.URL(base_url.rstrip("/").removesuffix("/v1"))
    return {
        "base_url": url,
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        "trust_env": transport is None and url.host not in ("127.0.0.1", "localhost", "::1"),
    }


def _request(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    """httpx's own read timeout is what ends silence for the blocking client; the exact limits are the exchange's."""
    times = call.timeouts
    silence_s = min(max(times.first_token_s, times.idle_s), times.total_s)
    timeout = httpx.Timeout(silence_s, connect=min(times.connect_s, times.total_s))
    return http.build_request("POST", PATH, json=call.body, headers=call.headers, timeout=timeout)


def _left_s(exchange: Exchange) -> float:
    return max(0.0, exchange.deadline()[0] - time.monotonic())


@contextmanager
def _as_client_errors(exchange: Exchange) -> Iterator[None]:
    """Turns what httpx raises into what docs/client.md lists."""
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise exchange.too_late("connect") from exc
    except (httpx.TimeoutException, TimeoutError) as exc:
        raise exchange.too_late() from exc
    except httpx.ConnectError as exc:
        raise ConnectionFailed(str(exc), is_connected=False) from exc
    except httpx.TransportError as exc:
        raise exchange.broken(str(exc) or type(exc).__name__) from exc
    except (httpx.DecodingError, BadStream) as exc:
        raise UnreadableAnswer(str(exc)) from exc
