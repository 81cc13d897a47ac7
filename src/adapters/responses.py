"""`UpstreamResponse` on a JavaScript `Response`, from `fetch` or from a binding."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from edge_router.errors import UpstreamError


class JsUpstreamResponse:
    """Scope: request, like the JavaScript objects it holds. call: as in border.mjs. head: its status and headers."""

    keeps = True

    def __init__(self, call: Any, head: str) -> None:
        self._call = call
        self.status, self._headers = json.loads(head)

    def header(self, name: str) -> str | None:
        value: str | None = self._headers.get(name)
        return value

    async def text(self) -> str:
        try:
            return str(await BORDER.wait(BORDER.js.text, self._call))
        except JsException as exc:
            raise _broken() from exc

    async def read(self) -> bytes | None:
        try:
            piece = await BORDER.wait(BORDER.js.read, self._call)
        except JsException as exc:
            raise _broken() from exc
        return None if piece is None else piece.to_bytes()

    async def push(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """JavaScript reads on by itself and calls back, which costs half of what awaiting each read does."""
        number = 0
        waiting: list[asyncio.Task[None]] = []  # one; asyncio itself does not keep it

        def hear(piece: Any) -> bool:
            room = take(piece.encode() if isinstance(piece, str) else piece.to_bytes())
            if room is None:
                return False
            waiting.append(asyncio.ensure_future(go_on(room)))
            return True

        async def go_on(room: Awaitable[None]) -> None:
            try:
                await room
            finally:
                waiting.clear()
                BORDER.js.goOn(number)

        def begin(given: int, call: Any) -> None:
            nonlocal number
            number = given
            BORDER.takers[number] = hear
            BORDER.js.push(number, call)

        try:
            await BORDER.wait(begin, self._call)
        except JsException as exc:
            raise _broken() from exc
        finally:
            BORDER.takers.pop(number, None)

    async def cancel(self) -> None:
        try:
            if not BORDER.js.abort(self._call):
                await BORDER.wait(BORDER.js.cancel, self._call)
        except JsException:
            return  # it had ended, or broken, by itself


async def begun(begin: Callable[..., Any], *args: Any) -> JsUpstreamResponse:
    """The answer to a call that a function of border.mjs begins. Raises JsException. Who is cancelled meanwhile, by a
    deadline or a caller who left, gives it up.
    """
    call: Any = None

    def keep(number: int) -> None:
        nonlocal call
        call = begin(number, *args)

    try:
        head = await BORDER.wait(keep)
    except asyncio.CancelledError:
        BORDER.js.giveUp(call)
        raise
    return JsUpstreamResponse(call, head)


def _broken() -> UpstreamError:
    return UpstreamError("The connection to the model broke off.", code="stream_cut")
