"""`UpstreamResponse` on a JavaScript `Response`, from `fetch` or from the AI binding."""

from collections.abc import AsyncIterator
from typing import Any

from pyodide.ffi import JsException

from edge_router.errors import UpstreamError


class JsUpstreamResponse:
    """Scope: request, like the JavaScript object it holds."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._reader: Any = None

    @property
    def status(self) -> int:
        return int(self._response.status)

    def header(self, name: str) -> str | None:
        value = self._response.headers.get(name)
        return value if isinstance(value, str) else None

    async def text(self) -> str:
        try:
            return str(await self._response.text())
        except JsException as exc:
            raise _broken() from exc

    async def chunks(self) -> AsyncIterator[bytes]:
        body = self._response.body
        if not hasattr(body, "getReader"):  # null: no body at all
            return
        self._reader = body.getReader()
        while True:
            try:
                result = await self._reader.read()
            except JsException as exc:
                raise _broken() from exc
            if result.done:
                return
            yield result.value.to_bytes()

    async def cancel(self) -> None:
        try:
            if self._reader is not None:
                await self._reader.cancel()
            elif hasattr(self._response.body, "cancel"):
                await self._response.body.cancel()
        except JsException:
            return  # it had ended, or broken, by itself


def _broken() -> UpstreamError:
    return UpstreamError("The connection to the model broke off.", code="stream_cut")
