"""One process's side of a budget: calls that begin, wait, or are refused, and how often it writes."""

from __future__ import annotations

import asyncio

import pytest

from service.adapters.memory import MemoryClock, MemoryTable
from service.domain.errors import BudgetReachedError, UnreachableError
from service.domain.model import NO_AMOUNTS, Amounts, Budget
from service.runtime.metrics import Metrics
from service.worker.budgets.account import BudgetAccount
from service.worker.budgets.ledger_store import BudgetStore
from service.worker.budgets.ledger_sync import KEEP_S, REFUSED_S, BudgetSync
from service.worker.budgets.ledger_text import read_budget

ONE = Amounts(1, 100, 0)
LEASE_S = 30.0


class BreakableTable(MemoryTable):
    """A table that can be broken."""

    is_broken = False

    async def record(self, key):
        """Read the record, or fail."""
        if self.is_broken:
            raise UnreachableError("no table")
        return await super().record(key)


class Fleet:
    """Processes that share a budget."""

    def __init__(self, calls):
        self.clock, self.table = MemoryClock(), BreakableTable()
        self.metrics = Metrics()
        self.budget = Budget(calls=calls)
        self.seen = []
        self.syncs = []

    def process(self, name):
        """Another process."""
        account = BudgetAccount()
        common = {"owner": name, "clock": self.clock, "metrics": self.metrics, "lease_s": LEASE_S}
        store = BudgetStore(self.table, "budget", account, **common)

        async def report(ledger):
            self.seen.append(ledger)

        sync = BudgetSync(account, store, lambda: self.budget, report, name="the budget", **common)
        self.syncs.append(sync)
        return sync

    async def reserve(self, sync, count=1, need=ONE):
        """Reserve for so many calls at once; return the reservations and the refusals."""
        tasks = [asyncio.create_task(sync.reserve(need)) for _ in range(count)]
        await self.clock.advance(0)
        for _ in range(40):
            if all(task.done() for task in tasks):
                break
            await self.clock.advance(0.25)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [result for result in results if isinstance(result, BudgetReachedError)]
        return [result for result in results if result not in refused], refused

    async def ledger(self):
        """The ledger in the table."""
        return read_budget((await self.table.record("budget")).text)


@pytest.fixture
async def fleet():
    """A fleet with a budget of ten calls; all processes are closed at the end."""
    fleet = Fleet(10)
    yield fleet
    fleet.table.is_broken = False
    for sync in fleet.syncs:
        await sync.close()


async def test_calls_begin_inside_of_reservations_and_the_others_are_refused(fleet):
    """Ten of twelve calls get one; none of the others may come back as long as those are under way."""
    sync = fleet.process("w1")
    reserved, refused = await fleet.reserve(sync, 12)
    assert (len(reserved), len(refused)) == (10, 2)
    assert refused[0].retry_after_s == REFUSED_S
    assert sync.shortage is None
    for reservation in reserved:
        sync.settle(reservation, ONE)


async def test_a_budget_is_used_up_when_all_calls_have_ended(fleet):
    """Then the process knows what lacks, and a higher limit lets calls begin at once."""
    sync = fleet.process("w1")
    reserved, _ = await fleet.reserve(sync, 10)
    for reservation in reserved:
        sync.settle(reservation, ONE)
    _, refused = await fleet.reserve(sync)
    assert refused
    assert sync.shortage.least == 11
    with pytest.raises(BudgetReachedError):
        sync.check()
    fleet.budget = Budget(calls=11)
    sync.check()
    reserved, _ = await fleet.reserve(sync)
    assert sync.shortage is None
    sync.settle(reserved[0], ONE)


