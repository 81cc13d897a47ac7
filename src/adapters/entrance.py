"""The short way of an event into Python and of its answer out: docs/benchmarks/hot-path.md.

The runtime's own way makes an instance of the entry class for each event and then calls `wrapper_func` of its
introspection module. Both calls wait for a turn of the event loop and get a stack of their own, and what the second one
returns is a coroutine, which becomes a task, for two turns more. Together that is most of what a Python hello costs.

Here JavaScript calls Python like any function, and is given a Response when nothing had to be waited for, else a
promise of one. A Durable Object that stores nothing is a number to Python, without an instance of its own. Nothing
depends on it: where a runtime is built otherwise, events come in by its own way and are only slower.
"""

import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any

from js import Object
from pyodide.ffi import JsProxy, create_proxy

from adapters.border import BORDER
from adapters.event_loop import use_microtasks, within_turn
from adapters.http import WorkerRequest
from adapters.runtime import ConsoleLog, run_eagerly

Answer = Callable[[WorkerRequest], Coroutine[Any, Any, Any]]
ObjectAnswer = Callable[[int, str], Any]
"""Of the number of a Durable Object and what it is asked; makes the JavaScript `Response`."""


class Entrance:
    """Scope: isolate. answer: makes the JavaScript `Response`. Its proxies are never destroyed."""

    def __init__(self, answer: Answer, wrapper_func: Callable[..., Any]) -> None:
        self._answer = answer
        self._wrapper_func = wrapper_func
        self._is_used = False

    def fetch(self, request: Any) -> Any:
        if not self._is_used:
            self._is_used = True
            ConsoleLog().event("entrance_used")  # only a log can tell: the answers are the same by either way
        return run_eagerly(self._answer(WorkerRequest(request)))

    def otherwise(self, relaxed: bool, instance: Any, name: str, *args: Any) -> Any:
        """Stands for the runtime's `wrapper_func`, where an instance is one of Python or the event no request."""
        if name == "fetch":
            return run_eagerly(instance.fetch(args[0]))
        return self._wrapper_func(relaxed, instance, name, *args)


class _Plan:
    """What `open_entrance` is to open. Scope: isolate."""

    open: Callable[[], None] | None = None


def plan_entrance(
    main: ModuleType,
    name: str,
    answer: Answer,
    *,
    objects: Mapping[str, ObjectAnswer],
    others: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
) -> None:
    """At import. name: of the entry class in `main`. objects: by the names of their classes, Durable Objects that store
    nothing, so that none needs an instance in Python. others: what else the entry class has, by the events' names.
    """
    _Plan.open = partial(_open, main, name, answer, others, objects)


async def open_entrance() -> None:
    """And the border. To be awaited by each event that comes in by the runtime's way: the isolate's first may be any,
    of a Durable Object too. Not at import: what it makes can't be in a snapshot.
    """
    await BORDER.open()
    opening, _Plan.open = _Plan.open, None
    if opening is not None:
        opening()


def _open(
    main: ModuleType,
    name: str,
    answer: Answer,
    others: Mapping[str, Callable[..., Any]],
    objects: Mapping[str, ObjectAnswer],
) -> None:
    runtime = next((each for path, each in sys.modules.items() if path.startswith("_cloudflare.introspection")), None)
    wrapper_func = getattr(runtime, "wrapper_func", None)
    if runtime is None or not callable(wrapper_func) or isinstance(wrapper_func, JsProxy):
        ConsoleLog().warning("entrance_closed", reason="this runtime is built otherwise")
        return
    use_microtasks()
    entrance = Entrance(answer, wrapper_func)
    events = Object.new()
    for event, method in others.items():
        setattr(events, event, create_proxy(method))
    setattr(main, name, BORDER.js.entryClass(_proxy(entrance.fetch), events))
    for each, asked in objects.items():
        setattr(main, each, BORDER.js.objectClass(_proxy(asked)))
    # `enterBy` gives a function without `callWithOptions`, by which the runtime knows one of Python.
    runtime.wrapper_func = BORDER.js.enterBy(_proxy(entrance.otherwise))


def _proxy(function: Callable[..., Any]) -> Any:
    return create_proxy(within_turn(function))
