"""The records of budgets in the table: their names, how long they are kept, and what they say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from service.domain.budgets.options import usage_json
from service.domain.errors import RetryableError
from service.domain.model import Amounts, Batch, iso_time
from service.domain.ports import Clock, Table
from service.worker.budgets.ledger_text import read_budget

SPARE_S = 30 * 86_400
"""A record is kept this long after its batch may have expired: a later round may live longer."""


def own_key(batch: Batch) -> str:
    """The name of the record of a batch's own budget."""
    return f"budget#{batch.identity}"


def day_key(mapping: str, day: str) -> str:
    """The name of the record of a mapping's budget for a day (YYYY-MM-DD in UTC)."""
    return f"budget-day#{mapping}#{day}"


def record_ttl(batch: Batch, now_ms: int) -> int:
    """The time (seconds since 1970) until which the record of a budget is kept."""
    return max(batch.ttl, now_ms // 1000) + SPARE_S


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What is used of a budget, and what is reserved beyond; None where it is not known."""

    used: Amounts | None = None
    reserved: Amounts | None = None


@dataclass(frozen=True, slots=True)
class BudgetUses:
    """The use of a batch's own budget, and of its mapping's for `day` (YYYY-MM-DD), as read at one time."""

    own: BudgetUse = BudgetUse()
    day: BudgetUse = BudgetUse()
    date: str = ""


async def read_uses(table: Table, batch: Batch, clock: Clock) -> BudgetUses:
    """The use of the batch's budgets now. Raises AccessError, and RetryableError as the table does."""
    date = iso_time(clock.now_ms())[:10]
    own, day = await asyncio.gather(
        _read(table, own_key(batch) if batch.budgets.own else ""),
        _read(table, day_key(batch.tool_name, date) if batch.budgets.day else ""),
    )
    if own.used is not None:
        own = BudgetUse(own.used + batch.budgets.before, own.reserved)
    return BudgetUses(own, day, date)


async def _read(table: Table, key: str) -> BudgetUse:
    if not key:
        return BudgetUse()
    text = (await table.record(key)).text
    try:
        ledger = read_budget(text)
    except RetryableError:
        return BudgetUse()  # a newer version has written it
    return BudgetUse(ledger.used, ledger.reserved)


def budgets_json(batch: Batch, uses: BudgetUses | None = None) -> dict[str, Any] | None:
    """The budgets in `status --json`: of each kind `cap`, `spent` and `reserved`; None without a budget."""
    budgets = batch.budgets
    if not budgets:
        return None
    own = uses.own if uses else BudgetUse()
    found: dict[str, Any] = {**usage_json(budgets.own, own.used, own.reserved), "day": None}
    if budgets.day:
        day = uses.day if uses else BudgetUse()
        date = {"date": uses.date} if uses else {"date": None}
        found["day"] = date | usage_json(budgets.day, day.used, day.reserved)
    return found
