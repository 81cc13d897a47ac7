"""The border between Python and JavaScript: what costs several crossings elsewhere is one function of border.mjs.

Each crossing costs microseconds, a proxy of a JavaScript object more, and a promise that is awaited most of all. So
texts and numbers cross; a number stands for what is waited for, and JavaScript calls back with it through functions
made once.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from js import Array, Object
from pyodide.ffi import create_proxy

from adapters.event_loop import within_turn

MODULE = "adapters/border.mjs"  # a path from the Worker's root


class Border:
    """Scope: isolate. js: the functions of border.mjs, once `open`ed within an event: a snapshot can't hold them.

    rooms, leavers: who is told, by number, that there is room again in a stream, and that its caller has left.
    """

    def __init__(self) -> None:
        self.js: Any = None
        self.fire: Callable[[int], None] = lambda number: None
        self.takers: dict[int, Callable[[Any], bool]] = {}
        self.rooms: dict[int, Callable[[], None]] = {}
        self.leavers: dict[int, Callable[[], None]] = {}
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._last = 0

    async def open(self) -> None:
        """Harmless when it is open."""
        if self.js is not None:
            return
        from _pyodide_entrypoint_helper import doAnImport  # as the SDK imports its own modules

        module = await doAnImport(MODULE)
        if self.js is None:
            told = (self._settle, self._fire, self._took, self._room_again, self._left)
            module.begin(Array.of(*(create_proxy(within_turn(function)) for function in told)))
            self.js = SimpleNamespace(**{name: getattr(module, name) for name in Object.keys(module)})

    def number(self) -> int:
        """A new one."""
        self._last += 1
        return self._last

    def known(self) -> int:
        """How many numbers stand for something, in both languages; for measuring. At rest a few timers."""
        ours = (self.takers, self.rooms, self.leavers, self._futures)
        return int(self.js.known()) + sum(len(each) for each in ours)

    async def wait(self, begin: Callable[..., Any], *args: Any) -> Any:
        """What a function of border.mjs that takes a number settles with. Raises JsException."""
        number, future = self.number(), asyncio.get_running_loop().create_future()
        self._futures[number] = future
        try:
            begin(number, *args)
            return await future
        finally:
            self._futures.pop(number, None)

    def _settle(self, number: int, value: Any = None, error: Any = None) -> None:
        future = self._futures.pop(number, None)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def _fire(self, number: int) -> None:
        self.fire(number)

    def _took(self, number: int, piece: Any) -> bool:
        take = self.takers.get(number)
        return take is not None and take(piece)

    def _room_again(self, number: int) -> None:
        tell = self.rooms.get(number)
        if tell is not None:
            tell()

    def _left(self, number: int) -> None:
        tell = self.leavers.get(number)
        if tell is not None:
            tell()


BORDER = Border()
