"""Prices of models from the list of genai-prices."""

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType, SimpleNamespace

import pytest

from service.mapping import Prices
from service.mapping.price_list import LIBRARY, prices_of, quote_model
from service.mapping.replies.transcript import Usage
from service.mapping.targets import Target

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OPENAI = "https://api.openai.com"


@pytest.fixture
def library():
    """The library itself, where it is installed: it is an extra that no other test needs."""
    return pytest.importorskip(LIBRARY)


def test_a_model_of_a_known_provider(library):
    """The prices are those of the library, to the unit."""
    prices = quote_model("gpt-4o-mini", invoke="http", url=OPENAI, at=NOW).prices
    listed = library.calc_price(
        library.Usage(input_tokens=1_000_000, cache_read_tokens=400_000, output_tokens=1_000_000),
        "gpt-4o-mini", provider_api_url=OPENAI, genai_request_timestamp=NOW,
    )  # fmt: skip
    assert prices.cost(Usage(1_000_000, 1_000_000, cached_input=400_000)) == listed.total_price * 10**8
    assert prices.currency == "USD"


def test_bedrock_is_a_provider_of_its_own(library):
    """Its model ids and prices are not those of the model's maker."""
    model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert quote_model(model, invoke="bedrock", url="", at=NOW).prices is not None


def test_prices_by_the_length_of_the_input(library):
    """The price holds up to the length at which another begins."""
    google = "https://generativelanguage.googleapis.com"
    assert quote_model("gemini-2.5-pro", invoke="http", url=google, at=NOW).prices.longest_input == 200_000
    assert quote_model("gpt-4o-mini", invoke="http", url=OPENAI, at=NOW).prices.longest_input is None


@pytest.mark.parametrize(("model", "url"), [("no-such-model", OPENAI), ("gpt-4o-mini", "http://localhost:1")])
def test_models_that_are_not_listed(library, model, url):
    """A model behind another address has no price, even under a listed name."""
    found = quote_model(model, invoke="http", url=url, at=NOW)
    assert found.prices is None
    assert found.reason == f"the model {model} at {url} is not on the list of genai-prices"


@dataclass
class Snapshot:
    """The part of the library that is used: one model, of one provider, with these prices."""

    prices: dict
    asked: list = field(default_factory=list)

    def find_provider_model(self, model, provider, provider_id, url):
        """The model; LookupError for any other."""
        self.asked.append((provider_id, url))
        if model != "listed":
            raise LookupError(model)
        return None, SimpleNamespace(get_prices=lambda at: SimpleNamespace(**self.prices))


@pytest.fixture
def snapshot(monkeypatch):
    made = Snapshot({"input_mtok": Decimal("0.15"), "output_mtok": Decimal(1), "cache_read_mtok": None})
    module = ModuleType(f"{LIBRARY}.data_snapshot")
    module.get_snapshot = lambda: made
    monkeypatch.setitem(sys.modules, LIBRARY, ModuleType(LIBRARY))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def quote(model="listed", invoke="http", url=OPENAI):
    return quote_model(model, invoke=invoke, url=url, at=NOW)


def test_prices_are_exact(snapshot):
    """Per million tokens and per thousand requests; what the list does not have is unknown."""
    snapshot.prices["requests_kcount"] = Decimal(5)
    assert quote().prices == Prices("USD", 15_000_000, 100_000_000, per_call=500_000)


def test_the_provider_that_is_asked_for(snapshot):
    """That of the way to invoke, or of the address; neither for others."""
    quote()
    quote(invoke="bedrock", url="")
    quote(invoke="lambda", url="")
    assert snapshot.asked == [(None, OPENAI), ("aws", None), (None, None)]


def test_tiers(snapshot):
    """The base holds up to the lowest start of a tier."""
    tiers = [SimpleNamespace(start=200_000), SimpleNamespace(start=400_000)]
    snapshot.prices["input_mtok"] = SimpleNamespace(base=Decimal(1), tiers=tiers)
    assert quote().prices == Prices("USD", 10**8, 10**8, longest_input=200_000)


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ({"output_mtok": None}, "has no price of tokens for listed"),
        ({"output_reasoning_mtok": Decimal(3)}, "reasoning of listed has a price of its own"),
        ({"input_mtok": Decimal("1e-9")}, "listed: 1E-9 has more than 8 digits"),
    ],
)
def test_prices_that_cannot_be_used(snapshot, prices, words):
    """There is no price then, with the reason."""
    snapshot.prices |= prices
    assert quote().prices is None
    assert words in quote().reason


def test_a_model_that_is_not_listed(snapshot):
    """It has no price."""
    assert quote("other", url="").reason == "the model other is not on the list of genai-prices"


def test_without_the_library(monkeypatch):
    """The reason names the extra that brings it."""
    monkeypatch.setitem(sys.modules, LIBRARY, None)
    monkeypatch.setitem(sys.modules, f"{LIBRARY}.data_snapshot", None)
    assert quote().prices is None
    assert "rowfleet[prices]" in quote().reason


def test_prices_of_a_target_as_they_are_stored_with_a_batch(snapshot):
    """Those that the mapping states, or those of the list for a model that the target names."""
    chat = Target("agent", "chat", "http", {"model": "listed", "url": "", "preset": "openai"})
    stated = Prices(per_call=5)
    assert prices_of(stated, chat, NOW) == stated.as_json()
    assert prices_of(None, chat, NOW) is None
    assert Prices.of_json(prices_of("auto", chat, NOW)).output == 10**8
    assert snapshot.asked == [("openai", None)]


@pytest.mark.parametrize(
    "options",
    [{"url": "https://x/"}, {"model": "${MODEL}"}, {"model": "other"}, {"model": "listed", "url": "${URL}"}],
    ids=["none", "reference", "unlisted", "address"],
)
def test_a_model_that_is_not_known_has_no_price(snapshot, options):
    """Not 0: a batch without a price says so."""
    assert prices_of("auto", Target("agent", "chat", "http", options), NOW) is None
