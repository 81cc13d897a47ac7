"""Hints between isolates, and round trips measured behind the calls."""

import asyncio
import json

import pytest

from edge_router import region_watch
from edge_router.errors import CloudUnavailable
from edge_router.fleet import Fleet
from edge_router.latency import LatencyTable
from edge_router.location import UNKNOWN, Location
from edge_router.ports import Store
from edge_router.region_watch import EXCHANGE_EVERY_S, HINT_S, RegionWatch
from edge_router.settings import Region
from tests.edge_router.harness import FRANKFURT, PARIS, VIRGINIA, Asking, World, answer_cloud
from tests.fakes import (
    START_S,
    CollectingBackground,
    CollectingLog,
    FailingStore,
    FakeClock,
    FakeCloudRegions,
    FakeUpstreamResponse,
    MemoryStore,
)

KEY = "regions:CDG"


class Isolate:
    """Its own view of the regions, a clock and a store that it may share with others."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.fleet = Fleet((FRANKFURT, VIRGINIA), LatencyTable(), clock)
        self.cloud = FakeCloudRegions(answer_cloud)
        self.log = CollectingLog()
        self.watch = RegionWatch(self.fleet, self.cloud, store, clock, self.log)
        self.background = CollectingBackground()

    def fail(self, region: Region) -> None:
        for _ in range(5):
            self.fleet.settle(region, self.fleet.enter(region, is_hedge=False), "failed")

    async def look(self) -> None:
        self.watch.look_later(PARIS, self.background)
        await self.background.finish()


async def test_other_isolates_learn_of_a_failing_region() -> None:
    """Their next call to it is a probe; what the store says never closes a region."""
    store, clock = MemoryStore(), FakeClock()
    first, second = Isolate(store, clock), Isolate(store, clock)
    first.fail(FRANKFURT)
    await first.look()
    await second.look()

    assert json.loads(store.texts[KEY])["failing"] == ["fra"]
    assert second.fleet.states() == {"fra": "half_open", "iad": "closed"}


async def test_hints_are_exchanged_seldom() -> None:
    """At most every ten seconds, and written only when there is something to say."""
    store, clock = MemoryStore(), FakeClock()
    isolate = Isolate(store, clock)
    await isolate.look()
    isolate.fail(FRANKFURT)
    await isolate.look()
    assert store.texts == {}

    clock.advance(EXCHANGE_EVERY_S)
    await isolate.look()
    assert json.loads(store.texts[KEY])["failing"] == ["fra"]

    isolate.fleet.settle(FRANKFURT, isolate.fleet.enter(FRANKFURT, is_hedge=False), "answered")
    clock.advance(EXCHANGE_EVERY_S)
    await isolate.look()
    assert json.loads(store.texts[KEY])["failing"] == []


@pytest.mark.parametrize(
    "hint",
    [
        pytest.param(json.dumps({"at_s": START_S - HINT_S, "failing": ["fra"]}), id="old"),
        pytest.param('{"at_s": 1790000000, "failing": ["nowhere", 5]}', id="unknown regions"),
        pytest.param('{"at_s": 1790000000, "failing": 5}', id="no list"),
        pytest.param('{"at_s": "now"}', id="no time"),
        pytest.param("[]", id="no object"),
        pytest.param("{damaged", id="damaged"),
    ],
)
async def test_hint_of_no_use(hint: str) -> None:
    """Changes nothing."""
    isolate = Isolate(MemoryStore({KEY: hint}), FakeClock())
    await isolate.look()

    assert set(isolate.fleet.states().values()) == {"closed"}


async def test_store_that_fails() -> None:
    """Is noted; calls know nothing of it."""
    isolate = Isolate(FailingStore(), FakeClock())
    await isolate.look()

    assert isolate.log.names() == ["region_hints_failed"]


async def test_round_trips_are_measured_behind_a_call() -> None:
    """Of regions that have none, twice each because the first call pays for the connection; then not for a while."""
    isolate = Isolate(MemoryStore(), FakeClock())
    isolate.fleet.note_rtt(PARIS, FRANKFURT, 9.0)
    await isolate.look()
    await isolate.look()

    assert isolate.cloud.probes == ["iad", "iad"]
    assert isolate.fleet.rtt_ms(PARIS, VIRGINIA) == 0.0


async def test_region_that_can_not_be_measured() -> None:
    """Stays where the map puts it."""
    isolate = Isolate(MemoryStore(), FakeClock())

    async def refuse(region: Region) -> FakeUpstreamResponse:
        raise CloudUnavailable("down")

    isolate.cloud.probe = refuse  # type: ignore[method-assign]  # one test's own failure
    await isolate.look()

    assert isolate.fleet.rtt_ms(PARIS, VIRGINIA) is None


async def test_region_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps no other from being measured."""
    monkeypatch.setattr(region_watch, "PROBE_S", 0.01)
    isolate = Isolate(MemoryStore(), FakeClock())
    answer = isolate.cloud.probe

    async def probe(region: Region) -> FakeUpstreamResponse:
        if region is FRANKFURT:
            await asyncio.Event().wait()
        return await answer(region)

    isolate.cloud.probe = probe  # type: ignore[method-assign]  # one test's own failure
    await isolate.look()

    assert isolate.fleet.rtt_ms(PARIS, FRANKFURT) is None
    assert isolate.fleet.rtt_ms(PARIS, VIRGINIA) == 0.0


async def test_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """An isolate lies at one; of more than MAX_PLACES what was looked at is forgotten, and looked at again."""
    monkeypatch.setattr(region_watch, "MAX_PLACES", 2)
    isolate = Isolate(MemoryStore(), FakeClock())
    for colo in ("CDG", "NRT", "LHR", "CDG"):
        isolate.watch.look_later(Location(colo), isolate.background)

    assert len(isolate.background) == 2 * 4


async def test_place_that_is_not_known() -> None:
    """Without a colo nothing is shared or measured: it would be said of everywhere."""
    isolate = Isolate(MemoryStore(), FakeClock())
    isolate.watch.look_later(UNKNOWN, isolate.background)

    assert len(isolate.background) == 0


async def test_calls_to_the_cloud_look_after_their_regions() -> None:
    """Without waiting for it."""
    world = World()
    asking = Asking(world)
    reply = await asking.ask()
    assert reply.status == 200
    assert world.cloud.probes == []

    await world.background.finish()

    assert set(world.cloud.probes) == {"fra", "iad"}
