"""`pricing: auto`: prices of models from the list of the library genai-prices (the extra `prices`).

The library is imported when a price is asked for. Its list is the one that is installed: nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

from service.domain.model import Json
from service.domain.money import units_of
from service.mapping.pricing import AUTO, Prices, Pricing
from service.mapping.targets import Target

LIBRARY = "genai_prices"
INSTALL = "install the extra, rowfleet[prices], or state the prices in the mapping"

_PROVIDERS = {"bedrock": "aws"}
"""The library's names of the providers that a way to invoke always means."""


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """The prices of a model; without any, `reason` says why there are none."""

    prices: Prices | None = None
    reason: str = ""


def prices_of(pricing: Pricing | None, target: Target, at: datetime) -> dict[str, Json] | None:
    """The prices of a target at a time, as they are stored with a batch; None if they are not known.

    `pricing: auto` needs a target that names its model: one that a row chooses has no price before its call.
    """
    if pricing != AUTO:
        return pricing.as_json() if isinstance(pricing, Prices) else None
    options = target.options
    model, url = str(options.get("model") or ""), str(options.get("url") or "")
    if not model or "${" in model + url:
        return None
    # A preset without an address calls the provider whose name it has.
    provider = "" if url else str(options.get("preset") or "")
    quote = quote_model(model, invoke=target.invoke, url=url, at=at, provider=provider)
    return None if quote.prices is None else quote.prices.as_json()


def quote_model(model: str, *, invoke: str, url: str, at: datetime, provider: str = "") -> PriceQuote:
    """The prices of a model on the list at a time. They are in USD.

    The provider is `provider`, or that of the way to invoke or of `url`; without any of these the model's
    name alone tells it. A model behind an address that is no provider's has no price: it may cost anything.
    """
    try:
        snapshot: Any = import_module(f"{LIBRARY}.data_snapshot").get_snapshot()
    except ImportError:
        return PriceQuote(reason=f"pricing: auto needs the library genai-prices; {INSTALL}")
    try:
        _, found = snapshot.find_provider_model(model, None, provider or _PROVIDERS.get(invoke), url or None)
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
