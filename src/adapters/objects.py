"""Calls of our own Durable Objects: JSON `{op, …}` in, `{"result": …}` out."""

import json
from collections.abc import Mapping
from typing import Any

from pyodide.ffi import JsException

from adapters.javascript import to_object
from adapters.runtime import CLOCK
from edge_router.errors import StoreError
from edge_router.timers import Deadline

TIMEOUT_S = 2.0


async def ask_object(
    namespace: Any, name: str, call: Mapping[str, Any], *, what: str, timeout_s: float = TIMEOUT_S
) -> Any:
    """The result, as JSON-like data. what: names the object in the StoreError that any failure becomes."""
    init = to_object({"method": "POST", "body": json.dumps(call)})
    try:
        async with Deadline(CLOCK, timeout_s):
            response = await namespace.getByName(name).fetch("https://object/", init)
            return json.loads(await response.text())["result"]
    except (JsException, TimeoutError, ValueError, KeyError, TypeError) as exc:
        raise StoreError(f"The {what} failed: {type(exc).__name__}") from exc
