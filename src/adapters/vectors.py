"""The Vectorize binding. Until the semantic cache uses it, only its health is of interest."""

from typing import Any

from pyodide.ffi import JsException


async def is_reachable(index: Any) -> bool:
    """Whether the index answers."""
    try:
        await index.describe()
    except JsException:
        return False
    return True
