"""`Store` on a Workers KV namespace. Scope: global, eventually consistent, one write a second per key."""

from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from adapters.javascript import to_object
from adapters.runtime import CLOCK
from edge_router.errors import StoreError
from edge_router.timers import Deadline

KEYS_CACHE_TTL_S = 30  # the platform's minimum: a key that was revoked is to be refused soon
WRITE_TIMEOUT_S = 10.0


class WorkersKV:
    """cache_ttl_s: how long a location may serve its own copy of a value or of its absence, at least 30.

    read_timeout_s: after that a read has failed.
    """

    def __init__(self, namespace: Any, *, read_timeout_s: float, cache_ttl_s: int = 60) -> None:
        self._namespace = namespace
        self._read_timeout_s = read_timeout_s
        self._read_options = to_object({"type": "text", "cacheTtl": cache_ttl_s})

    async def get(self, key: str) -> str | None:
        try:
            async with Deadline(CLOCK, self._read_timeout_s):
                value = await self._call("get", key, self._read_options)
        except (JsException, TimeoutError) as exc:
            raise StoreError(f"KV get failed for {key[:12]}: {type(exc).__name__}") from exc
        return value if isinstance(value, str) else None

    async def is_reachable(self) -> bool:
        """Whether a look-up works, also one that is too slow for an answer; what it finds does not matter."""
        try:
            await self._call("get", "probe", self._read_options)
        except JsException:
            return False
        return True

    async def delete(self, key: str) -> None:
        try:
            async with Deadline(CLOCK, WRITE_TIMEOUT_S):
                await self._call("delete", key)
        except (JsException, TimeoutError) as exc:
            raise StoreError(f"KV delete failed for {key[:12]}: {type(exc).__name__}") from exc

    async def put(self, key: str, value: str, *, ttl_s: int) -> None:
        try:
            async with Deadline(CLOCK, WRITE_TIMEOUT_S):
                await self._call("put", key, value, to_object({"expirationTtl": ttl_s}))
        except (JsException, TimeoutError) as exc:
            raise StoreError(f"KV put failed for {key[:12]}: {type(exc).__name__}") from exc

    async def _call(self, method: str, *args: Any) -> Any:
        return await BORDER.wait(BORDER.js.call, self._namespace, method, *args)
