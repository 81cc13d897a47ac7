"""Residency: with an area asked for or agreed on, nothing of a question or an answer goes anywhere else."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from edge_router.replies import Reply
from edge_router.tracing.exporter import SpanExporter
from edge_router.tracing.spans import Sampling
from tests.edge_router.harness import (
    COMPLEX_PROMPT,
    FRANKFURT,
    VIRGINIA,
    World,
    bearer,
    chat_body,
    error_of,
    key_records,
    read_events,
    read_json,
)
from tests.fakes import FakeCounters, FakeFeedbackStore, FakeFlights, FakeReceiver, FakeUpstreamResponse, MemoryStore

EU, US = replace(FRANKFURT, residency="eu"), replace(VIRGINIA, residency="us")
WORD = "Zauberlehrling"  # in every question

CHAT = ("/v1/chat/completions", chat_body(f"{COMPLEX_PROMPT} {WORD}"))
TEXTS = ("/v1/completions", {"prompt": [f"One {WORD}?", f"Two {WORD}?"]})
RESPONSES = ("/v1/responses", {"input": f"What is {WORD}?"})
BATCH = ("/v1/completions/batch", {"prompts": [f"One {WORD}?", f"Two {WORD}?"]})
PROMPT = ("/", {"prompt": f"What is {WORD}?"})
EMBED = ("/v1/embeddings", {"input": f"What is {WORD}?"})


class Watched:
    """A gateway in whose world everything that could keep or pass on text is on, and looked at."""

    def __init__(self, **parts: Any) -> None:
        self.store, self.flights, self.feedback = MemoryStore(), None, FakeFeedbackStore()
        self.collector = FakeReceiver()
        hexes = iter(f"{place:032x}" for place in range(1, 10_000))
        self.world = world = World(
            regions=(US, EU),
            store=self.store,
            semantic_cache="on",
            cascade="race",
            single_flight="all",
            memory_cache_bytes=2**20,
            feedback=self.feedback,
            sampling=Sampling(1.0, lambda count: next(hexes)[-2 * count :]),
            **parts,
        )
        world.counters = FakeCounters(world.clock)
        world.flights = self.shared = FakeFlights(world.cloud)
        world.exporter = SpanExporter(
            "https://collector.test",
            {},
            self.collector,
            world.clock,
            world.log,
            random_hex=lambda count: next(hexes)[-2 * count :],
            flush_after_s=0,
        )
        self.gateway = world.gateway()

    async def ask(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
        """Twice, so that what the first one left behind would be found; the second reply, read to its end."""
        for _ in range(2):
            reply = await self.world.ask({**body, "use_cache": True}, path=path, headers=headers or {}, of=self.gateway)
            if not isinstance(reply.body, str):
                await read_events(reply)
            await self.world.background.finish()
        return reply

    def assert_only_in(self, *region_ids: str) -> None:
        """No place but these regions has seen anything, and who watches has seen no text."""
        world = self.world
        assert {call.region_id for call in world.cloud.calls} == set(region_ids)
        assert world.edge.calls == []
        assert (world.vectors.rows, world.vectors.queries) == ({}, [])
        assert self.store.texts == {}
        assert (self.shared.keys, self.shared.claims, self.feedback.tables) == ([], set(), {})
        assert self.collector.posts
        assert WORD not in repr([self.collector.posts, world.telemetry.records, world.log.lines])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(*CHAT, id="chat"),
        pytest.param(CHAT[0], {**CHAT[1], "stream": True}, id="chat, stream"),
        pytest.param(*TEXTS, id="texts"),
        pytest.param(TEXTS[0], {**TEXTS[1], "stream": True}, id="texts, stream"),
        pytest.param(*RESPONSES, id="responses"),
        pytest.param(RESPONSES[0], {**RESPONSES[1], "stream": True}, id="responses, stream"),
        pytest.param(*BATCH, id="batch"),
        pytest.param(*PROMPT, id="prompt"),
    ],
)
class TestQuestion:
    """Every path, with caches, meaning, cascade, flights, ratings and traces all on."""

    async def test_that_asks_for_an_area(self, path: str, body: dict[str, Any]) -> None:
        """Only the area's region hears of it, and the answer says so."""
        watched = Watched()

        reply = await watched.ask(path, {**body, "residency": "eu"})

        assert (reply.status, reply.headers["nearside-residency"]) == (200, "eu")
        assert reply.headers["nearside-served-by"] == "cloud"
        watched.assert_only_in("fra")

    async def test_whose_key_is_bound_to_an_area(self, path: str, body: dict[str, Any]) -> None:
        """Without a word in the request."""
        watched = Watched(auth="keys", keys=key_records(k001={"tenant": "t", "residency": "eu"}))

        reply = await watched.ask(path, body, bearer())

        assert (reply.status, reply.headers["nearside-residency"]) == (200, "eu")
        assert reply.headers["nearside-served-by"] == "cloud"
        watched.assert_only_in("fra")

    async def test_for_an_area_where_nothing_is(self, path: str, body: dict[str, Any]) -> None:
        """Refused before anyone hears of it."""
        watched = Watched()

        reply = await watched.ask(path, {**body, "residency": "mars"})

        if path == BATCH[0]:  # its prompts fail each by itself
            assert {each["error"]["param"] for each in read_json(reply)["errors"]} == {"residency"}
        else:
            assert (reply.status, error_of(reply)["param"]) == (400, "residency")
        watched.assert_only_in()

    async def test_whose_area_is_down(self, path: str, body: dict[str, Any]) -> None:
        """An error, and no other area."""
        watched = Watched()
        watched.world.cloud.handler = lambda _: FakeUpstreamResponse.plain({"error": {"message": "down"}}, status=500)

        reply = await watched.ask(path, {**body, "residency": "eu"})

        assert reply.status == (200 if path == BATCH[0] else 502)
        watched.assert_only_in("fra")


@pytest.mark.parametrize("is_agreed", [False, True], ids=["asked for", "agreed on"])
async def test_embeddings_are_refused(is_agreed: bool) -> None:
    """Workers AI makes them, wherever there is room."""
    watched = Watched(auth="keys", keys=key_records(k001={"tenant": "t", "residency": "eu" if is_agreed else None}))
    path, body = EMBED

    reply = await watched.ask(path, body if is_agreed else {**body, "residency": "eu"}, bearer())

    assert (reply.status, error_of(reply)["param"]) == (400, "residency")
    watched.assert_only_in()
