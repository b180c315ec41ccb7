"""The agents of the examples give right and repeatable answers, and their options work as described."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from examples.airports.agent import Place, answer, direction, distance_km, nearest_airport
from examples.classify.tool import classify
from examples.serving import Behaviour, Service, TokenBucket, agent_process, fraction
from service.agents import open_agent
from service.catalog.files import load_catalog
from service.domain.errors import AgentRejectedError, AgentThrottledError
from service.domain.ports import Agent, Invocation
from service.mapping import Catalog

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def table(path: str) -> list[dict[str, str]]:
    with (EXAMPLES / path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CITIES = table("airports/cities.csv")


def ask(city: str, country: str) -> dict:
    row = next(row for row in CITIES if (row["City"], row["Country"]) == (city, country))
    return {
        "city": city,
        "latitude": row["Latitude"],
        "longitude": row["Longitude"],
        "prompt": f"Which airport is nearest to {city}?",
    }


def results(reply: dict) -> list[dict]:
    blocks = [block for message in reply["messages"] for block in message["content"]]
    return [block for block in blocks if block["type"] == "tool_result"]


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ((40.640, -73.779), (51.471, -0.462), 5_540),  # JFK-LHR
        ((-33.946, 151.177), (-37.008, 174.792), 2_159),  # SYD-AKL
        ((1.359, 103.989), (51.471, -0.462), 10_883),  # SIN-LHR
        ((0, 0), (0, 180), 20_015),  # half around
        ((90, 0), (-90, 77), 20_015),
        ((10, 20), (10, 20), 0),
    ],
)
def test_distances(a: tuple[float, float], b: tuple[float, float], km: float) -> None:
    """Distances equal published great-circle distances within 0.6 %, the error of a spherical Earth."""
    assert distance_km(Place(*a), Place(*b)) == pytest.approx(km, rel=0.006)


@pytest.mark.parametrize(
    ("here", "there", "wind"),
    [
        ((0, 0), (1, 0), "north"),
        ((0, 0), (1, 1), "northeast"),
        ((0, 179.9), (0, -179.9), "east"),
        ((0, 0), (-1, 1), "southeast"),
        ((0, 0), (-1, 0), "south"),
        ((0, -179.9), (0, 179.9), "west"),
        ((0, 0), (1, -1), "northwest"),
        ((40.640, -73.779), (51.471, -0.462), "northeast"),
    ],
)
def test_directions(here: tuple[float, float], there: tuple[float, float], wind: str) -> None:
    """The direction is that of the start of the great circle, also across the date line."""
    assert direction(Place(*here), Place(*there)) == wind


@pytest.mark.parametrize(
    ("city", "country", "code", "zone"),
    [
        ("London", "United Kingdom", "LCY", "Europe/London"),
        ("Perth", "Australia", "PER", "Australia/Perth"),
        ("Kathmandu", "Nepal", "KTM", "Asia/Kathmandu"),
        ("Wellington", "New Zealand", "WLG", "Pacific/Auckland"),
        ("San Diego", "United States", "SAN", "America/Los_Angeles"),
        ("Lisbon", "Portugal", "LIS", "Europe/Lisbon"),
        ("Kyoto", "Japan", "ITM", "Asia/Tokyo"),
        ("Honolulu", "United States", "HNL", "Pacific/Honolulu"),
        ("Montréal", "Canada", "YUL", "America/Toronto"),
        ("Nairobi", "Kenya", "WIL", "Africa/Nairobi"),
    ],
)
def test_known_cities(city: str, country: str, code: str, zone: str) -> None:
    """The agent finds the airports and time zones that a map shows."""
    text = results(answer(ask(city, country)))[-1]["content"][0]["text"]
    assert f"IATA: {code}\n" in text
    assert text.endswith(f"Time zone: {zone}")


def test_the_search_agrees_with_a_search_of_every_airport() -> None:
    """The search in a band of latitudes misses no airport; compared by the angle between two vectors."""

    def vector(latitude: float, longitude: float) -> tuple[float, float, float]:
        lat, lon = math.radians(latitude), math.radians(longitude)
        return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)

    airports = [
        (row["IATA"], vector(float(row["Latitude"]), float(row["Longitude"])))
        for row in table("airports/airports.csv")
    ]
    for row in CITIES[::60]:
        here = Place(float(row["Latitude"]), float(row["Longitude"]))
        nearest = max(sum(a * b for a, b in zip(vector(*here), there, strict=True)) for _, there in airports)
        found = nearest_airport(here, 20_038)
        assert found is not None
        assert found.distance_km == pytest.approx(math.acos(min(1, nearest)) * 6371.0088, abs=0.1)


def test_the_transcript_has_the_form_of_anthropic_messages() -> None:
    """Results refer to calls by id; a radius without an airport is an error, and the agent continues."""
    reply = answer({"city": "Nemo", "latitude": -48.8767, "longitude": "-123.3933", "prompt": "Which?"})
    messages = reply["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 4 + ["user", "assistant"]
    calls = [block for message in messages for block in message["content"] if block["type"] == "tool_use"]
    assert [call["input"]["radius_km"] for call in calls] == [50, 250, 1_000, 20_038]
    assert [result["tool_use_id"] for result in results(reply)] == [call["id"] for call in calls]
    assert [result["is_error"] for result in results(reply)] == [True, True, True, False]
    assert len({call["id"] for call in calls}) == 4
    assert "Access: remote" in messages[-1]["content"][0]["text"]
    assert messages[0]["content"] == [{"type": "text", "text": "Which?"}]
    assert reply["usage"]["input_tokens"] > reply["usage"]["output_tokens"] > 0


def test_the_same_input_has_the_same_answer() -> None:
    """Two answers to one input are equal to the byte."""
    assert json.dumps(answer(ask("Perth", "Australia"))) == json.dumps(answer(ask("Perth", "Australia")))


@pytest.mark.parametrize(
    "place",
    [{}, {"latitude": "91", "longitude": "0"}, {"latitude": "nan", "longitude": "0"}, {"latitude": ""}],
)
def test_invalid_coordinates_are_refused(place: dict[str, str]) -> None:
    """Missing or impossible coordinates raise a ValueError that names them."""
    with pytest.raises(ValueError, match=r"latitude and longitude|no place"):
        answer({"city": "Atlantis"} | place)


def test_every_city_has_an_answer() -> None:
    """No row of the demonstration fails because of its city, and every kind of access occurs."""
    access: Counter[str] = Counter()
    searched_again = 0
    for row in CITIES:
        reply = answer({"city": row["City"], "latitude": row["Latitude"], "longitude": row["Longitude"]})
        searched_again += len(results(reply)) > 1
        access[reply["messages"][-1]["content"][0]["text"].partition("Access: ")[2]] += 1
    assert set(access) == {"in town", "short drive", "long drive", "remote"}
    assert access.total() == len(CITIES) == 2_402
    assert searched_again == 306  # the number in the README


def test_the_classifier_is_as_good_as_the_readme_says() -> None:
    """It is right for 83 % of 800 definitions that are not in its training data, for 97 % if confident."""
    rows = table("classify/definitions.csv")
    seen = {row["Definition"] for row in table("classify/training.csv")}
    assert not seen & {row["Definition"] for row in rows}
    answers = [classify({"text": row["Definition"]}) for row in rows]
    right = [a["category"] == row["Known category"] for a, row in zip(answers, rows, strict=True)]
    sure = [ok for a, ok in zip(answers, right, strict=True) if a["confidence_score"] >= 0.9]
    assert sum(right) == 665
    assert sum(sure) / len(sure) == pytest.approx(0.967, abs=0.001)
    assert sum(a["confidence_score"] for a in answers) / len(rows) == pytest.approx(0.83, abs=0.01)
    assert answers == [classify({"text": row["Definition"]}) for row in rows]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("a large striped cat that hunts deer in Asian forests", "animal"),
        ("a shrub with red berries and glossy evergreen leaves", "plant"),
        ("soup of lentils served with bread and butter", "food"),
        ("someone who studies the history of music", "person"),
        ("a muscle that bends the arm at the elbow", "body"),
    ],
)
def test_other_definitions_are_classified(text: str, category: str) -> None:
    """The classifier works on sentences that are in no dictionary."""
    answer = classify({"text": text})
    assert answer["category"] == category
    assert 0.125 < answer["confidence_score"] <= 1


@pytest.mark.parametrize("text", ["", "   ", "xyzzy qwrtp", "東京", None])
def test_a_text_without_known_words_is_refused(text: str | None) -> None:
    """The classifier raises a ValueError instead of guessing."""
    with pytest.raises(ValueError, match=r"empty|no word"):
        classify({"text": text})


async def served(behaviour: Behaviour, now: list[float]) -> tuple[Agent, web.AppRunner]:
    runner = web.AppRunner(
        Service(answer, behaviour, now=lambda: now[0]).application(), shutdown_timeout=0.01
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    environ = {"AGENT_URL": f"http://127.0.0.1:{runner.addresses[0][1]}/"}
    return open_agent("http", {"url": "${AGENT_URL}"}, name="a", environ=environ), runner


async def test_the_rate_limit() -> None:
    """Above the limit the answer is 429 with Retry-After, until the bucket has filled again."""
    now = [100.0]
    agent, runner = await served(Behaviour(rate_limit=2), now)
    call = Invocation(id="1", body=ask("Perth", "Australia"))
    for _ in range(2):
        await agent.invoke(call)
    with pytest.raises(AgentThrottledError) as raised:
        await agent.invoke(call)
    assert raised.value.retry_after_s == 1
    now[0] += 0.5
    await agent.invoke(call)
    await agent.close()
    await runner.cleanup()


def test_the_bucket_never_gives_more_than_its_rate() -> None:
    """At any spacing of calls; a long pause fills the bucket with the requests of one second only."""
    now = [0.0]
    limit = TokenBucket(10, lambda: now[0])
    taken = 0
    for step in range(1_000):
        now[0] = step / 100
        taken += limit.wait_s() == 0
    assert 100 <= taken <= 110
    now[0] += 3_600
    assert sum(limit.wait_s() == 0 for _ in range(100)) == 10


async def test_the_fail_rate() -> None:
    """The same inputs fail in every run: about half of them once, the others always."""
    agent, runner = await served(Behaviour(fail_rate=0.2), [0.0])
    cities = CITIES[:200]
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for outcomes in (first, second):
        for row in cities:
            body = {"city": row["City"], "latitude": row["Latitude"], "longitude": row["Longitude"]}
            try:
                await agent.invoke(Invocation(id=f"{row['City']}{row['Country']}", body=body))
                outcomes["answered"] += 1
            except AgentThrottledError:
                outcomes["transient"] += 1
            except AgentRejectedError:
                outcomes["permanent"] += 1
    assert first.total() == second.total() == 200
    assert 20 <= first["transient"] + first["permanent"] <= 60
    assert min(first["transient"], first["permanent"]) >= 8
    assert second == Counter(permanent=first["permanent"], answered=200 - first["permanent"])
    await agent.close()
    await runner.cleanup()


async def test_bad_requests() -> None:
    """A body that is no JSON object, and wrong input, get errors in the form of Anthropic's API."""
    agent, runner = await served(Behaviour(), [0.0])
    with pytest.raises(AgentRejectedError, match=r"HTTP 422: .*invalid_request_error.*no place on the Earth"):
        await agent.invoke(Invocation(id="1", body={"latitude": 100, "longitude": 0}))
    with pytest.raises(AgentRejectedError, match=r"HTTP 400: .*no JSON object"):
        await agent.invoke(Invocation(id="1", body=[1]))
    await agent.close()
    await runner.cleanup()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT / "mappings", ROOT / "schemas")


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.verify)])
def test_the_airport_mapping_finds_every_field_of_every_city(catalog: Catalog, step: int) -> None:
    """Row, input, reply and extraction fit; facts come from the last tool result without an error."""
    mapping = catalog.definition("airport-agent").compile()
    columns = list(CITIES[0])
    assert mapping.output_fields == ("airport", "iata", "distance_km", "direction", "time_zone", "access")
    for row in CITIES[::step]:
        request = mapping.build_input(columns, list(row.values()))
        assert row["City"] in request["prompt"]
        reply = answer(request)
        found = mapping.extract(reply)
        facts = nearest_airport(Place(float(row["Latitude"]), float(row["Longitude"])), 20_038)
        assert facts is not None
        values = dict(found.values)
        assert float(values.pop("distance_km")) == round(facts.distance_km, 1)
        assert values.pop("access") in {"in town", "short drive", "long drive", "remote"}
        assert values == {
            "airport": facts.airport.name,
            "iata": facts.airport.code,
            "direction": facts.direction,
            "time_zone": facts.airport.time_zone,
        }
        assert found.provenance["iata"].startswith("tool_result")
        assert found.provenance["access"].startswith("jmespath")
        assert found.usage.input_tokens == reply["usage"]["input_tokens"]


