"""Order of the cloud regions for a caller: lowest round trip first, as long as none is measured by the map."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from math import asin, cos, log, radians, sin, sqrt
from typing import Final

from .colos import coordinates_of
from .location import Location
from .settings import Region

EARTH_RADIUS_KM: Final = 6371.0
MS_PER_KM: Final = 0.015  # light in fibre and back takes 0.01; cables are not straight
UNKNOWN_RTT_MS: Final = 300.0  # half way round the earth
NEAR_EQUAL_MS: Final = 10.0
ABOUT_AS_FAR_KM: Final = 100.0


@lru_cache(maxsize=1024)
def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance between (latitude, longitude) pairs in degrees (haversine formula)."""
    latitude_a, latitude_b = radians(a[0]), radians(b[0])
    half_latitude = (latitude_b - latitude_a) / 2
    half_longitude = radians(b[1] - a[1]) / 2
    chord = sin(half_latitude) ** 2 + cos(latitude_a) * cos(latitude_b) * sin(half_longitude) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))


def nearest_first(
    regions: Sequence[Region], location: Location, measured_ms: Callable[[Region], float | None], seed: str
) -> list[Region]:
    """By round trip. Within NEAR_EQUAL_MS of the best one, the nearer on the map goes first; of those about as far away
    each is first in proportion to its weight. What is neither measured nor on the map keeps its configured order.

    measured_ms: round trip from here, None while unknown. seed: the same seed gives the same order.
    """
    if len(regions) < 2:
        return list(regions)
    here = coordinates_of(location.colo or "") or location.coordinates
    ranked = []
    for place, region in enumerate(regions):
        km = _distance_to(region, here)
        rtt_ms = measured_ms(region)
        if rtt_ms is None:
            rtt_ms = UNKNOWN_RTT_MS if km is None else km * MS_PER_KM
        ranked.append((rtt_ms, km, place, region))
    near_ms = min(rtt_ms for rtt_ms, *_ in ranked) + NEAR_EQUAL_MS

    def key(entry: tuple[float, float | None, int, Region]) -> tuple[float, float, float, int]:
        rtt_ms, km, place, region = entry
        if km is None:  # nothing tells which of them lie together
            return (0.0 if rtt_ms <= near_ms else rtt_ms, float("inf"), 0.0, place)
        return (0.0 if rtt_ms <= near_ms else rtt_ms, km // ABOUT_AS_FAR_KM, _draw(region, seed), place)

    return [region for *_, region in sorted(ranked, key=key)]


def rtt_on_map_ms(location: Location, region: Region) -> float:
    """A guess, for as long as nothing was measured."""
    km = _distance_to(region, coordinates_of(location.colo or "") or location.coordinates)
    return UNKNOWN_RTT_MS if km is None else km * MS_PER_KM


def _distance_to(region: Region, here: tuple[float, float] | None) -> float | None:
    if here is None or region.latitude is None or region.longitude is None:
        return None
    return distance_km(here, (region.latitude, region.longitude))


def _draw(region: Region, seed: str) -> float:
    """Weighted rendezvous hashing: the lowest draw is a region's with a chance in proportion to its weight."""
    number = int.from_bytes(sha256(f"{seed} {region.id}".encode()).digest()[:6], "big")
    return -log((number + 1) / (2**48 + 1)) / region.weight
