"""Two tenants who ask the same of one isolate: nothing of one is ever seen, used up or removed by the other."""

import json
from typing import Any

from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    SIMPLE_PROMPT,
    World,
    bearer,
    chat_body,
    edge,
    key_records,
    read_json,
    read_stream,
)
from tests.edge_router.semantic.test_cache import SAME, embedding
from tests.fakes import FakeClock, FakeCounters, FakeFeedbackStore, FakeFlights, FakeLimits


class TwoTenants:
    """One isolate with everything that keeps state turned on."""

    def __init__(self, **limits: Any) -> None:
        fields = {"scopes": ["admin"], "semantic_cache": True, **({"limits": limits} if limits else {})}
        clock = FakeClock()
        self.world = World(
            auth="keys",
            keys=key_records(acme={"tenant": "acme", **fields}, other={"tenant": "other", **fields}),
            clock=clock,
            edge=edge(embedding()),
            memory_cache_bytes=1_000_000,
            counters=FakeCounters(clock),
            feedback=FakeFeedbackStore(),
            limits=FakeLimits(clock),
            single_flight="cloud",
        )
        self.world.flights = FakeFlights(self.world.cloud)
        self.isolate = self.world.gateway()

    async def call(self, key: str, body: object = "", *, path: str, method: str = "GET") -> Reply:
        reply = await self.world.ask(body, path=path, method=method, headers=bearer(key), of=self.isolate)
        if not isinstance(reply.body, str):
            await read_stream(reply)
        while len(self.world.background):
            await self.world.background.finish()
        return reply

    async def ask(self, key: str, prompt: str = SIMPLE_PROMPT, **fields: Any) -> Reply:
        return await self.call(key, chat_body(prompt, **fields), path="/v1/chat/completions", method="POST")

    async def served(self, key: str, prompt: str = SIMPLE_PROMPT, **fields: Any) -> str:
        return (await self.ask(key, prompt, **fields)).headers["nearside-served-by"]


async def test_stored_answers() -> None:
    """The other's are not found, in the isolate's memory, in the store, or by meaning."""
    two = TwoTenants()
    assert [await two.served("acme") for _ in range(2)] == ["edge-model", "exact-cache"]
    assert await two.served("acme", SAME) == "semantic-cache"

    assert await two.served("other", SAME) == "edge-model"
    assert await two.served("other", semantic_cache=False) == "edge-model"
    assert len({namespace for namespace, _ in two.world.vectors.queries}) == 2


async def test_purges() -> None:
    """Remove the tenant's own entries and leave the other's, even when it tells the other's key."""
    two = TwoTenants()
    stored_key = read_json(await two.ask("acme"))["nearside"]["cache"]["key"]
    await two.ask("other")
    for purge in ({"tenant": True}, {"key": stored_key}):
        two.world.clock.advance(1)
        await two.call("other", json.dumps(purge), path="/v1/cache", method="DELETE")

    assert await two.served("acme") == "exact-cache"
    assert await two.served("other") != "exact-cache"


async def test_calls_in_flight() -> None:
    """Are not shared."""
    two = TwoTenants()
    for key in ("acme", "other"):
        await two.ask(key, model=CLOUD_FAST.id)

    assert two.world.flights is not None
    assert len(two.world.flights.keys) == len(set(two.world.flights.keys)) == 2


async def test_ratings() -> None:
    """Nobody can rate, or export, the other's answers."""
    two = TwoTenants()
    request_id = (await two.ask("acme")).headers["x-request-id"]
    body = {"request_id": request_id, "rating": "good"}

    async def rate(key: str) -> int:
        return (await two.call(key, body, path="/v1/feedback", method="POST")).status

    assert [await rate("other"), await rate("acme")] == [404, 200]
    exported = [await two.call(key, path="/v1/feedback/export") for key in ("acme", "other")]
    assert [bool(each.body) for each in exported] == [True, False]


async def test_counters() -> None:
    """Tell the tenant's own requests."""
    two = TwoTenants()
    for _ in range(3):
        await two.ask("acme")
    stats = [read_json(await two.call(key, path="/v1/cache/stats")) for key in ("acme", "other")]

    assert [(each["entries"], each["hits"]["total"], each["misses"]) for each in stats] == [(1, 2, 1), (0, 0, 0)]


async def test_limits() -> None:
    """Are used up by the tenant's own requests."""
    for strict in (True, False):
        two = TwoTenants(requests_per_minute=2, concurrency=2, strict=strict)
        assert [(await two.ask("acme")).status for _ in range(3)] == [200, 200, 429]
        assert [(await two.ask("other")).status for _ in range(3)] == [200, 200, 429]
