"""Estimates: tokens, price and time of a run, each from low to high.

The tokens of an input are not counted but estimated from its length, so they are a range. Repeated calls and
the discounts of providers' caches are not part of an estimate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.app.estimates.call_tally import CallKey, CallTally, FileTally
from service.app.estimates.last_runs import LastRuns, ceil_div
from service.domain.money import optional_text
from service.mapping import Prices, RowMapping
from service.mapping.price_list import PriceQuote, quote_model
from service.mapping.replies.transcript import Usage

MOST_BYTES_PER_TOKEN = 5
LEAST_BYTES_PER_TOKEN = 2
"""Bytes of UTF-8 per token: more in plain English, fewer in digits, codes and many other languages."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`; None for an end that is not known."""

    low: int | None
    high: int | None

    def as_json(self) -> dict[str, int | None]:
        """The two ends."""
        return {"low": self.low, "high": self.high}

    def as_money(self) -> dict[str, str | None]:
        """The two ends as decimal texts."""
        return {"low": optional_text(self.low), "high": optional_text(self.high)}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of a run. `price` is None, with a reason in `no_price`, if there is none."""

    mapping: str
    tally: FileTally
    reuse: bool
    max_tokens: int | None
    last_runs: LastRuns | None
    input_tokens: Range
    output_tokens: Range
    price: Range | None
    currency: str | None
    no_price: str
    seconds: float | None

    @property
    def output_source(self) -> str | None:
        """The origin of the output tokens: last_runs, max_tokens, or None if they are not known."""
        if self.last_runs is not None and self.last_runs.output_tokens:
            return "last_runs"
        return None if self.max_tokens is None else "max_tokens"

    @property
    def price_per_row(self) -> Range | None:
        """The price divided by the rows, the low end rounded down and the high one up."""
        if self.price is None or not self.tally.rows:
            return None
        low, high = self.price.low, self.price.high
        return Range(
            None if low is None else low // self.tally.rows,
            None if high is None else ceil_div(high, self.tally.rows),
        )

    def as_json(self) -> dict[str, Any]:
        """The object that `estimate --json` prints; money is decimal text, and null if unknown."""
        per_row = self.price_per_row
        return {
            "mapping": self.mapping,
            "rows": self.tally.rows,
            "unsendable": self.tally.unsendable,
            "distinct_inputs": self.tally.distinct,
            "reuse": self.reuse,
            "calls": self.tally.calls,
            "models": sorted({model for model, _ in self.tally.tallies if model}),
            "input_tokens": self.input_tokens.as_json(),
            "output_tokens": {**self.output_tokens.as_json(), "from": self.output_source},
            "currency": self.currency,
            "estimate": self.price and self.price.as_money(),
            "estimate_per_row": per_row and per_row.as_money(),
            "no_price": self.no_price or None,
            "seconds": self.seconds,
            "last_runs": self.last_runs and self.last_runs.as_json(),
        }


def make_estimate(mapping: RowMapping, tally: FileTally, runs: LastRuns | None, at: datetime) -> Estimate:
    """The estimate of what was counted. `at` is the time for which prices of a list hold."""
    calls, max_tokens = tally.calls, mapping.target.max_tokens
    tokens = {key: _tokens(one, max_tokens, runs) for key, one in tally.tallies.items()}
    price, currency, no_price = _price(mapping, tally, tokens, at)
    outputs = [output for _, output in tokens.values()]
    seconds = None
    if runs is not None and runs.timed_calls:
        seconds = round(runs.seconds * calls / runs.timed_calls, 3)
    return Estimate(
        mapping=mapping.name,
        tally=tally,
        reuse=mapping.reuse is not None,
        max_tokens=max_tokens,
        last_runs=runs,
        input_tokens=_sum_of(inputs for inputs, _ in tokens.values()),
        output_tokens=_sum_of(outputs),
        price=price,
        currency=currency,
        no_price=no_price,
        seconds=seconds,
    )


def _tokens(tally: CallTally, max_tokens: int | None, runs: LastRuns | None) -> tuple[Range, Range]:
    """The input and the output tokens of calls."""
    low = max(tally.calls, tally.total_bytes // MOST_BYTES_PER_TOKEN)
    high = max(tally.calls, ceil_div(tally.total_bytes, LEAST_BYTES_PER_TOKEN))
    if runs is not None and (earlier := runs.tokens_of(runs.input_tokens, tally.calls)) is not None:
        # An agent may add a prompt of its own, which only its replies tell.
        low, high = min(low, earlier), max(high, earlier)
    if runs is not None and (output := runs.tokens_of(runs.output_tokens, tally.calls)) is not None:
        return Range(low, high), Range(output, output)
    return Range(low, high), Range(None, None if max_tokens is None else max_tokens * tally.calls)


def _price(
    mapping: RowMapping, tally: FileTally, tokens: dict[CallKey, tuple[Range, Range]], at: datetime
) -> tuple[Range | None, str | None, str]:
    """The price, its currency, and the reason if there is no price."""
    if mapping.pricing is None:
        return None, None, "the mapping states no `pricing`"
    if not tally.calls:
        return None, None, "no row would be sent"
    ranges, currency = [], None
    for key, one in tally.tallies.items():
        quote = _quote(mapping, key, at)
        if quote.prices is None:
            return None, None, quote.reason
        longest = quote.prices.longest_input
        if longest is not None and ceil_div(one.longest_bytes, LEAST_BYTES_PER_TOKEN) > longest:
            return None, None, f"the price of {key[0]} is another above {longest:,} input tokens"
        currency = quote.prices.currency
        ranges.append(_price_of(quote.prices, one.calls, *tokens[key]))
    return _sum_of(ranges), currency, ""


def _quote(mapping: RowMapping, key: CallKey, at: datetime) -> PriceQuote:
    if isinstance(mapping.pricing, Prices):
        return PriceQuote(mapping.pricing)
    model, origin = key
    if not model:
        return PriceQuote(reason="pricing: auto needs the name of a model, and the calls name none")
    return quote_model(model, invoke=mapping.target.invoke, url=origin, at=at)


def _price_of(prices: Prices, calls: int, inputs: Range, outputs: Range) -> Range:
    """From the low end of the tokens to the high one; without output the low end is the least price."""
    low = prices.cost(Usage(inputs.low or 0, outputs.low or 0), calls)
    if outputs.high is None and prices.output:
        return Range(low, None)
    return Range(low, prices.cost(Usage(inputs.high or 0, outputs.high or 0), calls))


def _sum_of(ranges: Iterable[Range]) -> Range:
    """The sum; an end that is not known in one range is not known in the sum."""
    lows, highs = [], []
    for one in ranges:
        lows.append(one.low)
        highs.append(one.high)
    return Range(_total(lows), _total(highs))


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
