"""Where a caller came in, and which regions are near."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edge_router.location import CF_FIELDS, UNKNOWN, Location, read_location
from edge_router.regions import distance_km, nearest_first
from edge_router.settings import Region

CF = {
    "colo": "CDG",
    "clientTcpRtt": 12,
    "country": "FR",
    "continent": "EU",
    "isEUCountry": "1",
    "latitude": "48.86",
    "longitude": "2.35",
}


def test_everything_known() -> None:
    """Cloudflare's names and texts become ours and numbers."""
    assert read_location(CF) == Location("CDG", 12, "FR", "EU", True, 48.86, 2.35)


@pytest.mark.parametrize("cf", [None, {}])
def test_nothing_known(cf: Any) -> None:
    """Nothing is invented."""
    assert read_location(cf) is UNKNOWN
    assert UNKNOWN.coordinates is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"clientTcpRtt": 12, "clientQuicRtt": 30}, 12, id="TCP before QUIC"),
        pytest.param({"clientQuicRtt": 30}, 30, id="QUIC"),
        pytest.param({"clientTcpRtt": 0}, 0, id="a measured 0"),
        pytest.param({"clientTcpRtt": 12.5}, 12.5, id="a fraction"),
        pytest.param({"clientTcpRtt": "12"}, None, id="text"),
        pytest.param({"clientTcpRtt": True}, None, id="boolean"),
        pytest.param({"clientTcpRtt": -1}, None, id="negative"),
        pytest.param({"clientTcpRtt": float("nan")}, None, id="NaN"),
        pytest.param({"clientTcpRtt": 10**400}, None, id="absurd"),
        pytest.param({"colo": "CDG"}, None, id="absent"),
    ],
)
def test_round_trip_time(given: dict[str, Any], expected: float | None) -> None:
    """Milliseconds, or unknown."""
    assert read_location(given).rtt_ms == expected


@pytest.mark.parametrize(
    "colo",
    [
        pytest.param(5, id="number"),
        pytest.param("", id="empty"),
        pytest.param("CDG\r\nx: y", id="would break a header"),
        pytest.param("É", id="not ASCII"),
        pytest.param("--", id="only dashes"),
        pytest.param("C" * 17, id="too long"),
    ],
)
def test_colo_that_is_none(colo: object) -> None:
    """Counts as missing."""
    assert read_location({**CF, "colo": colo}).colo is None


@pytest.mark.parametrize(
    "latitude",
    [
        pytest.param("north", id="text"),
        pytest.param("", id="empty"),
        pytest.param("nan", id="NaN"),
        pytest.param("90.1", id="beyond the pole"),
        pytest.param(None, id="null"),
        pytest.param([48], id="list"),
        pytest.param(True, id="boolean"),
        pytest.param(10**400, id="absurd"),
    ],
)
def test_latitude_that_is_none(latitude: object) -> None:
    """Counts as missing, and without it there are no coordinates."""
    location = read_location({**CF, "latitude": latitude})

    assert location.latitude is None
    assert location.coordinates is None


@pytest.mark.parametrize("value", ["0", 1, True, None])
def test_caller_outside_the_eu(value: object) -> None:
    """Only Cloudflare's own mark counts."""
    assert not read_location({**CF, "isEUCountry": value}).is_eu


PARIS, NEW_YORK, SYDNEY = (48.8566, 2.3522), (40.7128, -74.0060), (-33.8688, 151.2093)


@pytest.mark.parametrize(
    ("a", "b", "expected_km"),
    [
        pytest.param(PARIS, NEW_YORK, 5_837, id="Paris to New York"),
        pytest.param(NEW_YORK, SYDNEY, 15_989, id="New York to Sydney"),
        pytest.param(PARIS, PARIS, 0, id="the same place"),
        pytest.param((0.0, 179.5), (0.0, -179.5), 111, id="over the date line"),
        pytest.param((90.0, 0.0), (-90.0, 0.0), 20_015, id="pole to pole"),
    ],
)
def test_distance(a: tuple[float, float], b: tuple[float, float], expected_km: float) -> None:
    """Along the great circle, the same in both directions."""
    assert distance_km(a, b) == pytest.approx(expected_km, rel=0.005, abs=0.5)
    assert distance_km(a, b) == pytest.approx(distance_km(b, a))


REGIONS = [
    Region("syd", "http://syd.test", *SYDNEY),
    Region("x1", "http://x1.test"),
    Region("nyc", "http://nyc.test", *NEW_YORK),
    Region("x2", "http://x2.test", latitude=1.0),
    Region("par", "http://par.test", *PARIS),
]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param(Location(latitude=52.5, longitude=13.4), "par nyc syd x1 x2", id="from Berlin"),
        pytest.param(Location(latitude=35.7, longitude=139.7), "syd par nyc x1 x2", id="from Tokyo"),
        pytest.param(UNKNOWN, "syd x1 nyc x2 par", id="from nowhere known"),
    ],
)
def test_order_of_regions(location: Location, expected: str) -> None:
    """The nearest first; without coordinates the configured order."""
    assert [region.id for region in nearest_first(REGIONS, location, lambda region: None, "")] == expected.split()


def test_fields_that_the_worker_reads() -> None:
    """JavaScript takes them out of `request.cf`; Python and JavaScript must mean the same ones."""
    border = (Path(__file__).parents[2] / "src" / "adapters" / "border.mjs").read_text()
    listed = re.search(r"CF_FIELDS = (\[.*?\])", border, re.DOTALL)
    assert listed is not None

    assert json.loads(listed[1].replace(",\n]", "]")) == list(CF_FIELDS)
