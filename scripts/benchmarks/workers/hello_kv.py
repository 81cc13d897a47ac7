"""The floor of anything that reads Workers KV: one look-up, sent on as it is."""

# mypy: ignore-errors
# js and workers exist inside workerd only.

from js import Response
from workers import WorkerEntrypoint, import_from_javascript


class Default(WorkerEntrypoint):
    """Answers everything with what is stored under one key."""

    async def fetch(self, request):
        env = import_from_javascript("cloudflare:workers").env
        return Response.new(await env.CACHE.get("hello"))
