"""Calls of our own Durable Objects, from both sides: JSON `{op, …}` in, `{"result": …}` out."""

import json
from collections.abc import Mapping
from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from adapters.entrance import open_entrance
from adapters.javascript import encode
from adapters.runtime import CLOCK
from edge_router.errors import StoreError
from edge_router.timers import Deadline

TIMEOUT_S = 2.0


async def ask_object(
    namespace: Any, name: str, call: Mapping[str, Any], *, what: str, timeout_s: float = TIMEOUT_S
) -> Any:
    """The result, as JSON-like data. what: names the object in the StoreError that any failure becomes."""
    try:
        async with Deadline(CLOCK, timeout_s):
            answer = await BORDER.wait(BORDER.js.ask, namespace, name, encode(call))
        return json.loads(answer)["result"]
    except (JsException, TimeoutError, ValueError, KeyError, TypeError) as exc:
        raise StoreError(f"The {what} failed: {type(exc).__name__}") from exc


async def call_of(request: Any) -> Any:
    """What an object is asked. request: as its `fetch` was given it."""
    await open_entrance()
    return json.loads(await BORDER.wait(BORDER.js.textOf, getattr(request, "js_object", request)))


def answer_with(result: Any) -> Any:
    """The JavaScript `Response`. result: JSON-like data."""
    return BORDER.js.respond(encode({"result": result}), 200, "{}")
