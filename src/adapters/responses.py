"""`UpstreamResponse` on a JavaScript `Response`, from `fetch` or from the AI binding."""

from collections.abc import Awaitable, Callable
from typing import Any

from js import AbortController, Object, WritableStream
from pyodide.ffi import JsException, create_proxy

from edge_router.errors import UpstreamError


class JsUpstreamResponse:
    """Scope: request, like the JavaScript object it holds. controller: aborts the call that the answer belongs to."""

    keeps = True

    def __init__(self, response: Any, controller: Any = None) -> None:
        self._response = response
        self._controller = controller
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

    async def read(self) -> bytes | None:
        if self._reader is None:
            body = self._response.body
            if not hasattr(body, "getReader"):  # null: no body at all
                return None
            self._reader = body.getReader()
        try:
            result = await self._reader.read()
        except JsException as exc:
            raise _broken() from exc
        return None if result.done else result.value.to_bytes()

    async def push(self, take: Callable[[bytes], Awaitable[None] | None]) -> None:
        """JavaScript's own pipe calls back, which costs half of what awaiting each read does."""
        body = self._response.body
        if not hasattr(body, "pipeTo"):
            return
        if self._reader is not None:
            self._reader.releaseLock()
            self._reader = None
        if self._controller is None:
            self._controller = AbortController.new()
        write = create_proxy(lambda chunk, _: take(chunk.to_bytes()))
        sink, options = Object.new(), Object.new()
        sink.write, options.signal = write, self._controller.signal
        try:
            await body.pipeTo(WritableStream.new(sink), options)
        except JsException as exc:
            raise _broken() from exc
        finally:
            write.destroy()

    async def cancel(self) -> None:
        try:
            if self._controller is not None:
                self._controller.abort()
            elif self._reader is not None:
                await self._reader.cancel()
            elif hasattr(self._response.body, "cancel"):
                await self._response.body.cancel()
        except JsException:
            return  # it had ended, or broken, by itself


def _broken() -> UpstreamError:
    return UpstreamError("The connection to the model broke off.", code="stream_cut")
