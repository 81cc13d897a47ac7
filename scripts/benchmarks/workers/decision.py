"""Decides as often as it is told. The clock in a Worker stands still meanwhile: the caller takes the time."""

# mypy: ignore-errors
# workers exists inside workerd only.

import json

from decision_loop import run
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    """Takes {"what", "text", "times"}."""

    async def fetch(self, request):
        run(**json.loads(await request.text()))
        return Response("done")
