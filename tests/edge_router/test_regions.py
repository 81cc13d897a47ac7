"""Which region is called first, and what the colo table says."""

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest

from edge_router.colos import codes, coordinates_of
from edge_router.fleet import Fleet
from edge_router.hedging import BURST, HedgeBudget, hedge_after_s
from edge_router.latency import ENOUGH_SAMPLES, LatencyTable, Summary
from edge_router.location import Location
from edge_router.regions import distance_km, nearest_first
from edge_router.settings import Region
from tests.fakes import FakeClock

OREGON = Region("oregon", "http://or.test", 45.6, -121.2)
VIRGINIA = Region("virginia", "http://va.test", 38.9, -77.5)
FRANKFURT = Region("frankfurt", "http://fra.test", 50.1, 8.7)
REGIONS = (OREGON, VIRGINIA, FRANKFURT)
DALLAS = Location(colo="DFW", latitude=52.5, longitude=13.4)  # a caller in Berlin, whom anycast took to Texas


@pytest.mark.parametrize(
    ("colo", "city"), [("DFW", (32.9, -97.0)), ("CDG", (49.0, 2.5)), ("SIN", (1.4, 104.0)), ("GRU", (-23.4, -46.5))]
)
def test_colo_table(colo: str, city: tuple[float, float]) -> None:
    """Coordinates to about ten kilometres."""
    found = coordinates_of(colo)

    assert found is not None
    assert distance_km(found, city) < 25


@pytest.mark.parametrize("colo", ["", "ZZZ", "dfw", "+32", "DFWX", "DF"])
def test_colo_that_is_not_in_the_table(colo: str) -> None:
    assert coordinates_of(colo) is None


def test_every_code_finds_its_own_record() -> None:
    """No code is hidden in the digits or codes of others, and all lie on the earth."""
    assert len(set(codes())) == len(codes()) > 300
    for code in codes():
        latitude, longitude = coordinates_of(code) or (999, 999)
        assert abs(latitude) <= 90
        assert abs(longitude) <= 180


def order(regions: tuple[Region, ...], location: Location, seed: str = "", **rtts_ms: float) -> list[str]:
    return [region.id for region in nearest_first(regions, location, lambda region: rtts_ms.get(region.id), seed)]


def test_nearest_on_the_map_is_that_of_the_colo() -> None:
    """The caller's own coordinates are not where the request is."""
    assert order(REGIONS, DALLAS) == ["virginia", "oregon", "frankfurt"]
    assert order(REGIONS, replace(DALLAS, colo=None)) == ["frankfurt", "virginia", "oregon"]


def test_measured_round_trips_count_more_than_the_map() -> None:
    """A near region behind a slow network is not near."""
    assert order(REGIONS, DALLAS, virginia=180.0, oregon=45.0, frankfurt=120.0) == ["oregon", "frankfurt", "virginia"]


def test_few_milliseconds_are_no_difference() -> None:
    """Of those, the nearer on the map stays first, whatever the noise says."""
    assert order(REGIONS, DALLAS, virginia=38.0, oregon=31.0)[:2] == ["virginia", "oregon"]


def test_weights_share_calls_between_regions_in_one_place() -> None:
    """In proportion, and the same request always in the same order."""
    twins = (replace(VIRGINIA, id="a", weight=3.0), replace(VIRGINIA, id="b", weight=1.0), FRANKFURT)
    first = Counter(order(twins, DALLAS, seed=f"req_{number}")[0] for number in range(2000))

    assert first["a"] == pytest.approx(1500, abs=100)
    assert first["b"] == 2000 - first["a"]
    assert order(twins, DALLAS, seed="x") == order(twins, DALLAS, seed="x")


def test_round_trips_are_those_of_the_colo() -> None:
    """What was measured in one location says nothing in another."""
    fleet = Fleet(REGIONS, LatencyTable(), FakeClock())
    for _ in range(3):
        fleet.note_rtt(DALLAS, VIRGINIA, 250.0)

    at_dallas = fleet.choose(REGIONS, DALLAS, "", at_any_cost=False)
    at_ashburn = fleet.choose(REGIONS, Location(colo="IAD"), "", at_any_cost=False)

    assert (at_dallas, at_ashburn) == (OREGON, VIRGINIA)


