"""`pricing: auto`: prices of models from the list of the library genai-prices (the extra `prices`).

The library is imported when a price is asked for. Its list is the one that is installed: nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

from service.domain.money import units_of
from service.mapping import Prices

LIBRARY = "genai_prices"
INSTALL = "install the extra, rowfleet[prices], or state the prices in the mapping"

_PROVIDERS = {"bedrock": "aws"}
"""The library's names of the providers that a way to invoke always means."""


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """The prices of a model; without any, `reason` says why there are none."""

    prices: Prices | None = None
    reason: str = ""


def quote_model(model: str, *, invoke: str, url: str, at: datetime) -> PriceQuote:
    """The prices of a model on the list at a time. They are in USD.

    The provider is that of the way to invoke or of `url`; without either the model's name alone tells it. A
    model behind an address that is no provider's has no price, because it may cost anything.
    """
    try:
        snapshot: Any = import_module(f"{LIBRARY}.data_snapshot").get_snapshot()
    except ImportError:
        return PriceQuote(reason=f"pricing: auto needs the library genai-prices; {INSTALL}")
    try:
        _, found = snapshot.find_provider_model(model, None, _PROVIDERS.get(invoke), url or None)
    except LookupError:
        place = f" at {url}" if url else ""
        return PriceQuote(reason=f"the model {model}{place} is not on the list of genai-prices")
    return _quote(model, vars(found.get_prices(at)))


def _quote(model: str, listed: dict[str, Any]) -> PriceQuote:
    """Prices of the list, which are per million tokens (`mtok`) and per thousand requests (`kcount`)."""
    starts = [tier.start for price in listed.values() for tier in getattr(price, "tiers", ())]
    base = {name: getattr(price, "base", price) for name, price in listed.items()}
    reasoning = base.get("output_reasoning_mtok")
    if base.get("input_mtok") is None or base.get("output_mtok") is None:
        return PriceQuote(reason=f"the list of genai-prices has no price of tokens for {model}")
    if reasoning is not None and reasoning != base["output_mtok"]:
        return PriceQuote(reason=f"reasoning of {model} has a price of its own, which is not supported")
    try:
        prices = Prices(
            currency="USD",
            input=_units(base, "input_mtok"),
            output=_units(base, "output_mtok"),
            cached_input=_units(base, "cache_read_mtok"),
            cache_write=_units(base, "cache_write_mtok"),
            per_call=_units({"call": (base.get("requests_kcount") or Decimal(0)) / 1000}, "call") or 0,
            longest_input=min(starts) if starts else None,
        )
    except ValueError as error:
        return PriceQuote(reason=f"{model}: {error}")
    return PriceQuote(prices)


def _units(prices: dict[str, Decimal | None], name: str) -> int | None:
    price = prices.get(name)
    return None if price is None else units_of(price)
