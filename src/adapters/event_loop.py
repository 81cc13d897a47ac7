"""asyncio on JavaScript's microtasks: what is ready runs before JavaScript goes on to anything else.

Pyodide's loop waits for a turn of JavaScript's event loop before each step of a task, through a proxy and a stack made
for that step, and counts every future and task by a callback that takes another turn. Here a step costs a
microtask. Who waits without end for what is always ready would let nothing else run; nothing here does.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from js import queueMicrotask
from pyodide.ffi import create_proxy


class Microtasks:
    """Scope: isolate."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[asyncio.Handle] = deque()
        self._is_in_turn = False
        self._run_proxy = create_proxy(self._run)

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._loop, context)
        self._ready.append(handle)
        if not self._is_in_turn:
            # One each, although one would do for all: a request that is ended by force takes its microtasks along.
            queueMicrotask(self._run_proxy)
        return handle

    def turn(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls it, and then runs what it made ready, without a microtask for each."""
        if self._is_in_turn and asyncio.current_task(self._loop) is not None:
            return function(*args)  # JavaScript that a task has called, calling back
        self._is_in_turn = True
        try:
            return function(*args)
        finally:
            self._run()
            self._is_in_turn = False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._loop)

    def create_task(self, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(work, loop=self._loop, **options)

    def _run(self) -> None:
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()


class _InUse:
    """Scope: isolate."""

    microtasks: Microtasks | None = None


def within_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    """For JavaScript to call: what it makes ready is done when it returns."""

    def call(*args: Any) -> Any:
        microtasks = _InUse.microtasks
        return function(*args) if microtasks is None else microtasks.turn(function, *args)

    return call


def use_microtasks() -> None:
    """For the running loop. To be called within an event: what it makes can't be in a snapshot."""
    loop: Any = asyncio.get_running_loop()
    microtasks = _InUse.microtasks = Microtasks(loop)
    loop.call_soon = loop.call_soon_threadsafe = microtasks.call_soon
    loop.create_future, loop.create_task = microtasks.create_future, microtasks.create_task
