"""The runtime's own conversions around each event, cut short where their result is known.

Before each handler the runtime calls `workers.python_from_rpc` on every argument, after it `workers.python_to_rpc` on
the result. Both ask JavaScript again and again what a value is, about 0.1 ms a request. Nothing depends on the short
cut: a runtime that took the functions before it was installed is only slower.
"""

from typing import Any

import workers
from pyodide.ffi import JsProxy


def install() -> None:
    """To be called at import, before the runtime looks the functions up."""
    from_rpc, to_rpc = workers.python_from_rpc, workers.python_to_rpc

    def request_as_it_is(value: Any) -> Any:
        if value is None or (isinstance(value, JsProxy) and value.constructor.name == "Request"):
            return value
        return from_rpc(value)

    def javascript_as_it_is(value: Any) -> Any:
        return value if isinstance(value, JsProxy) else to_rpc(value)

    workers.python_from_rpc, workers.python_to_rpc = request_as_it_is, javascript_as_it_is


def raw(request: Any) -> Any:
    """The JavaScript request, whether the SDK wrapped it or not."""
    return getattr(request, "js_object", request)
