"""One call, forwarded: from a checked request to a plain answer or to a stream under the stream law."""

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from cloud_fallback.answers import as_stream, check_plain, failure_for_status
from cloud_fallback.batching import JOINABLE, Batcher, inputs_of
from cloud_fallback.boundary import Exchange
from cloud_fallback.budgets import Budgets
from cloud_fallback.calls import Call, Endpoint, count_chars, parse_call
from cloud_fallback.dispatch import Dispatcher
from cloud_fallback.drain import Drain
from cloud_fallback.errors import (
    CallerGone,
    GatewayError,
    RequestRejected,
    ShuttingDown,
    UpstreamError,
    UpstreamTimeout,
)
from cloud_fallback.metrics import Metrics
from cloud_fallback.models import Batching, Model
from cloud_fallback.prompt_cache import cache_key, cached_share, hit_percent
from cloud_fallback.relay import StreamRelay
from cloud_fallback.settings import Settings
from cloud_fallback.upstream import Lease, Reply

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# Behind `[DONE]` comes the end of the body, mostly in the same packet. Having read it, the connection can
# be used again; an upstream that keeps it back longer than this loses the connection.
DRAIN_S = 0.25
SSE = "text/event-stream"
_ANSWERED_BY = "nearside-answered-by"  # in the answer to a batch, until it is taken apart

T = TypeVar("T")


