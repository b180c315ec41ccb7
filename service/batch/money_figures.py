"""The money of a batch: what it has cost, what its results have cost, and what the rest may cost. Pure."""

from __future__ import annotations

from typing import Any

from service.domain.model import BatchView
from service.domain.money import decimal_text, optional_text


def cost_json(view: BatchView) -> dict[str, Any]:
    """The object `cost` of `status --json`. Money is decimal text in `currency`, null where it is not known.

    `spent` is the price of every call made, repeats and failures too; `in_results` that of the calls whose
    replies are in the results; `saved` that of the calls that rows with the same input have saved.
    `to_finish` is the price of the rows that are left: at the low end each costs as much as a row so far, at
    the high end as much as all calls so far for one call that succeeded. `estimate` is `spent` and
    `to_finish` together.
    """
    batch, spending = view.batch, view.spending
    prices = batch.prices
    if prices is None or spending.unpriced:
        currency = None if prices is None else prices["currency"]
        return {
            "currency": currency, "estimate": None, "spent": None, "in_results": None, "to_finish": None,
            "saved": None, "unpriced_calls": spending.unpriced, "uncertain_calls": spending.uncertain,
        }  # fmt: skip
    counts = view.all_counts
    rest = _to_finish(view)
    return {
        "currency": prices["currency"],
        "estimate": None if rest is None else _range(spending.cost + rest[0], spending.cost + rest[1]),
        "spent": decimal_text(spending.cost),
        "in_results": decimal_text(counts.cost),
        "to_finish": None if rest is None else _range(*rest),
        "saved": decimal_text(counts.saved),
        "unpriced_calls": 0,
        "uncertain_calls": spending.uncertain,
    }


def tokens_json(view: BatchView) -> dict[str, int]:
    """The tokens of all calls made: the five kinds. Parts of input and output are counted in these too."""
    spending = view.spending
    return {
        "input": spending.input_tokens,
        "cached_input": spending.cached_input,
        "cache_write": spending.cache_write,
        "output": spending.output_tokens,
        "reasoning": spending.reasoning,
    }


def spent_text(view: BatchView) -> str | None:
    """The amount spent; None if it is not known."""
    is_known = view.batch.prices is not None and not view.spending.unpriced
    return optional_text(view.spending.cost if is_known else None)


def _to_finish(view: BatchView) -> tuple[int, int] | None:
    """The least and the most that the rows without an outcome may cost; None before the first outcome."""
    batch, counts = view.batch, view.counts
    if batch.state.is_final:
        return 0, 0
    if batch.total is None:
        return None
    # Also the rows that wait for approval.
    left = max(0, batch.total - batch.carried.done - counts.done)
    if not left:
        return 0, 0
    called = counts.succeeded - counts.reused
    if not called:
        return None
    # The calls of earlier rounds tell what one of this round costs as well.
    all_called = view.all_counts.succeeded - view.all_counts.reused
    low = left * counts.cost // counts.done
    high = -(-left * max(view.spending.cost, view.all_counts.cost) // all_called)
    return low, max(low, high)


def _range(low: int, high: int) -> dict[str, str]:
    return {"low": decimal_text(low), "high": decimal_text(high)}
