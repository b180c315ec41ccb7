"""`pricing`: the prices of a target, and the exact cost of the tokens of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Literal

from service.domain.model import Json
from service.domain.money import units_of
from service.mapping.replies.transcript import Usage
from service.mapping.syntax.forms import PricingForm, read_form
from service.mapping.syntax.problems import Report, ValuePath

AUTO: Literal["auto"] = "auto"
"""`pricing: auto`: the prices are those of a list, by the model."""

MILLION = 10**6


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in `currency`, in units of a millionth of a cent: per million tokens, and `per_call`.

    `input` and `output` are both None if tokens cost nothing. Without `cached_input`, tokens from a cache
    cost as much as others; without `cache_write`, the cost of a call that writes to one is unknown. The
    prices hold for calls of at most `longest_input` tokens, None for any. No call costs more than
    `max_per_call`, as far as a budget goes; None if its tokens tell what it may cost.
    """

    currency: str = "USD"
    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None
    per_call: int = 0
    longest_input: int | None = None
    max_per_call: int | None = None

    @classmethod
    def of_json(cls, value: Mapping[str, Json] | None) -> Prices | None:
        """The prices that `as_json` wrote; None for None."""
        return None if value is None else cls(**value)

    def as_json(self) -> dict[str, Json]:
        """The prices as they are stored with a batch."""
        return asdict(self)

    def price(self, usage: Usage) -> int | None:
        """The units that a call with these tokens costs; None if the prices do not hold for so many."""
        if self.longest_input is not None and usage.input_tokens > self.longest_input:
            return None
        return self.cost(usage)

    @property
    def has_token_prices(self) -> bool:
        """True if the cost depends on tokens."""
        return self.input is not None

    def cost(self, usage: Usage | None, calls: int = 1) -> int | None:
        """The units that `calls` calls with these tokens in all cost, rounded up once; None if unknown.

        `usage` is None, or has no tokens, if it is unknown. The caller looks at `longest_input`.
        """
        fixed = self.per_call * calls
        if self.input is None or self.output is None or calls == 0:
            return fixed
        if usage is None or not (usage.input_tokens or usage.output_tokens):
            return None
        if usage.cache_write and self.cache_write is None:
            return None
        cached_price = self.input if self.cached_input is None else self.cached_input
        millionths = (
            (usage.input_tokens - usage.cached_input - usage.cache_write) * self.input
            + usage.cached_input * cached_price
            + usage.cache_write * (self.cache_write or 0)
            + usage.output_tokens * self.output
        )
        return fixed + -(-millionths // MILLION)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """The most units that a call with so many tokens costs: it may write all of its input to a cache."""
        if self.max_per_call is not None:
            return self.max_per_call
        price = max(self.input or 0, self.cache_write or 0)
        return self.per_call - -(input_tokens * price + output_tokens * (self.output or 0)) // MILLION


Pricing = Prices | Literal["auto"]
"""Prices that the mapping states, or AUTO."""


def compile_pricing(value: Json, report: Report, path: ValuePath) -> Pricing | None:
    """Compile a `pricing`. Returns None for none, and with problems in the report."""
    if value is None:
        return None
    if value == AUTO:
        return AUTO
    if not isinstance(value, dict):
        report.add(path, f"{value!r} is no pricing", "auto, or a table such as {input_per_million: 0.15, …}")
        return None
    form = read_form(PricingForm, value, report, path)
    if form is None:
        return None
    return Prices(
        currency=form.currency,
        input=_units(form.input_per_million),
        output=_units(form.output_per_million),
        cached_input=_units(form.cached_input_per_million),
        cache_write=_units(form.cache_write_per_million),
        per_call=_units(form.per_call) or 0,
        max_per_call=_units(form.max_cost_per_call),
    )


def _units(price: Decimal | None) -> int | None:
    return None if price is None else units_of(price)
