"""An agent that finds the airport nearest to a city, and replies with Anthropic messages.

    python -m examples.airports.agent --port 8080 --delay-ms 50

It calls its tool `nearest_airport` with a radius of 50 km, and again with a wider radius if there is no
airport. The result of the first call is then an error in the transcript, as with real agents. The airports
are in airports.csv. To use it without a server: `invoke: python`,
`function: examples.airports.agent:answer`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from examples.serving import main

EARTH_RADIUS_KM = 6371.0088
KM_PER_DEGREE = math.pi * EARTH_RADIUS_KM / 180
RADII_KM = (50, 250, 1_000, 20_038)
"""Radius of each tool call in turn; the last is half of the Earth's circumference."""

COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
ACCESS = ((15, "in town"), (50, "short drive"), (150, "long drive"), (math.inf, "remote"))
CHARS_PER_TOKEN = 4

Block = dict[str, Any]


class Place(NamedTuple):
    """A point on the Earth, in degrees."""

    latitude: float
    longitude: float


class Airport(NamedTuple):
    """An airport of airports.csv."""

    place: Place
    code: str
    name: str
    time_zone: str


class Found(NamedTuple):
    """The result of a search; `direction` is as seen from the city."""

    airport: Airport
    distance_km: float
    direction: str

    @property
    def text(self) -> str:
        """The tool's result, one `Key: value` per line."""
        return (
            f"Airport: {self.airport.name}\nIATA: {self.airport.code}\nDistance: {self.distance_km:.1f} km\n"
            f"Direction: {self.direction}\nTime zone: {self.airport.time_zone}"
        )


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer `city`, `latitude`, `longitude` and `prompt`. Raises ValueError for invalid coordinates."""
    city, here = str(request.get("city") or "the city").strip(), _place(request)
    messages: list[dict[str, Any]] = [_message("user", _text(str(request.get("prompt") or city)))]
    found: Found | None = None
    for radius_km in RADII_KM:
        said = (
            "I will look for an airport nearby." if len(messages) == 1 else "None there; I will look further."
        )
        call = _tool_use(here, radius_km)
        found = nearest_airport(here, radius_km)
        messages += [
            _message("assistant", _text(said), call),
            _message("user", _tool_result(call, found, radius_km)),
        ]
        if found:
            break
    messages.append(_message("assistant", _text(_conclusion(city, found))))
    return _reply(messages)


def nearest_airport(here: Place, radius_km: float) -> Found | None:
    """The tool: search the airports, which are sorted by latitude."""
    airports = _airports()
    reach = radius_km / KM_PER_DEGREE
    start = bisect_left(airports, here.latitude - reach, key=lambda airport: airport.place.latitude)
    end = bisect_right(airports, here.latitude + reach, key=lambda airport: airport.place.latitude)
    nearby = ((distance_km(here, airport.place), airport) for airport in airports[start:end])
    km, airport = min(nearby, key=lambda pair: (pair[0], pair[1].code), default=(math.inf, None))
    if airport is None or km > radius_km:
        return None
    return Found(airport, km, direction(here, airport.place))


def distance_km(a: Place, b: Place) -> float:
    """Great-circle distance on a sphere (haversine), within 0.6 % of the distance on the Earth."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat, half_lon = (lat_b - lat_a) / 2, math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def direction(a: Place, b: Place) -> str:
    """The compass direction in which the great circle from `a` to `b` starts."""
    lat_a, lat_b, lon = (
        math.radians(a.latitude),
        math.radians(b.latitude),
        math.radians(b.longitude - a.longitude),
    )
    x = math.cos(lat_a) * math.sin(lat_b) - math.sin(lat_a) * math.cos(lat_b) * math.cos(lon)
    bearing = math.degrees(math.atan2(math.sin(lon) * math.cos(lat_b), x)) % 360
    return COMPASS[round(bearing / 45) % len(COMPASS)]


@cache
def _airports() -> list[Airport]:
    with (Path(__file__).parent / "airports.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        known = (
            Airport(
                Place(float(row["Latitude"]), float(row["Longitude"])),
                row["IATA"],
                row["Name"],
                row["Time zone"],
            )
            for row in rows
        )
        return sorted(known)


def _place(request: Mapping[str, Any]) -> Place:
    try:
        place = Place(float(request["latitude"]), float(request["longitude"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError("latitude and longitude are needed, as numbers") from None
    if not (abs(place.latitude) <= 90 and abs(place.longitude) <= 180):  # noqa: PLR2004 -- degrees
        raise ValueError(f"{place.latitude}, {place.longitude} is no place on the Earth")
    return place


def _conclusion(city: str, found: Found | None) -> str:
    if found is None:  # only with an empty airports.csv
        return f"I know of no airport near {city}."
    access = next(name for limit, name in ACCESS if found.distance_km < limit)
    airport = f"{found.airport.name} ({found.airport.code})"
    where = f"{found.distance_km:.1f} km {found.direction} of it"
    return f"The airport nearest to {city} is {airport}, {where}.\nAccess: {access}"


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _message(role: str, *blocks: Block) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def _tool_use(here: Place, radius_km: int) -> Block:
    arguments = {"latitude": here.latitude, "longitude": here.longitude, "radius_km": radius_km}
    return {"type": "tool_use", "id": _id("toolu", arguments), "name": "nearest_airport", "input": arguments}


def _tool_result(call: Block, found: Found | None, radius_km: int) -> Block:
    text = found.text if found else f"No airport with an IATA code within {radius_km} km."
    return {
        "type": "tool_result",
        "tool_use_id": call["id"],
        "content": [_text(text)],
        "is_error": found is None,
    }


def _reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The messages as one reply; tokens are estimated."""
    written = [message for message in messages if message["role"] == "assistant"]
    return {
        "id": _id("msg", messages),
        "type": "message",
        "model": "airport-agent-1",
        "stop_reason": "end_turn",
        "messages": messages,
        "usage": {
            "input_tokens": len(json.dumps(messages[:-1])) // CHARS_PER_TOKEN,
            "output_tokens": len(json.dumps(written)) // CHARS_PER_TOKEN,
        },
    }


def _id(kind: str, content: object) -> str:
    return f"{kind}_{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]}"


if __name__ == "__main__":
    main(answer)
