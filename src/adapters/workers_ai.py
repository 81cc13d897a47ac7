"""`EdgeModels` on the Workers AI binding."""

from collections.abc import Mapping
from typing import Any

from pyodide.ffi import JsException

from adapters.border import BORDER
from adapters.javascript import encode
from adapters.responses import JsUpstreamResponse, begun
from edge_router.errors import EdgeClosed, UpstreamError

# Raw responses tell status and ids without the binding's shared state, which races between requests.
# A busy model must fail at once: waiting in its queue would cost more than asking another one.
_OPTIONS = {"returnRawResponse": True, "rejectIfBusy": True}


def edge_models(env: Any) -> "WorkersAI | NoWorkersAI":
    """env: the Worker's; its binding AI may be left out."""
    binding = getattr(env, "AI", None)
    return NoWorkersAI() if binding is None else WorkersAI(binding)


class WorkersAI:
    """Any status is an answer; what it means is for `edge_router.workers_ai` to say."""

    is_bound = True

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    async def run(self, model_id: str, inputs: Mapping[str, Any], *, affinity: str | None = None) -> JsUpstreamResponse:
        options = _OPTIONS if affinity is None else {**_OPTIONS, "extraHeaders": {"x-session-affinity": affinity}}
        try:
            return await begun(BORDER.js.run, self._binding, model_id, encode(inputs), encode(options))
        except JsException as exc:
            raise UpstreamError("Workers AI could not be reached.", code="edge_unavailable") from exc


class NoWorkersAI:
    """`EdgeModels` of a deployment without the AI binding."""

    is_bound = False

    async def run(self, model_id: str, inputs: Mapping[str, Any], *, affinity: str | None = None) -> JsUpstreamResponse:
        raise EdgeClosed("There are no edge models here: no AI binding is set.", code="edge_absent", status=503)
