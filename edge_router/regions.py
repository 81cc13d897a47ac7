"""Order of the cloud regions for a caller: nearest first, by great-circle distance."""

from collections.abc import Sequence
from math import asin, cos, radians, sin, sqrt

from .location import Location
from .settings import Region

EARTH_RADIUS_KM = 6371.0


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance between (latitude, longitude) pairs in degrees (haversine formula)."""
    latitude_a, latitude_b = radians(a[0]), radians(b[0])
    half_latitude = (latitude_b - latitude_a) / 2
    half_longitude = radians(b[1] - a[1]) / 2
    chord = sin(half_latitude) ** 2 + cos(latitude_a) * cos(latitude_b) * sin(half_longitude) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))


def nearest_first(regions: Sequence[Region], location: Location) -> list[Region]:
    """Regions or a caller without coordinates keep the configured order, after those that have them."""
    here = location.coordinates
    if here is None:
        return list(regions)

    def distance(region: Region) -> float:
        if region.latitude is None or region.longitude is None:
            return float("inf")
        return distance_km(here, (region.latitude, region.longitude))

    return sorted(regions, key=distance)
