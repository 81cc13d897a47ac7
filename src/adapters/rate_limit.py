"""`RateLimiter` on the rate limiting binding. Scope: one Cloudflare location; permissive, never for billing."""

from typing import Any

from pyodide.ffi import JsException

from adapters.javascript import to_object
from edge_router.errors import StoreError


class BindingRateLimiter:
    """The limit and its period stand in wrangler.toml."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    async def allows(self, tenant: str) -> bool:
        try:
            outcome = await self._binding.limit(to_object({"key": tenant}))
        except JsException as exc:
            raise StoreError(f"The rate limiter failed: {exc.name}") from exc
        return bool(outcome.success)