class Forwarder:
    """Asks the upstreams and decides what their answers are. Scope: process."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: Settings,
        budgets: Budgets,
        metrics: Metrics,
        drain: Drain,
        logger: FilteringBoundLogger,
    ) -> None:
        self._dispatcher = dispatcher
        self._settings = settings
        self._budgets = budgets
        self._metrics = metrics
        self._drain = drain
        self._logger = logger
        self._batchers: dict[str, Batcher] = {}

    async def forward(
        self, call: Call, model: Model, headers: dict[str, str], exchange: Exchange, deadline_s: float
    ) -> Response:
        """The answer to send; a stream has its first event already. Raises GatewayError.

        deadline_s: until when its first byte is wanted, on the event loop's clock.
        """
        needs = call.needs
        if "vision" in needs and "vision" not in model.entry.features:
            raise RequestRejected(
                f"Content parts other than text are not served by {model.id[:128]!r}.",
                param="messages",
                code="unsupported_value",
            )
        self._budgets.check(model)
        with exchange.waiting_for_upstream():
            if call.endpoint is Endpoint.EMBEDDINGS and model.entry.batching is not None:
                inputs = inputs_of(call)
                if inputs is not None:
                    return await self._join(call, model, model.entry.batching, inputs, exchange, deadline_s)

            async def attempt(candidate: Model, lease: Lease, until_s: float) -> Response:
                return await self._attempt(call, candidate, lease, headers, exchange, until_s)

            return await self._dispatcher.first_answer(model, needs, exchange, deadline_s, attempt)

    async def _attempt(
        self, call: Call, model: Model, lease: Lease, headers: dict[str, str], exchange: Exchange, until_s: float
    ) -> Response:
        with exchange.tracer.upstream_call(lease.upstream.id, model.id, headers) as traced:
            try:
                async with asyncio.timeout_at(until_s):
                    body = call.body_for(model.upstream_id, extra=_hints(call, model))
                    reply = await lease.upstream.open(call.endpoint.value, body, traced)
            except TimeoutError:
                raise UpstreamTimeout("The upstream did not answer in time.") from None
            try:
                return await self._answer(call, model, reply, lease, exchange, until_s)
            except BaseException:
                await reply.aclose()
                raise

    async def _answer(
        self, call: Call, model: Model, reply: Reply, lease: Lease, exchange: Exchange, until_s: float
    ) -> Response:
        if reply.status != 200:
            body = await self._read(reply, until_s, limit=MAX_ERROR_BYTES)
            raise failure_for_status(reply.status, body, reply.retry_after)
        if call.is_stream and reply.media_type == SSE:
            relay = StreamRelay(call.endpoint, model=model.id, choices=call.choices)
            first = await _first_event(relay, reply, until_s)
            lease.note_first_byte()
            idle_s = model.entry.stream_idle_s or self._settings.stream_idle_s
            note = partial(self._note_stream, call, model, lease)
            return RelayedStream(relay, reply, first, exchange, note, self._drain, idle_s=idle_s, logger=self._logger)
        if reply.media_type != "application/json":
            raise UpstreamError("The upstream's answer has the wrong content type.")
        body = await self._read(reply, until_s, limit=MAX_ANSWER_BYTES)
        answer = check_plain(call.endpoint, body)
        await reply.aclose()
        lease.note_first_byte()
        lease.end(has_succeeded=True)
        if not self._note_usage(model, answer.get("usage"), exchange):
            self._budgets.add_estimate(model, call.input_chars, count_chars(answer.get("choices")))
        if not call.is_stream:
            return Response(body, media_type="application/json")
        stream = as_stream(call.endpoint, answer, include_usage=call.include_usage)
        return Response(stream, media_type=SSE, headers={"cache-control": "no-cache"})

    async def _join(
        self, call: Call, model: Model, batching: Batching, inputs: list[Any], exchange: Exchange, deadline_s: float
    ) -> Response:
        """Embeddings together with those that others ask for just now."""
        shape = {name: call.fields[name] for name in call.fields if name in JOINABLE} | {"model": model.id}
        # Texts and lists of tokens can't stand in one list.
        key = f"{type(inputs[0]).__name__} {exchange.may_fall_back} {json.dumps(shape, sort_keys=True)}"
        batcher = self._batchers.get(key)
        if batcher is None:
            self._batchers = {name: each for name, each in self._batchers.items() if not each.is_idle}
            sent = self._metrics.batch_items.labels(model.entry.id).observe
            ask = partial(self._ask_batch, model, exchange.may_fall_back)
            batcher = self._batchers[key] = Batcher(shape, batching, ask, sent)
        try:
            async with asyncio.timeout_at(deadline_s):
                answer = await batcher.embed(inputs)
        except TimeoutError:
            raise UpstreamTimeout("The upstream did not answer in time.") from None
        exchange.answered_by = answer.pop(_ANSWERED_BY)
        return Response(json.dumps(answer), media_type="application/json")

    async def _ask_batch(self, model: Model, may_fall_back: bool, body: bytes) -> dict[str, Any]:
        call = parse_call(Endpoint.EMBEDDINGS, body)
        exchange = Exchange(request_id=f"batch_{uuid.uuid4().hex}", may_fall_back=may_fall_back)
        headers = {"x-request-id": exchange.request_id, "accept": "application/json"}
        deadline_s = _now_s() + (model.entry.first_byte_timeout_s or self._settings.first_byte_timeout_s)

        async def attempt(candidate: Model, lease: Lease, until_s: float) -> Response:
            return await self._attempt(call, candidate, lease, headers, exchange, until_s)

        response = await self._dispatcher.first_answer(model, call.needs, exchange, deadline_s, attempt)
        return {**check_plain(Endpoint.EMBEDDINGS, bytes(response.body)), _ANSWERED_BY: exchange.answered_by}

    def _note_stream(self, call: Call, model: Model, lease: Lease, relay: StreamRelay, exchange: Exchange) -> None:
        """What became of a stream; a caller who left says nothing about the upstream."""
        if relay.failure is not None:
            self._metrics.broken_streams.labels(relay.failure).inc()
        if not relay.is_done or relay.failure == "shutting_down":
            lease.end(has_succeeded=None)
        else:
            lease.end(has_succeeded=relay.failure is None)
        if not self._note_usage(model, relay.usage, exchange):
            self._budgets.add_estimate(model, call.input_chars, relay.chars)

    def _note_usage(self, model: Model, usage: object, exchange: Exchange) -> bool:
        """False when it says nothing."""
        if not isinstance(usage, dict):
            return False
        entry, counts = model.entry.id, [usage.get("prompt_tokens"), usage.get("completion_tokens", 0)]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            return False
        self._metrics.input_tokens.labels(entry).inc(counts[0])
        self._metrics.output_tokens.labels(entry).inc(counts[1])
        self._budgets.add(model, *counts)
        share = cached_share(usage)
        if share is not None:
            self._metrics.cached_tokens.labels(entry).inc(share[0])
            exchange.prompt_cache_percent = hit_percent(usage)
        return True

    async def _read(self, reply: Reply, until_s: float, *, limit: int) -> bytes:
        """The body; of an error what came by `until_s`, up to `limit` bytes. Raises GatewayError."""
        body = bytearray()
        try:
            async with asyncio.timeout_at(until_s), asyncio.timeout(self._settings.stream_idle_s) as idle:
                async for chunk in reply.chunks:
                    body += chunk
                    if len(body) > limit:
                        if reply.status != 200:
                            break
                        raise UpstreamError("The upstream's answer is too large.")
                    idle.reschedule(_now_s() + self._settings.stream_idle_s)
        except (TimeoutError, GatewayError) as exc:
            if reply.status != 200:
                return bytes(body)
            if isinstance(exc, TimeoutError):
                raise UpstreamTimeout("The upstream's answer fell silent or took too long.") from None
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
        on_end: Callable[[StreamRelay, Exchange], None],
        drain: Drain,
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
        self._on_end = on_end
        self._drain = drain
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
            self._on_end(self._relay, self._exchange)
            await self._reply.aclose()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._send(send, self._first)
        try:
            async with self._drain.bounded():
                await self._relay_rest(send)
        except ShuttingDown as exc:
            await self._send(send, self._relay.fail("shutting_down", exc))
        except TimeoutError:
            await self._send(send, self._relay.fail("stalled"))
        except GatewayError:
            await self._send(send, self._relay.fail("cut"))
        except Exception:
            self._logger.exception("crash", request_id=self._exchange.request_id)
            await self._send(send, self._relay.fail("crash"))

    async def _relay_rest(self, send: Send) -> None:
        """Raises TimeoutError when the upstream falls silent."""
        async with asyncio.timeout(None) as idle:
            while not self._relay.is_done:
                idle.reschedule(_now_s() + self._idle_s)
                chunk = await anext(self._reply.chunks, None)
                # A slow caller is not a silent upstream.
                idle.reschedule(None)
                out = self._relay.end() if chunk is None else self._relay.feed(chunk)
                await self._send(send, out)

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


def _hints(call: Call, model: Model) -> dict[str, str]:
    """What helps the upstream and changes no answer."""
    key = cache_key(call) if model.entry.prompt_cache_key and call.endpoint is Endpoint.CHAT else None
    return {} if key is None else {"prompt_cache_key": key}


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
