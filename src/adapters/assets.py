"""`Pages` on the binding of the static assets."""

from typing import Any

from pyodide.ffi import JsException

from edge_router.errors import GatewayError, NotFound

# The binding looks at the path only, but wants a whole URL.
ORIGIN = "https://assets.invalid"


class AssetPages:
    def __init__(self, assets: Any) -> None:
        self._assets = assets

    async def text(self, path: str) -> str:
        try:
            response = await self._assets.fetch(ORIGIN + path)
            if response.status == 200:
                return str(await response.text())
        except JsException as exc:
            raise GatewayError(
                "The page can't be read right now; try again.", code="page_unavailable", status=503
            ) from exc
        raise NotFound("This deployment has no such page.", code="unknown_path")
