"""The floor without the SDK's Response: a JavaScript object made directly."""

# mypy: ignore-errors
# js and workers exist inside workerd only.

from js import Response
from workers import WorkerEntrypoint


class Default(WorkerEntrypoint):
    """Answers everything with one word."""

    async def fetch(self, request):
        return Response.new("hello")