async def test_what_a_call_has_not_used_comes_back(fleet):
    """A call that was not made gives its reservation to one of another process."""
    one, two = fleet.process("w1"), fleet.process("w2")
    reserved, _ = await fleet.reserve(one, 10)
    _, refused = await fleet.reserve(two)
    assert refused
    one.give_back(reserved.pop())
    await fleet.clock.advance(REFUSED_S)
    again, _ = await fleet.reserve(two)
    assert len(again) == 1
    for sync, reservation in [*((one, kept) for kept in reserved), (two, again[0])]:
        sync.settle(reservation, ONE)


async def test_one_write_a_second_serves_many_calls(fleet):
    """After the first second calls are reserved ahead, so most begin without a look at the table."""
    fleet.budget = Budget(calls=10**6)
    sync = fleet.process("w1")
    for _ in range(200):
        [reservation], _ = await fleet.reserve(sync)
        await fleet.clock.advance(0.05)
        sync.settle(reservation, ONE)
    assert fleet.metrics.totals["budget_writes"] <= 200 * 0.05 / KEEP_S * 3
    assert (await fleet.ledger()).used.calls >= 150


async def test_a_process_without_calls_leaves_the_ledger(fleet):
    """What it has used stays, what it had reserved ahead comes back, and its task rests."""
    fleet.budget = Budget(calls=10**6)
    sync = fleet.process("w1")
    for _ in range(3):
        reserved, _ = await fleet.reserve(sync, 4)
        for reservation in reserved:
            sync.settle(reservation, ONE)
        await fleet.clock.advance(KEEP_S)
    for _ in range(4):
        await fleet.clock.advance(KEEP_S)
    ledger = await fleet.ledger()
    assert (ledger.shares, ledger.used, ledger.reserved) == ({}, ONE.times(12), NO_AMOUNTS)
    assert sync.is_unused
    writes = fleet.metrics.totals["budget_writes"]
    await fleet.clock.advance(1_000)
    assert fleet.metrics.totals["budget_writes"] == writes


async def test_a_long_call_keeps_its_entry(fleet):
    """A process with calls under way writes often enough that others do not take it for dead."""
    one, two = fleet.process("w1"), fleet.process("w2")
    [long_one], _ = await fleet.reserve(one)
    for _ in range(20):
        [short], _ = await fleet.reserve(two)
        two.give_back(short)
        await fleet.clock.advance(LEASE_S / 4)
    assert (await fleet.ledger()).used == NO_AMOUNTS
    one.settle(long_one, ONE)


async def test_without_the_table_no_call_begins(fleet):
    """It is refused until the table answers again; a call under way is settled then."""
    sync = fleet.process("w1")
    [reservation], _ = await fleet.reserve(sync)
    fleet.table.is_broken = True
    sync.settle(reservation, ONE)
    _, refused = await fleet.reserve(sync)
    assert "cannot be reached" in str(refused[0])
    fleet.table.is_broken = False
    await fleet.clock.advance(40)
    [reservation], _ = await fleet.reserve(sync)
    sync.settle(reservation, ONE)
    await fleet.clock.advance(KEEP_S)
    assert (await fleet.ledger()).used == ONE.times(2)


async def test_a_process_that_ends_gives_back_what_it_has_reserved():
    """And leaves what it has used; one that never made a call has nothing to leave."""
    fleet = Fleet(10)
    sync = fleet.process("w1")
    reserved, _ = await fleet.reserve(sync, 3)
    for reservation in reserved[1:]:
        sync.settle(reservation, ONE)
    sync.give_back(reserved[0])
    await sync.close()
    ledger = await fleet.ledger()
    assert (ledger.settled, ledger.shares) == (ONE.times(2), {})
    await fleet.process("w2").close()


async def test_a_caller_that_is_cancelled_keeps_nothing(fleet):
    """Also if its reservation came in the same moment."""
    sync = fleet.process("w1")
    task = asyncio.create_task(sync.reserve(ONE))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    reserved, _ = await fleet.reserve(sync, 10)
    assert len(reserved) == 10
    for reservation in reserved:
        sync.settle(reservation, ONE)
