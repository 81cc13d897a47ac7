"""`BatchProviders` over `fetch`."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from js import FixedLengthStream
from pyodide.ffi import JsException, to_js

from adapters.border import BORDER
from adapters.javascript import encode, to_object
from adapters.responses import JsUpstreamResponse, begun
from adapters.runtime import new_id
from edge_router import completions
from edge_router.batches.multipart import form_around
from edge_router.errors import UpstreamError
from edge_router.settings import BatchUpstream


class FetchBatchProviders:
    """A call that is cancelled by a deadline is aborted on the wire as well. Redirects are not followed."""

    async def ask(
        self, upstream: BatchUpstream, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> JsUpstreamResponse:
        if body is None:
            return await _fetched(upstream, method, path, {})
        return await _fetched(upstream, method, path, {"content-type": "application/json"}, completions.dump(body))

    async def upload(self, upstream: BatchUpstream, content: Any, size_bytes: int, filename: str) -> JsUpstreamResponse:
        """The file goes from R2 to the provider within the runtime; Python sees none of it."""
        boundary = f"nearside-{new_id()}"
        before, after = form_around(boundary, filename)
        through = FixedLengthStream.new(len(before) + size_bytes + len(after))
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        feeding = asyncio.ensure_future(_feed(through.writable, before, content, after))
        try:
            return await _fetched(upstream, "POST", "/files", kind, through.readable)
        finally:
            if not feeding.done():
                feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)  # what is wrong with it, the answer tells


async def _feed(writable: Any, before: bytes, content: Any, after: bytes) -> None:
    try:
        await _write(writable, before)
        await content.pipeTo(writable, to_object({"preventClose": True}))
        await _write(writable, after)
        await writable.close()
    except JsException:
        with suppress(JsException):  # it had broken by itself
            await writable.abort()  # or the provider would wait for the rest
        raise


async def _write(writable: Any, data: bytes) -> None:
    writer = writable.getWriter()
    await writer.write(to_js(data))
    writer.releaseLock()


async def _fetched(
    upstream: BatchUpstream, method: str, path: str, headers: Mapping[str, str], body: Any = None
) -> JsUpstreamResponse:
    init = {"method": method, "headers": {"authorization": f"Bearer {upstream.key}", **headers}}
    try:
        return await begun(BORDER.js.send, upstream.url + path, encode(init), body)
    except JsException as exc:
        raise UpstreamError(f"{upstream.id} could not be reached.") from exc
