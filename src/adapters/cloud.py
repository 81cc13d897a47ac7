"""`CloudRegions` over `fetch`."""

from collections.abc import Mapping
from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from adapters.javascript import encode
from adapters.responses import JsUpstreamResponse, begun
from edge_router.errors import CloudUnavailable
from edge_router.settings import Region


class FetchCloudRegions:
    """A call that is cancelled, by a deadline or a caller who left, is aborted on the wire as well."""

    async def post(self, region: Region, path: str, body: str, headers: Mapping[str, str]) -> JsUpstreamResponse:
        sent = {"content-type": "application/json", **headers}
        return await self._fetch(region, path, {"method": "POST", "headers": sent}, body)

    async def probe(self, region: Region) -> JsUpstreamResponse:
        return await self._fetch(region, "/health", {"method": "GET"})

    async def is_healthy(self, region: Region) -> bool:
        """Whether the region's `/health` answers 200."""
        try:
            response = await self.probe(region)
        except CloudUnavailable:
            return False
        await response.cancel()
        return response.status == 200

    async def _fetch(
        self, region: Region, path: str, options: Mapping[str, Any], body: str | None = None
    ) -> JsUpstreamResponse:
        try:
            return await begun(BORDER.js.send, region.url + path, encode(options), body)
        except JsException as exc:
            raise CloudUnavailable(f"The cloud region {region.id} could not be reached.") from exc
