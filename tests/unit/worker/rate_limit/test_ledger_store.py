"""One worker's writes of the shared ledger when answers are lost."""

from __future__ import annotations

import pytest

from service.adapters.memory import MemoryClock, MemoryTable
from service.domain.errors import ConflictError, UnknownResultError
from service.mapping.definition import RateLimit
from service.runtime.metrics import Metrics
from service.worker.rate_limit.gcra import Tokens
from service.worker.rate_limit.ledger_store import Demand, LedgerStore

LIMIT = RateLimit("demo", requests_per_minute=600)
DEMAND = Demand(waiting=3, cost=Tokens(10, 5), in_flight=0, wanted=0)


class RepeatingTable(MemoryTable):
    """Loses the answer of the next swap and repeats the call, as botocore does.

    `between` is awaited before the repetition. `lost_for_good`: the repetition has no answer either.
    """

    def __init__(self, *, lost_for_good: bool = False) -> None:
        super().__init__()
        self.is_due = False
        self.between = None
        self.lost_for_good = lost_for_good

    async def swap(self, key, text, *, version, ttl):
        """Swap, and swap again."""
        if not self.is_due:
            return await super().swap(key, text, version=version, ttl=ttl)
        self.is_due = False
        await super().swap(key, text, version=version, ttl=ttl)
        if self.lost_for_good:
            raise UnknownResultError("no answer")
        if self.between:
            await self.between()
        return await super().swap(key, text, version=version, ttl=ttl)


def store(table, owner):
    """The ledger as one worker sees it, and the worker's metrics."""
    metrics = Metrics()
    opened = LedgerStore(
        table, LIMIT, owner=owner, clock=MemoryClock(), metrics=metrics, lease_s=40, margin_s=20
    )
    return opened, metrics.totals


async def ask(ledger):
    """Reserve start times for three calls."""
    return await ledger.exchange(lambda: DEMAND, lambda _: None)


async def test_a_swap_whose_answer_was_lost_is_not_made_again():
    """The repetition finds the worker's own record: start times are reserved once."""
    table = RepeatingTable()
    ours, metrics = store(table, "w1")
    table.is_due = True
    first = await ask(ours)
    assert (metrics["limit_writes"], metrics["limit_conflicts"]) == (1, 0)
    second = await ask(ours)
    assert second.grant.reservation.start_ms == first.grant.reservation.last_start_ms + 60_000 / 600 / 0.97


async def test_a_swap_that_another_worker_followed_was_no_conflict():
    """The record is the other worker's by then, but it includes our reservation, which is used."""
    table = RepeatingTable()
    ours, metrics = store(table, "w1")
    theirs, their_metrics = store(table, "w2")
    grants = []

    async def follow():
        grants.append(await ask(theirs))

    table.between, table.is_due = follow, True
    granted = await ask(ours)
    assert (metrics["limit_writes"], metrics["limit_conflicts"]) == (1, 0)
    assert (their_metrics["limit_writes"], their_metrics["limit_conflicts"]) == (1, 0)
    (other,) = grants
    assert granted.grant.reservation.last_start_ms < other.grant.reservation.start_ms


async def test_a_credit_is_spent_once_although_the_answer_was_lost():
    """A credit that may have been spent is not given again; a debt is paid again."""
    table = RepeatingTable(lost_for_good=True)
    ours, _ = store(table, "w1")
    ours.owe(Tokens(-100, 40))
    table.is_due = True
    with pytest.raises(UnknownResultError):
        await ask(ours)
    assert ours._owed == Tokens(0, 40)
    await ask(ours)
    assert ours._owed == Tokens(0, 0)


async def test_a_conflict_gives_the_credit_back():
    """Another worker wrote first: nothing was spent, and the next try spends it."""
    table = MemoryTable()
    ours, metrics = store(table, "w1")
    theirs, _ = store(table, "w2")
    ours.owe(Tokens(-100, 40))
    was_asked = False

    async def overtaken():
        nonlocal was_asked
        record = await MemoryTable.record(table, "limit/demo")
        if not was_asked:
            was_asked = True
            await ask(theirs)
        return record

    table.record = lambda _: overtaken()
    with pytest.raises(ConflictError):
        await ask(ours)
    assert ours._owed == Tokens(-100, 40)
    await ask(ours)
    assert (metrics["limit_writes"], metrics["limit_conflicts"]) == (2, 1)
    assert ours._owed == Tokens(0, 0)
