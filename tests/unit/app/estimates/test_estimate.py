"""Estimates: tokens, price and time from the calls of a file and the mapping's last runs."""

from datetime import UTC, datetime

import pytest

from service.app.estimates.call_tally import CallTally, FileTally
from service.app.estimates.estimate import Range, make_estimate
from service.app.estimates.last_runs import LastRuns
from service.mapping import Definition

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OUTPUT = {"extraction_methods": [{"method": "direct", "field_mappings": {"x": "text"}}]}
TOKEN_PRICES = {"input_per_million": 1, "output_per_million": 10}
RUNS = LastRuns(2, 12, 10, 5_000, 300, 20.0, 10)
KEYS = [
    "mapping", "rows", "unsendable", "distinct_inputs", "reuse", "calls", "models", "input_tokens",
    "output_tokens", "currency", "estimate", "estimate_per_row", "no_price", "seconds", "last_runs",
]  # fmt: skip


def estimate(pricing=None, max_tokens=None, runs=None, calls=100, size=400):
    target = {"type": "agent", "name": "a", "invoke": "http", "preset": "openai", "model": "m"}
    document = {"target": target}
    if max_tokens is not None:
        target["parameters"] = {"max_tokens": max_tokens}
    if pricing is not None:
        document["pricing"] = pricing
    mapping = Definition.from_document("a", document, OUTPUT).compile()
    tallies = {("m", "https://x"): CallTally(calls, calls * size, size)} if calls else {}
    return make_estimate(mapping, FileTally(calls, 0, calls, tallies), runs, NOW)


def test_the_keys_are_the_contract():
    """They are the same in the same order, with prices and without."""
    assert list(estimate().as_json()) == list(estimate(TOKEN_PRICES, 20, RUNS).as_json()) == KEYS


def test_output_is_at_most_max_tokens():
    """100 calls of 400 bytes: 5 to 2 bytes per token; the low end of the price has no output."""
    found = estimate(TOKEN_PRICES, max_tokens=20)
    assert (found.input_tokens, found.output_tokens) == (Range(8_000, 20_000), Range(None, 2_000))
    shown = found.as_json()
    assert shown["estimate"] == {"low": "0.008", "high": "0.04"}
    assert shown["estimate_per_row"] == {"low": "0.00008", "high": "0.0004"}
    assert (shown["output_tokens"]["from"], shown["currency"], shown["seconds"]) == (
        "max_tokens",
        "USD",
        None,
    )


def test_output_is_that_of_the_last_runs():
    """30 tokens a call, in place of max_tokens; their 500 of input widen the range of the input."""
    found = estimate(TOKEN_PRICES, max_tokens=20, runs=RUNS)
    assert (found.input_tokens, found.output_tokens) == (Range(8_000, 50_000), Range(3_000, 3_000))
    shown = found.as_json()
    assert shown["estimate"] == {"low": "0.038", "high": "0.08"}
    assert (shown["output_tokens"]["from"], shown["seconds"]) == ("last_runs", 200.0)
    assert shown["last_runs"] == {
        "batches": 2, "calls": 12, "input_tokens_per_call": 500, "output_tokens_per_call": 30,
        "seconds": 20.0,
    }  # fmt: skip


def test_unknown_output_leaves_the_high_end_open():
    """It is null, not the price of the input alone."""
    assert estimate(TOKEN_PRICES).as_json()["estimate"] == {"low": "0.008", "high": None}
    free = {"input_per_million": 1, "output_per_million": 0}
    assert estimate(free).as_json()["estimate"] == {"low": "0.008", "high": "0.02"}


def test_prices_per_call_need_no_tokens():
    """Low and high are the same."""
    found = estimate({"per_call": 0.005, "currency": "EUR"}).as_json()
    assert (found["estimate"], found["currency"]) == ({"low": "0.50", "high": "0.50"}, "EUR")


@pytest.mark.parametrize(
    ("pricing", "calls", "reason"),
    [(None, 100, "states no `pricing`"), (TOKEN_PRICES, 0, "no row would be sent")],
)
def test_no_price(pricing, calls, reason):
    """It is null with its reason, never 0."""
    found = estimate(pricing, calls=calls).as_json()
    assert (found["estimate"], found["estimate_per_row"], found["currency"]) == (None, None, None)
    assert reason in found["no_price"]


def test_a_tiny_input_has_a_token():
    """The low end is not 0, for which there would be no price."""
    assert estimate(TOKEN_PRICES, size=0, max_tokens=1).input_tokens == Range(100, 100)


def test_runs_without_usage_tell_the_time_only():
    """Tokens are those of max_tokens then."""
    found = estimate(TOKEN_PRICES, 20, LastRuns(1, 10, 0, 0, 0, 5.0, 10))
    assert (found.output_source, found.output_tokens.high, found.seconds) == ("max_tokens", 2_000, 50.0)
    assert found.as_json()["last_runs"]["output_tokens_per_call"] is None
