"""From a call to a decision: measured times, regions and the tenant's area as they reach it, and what is told of it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edge_router.auth import hash_secret
from edge_router.breaker import CONSECUTIVE
from edge_router.latency import ENOUGH_SAMPLES, LatencyTable
from edge_router.latency_sharing import EXCHANGE_EVERY_S, SharedLatencies
from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    COMPLEX_PROMPT,
    EDGE_LARGE,
    EDGE_SMALL,
    FRANKFURT,
    MODELS,
    PARIS,
    SIMPLE_PROMPT,
    VIRGINIA,
    World,
    answer_cloud,
    answer_edge,
    chat_body,
    cloud,
    edge,
    error_of,
    read_json,
)
from tests.fakes import (
    STALL,
    CollectingBackground,
    CollectingLog,
    EdgeCall,
    FailingStore,
    FakeClock,
    FakeRequest,
    FakeUpstreamResponse,
    MemoryStore,
    RunningClock,
)

EU, US = replace(FRANKFURT, residency="eu"), replace(VIRGINIA, residency="us")
SECRET = "s" * 32


async def explained(world: World, prompt: str = SIMPLE_PROMPT, **fields: Any) -> dict[str, Any]:
    return read_json(await world.ask(chat_body(prompt, **fields), path="/v1/route"))


def measured(world: World, label: str, ms: float, *, kind: Any = "total", count: int = ENOUGH_SAMPLES) -> None:
    for _ in range(count):
        world.latencies.add("CDG", kind, label, now_s=world.clock.now_s(), ms=ms)


async def test_everything_is_told() -> None:
    """Score, thresholds, each candidate with time and price, and why the others are none."""
    world = World()
    measured(world, "edge-large-1", 250.0)
    told = await explained(world, tools=[{"type": "function", "function": {"name": "f"}}], max_latency_ms=30_000)

    assert told["reasons"] == ["simple", "tools"]
    assert (told["scorer"], told["max_latency_ms"], told["residency"]) == ("rules", 30_000, None)
    assert told["thresholds"] == {"edge-large": 0.3, "cloud-fast": 0.7, "cloud-quality": 0.9}
    assert told["refused"] == [{"model": "edge-small-1", "why": "tools"}]
    first, second, _ = told["candidates"]
    assert (first["model"], first["region"], first["predicted_total_ms"]) == ("edge-large-1", None, 250.0)
    assert first["measured"] == {"count": ENOUGH_SAMPLES, "ewma_ms": 250.0, "p95_ms": 250.0}
    assert (second["model"], second["region"], second["output_usd_per_million"]) == ("cloud-fast-1", "fra", 20.0)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("edge-small-1", {"pinned"}),
        ("edge", {"forced-edge", "weaker"}),
        ("cloud", {"forced-cloud"}),
        ("auto", {"weaker"}),
    ],
)
async def test_why_a_model_is_no_candidate(model: str, why: set[str]) -> None:
    """Because the caller said so, because it is weaker than it need be, or because it stands for others."""
    wildcard = replace(EDGE_LARGE, id="@cf/*")
    told = await explained(World(models=[*MODELS, wildcard]), COMPLEX_PROMPT, model=model)

    refused = {each["model"]: each["why"] for each in told["refused"]}
    assert refused.pop("@cf/*") == "wildcard"
    assert set(refused.values()) == why


async def test_unmeasured_model_gets_twice_its_declared_time() -> None:
    """In the cloud with the way to the nearest region."""
    model = replace(EDGE_SMALL, declared_ttft_ms=400)
    told = await explained(World(models=[model, *MODELS[1:]]), stream=True)

    by_model = {each["model"]: each["predicted_ttft_ms"] for each in told["candidates"]}
    assert by_model["edge-small-1"] == pytest.approx(800, rel=0.02)
    assert by_model["cloud-fast-1"] > 2 * 500


async def test_slow_model_is_passed_over_when_time_is_short() -> None:
    """Measured times of this colo decide, and only of the same kind of answer."""
    world = World()
    measured(world, "edge-small-1", 3000.0)
    measured(world, "edge-large-1", 200.0)

    hurried = await world.ask(chat_body(max_latency_ms=1000))
    streamed = await explained(world, stream=True, max_latency_ms=30_000)

    assert hurried.headers["nearside-model"] == "edge-large-1"
    assert hurried.headers["nearside-route-reason"] == "deadline"
    assert read_json(hurried)["nearside"]["max_latency_ms"] == 1000
    assert read_json(hurried)["nearside"]["is_late"] is False
    assert streamed["reason"] == "simple"


async def test_answers_are_measured() -> None:
    """Also those that fail by taking too long; the time that was waited counts."""
    world = World(timeout_s=2.0)

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        world.clock.advance(0.25)
        return answer_edge(call)

    world.edge = edge(answer)
    await world.ask(chat_body())
    await world.ask(chat_body(COMPLEX_PROMPT))
    now_s = world.clock.now_s()

    assert world.latencies.summary("CDG", "total", "edge-small-1", now_s=now_s).ewma_ms == 250
    assert world.latencies.summary("CDG", "total", "cloud-fast-1@fra", now_s=now_s).count == 1
    assert world.latencies.summary("CDG", "ttft", "edge-small-1", now_s=now_s).count == 0


async def test_regions_that_all_fail() -> None:
    """A question for the cloud still goes there: no stronger model is left, and a weaker one is no answer to it."""
    world = World(timeout_s=0.5)
    world.cloud = cloud(lambda call: FakeUpstreamResponse.plain("bad gateway", status=502))
    gateway = world.gateway()

    async def ask(path: str, **fields: Any) -> Reply:
        content = json.dumps(chat_body(COMPLEX_PROMPT, use_cache=False, **fields))
        return await gateway.handle(FakeRequest("POST", path, content, {}, PARIS), world.background)

    for _ in range(CONSECUTIVE):
        await ask("/v1/chat/completions")
    told = read_json(await ask("/v1/route"))
    spared = read_json(await ask("/v1/route", max_latency_ms=600_000))

    assert told["reasons"] == ["complex"]
    assert spared["reasons"] == ["complex"]


class TestResidency:
    async def test_only_regions_of_the_area_are_asked(self) -> None:
        """Nothing is looked up, kept or shared."""
        store = MemoryStore()
        world = World(regions=(US, EU), store=store)
        reply = await world.ask(chat_body(residency="us"))
        await world.background.finish()

        assert [call.region_id for call in world.cloud.calls] == ["iad"]
        assert reply.headers["nearside-route-reason"] == "residency"
        assert reply.headers["cache-status"] == "nearside; fwd=bypass"
        assert store.texts == {}

    async def test_failure_does_not_leave_the_area(self) -> None:
        """Rather an error than another region."""
        world = World(regions=(US, EU))
        world.cloud = cloud(
            lambda call: (
                answer_cloud(call)
                if call.region_id == "iad"
                else FakeUpstreamResponse.plain({"error": {"message": "down"}}, status=500)
            )
        )
        reply = await world.ask(chat_body(residency="eu"))

        assert reply.status == 502
        assert {call.region_id for call in world.cloud.calls} == {"fra"}
        assert reply.headers["nearside-residency"] == read_json(reply)["nearside"]["residency"] == "eu"

    async def test_header(self) -> None:
        reply = await World(regions=(US, EU)).ask(headers={"nearside-residency": "eu"})

        assert reply.headers["nearside-cloud-region"] == "fra"

    @pytest.mark.parametrize(
        ("asked", "status", "region"),
        [
            pytest.param(None, 200, "fra", id="nothing asked"),
            pytest.param("eu", 200, "fra", id="the same"),
            pytest.param("us", 403, None, id="another"),
        ],
    )
    async def test_area_of_the_tenant(self, asked: str | None, status: int, region: str | None) -> None:
        """Holds for each of its requests, which can't leave it."""
        reply = await self.ask_with_key("eu", {} if asked is None else {"residency": asked})

        assert (reply.status, reply.headers.get("nearside-cloud-region")) == (status, region)
        assert reply.headers.get("nearside-residency") == ("eu" if status == 200 else None)
        if status == 403:
            assert (error_of(reply)["param"], error_of(reply)["code"]) == ("residency", "residency_not_allowed")

    @pytest.mark.parametrize("area", [5, "", "EU", ["eu"]])
    async def test_area_that_can_not_be_read(self, area: object) -> None:
        """Lets nobody in: without it nothing may be answered."""
        assert (await self.ask_with_key(area, {})).status == 503

    async def ask_with_key(self, area: object, fields: dict[str, Any]) -> Reply:
        record = {"tenant": "t", "hashes": [hash_secret(SECRET)], "residency": area}
        world = World(auth="keys", regions=(US, EU), keys=MemoryStore({"key:abcd": json.dumps(record)}))
        return await world.ask(chat_body(**fields), headers={"authorization": f"Bearer nsk_abcd_{SECRET}"})


