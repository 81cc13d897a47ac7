"""Joins calls for embeddings that arrive together into one upstream call, and takes its answer apart again.

A call waits window_ms for others, or until max_items inputs are there. A caller who leaves takes their inputs along. An
input that the upstream refuses costs its caller an error and nobody else: the rest is asked again without it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cloud_fallback.calls import Call
from cloud_fallback.errors import RequestRejected, UpstreamError, UpstreamUnavailable
from cloud_fallback.models import Batching

Ask = Callable[[bytes], Awaitable[dict[str, Any]]]
"""Sends one body upstream; its checked answer. Raises GatewayError."""

JOINABLE = frozenset({"dimensions", "encoding_format", "user"})


@dataclass(slots=True, eq=False)
class Item:
    """The inputs of one caller."""

    inputs: list[Any]
    done: "asyncio.Future[dict[str, Any]]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def inputs_of(call: Call) -> list[Any] | None:
    """What a call asks for, one by one; None when it can't be joined with others."""
    asked = call.fields.get("input")
    if call.other_fields or not call.fields.keys() <= {"model", "input", *JOINABLE} or not asked:
        return None
    if isinstance(asked, str):
        return [asked]
    if not isinstance(asked, list):
        return None
    if all(type(each) is int for each in asked):
        return [asked]
    same = all(isinstance(each, str) for each in asked) or all(isinstance(each, list) for each in asked)
    return asked if same else None


class Batcher:
    """Scope: process, one for all calls that differ in their inputs alone."""

    def __init__(self, shape: dict[str, Any], batching: Batching, ask: Ask, on_sent: Callable[[int], None]) -> None:
        """shape: the body without `input`. on_sent: told how many inputs each upstream call had."""
        self._shape = shape
        self._batching = batching
        self._ask = ask
        self._on_sent = on_sent
        self._waiting: list[Item] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    async def embed(self, inputs: list[Any]) -> dict[str, Any]:
        """The answer for these inputs, in their order. Raises GatewayError."""
        self._waiting = [item for item in self._waiting if not item.done.done()]
        if self._waiting_inputs() + len(inputs) > self._batching.max_waiting and self._waiting:
            raise UpstreamUnavailable("Too many embeddings are waiting.", code="upstream_saturated", retry_after_s=1.0)
        item = Item(inputs)
        self._waiting.append(item)
        if self._waiting_inputs() >= self._batching.max_items:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batching.window_ms / 1000, self._flush)
        return await item.done  # a caller who leaves cancels it

    def _waiting_inputs(self) -> int:
        return sum(len(item.inputs) for item in self._waiting)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items = [item for item in self._waiting if not item.done.done()]
        self._waiting = []
        while items:
            batch = [items.pop(0)]
            size = len(batch[0].inputs)
            while items and size + len(items[0].inputs) <= self._batching.max_items:
                size += len(items[0].inputs)
                batch.append(items.pop(0))
            self._start(batch)

    def _start(self, batch: list[Item]) -> None:
        task = asyncio.ensure_future(self._answer(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        left = len(batch)

        def one_left(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:  # nobody waits: its answer would be for no one
                task.cancel()

        for item in batch:
            item.done.add_done_callback(one_left)

    async def _answer(self, batch: list[Item]) -> None:
        batch = [item for item in batch if not item.done.done()]
        if not batch:
            return
        inputs = [each for item in batch for each in item.inputs]
        self._on_sent(len(inputs))
        try:
            answer = await self._ask(json.dumps({**self._shape, "input": inputs}).encode())
        except RequestRejected as exc:
            if len(batch) == 1:
                _fail(batch, exc)
                return
            # One of them is at fault; halves find it in few calls.
            middle = len(batch) // 2
            await asyncio.gather(self._answer(batch[:middle]), self._answer(batch[middle:]))
        except Exception as exc:  # theirs to handle: each waits in a request of its own
            _fail(batch, exc)
        else:
            self._hand_out(batch, inputs, answer)

    def _hand_out(self, batch: list[Item], inputs: list[Any], answer: dict[str, Any]) -> None:
        by_index = {entry.get("index"): entry for entry in answer["data"]}
        weights = [len(json.dumps(each)) for each in inputs]
        tokens = _tokens(answer)
        start = 0
        for item in batch:
            end = start + len(item.inputs)
            entries = [by_index.get(index) for index in range(start, end)]
            if item.done.done():
                pass
            elif None in entries or len(by_index) > len(inputs):
                item.done.set_exception(UpstreamError("The upstream's answer lacks what was asked for."))
            else:
                data = [{**entry, "index": index} for index, entry in enumerate(entries) if entry is not None]
                item.done.set_result({**answer, "data": data, **_usage_share(tokens, weights, start, end)})
            start = end


def _fail(batch: list[Item], error: Exception) -> None:
    for item in batch:
        if not item.done.done():
            item.done.set_exception(error)


def _tokens(answer: dict[str, Any]) -> int | None:
    usage = answer.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


def _usage_share(tokens: int | None, weights: list[int], start: int, end: int) -> dict[str, Any]:
    """Of tokens that were counted for all together, by length; the shares add up to the whole."""
    if tokens is None:
        return {}
    total = sum(weights)
    share = tokens * sum(weights[:end]) // total - tokens * sum(weights[:start]) // total
    return {"usage": {"prompt_tokens": share, "total_tokens": share}}
