"""Clock, ids, log and background work of a Worker."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from js import Error, Promise, console

from adapters.border import BORDER


class WorkerClock:
    """`Clock` of the runtime. In production it only moves at I/O, against timing attacks. Scope: isolate.

    Timers are JavaScript's own and really taken back. asyncio's are not: a cancelled one stays in the runtime, with
    all that it refers to, until its time has come.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Callable[[], None]] = {}
        BORDER.fire = self._fire

    def now_s(self) -> float:
        return time.time()

    def elapsed_ms(self) -> float:
        return time.perf_counter() * 1000

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        number = BORDER.number()
        self._waiting[number] = callback
        BORDER.js.after(number, delay_s * 1000)
        return partial(self._stop, number)

    def _stop(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            BORDER.js.stop(number)

    def _fire(self, number: int) -> None:
        callback = self._waiting.pop(number, None)
        if callback is not None:
            callback()


CLOCK = WorkerClock()


class ConsoleLog:
    """`Log` as JSON lines on the console, where Workers Logs and `wrangler tail` pick them up."""

    def event(self, name: str, **facts: str | int | float | None) -> None:
        print(json.dumps({"event": name, **facts}))

    def warning(self, name: str, **facts: str | int | float | None) -> None:
        console.warn(json.dumps({"event": name, **facts}))


def run_eagerly(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of work that never waits, else a JavaScript promise of it. What can be done at once is done here."""
    running = _Running(work)
    task = asyncio.Task(running.run(), loop=asyncio.get_running_loop(), eager_start=True)
    return task.result() if task.done() else running.promise(task)


class _Running:
    """Work that may turn out to wait."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._settle: Any = None
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> Any:
        try:
            result = await self._work
        except BaseException as exc:
            if self._settle is None:
                raise
            self._settle.reject(Error.new(type(exc).__name__))
            return None
        if self._settle is not None:
            self._settle.resolve(result)
        return result

    def promise(self, task: asyncio.Task[Any]) -> Any:
        self._task = task  # asyncio itself does not keep it
        self._settle = Promise.withResolvers()
        return self._settle.promise


class WaitUntil:
    """`Background` on the runtime's `waitUntil`: after the response, at most 30 s. Scope: the current request."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        number = BORDER.number()
        BORDER.js.hold(number)

        async def whole() -> None:
            try:
                await work
            except (Exception, asyncio.CancelledError) as exc:
                BORDER.js.letGo(number, type(exc).__name__)  # which the runtime logs
            else:
                BORDER.js.letGo(number)

        def begin() -> None:
            asyncio.Task(whole(), loop=asyncio.get_running_loop(), eager_start=True)

        CLOCK.after(0, begin)


def new_id() -> str:
    """24 random hex digits. Only inside a request: the runtime forbids randomness at import."""
    return secrets.token_hex(12)
