"""The smallest Python Worker that passes a request on and its answer back: no Python runs per chunk."""

# mypy: ignore-errors
# js and workers exist inside workerd only.

from js import JSON, Response, fetch
from workers import WorkerEntrypoint


class Default(WorkerEntrypoint):
    """Forwards the body to UPSTREAM."""

    async def fetch(self, request):
        init = JSON.parse('{"method": "POST", "headers": {"content-type": "application/json"}}')
        init.body = await request.js_object.text()
        response = await fetch(f"{self.env.UPSTREAM}/v1/chat/completions", init)
        return Response.new(response.body, response)
