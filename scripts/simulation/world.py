"""Where callers are, which location takes them, and how long the ways are."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router import colos
from edge_router.location import Location
from edge_router.regions import EARTH_RADIUS_KM
from edge_router.settings import Region
from scripts.simulation.scenario import Network

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METROS_FILE: Final = Path(__file__).parent / "metros.csv"
CONTINENTS: Final = {
    "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America",
}  # fmt: skip
# Share of people who use the Internet, after ITU, Facts and Figures 2024 (its regions are not quite continents; the
# figures for Oceania and South America are ours).
ONLINE: Final = {"AF": 0.38, "AS": 0.66, "EU": 0.91, "NA": 0.87, "OC": 0.80, "SA": 0.82}
NEARBY: Final = 5  # a caller who is not at the nearest location is at one of the next four
CHINESE: Final = frozenset(
    "BHY CAN CGD CGO CKG CSX CTU CZX DLC FOC FUO HAK HGH HYN JXG KHN KMG KWE PKX SHA SJW SZX TAO TEN TNA TYN XFN XIY "
    "XNN".split()
)


def distances_km(a: Floats, b: Floats) -> Floats:
    """Great circles between each of n and each of m (latitude, longitude) pairs in degrees: n × m."""
    (lat_a, lon_a), (lat_b, lon_b) = np.radians(a).T, np.radians(b).T
    half_lat = (lat_b[None, :] - lat_a[:, None]) / 2
    half_lon = (lon_b[None, :] - lon_a[:, None]) / 2
    chord = np.sin(half_lat) ** 2 + np.cos(lat_a)[:, None] * np.cos(lat_b)[None, :] * np.sin(half_lon) ** 2
    result: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(chord)))
    return result


@dataclass(frozen=True, slots=True)
class Metro:
    name: str
    continent: str
    place: tuple[float, float]
    people_online: float


def read_metros(path: Path = METROS_FILE) -> list[Metro]:
    with path.open() as file:
        return [
            Metro(
                row["name"],
                row["continent"],
                (float(row["latitude"]), float(row["longitude"])),
                float(row["people"]) * ONLINE[row["continent"]],
            )
            for row in csv.DictReader(file)
        ]


@dataclass(frozen=True, slots=True)
class Callers:
    """Of n requests: the colo that takes each, by its position in World.colos, and the round trip to it in seconds."""

    metro: Ints
    colo: Ints
    rtt_s: Floats


class World:
    """codes: of the colos to use, all by default."""

    def __init__(self, network: Network, codes: Sequence[str] = ()) -> None:
        self._network = network
        self.colos = list(codes) or [
            code for code in colos.codes() if network.chinese_colos or code not in CHINESE
        ]  # fmt: skip
        self.metros = read_metros()
        self.places = np.array([colos.coordinates_of(code) for code in self.colos])
        metro_places = np.array([metro.place for metro in self.metros])
        self.km = distances_km(metro_places, self.places)  # metro × colo
        self.locations = [Location(colo=code) for code in self.colos]
        self.continents = [self.metros[nearest].continent for nearest in self.km.argmin(axis=0)]
        weights = np.array([metro.people_online for metro in self.metros])
        self._weights = weights / weights.sum()
        self._near = self.km.argsort(axis=1, kind="stable")[:, :NEARBY]
        self.traffic_share = self._traffic_share()

    def callers(self, count: int, rng: np.random.Generator) -> Callers:
        metro = rng.choice(len(self.metros), count, p=self._weights)
        is_lost = rng.random(count) < self._network.misrouted_share
        rank = np.where(is_lost, rng.integers(1, max(2, self._near.shape[1]), count), 0) % self._near.shape[1]
        colo = self._near[metro, rank]
        last_mile = lognormal(rng, self._network.last_mile_s, self._network.last_mile_sigma, count)
        return Callers(metro, colo, self.way_s(self.km[metro, colo]) + last_mile)

    def way_s(self, km: Floats) -> Floats:
        """Round trip over so many kilometres of backbone."""
        return km * self._network.ms_per_km / 1000

    def region_rtts_s(self, regions: Sequence[Region]) -> Floats:
        """colo × region."""
        return self.way_s(distances_km(self.places, np.array([(r.latitude, r.longitude) for r in regions], float)))

    def colo_rtts_s(self) -> Floats:
        return self.way_s(distances_km(self.places, self.places))

    def _traffic_share(self) -> Floats:
        """Of each colo, of all requests."""
        share = np.zeros(len(self.colos))
        lost = self._network.misrouted_share
        others = self._near.shape[1] - 1
        for rank in range(others + 1):
            part = 1.0 if not others else 1 - lost if rank == 0 else lost / others
            np.add.at(share, self._near[:, rank], part * self._weights)
        return share


def lognormal(rng: np.random.Generator, median: float, sigma: float, count: int) -> Floats:
    values: Floats = median * np.exp(sigma * rng.standard_normal(count))
    return values
