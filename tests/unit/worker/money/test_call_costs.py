"""The costs of calls."""

from dataclasses import replace

import pytest

from service.domain.errors import AgentThrottledError, AgentTimeoutError, ExtractionError
from service.domain.model import Batch, Location, Source, Spending, State
from service.mapping import Prices
from service.mapping.replies.transcript import NO_USAGE, Usage
from service.worker.money.call_costs import CallCosts
from tests.unit.laboratory import definition_of

PRICES = Prices(input=10**6, output=2 * 10**6, per_call=7)
BATCH = Batch(
    tool_name="demo",
    execution_id="e1",
    state=State.RUNNING,
    source=Source("b", "k.csv"),
    output=Location("b", "p/"),
    prices=PRICES.as_json(),
)
REPLY = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


MAPPING = """
target:
  name: model
  invoke: http
  preset: openai
  url: http://127.0.0.1:9/
  model: small
  parameters:
    max_tokens: 50
input_mapping:
  column_mappings:
    text: input
output_mapping:
  extraction_methods:
    - method: direct
      field_mappings:
        answer: $.answer
"""


@pytest.fixture
def costs():
    """The costs of a target with `max_tokens`."""
    return CallCosts(definition_of(MAPPING).compile())


def test_a_reply_costs_what_it_states(costs):
    """Its tokens by their prices, and the price of a call."""
    spent = costs.of_reply(BATCH, "hello", Usage(100, 10, cached_input=40, reasoning=3))
    assert spent == Spending(1, 100, 40, 0, 10, 3, cost=127)


def test_a_reply_that_states_no_tokens_has_no_known_price(costs):
    """It is counted as such; without prices of tokens a call costs `per_call`."""
    assert costs.of_reply(BATCH, "hello", NO_USAGE) == Spending(1, unpriced=1)
    by_call = replace(BATCH, prices=Prices(per_call=7).as_json())
    assert costs.of_reply(by_call, "hello", NO_USAGE) == Spending(1, cost=7)
    assert costs.of_reply(replace(BATCH, prices=None), "hello", Usage(1, 1)).unpriced == 1


def test_a_failed_call_costs_what_it_states(costs):
    """A reply that the mapping can make nothing of was paid for; one that was refused was not."""
    assert costs.of_failure(BATCH, "hello", ExtractionError("no field"), REPLY).cost == 127
    assert costs.of_failure(BATCH, "hello", AgentThrottledError("429"), None) == Spending(1, cost=7)


def test_a_call_that_timed_out_costs_what_is_expected(costs):
    """At first the input by its size and the output by `max_tokens`, later as the calls so far."""
    timeout = AgentTimeoutError("no answer within 60 s")
    spent = costs.of_failure(BATCH, "x" * 38, timeout, None)
    assert spent == Spending(1, 10, output_tokens=50, cost=117, uncertain=1)
    costs.of_reply(BATCH, "x" * 38, Usage(20, 5))
    assert costs.of_failure(BATCH, "x" * 38, timeout, None).tokens == 25


def test_a_length_beyond_the_prices_has_no_known_price(costs):
    """The prices of a list may hold up to a length."""
    short = replace(BATCH, prices=replace(PRICES, longest_input=99).as_json())
    assert costs.of_reply(short, "hello", Usage(100, 1)).unpriced == 1
    assert costs.of_reply(short, "hello", Usage(99, 1)).unpriced == 0