def test_the_airport_mapping_falls_back_on_the_last_message(catalog: Catalog) -> None:
    """If the tool result is missing, all fields but the time zone come from the last message."""
    mapping = catalog.definition("airport-agent").compile()
    reply = answer(ask("Perth", "Australia"))
    found = mapping.extract(reply | {"messages": [reply["messages"][0], reply["messages"][-1]]})
    assert float(found.values["distance_km"]) == 10.1
    assert {**found.values, "distance_km": None} == {
        "airport": "Perth International",
        "iata": "PER",
        "distance_km": None,
        "direction": "east",
        "time_zone": None,
        "access": "in town",
    }


async def test_the_classification_mapping_end_to_end(catalog: Catalog) -> None:
    """The mapping of the original design, unchanged, works with a Python function."""
    definition = catalog.definition("classification-tool")
    assert json.loads(definition.text)["output_mapping"] == {
        "type": "tool",
        "extraction_methods": [
            {
                "method": "direct",
                "field_mappings": {"category": "$.category", "confidence": "$.confidence_score"},
            }
        ],
    }
    mapping = definition.compile()
    target = mapping.target
    agent = open_agent(target.invoke, target.options, name=target.name, environ={})
    row = ["teacup", "a cup from which tea is drunk", "artifact"]
    body = mapping.build_input(["Word", "Definition", "Known category"], row)
    reply = await agent.invoke(Invocation(id="1", body=body))
    assert body == {"text": "a cup from which tea is drunk"}
    assert mapping.extract(reply.body).values == {
        "category": reply.body["category"],
        "confidence": reply.body["confidence_score"],
    }
    await agent.close()


def test_the_hash_spreads() -> None:
    """About a tenth of a thousand inputs is below 0.1."""
    below = sum(fraction("fail", {"n": n}) < 0.1 for n in range(1_000))
    assert 70 <= below <= 130


async def test_the_agent_as_a_process() -> None:
    """The child process prints its URL, answers, and ends with the block."""
    with agent_process("examples.airports.agent", "--delay-ms", "1", "--jitter-ms", "1") as url:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=ask("Perth", "Australia")) as sent,
        ):
            assert (await sent.json())["type"] == "message"
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as session:
            await session.post(url)


def test_the_agent_dies_with_its_parent() -> None:
    """The child ends also if the parent is killed and cannot clean up."""
    program = (
        "import threading\n"
        "from examples.serving import agent_process\n"
        "with agent_process('examples.airports.agent') as url:\n"
        "    print(url, flush=True)\n"
        "    threading.Event().wait()\n"
    )
    # The agent has the write end of `alive` as its stderr, so end of file means that the agent has ended.
    alive, held = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=held, text=True
    )
    os.close(held)
    with parent, os.fdopen(alive, "rb") as watching:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("http://127.0.0.1:")
        parent.send_signal(signal.SIGKILL)
        assert watching.read() == b""
