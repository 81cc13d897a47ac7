"""`BatchProviders` over `fetch`."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from js import AbortController, FixedLengthStream, fetch
from pyodide.ffi import JsException, to_js

from adapters.javascript import to_object
from adapters.responses import JsUpstreamResponse
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
        init: dict[str, Any] = {"method": method}
        headers = {}
        if body is not None:
            init["body"] = completions.dump(body)
            headers["content-type"] = "application/json"
        return await _fetched(upstream, path, to_object({**init, "headers": _with_key(upstream, headers)}))

    async def upload(self, upstream: BatchUpstream, content: Any, size_bytes: int, filename: str) -> JsUpstreamResponse:
        """The file goes from R2 to the provider within the runtime; Python sees none of it."""
        boundary = f"nearside-{new_id()}"
        before, after = form_around(boundary, filename)
        through = FixedLengthStream.new(len(before) + size_bytes + len(after))
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        init = to_object({"method": "POST", "headers": _with_key(upstream, kind)})
        init.body = through.readable
        feeding = asyncio.ensure_future(_feed(through.writable, before, content, after))
        try:
            return await _fetched(upstream, "/files", init)
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


def _with_key(upstream: BatchUpstream, headers: Mapping[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {upstream.key}", **headers}


async def _fetched(upstream: BatchUpstream, path: str, init: Any) -> JsUpstreamResponse:
    controller = AbortController.new()
    init.redirect, init.signal = "manual", controller.signal
    try:
        return JsUpstreamResponse.of(await fetch(upstream.url + path, init), controller)
    except JsException as exc:
        raise UpstreamError(f"{upstream.id} could not be reached.") from exc
    except asyncio.CancelledError:
        controller.abort()
        raise
