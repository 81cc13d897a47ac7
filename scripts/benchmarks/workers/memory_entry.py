"""Our Worker with one more path, for measuring alone: what its isolate holds. Never deployed: it is not in src/."""

# mypy: ignore-errors
# The modules exist inside workerd only.

import asyncio
import gc
import json
import sys

import pyodide_js
from js import Response
from workers import WorkerEntrypoint

from adapters.border import BORDER
from adapters.entrance import open_entrance, plan_entrance
from adapters.http import WorkerRequest
from entry import *  # noqa: F403  # the classes of Durable Objects
from entry import OBJECTS, answer


class Default(WorkerEntrypoint):
    """As the deployed one, so that the others come in by the same short way."""

    async def fetch(self, request):
        await open_entrance()
        return await told(WorkerRequest(getattr(request, "js_object", request)))


def waits_in(coroutine):
    """The coroutines that wait for each other, the innermost one last."""
    names = []
    while hasattr(coroutine, "cr_await"):
        names.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await
    return " > ".join(names)


async def told(request):
    """Counts after a collection, so that what nobody holds any more is not counted."""
    if request.path != "/bench/memory":
        return await answer(request)
    gc.collect()
    module = pyodide_js._module
    held = {
        "wasm_mib": module.HEAP8.length / 2**20,
        "js_references": module._hiwire_num_refs(),
        "border_numbers": BORDER.known(),
        "tasks": sorted(waits_in(task.get_coro()) for task in asyncio.all_tasks()),
        "python_objects": len(gc.get_objects()),
    }
    return Response.new(json.dumps(held))


plan_entrance(sys.modules[__name__], Default.__name__, told, objects=OBJECTS)
