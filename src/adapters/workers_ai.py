"""`EdgeModels` on the Workers AI binding."""

from collections.abc import Mapping
from typing import Any

from pyodide.ffi import JsException

from adapters.javascript import to_object
from adapters.responses import JsUpstreamResponse
from edge_router.errors import UpstreamError

# Raw responses tell status and ids without the binding's shared state, which races between requests.
# A busy model must fail at once: waiting in its queue would cost more than asking another one.
_OPTIONS = {"returnRawResponse": True, "rejectIfBusy": True}


class WorkersAI:
    """Any status is an answer; what it means is for `edge_router.workers_ai` to say."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    async def run(self, model_id: str, inputs: Mapping[str, Any]) -> JsUpstreamResponse:
        try:
            return JsUpstreamResponse(await self._binding.run(model_id, to_object(inputs), to_object(_OPTIONS)))
        except JsException as exc:
            raise UpstreamError("Workers AI could not be reached.", code="edge_unavailable") from exc