class TestRunTime:
    def world(self) -> World:
        """Where edge-small-1 never answers, though it used to in 20 ms, as the others still do."""
        world = World(timeout_s=60.0, clock=RunningClock())
        for label in ("edge-small-1", "edge-large-1", "cloud-fast-1@fra", "cloud-quality-1@fra"):
            measured(world, label, 20.0)
        world.edge = edge(
            lambda call: FakeUpstreamResponse.stream(STALL) if call.model_id == "edge-small-1" else answer_edge(call)
        )
        return world

    async def test_model_that_hangs_is_left_for_one_that_can_make_it(self) -> None:
        """At the last moment for that, long before its own time is up."""
        reply = await self.world().ask(chat_body(max_latency_ms=300))
        report = read_json(reply)["nearside"]

        assert report["fallbacks"] == ["edge-small-1: upstream_timeout"]
        assert (report["model"], report["route_reason"]) == ("edge-large-1", "simple")
        assert report["timings_ms"]["total"] >= 270

    async def test_without_a_deadline_it_has_all_its_time(self) -> None:
        """The configured one."""
        world = self.world()
        world.timeout_s = 0.05
        report = read_json(await world.ask(chat_body()))["nearside"]

        assert report["fallbacks"] == ["edge-small-1: upstream_timeout"]
        assert "is_late" not in report

    async def test_late_answer_is_delivered(self) -> None:
        """The deadline is no timeout."""
        world = World(clock=RunningClock())
        world.edge = edge(lambda call: FakeUpstreamResponse(0.02, b'{"response": "Paris."}'))
        report = read_json(await world.ask(chat_body(max_latency_ms=1)))["nearside"]

        assert (report["route_reason"], report["is_late"]) == ("deadline-missed", True)


