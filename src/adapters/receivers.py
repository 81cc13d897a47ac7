"""`Receiver` over `fetch`."""

import asyncio
from collections.abc import Mapping

from js import AbortController, fetch
from pyodide.ffi import JsException

from adapters.javascript import to_object
from edge_router.errors import DeliveryError


class FetchReceiver:
    """A call that is cancelled by a deadline is aborted on the wire as well. Redirects are not followed."""

    async def post(self, url: str, body: str, headers: Mapping[str, str]) -> int:
        controller = AbortController.new()
        init = to_object({"method": "POST", "redirect": "manual", "headers": dict(headers), "body": body})
        init.signal = controller.signal
        try:
            response = await fetch(url, init)
            if response.body:
                await response.body.cancel()  # an unread body would keep the connection
            return int(response.status)
        except JsException as exc:
            raise DeliveryError("The receiver could not be reached.") from exc
        except asyncio.CancelledError:
            controller.abort()
            raise
