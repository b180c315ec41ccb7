"""The text of a budget's ledger as the table stores it: JSON with a version. Pure."""

from __future__ import annotations

import json
from typing import Any

from service.domain.errors import RetryableError
from service.domain.model import Amounts
from service.worker.budgets.ledger import BudgetLedger, BudgetShare

VERSION = 1
"""Version of the text. A worker leaves a text of any other version alone."""


def write_budget(ledger: BudgetLedger, *, by: str) -> str:
    """The text of `ledger`. `by` names the writer and the write, so that no two texts are equal."""
    value = {
        "v": VERSION,
        "by": by,
        "settled": _numbers(ledger.settled),
        "shares": {
            name: [share.seq, *_numbers(share.used), *_numbers(share.reserved)]
            for name, share in ledger.shares.items()
        },
    }
    return json.dumps(value, separators=(",", ":"))


def read_budget(text: str) -> BudgetLedger:
    """The ledger in `text`; a new one if that is empty.

    Raises RetryableError if it cannot be read: without the ledger no call begins.
    """
    if not text:
        return BudgetLedger()
    try:
        value = json.loads(text)
        if value["v"] == VERSION:
            return _parse(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise RetryableError("the ledger of the budget cannot be read: a newer version may have written it")


def _parse(value: dict[str, Any]) -> BudgetLedger:
    shares = {}
    for name, (seq, *numbers) in value["shares"].items():
        shares[name] = BudgetShare(_whole(seq), _amounts(numbers[:3]), _amounts(numbers[3:]))
    return BudgetLedger(_amounts(value["settled"]), shares)


def _numbers(amounts: Amounts) -> list[int]:
    return [amounts.calls, amounts.tokens, amounts.usd]


def _amounts(numbers: list[Any]) -> Amounts:
    calls, tokens, usd = map(_whole, numbers)
    return Amounts(calls, tokens, usd)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number of the ledger")
    return value
