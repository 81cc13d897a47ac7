"""The short way of an event into Python and of its answer out: docs/benchmarks/hot-path.md.

The runtime's own way makes an instance of the entry class for each event and then calls `wrapper_func` of its
introspection module. Both calls wait for a turn of the event loop and get a stack of their own, and what the second one
returns is a coroutine, which becomes a task, for two turns more. Together that is most of what a Python hello costs.

Here JavaScript calls Python like any function, and is given a Response when nothing had to be waited for, else a
promise of one. Nothing depends on it: where a runtime is built otherwise, events come in by its own way and are only
slower.
"""

import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from js import Function, Object
from pyodide.ffi import JsProxy, create_proxy

from adapters.border import BORDER
from adapters.event_loop import use_microtasks, within_turn
from adapters.http import WorkerRequest
from adapters.runtime import ConsoleLog, run_eagerly

Answer = Callable[[WorkerRequest], Coroutine[Any, Any, Any]]


class Entrance:
    """Scope: isolate. answer: makes the JavaScript `Response`. Its proxies are never destroyed."""

    def __init__(self, answer: Answer, wrapper_func: Callable[..., Any]) -> None:
        self._answer = answer
        self._wrapper_func = wrapper_func
        self._is_used = False

    def enter(self, instance: Any, name: str, *args: Any) -> Any:
        """Stands for the runtime's `wrapper_func`. Instances of ours are objects of JavaScript, others of Python."""
        if name != "fetch":
            return self._wrapper_func(name == "test", instance, name, *args)
        if not isinstance(instance, JsProxy):
            return run_eagerly(instance.fetch(args[0]))
        if not self._is_used:
            self._is_used = True
            ConsoleLog().event("entrance_used")  # only a log can tell: the answers are the same by either way
        return run_eagerly(self._answer(WorkerRequest(args[0])))


class _Plan:
    """What `open_entrance` is to open. Scope: isolate."""

    open: Callable[[], None] | None = None


def plan_entrance(main: ModuleType, name: str, answer: Answer, **others: Callable[..., Any]) -> None:
    """At import. name: of the entry class in `main`. others: what else the class has, by the events' names."""
    _Plan.open = partial(_open, main, name, answer, others)


async def open_entrance() -> None:
    """And the border. To be awaited by each event that comes in by the runtime's way: the isolate's first may be any,
    of a Durable Object too. Not at import: what it makes can't be in a snapshot.
    """
    await BORDER.open()
    opening, _Plan.open = _Plan.open, None
    if opening is not None:
        opening()


def _open(main: ModuleType, name: str, answer: Answer, others: Mapping[str, Callable[..., Any]]) -> None:
    runtime = next((each for path, each in sys.modules.items() if path.startswith("_cloudflare.introspection")), None)
    wrapper_func = getattr(runtime, "wrapper_func", None)
    if runtime is None or not callable(wrapper_func) or isinstance(wrapper_func, JsProxy):
        ConsoleLog().warning("entrance_closed", reason="this runtime is built otherwise")
        return
    use_microtasks()
    instance = Object.new()
    instance.fetch = Object  # only looked at: whether there is such a method
    for event, method in others.items():
        setattr(instance, event, create_proxy(method))
    # `Object(x)` is x itself, if x is an object: a class whose instances are all the same one.
    setattr(main, name, Object.bind(None, instance))
    runtime.wrapper_func = _javascript(within_turn(Entrance(answer, wrapper_func).enter))


def _javascript(function: Callable[..., Any]) -> Any:
    """A function of JavaScript that calls the given one; `callWithOptions`, by which the runtime knows a Python
    function, it does not have. Its first argument is dropped.
    """
    return Function.prototype.call.bind(create_proxy(function))