def test_one_slow_round_trip_is_noise() -> None:
    """Several in a row are not."""
    fleet = Fleet(REGIONS, LatencyTable(), FakeClock())
    for rtt_ms in (20.0, 300.0, 300.0):
        fleet.note_rtt(DALLAS, VIRGINIA, rtt_ms)
    assert fleet.rtt_ms(DALLAS, VIRGINIA) == 20.0

    for _ in range(3):
        fleet.note_rtt(DALLAS, VIRGINIA, 300.0)
    assert fleet.rtt_ms(DALLAS, VIRGINIA) == 300.0


def test_same_question_goes_the_same_way() -> None:
    """For a minute, so that all who ask it share one call; past a region that fails or was tried, and back."""
    clock = FakeClock()
    fleet = Fleet(REGIONS, LatencyTable(), clock)

    def choose(seed: str, *regions: Region) -> Region | None:
        return fleet.choose(regions or REGIONS, DALLAS, seed, at_any_cost=False)

    assert choose("known") == VIRGINIA
    fleet.note_rtt(DALLAS, VIRGINIA, 250.0)
    assert (choose("known"), choose("new")) == (VIRGINIA, OREGON)
    assert choose("known", OREGON, FRANKFURT) == OREGON
    assert choose("known") == VIRGINIA
    for _ in range(5):
        fleet.settle(VIRGINIA, fleet.enter(VIRGINIA, is_hedge=False), "failed")
    assert choose("known") == OREGON
    clock.advance(1.0)
    assert choose("known") == VIRGINIA
    clock.advance(60.0)
    assert choose("known") == OREGON


def test_region_that_fails_is_skipped() -> None:
    """Until its pause is over; when all fail, the nearest is named only to those who need one at any cost."""
    clock = FakeClock()
    fleet = Fleet(REGIONS, LatencyTable(), clock)
    questions = map(str, count())

    def fail(region: Region) -> None:
        for _ in range(5):
            fleet.settle(region, fleet.enter(region, is_hedge=False), "failed")

    def choose(*, at_any_cost: bool = False) -> Region | None:
        return fleet.choose(REGIONS, DALLAS, next(questions), at_any_cost=at_any_cost)

    fail(VIRGINIA)
    assert choose() == OREGON
    fail(OREGON)
    fail(FRANKFURT)
    assert choose() is None
    assert choose(at_any_cost=True) == VIRGINIA
    clock.advance(1.0)
    assert choose() == VIRGINIA


def test_without_breakers() -> None:
    """BREAKERS=off: a region that fails is called again and again, also when another isolate found it failing."""
    fleet = Fleet(REGIONS, LatencyTable(), FakeClock(), breaks=False)
    for _ in range(5):
        fleet.settle(VIRGINIA, fleet.enter(VIRGINIA, is_hedge=False), "failed")
    fleet.suspect([VIRGINIA.id])

    assert fleet.choose(REGIONS, DALLAS, "", at_any_cost=False) == VIRGINIA
    assert set(fleet.states().values()) == {"closed"}


@pytest.mark.parametrize(
    ("times_ms", "expected_s"),
    [
        pytest.param((ENOUGH_SAMPLES - 3) * [200.0] + 2 * [400.0], None, id="too few"),
        pytest.param((ENOUGH_SAMPLES - 2) * [200.0] + 2 * [350.0], 0.35, id="p95"),
        pytest.param((ENOUGH_SAMPLES - 2) * [200.0] + 2 * [3000.0], 0.4, id="the tail is the p95"),
        pytest.param(ENOUGH_SAMPLES * [1.0], 0.02, id="at once"),
    ],
)
def test_when_a_call_is_late(times_ms: list[float], expected_s: float | None) -> None:
    assert hedge_after_s(Summary(times_ms)) == expected_s


def test_hedge_budget() -> None:
    """One hedge in twenty calls in the long run, and a few at once; the last ones only for what is very late."""
    budget = HedgeBudget()
    late = sum(budget.spend(is_very_late=False) for _ in range(100))
    very_late = sum(budget.spend(is_very_late=True) for _ in range(100))
    later = 0
    for _ in range(1000):
        budget.earn()
        later += budget.spend(is_very_late=True)

    assert late + very_late == BURST
    assert late == BURST // 2 + 1
    assert later == pytest.approx(50, abs=1)
