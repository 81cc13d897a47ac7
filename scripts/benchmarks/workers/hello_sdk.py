"""The floor: the smallest Worker that the SDK's documentation shows."""

# mypy: ignore-errors
# js and workers exist inside workerd only.

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    """Answers everything with one word."""

    async def fetch(self, request):
        return Response("hello")
