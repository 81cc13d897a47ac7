"""`RateLimiter` on the rate limiting binding. Scope: one Cloudflare location; permissive, never for billing."""

from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from edge_router.errors import StoreError


class BindingRateLimiter:
    """The limit and its period stand in wrangler.toml."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    async def allows(self, tenant: str) -> bool:
        try:
            return bool(await BORDER.wait(BORDER.js.mayPass, self._binding, tenant))
        except JsException as exc:
            raise StoreError(f"The rate limiter failed: {exc.name}") from exc
