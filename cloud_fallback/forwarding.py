"""One call, forwarded: from a checked request to a plain answer or to a stream under the stream law."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from cloud_fallback.answers import as_stream, check_plain, failure_for_status
from cloud_fallback.boundary import Exchange
from cloud_fallback.calls import Call
from cloud_fallback.errors import CallerGone, GatewayError, UpstreamError, UpstreamTimeout
from cloud_fallback.models import Model
from cloud_fallback.relay import StreamRelay
from cloud_fallback.settings import Settings
from cloud_fallback.upstream import HttpUpstream, Reply

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# Behind `[DONE]` comes the end of the body, mostly in the same packet. Having read it, the connection can
# be used again; an upstream that keeps it back longer than this loses the connection.
DRAIN_S = 0.25
SSE = "text/event-stream"

T = TypeVar("T")


class Forwarder:
    """Asks the upstream and decides what its answer is."""

    def __init__(self, upstream: HttpUpstream, settings: Settings, logger: FilteringBoundLogger) -> None:
        self._upstream = upstream
        self._first_byte_timeout_s = settings.first_byte_timeout_s
        self._stream_idle_s = settings.stream_idle_s
        self._logger = logger

    async def forward(self, call: Call, model: Model, headers: dict[str, str], exchange: Exchange) -> Response:
        """The answer to send; a stream has its first event already. Raises GatewayError."""
        deadline_s = _now_s() + self._first_byte_timeout_s
        with exchange.waiting_for_upstream():
            try:
                async with asyncio.timeout_at(deadline_s):
                    reply = await self._upstream.open(call.endpoint.value, call.body_for(model.upstream_id), headers)
            except TimeoutError:
                raise UpstreamTimeout("The upstream did not answer in time.") from None
            try:
                return await self._answer(call, model, reply, exchange, deadline_s)
            except BaseException:
                await reply.aclose()
                raise

    async def _answer(self, call: Call, model: Model, reply: Reply, exchange: Exchange, deadline_s: float) -> Response:
        if reply.status != 200:
            body = await self._read(reply, limit=MAX_ERROR_BYTES)
            raise failure_for_status(reply.status, body, reply.retry_after)
        if call.is_stream and reply.media_type == SSE:
            relay = StreamRelay(call.endpoint, model=model.id)
            first = await _first_event(relay, reply, deadline_s)
            return RelayedStream(relay, reply, first, exchange, idle_s=self._stream_idle_s, logger=self._logger)
        if reply.media_type != "application/json":
            raise UpstreamError("The upstream's answer has the wrong content type.")
        body = await self._read(reply, limit=MAX_ANSWER_BYTES)
        answer = check_plain(call.endpoint, body)
        await reply.aclose()
        if not call.is_stream:
            return Response(body, media_type="application/json")
        stream = as_stream(call.endpoint, answer, include_usage=call.include_usage)
        return Response(stream, media_type=SSE, headers={"cache-control": "no-cache"})

    async def _read(self, reply: Reply, *, limit: int) -> bytes:
        """The body, at most `limit` bytes of it when the status is an error. Raises GatewayError."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._stream_idle_s) as idle:
                async for chunk in reply.chunks:
                    body += chunk
                    if len(body) > limit:
                        if reply.status != 200:
                            break
                        raise UpstreamError("The upstream's answer is too large.")
                    idle.reschedule(_now_s() + self._stream_idle_s)
        except (TimeoutError, GatewayError) as exc:
            if reply.status != 200:
                return bytes(body)
            if isinstance(exc, TimeoutError):
                raise UpstreamTimeout("The upstream's answer fell silent.") from None
            raise
        return bytes(body)


class RelayedStream(Response):
    """An open upstream stream on its way to the caller; closes the upstream whatever happens."""

    media_type = SSE

    def __init__(
        self,
        relay: StreamRelay,
        reply: Reply,
        first: bytes,
        exchange: Exchange,
        *,
        idle_s: float,
        logger: FilteringBoundLogger,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._relay = relay
        self._reply = reply
        self._first = first
        self._exchange = exchange
        self._idle_s = idle_s
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._pump(send))
            if self._relay.failure is None:
                with suppress(TimeoutError, GatewayError):
                    async with asyncio.timeout(DRAIN_S):
                        async for _ in self._reply.chunks:
                            pass
        finally:
            self._exchange.reason = self._relay.failure
            await self._reply.aclose()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._send(send, self._first)
        try:
            async with asyncio.timeout(None) as idle:
                while not self._relay.is_done:
                    idle.reschedule(_now_s() + self._idle_s)
                    chunk = await anext(self._reply.chunks, None)
                    # A slow caller is not a silent upstream.
                    idle.reschedule(None)
                    out = self._relay.end() if chunk is None else self._relay.feed(chunk)
                    await self._send(send, out)
        except TimeoutError:
            await self._send(send, self._relay.fail("stalled"))
        except GatewayError:
            await self._send(send, self._relay.fail("cut"))
        except Exception:
            self._logger.exception("crash", request_id=self._exchange.request_id)
            await self._send(send, self._relay.fail("crash"))

    async def _send(self, send: Send, body: bytes) -> None:
        if body:
            more = not self._relay.is_done
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def while_connected(receive: Receive, work: Coroutine[object, object, T]) -> T:
    """The result of `work`. Raises CallerGone, with `work` cancelled and ended, when the caller hangs up."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_until_disconnect(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerGone
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _first_event(relay: StreamRelay, reply: Reply, deadline_s: float) -> bytes:
    """Bytes up to the end of the chunk that opens the stream. Raises GatewayError."""
    try:
        async with asyncio.timeout_at(deadline_s):
            async for chunk in reply.chunks:
                first = relay.feed(chunk)
                if relay.is_open:
                    return first
    except TimeoutError:
        raise UpstreamTimeout("The upstream did not answer in time.") from None
    return relay.end()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _now_s() -> float:
    return asyncio.get_running_loop().time()
