"""`pricing` of a mapping: what is accepted, and the exact cost of tokens."""

import math
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import MappingError
from service.domain.money import UNITS, decimal_text
from service.mapping import AUTO, Catalog, Prices
from service.mapping.pricing import MILLION
from service.mapping.replies.transcript import Usage

MAPPING = """target: {type: agent, name: a, invoke: http, url: 'https://example.org'}
output_mapping: {extraction_methods: [{method: direct, field_mappings: {x: text}}]}
pricing: """
PRICES = Prices(
    input=3 * UNITS, output=15 * UNITS, cached_input=30 * UNITS // 100, cache_write=375 * UNITS // 100
)


def pricing(text):
    return Catalog.load({"mappings/a.yaml": MAPPING + text}, {}).definition("a").compile().pricing


def test_prices_as_written():
    """Digits are kept as they stand, also those that a float has not."""
    found = pricing("{input_per_million: 0.15, output_per_million: 0.6, per_call: 0.00000001, currency: EUR}")
    assert found == Prices("EUR", 15 * UNITS // 100, 6 * UNITS // 10, per_call=1)
    assert pricing("{per_call: 2}") == Prices(per_call=2 * UNITS)
    assert pricing("auto") == AUTO
    assert pricing("") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "states no price"),
        ("{currency: EUR}", "states no price"),
        (
            "{input_per_million: 1}",
            "output_per_million is missing; if it costs nothing, write output_per_million: 0",
        ),
        ("{cached_input_per_million: 1}", "input_per_million is missing"),
        ("{per_call: -1}", "must be from 0 to 1,000,000"),
        ("{per_call: .nan}", "must be a number such as 0.15"),
        ("{per_call: 1000001}", "must be from 0"),
        ("{per_call: 0.000000001}", "more than 8 digits"),
        ("{per_call: '1'}", "must be a number such as 0.15"),
        ("{per_call: yes}", "must be a number"),
        ("{per_call: 1, currency: dollar}", "currency"),
        ("{per_cal: 1}", "per_call"),
        ("cheap", "'cheap' is no pricing"),
        ("[1]", "is no pricing"),
    ],
)
def test_mistakes(text, words):
    """Each is reported with its line and a remedy."""
    with pytest.raises(MappingError, match=re.escape(words)) as refused:
        pricing(text)
    assert str(refused.value).startswith("mappings/a.yaml:3: ")


@pytest.mark.parametrize(
    ("usage", "text"),
    [
        (Usage(1_000, 200), "0.006"),
        (Usage(1_000, 200, reasoning=150), "0.006"),
        (Usage(1_000, 200, cached_input=600), "0.00438"),
        (Usage(1_000, 200, cached_input=600, cache_write=400), "0.00468"),
        (Usage(1, 0), "0.000003"),
    ],
)
def test_costs(usage, text):
    """Each kind at its price; reasoning is output."""
    assert decimal_text(PRICES.cost(usage)) == text


def test_costs_that_are_not_known():
    """They are None, never 0: without tokens, and for writes to a cache that have no price."""
    bare = Prices(input=UNITS, output=UNITS)
    assert PRICES.cost(None) is PRICES.cost(Usage()) is None
    assert bare.cost(Usage(10, 1, cache_write=5)) is None
    assert bare.cost(Usage(10, 1, cached_input=5)) == bare.cost(Usage(10, 1))


def test_prices_per_call():
    """They need no tokens, and add to those of tokens."""
    assert Prices(per_call=7).cost(None, calls=3) == 21
    both = Prices(input=MILLION, output=0, per_call=7)
    assert both.cost(Usage(10, 5), calls=3) == 31
    assert both.cost(None) is None
    assert both.cost(None, calls=0) == 0


PRICE = st.integers(0, 10**14)
COUNT = st.integers(0, 10**12)


@given(PRICE, PRICE, PRICE, PRICE, COUNT, COUNT, COUNT, COUNT)
def test_the_cost_is_exact(fresh, cached, written, output, new, from_cache, to_cache, answered):
    """It is the sum of fractions, rounded up once to a whole unit."""
    prices = Prices(input=fresh, output=output, cached_input=cached, cache_write=written)
    usage = Usage(new + from_cache + to_cache, answered, from_cache, to_cache)
    pairs = [(new, fresh), (from_cache, cached), (to_cache, written), (answered, output)]
    exact = sum((Fraction(count * price, MILLION) for count, price in pairs), Fraction())
    expected = math.ceil(exact) if usage != Usage() else None
    assert prices.cost(usage) == expected


@given(PRICE, PRICE, st.lists(st.tuples(st.integers(1, 10**6), COUNT), min_size=1, max_size=5))
def test_a_sum_of_calls_is_never_below_their_price(fresh, output, calls):
    """Calls priced one by one cost at most a unit each more than all of them together."""
    prices = Prices(input=fresh, output=output)
    single = sum(prices.cost(Usage(*call)) for call in calls)
    together = prices.cost(sum((Usage(*call) for call in calls), Usage()))
    assert together <= single < together + len(calls)


def test_units_stand_for_a_millionth_of_a_cent():
    """A dollar is 100 cents of a million units."""
    assert Decimal(UNITS) == 100 * MILLION