class TestSharing:
    def shared(self, store: Any, clock: FakeClock) -> tuple[LatencyTable, SharedLatencies, CollectingLog]:
        table, log = LatencyTable(), CollectingLog()
        return table, SharedLatencies(table, store, clock, log), log

    async def test_two_isolates(self) -> None:
        """Each knows what the other measured after both have exchanged."""
        store, clock, background = MemoryStore(), FakeClock(), CollectingBackground()
        one, one_shared, _ = self.shared(store, clock)
        other, other_shared, _ = self.shared(store, clock)
        one.add("CDG", "ttft", "m", now_s=clock.now_s(), ms=100)
        one_shared.exchange_later("CDG", background)
        await background.finish()
        other_shared.exchange_later("CDG", background)
        await background.finish()

        assert other.summary("CDG", "ttft", "m", now_s=clock.now_s()).ewma_ms == 100
        assert list(store.texts) == ["latency:CDG"]

    async def test_at_most_once_a_minute_a_place(self) -> None:
        """Nothing waits: the work is handed to the background."""
        clock, background = FakeClock(), CollectingBackground()
        _, shared, _ = self.shared(MemoryStore(), clock)
        counts = []
        for colo, later_s in (("CDG", 0), ("CDG", EXCHANGE_EVERY_S - 1), ("SIN", 0), (None, 0), ("CDG", 1)):
            clock.advance(later_s)
            shared.exchange_later(colo, background)
            counts.append(len(background))

        assert counts == [1, 1, 2, 3, 4]

    async def test_places_are_bounded(self) -> None:
        clock, background = FakeClock(), CollectingBackground()
        _, shared, _ = self.shared(MemoryStore(), clock)
        for number in range(1000):
            shared.exchange_later(f"C{number}", background)

        assert len(shared._exchanged_at_s) <= 64

    async def test_store_that_fails(self) -> None:
        """One line, and what was measured here stays."""
        clock, background = FakeClock(), CollectingBackground()
        table, shared, log = self.shared(FailingStore(), clock)
        table.add("CDG", "ttft", "m", now_s=clock.now_s(), ms=100)
        shared.exchange_later("CDG", background)
        await background.finish()

        assert log.names() == ["latency_exchange_failed"]
        assert table.summary("CDG", "ttft", "m", now_s=clock.now_s()).count == 1

    async def test_text_that_can_not_be_read_is_overwritten(self) -> None:
        store, clock, background = MemoryStore({"latency:CDG": "[]"}), FakeClock(), CollectingBackground()
        table, shared, log = self.shared(store, clock)
        table.add("CDG", "ttft", "m", now_s=clock.now_s(), ms=100)
        shared.exchange_later("CDG", background)
        await background.finish()

        assert log.names() == ["latency_exchange_failed"]
        assert json.loads(store.texts["latency:CDG"])["ttft"]["m"][1] == 100

    async def test_nothing_new_is_not_written(self) -> None:
        """KV takes one write a second for a key."""
        store, clock, background = MemoryStore(), FakeClock(), CollectingBackground()
        table, shared, _ = self.shared(store, clock)
        table.add("CDG", "ttft", "m", now_s=clock.now_s(), ms=100)
        shared.exchange_later("CDG", background)
        await background.finish()
        store.ttl_s.clear()
        clock.advance(EXCHANGE_EVERY_S)
        shared.exchange_later("CDG", background)
        await background.finish()

        assert store.ttl_s == {}

    async def test_answers_exchange(self) -> None:
        """Behind an answer, and not where residency is asked for."""
        store = MemoryStore()
        world = World(regions=(US, EU))
        world.shared = SharedLatencies(world.latencies, store, world.clock, world.log)
        await world.ask(chat_body(residency="eu"))
        await world.background.finish()
        before = dict(store.texts)
        await world.ask(chat_body())
        await world.background.finish()

        assert before == {}
        assert "edge-small-1" in json.loads(store.texts["latency:CDG"])["total"]


async def test_cloud_without_a_region() -> None:
    """A model that could be asked nowhere is told with its declared time, and no place."""
    told = await explained(World(regions=()), model=CLOUD_FAST.id)

    (candidate,) = told["candidates"]
    assert (candidate["model"], candidate["region"]) == (CLOUD_FAST.id, None)
    assert candidate["predicted_total_ms"] > 0
