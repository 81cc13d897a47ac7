"""The Worker: composes the gateway once per isolate and hands it every request."""

from typing import Any

from workers import WorkerEntrypoint, import_from_javascript

from adapters.cloud import FetchCloudRegions
from adapters.http import WorkerRequest, to_response
from adapters.javascript import from_object
from adapters.runtime import ConsoleLog, WaitUntil, WorkerClock, new_id
from adapters.workers_ai import WorkersAI
from adapters.workers_kv import WorkersKV
from edge_router.answering import Answering
from edge_router.complexity import KeywordRules
from edge_router.gateway import Gateway
from edge_router.settings import VARIABLES, read_settings


def compose(env: Any) -> Gateway:
    """env: the raw JavaScript environment, whose bindings outlive a request."""
    settings = read_settings(_variables(env))
    clock, log = WorkerClock(), ConsoleLog()
    answering = Answering(
        settings,
        scorer=KeywordRules(),
        store=WorkersKV(env.CACHE),
        edge=WorkersAI(env.AI),
        cloud=FetchCloudRegions(),
        clock=clock,
        log=log,
        new_id=new_id,
    )
    return Gateway(settings, answering, keys=WorkersKV(env.KEYS), clock=clock, log=log, new_id=new_id)


def _variables(env: Any) -> dict[str, Any]:
    """Only what the settings name: other entries of the environment are bindings, not data."""
    present = {name: getattr(env, name, None) for name in VARIABLES}
    return {
        name: value if isinstance(value, str) else from_object(value)
        for name, value in present.items()
        if value is not None
    }


class Isolate:
    """What lives as long as the isolate. Built at the first request, because bindings need one."""

    gateway: Gateway | None = None


class Default(WorkerEntrypoint):
    """The HTTP entry point."""

    async def fetch(self, request: Any) -> Any:
        if Isolate.gateway is None:
            Isolate.gateway = compose(import_from_javascript("cloudflare:workers").env)
        background = WaitUntil(self.ctx)
        reply = await Isolate.gateway.handle(WorkerRequest(request.js_object), background)
        return to_response(reply, background)
