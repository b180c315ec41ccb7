"""Workers that share the ledger of a budget: lost answers, conflicts, and workers that die or seem to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.memory import MemoryClock, MemoryTable
from service.domain.errors import ConflictError, UnknownResultError
from service.domain.model import NO_AMOUNTS, Amounts, Budget
from service.runtime.metrics import Metrics
from service.worker.budgets.account import BudgetAccount
from service.worker.budgets.ledger_store import BudgetStore
from service.worker.budgets.ledger_text import read_budget

KEY = "budget/demo"
ONE = Amounts(1, 100, 5)
BUDGET = Budget(calls=10)
LEASE_S = 30.0


class LossyTable(MemoryTable):
    """Loses the answers of swaps: `applied` of those that were made, `dropped` of those that were not.

    It is slow: `meanwhile` is called during each request.
    """

    def __init__(self):
        super().__init__()
        self.applied = self.dropped = 0
        self.meanwhile = lambda: None

    async def record(self, key):
        """Read the record; something else happens meanwhile."""
        result = await super().record(key)
        self.meanwhile()
        return result

    async def swap(self, key, text, *, version, ttl):
        """Swap, or not, and answer, or not."""
        if self.dropped:
            self.dropped -= 1
            raise UnknownResultError("no answer")
        result = await super().swap(key, text, version=version, ttl=ttl)
        self.meanwhile()
        if self.applied:
            self.applied -= 1
            raise UnknownResultError("no answer")
        return result


class Member:
    """A worker with its account."""

    def __init__(self, table, clock, name):
        self.account = BudgetAccount()
        self.metrics = Metrics()
        self.store = BudgetStore(
            table, KEY, self.account, owner=name, clock=clock, metrics=self.metrics, lease_s=LEASE_S
        )
        self.calls = []

    async def exchange(self, budget=BUDGET, *, is_due=False):
        """Exchange with the ledger."""
        return await self.store.exchange(budget, is_due=is_due)

    async def begin(self, calls, need=ONE, budget=BUDGET):
        """Begin up to so many calls; return the number of those that got a reservation."""
        waiters = [self.account.join(need) for _ in range(calls)]
        try:
            _, grant = await self.exchange(budget)
        finally:
            begun = [waiter.result() for waiter in waiters if waiter.done()]
            for waiter in waiters:
                waiter.cancel()
            self.calls += begun
        return len(begun), grant

    def settle(self, actual=ONE):
        """End the oldest call."""
        self.account.settle(self.calls.pop(0), actual)


@pytest.fixture
def table():
    """A table that may lose answers."""
    return LossyTable()


@pytest.fixture
def clock():
    """A clock."""
    return MemoryClock()


async def stored(table):
    """The ledger in the table."""
    return read_budget((await table.record(KEY)).text)


async def test_workers_share_a_budget(table, clock):
    """Two workers begin as many calls as the budget has, and what one gives back the other one gets."""
    one, two = Member(table, clock, "w1"), Member(table, clock, "w2")
    assert (await one.begin(7))[0] == 7
    assert (await two.begin(7))[0] == 3
    one.account.give_back(one.calls.pop())
    await one.exchange()
    assert (await two.begin(7))[0] == 1
    ledger = await stored(table)
    assert (ledger.used, ledger.reserved.calls) == (NO_AMOUNTS, 10)


async def test_a_reservation_whose_answer_was_lost_is_not_used_and_not_lost(table, clock):
    """No call begins by it; the next exchange states anew what is reserved."""
    one = Member(table, clock, "w1")
    table.applied = 1
    waiter = one.account.join(ONE)
    with pytest.raises(UnknownResultError):
        await one.exchange()
    assert not waiter.done()
    assert (await stored(table)).reserved == ONE
    await one.exchange()
    assert waiter.done()
    assert (await stored(table)).reserved == ONE


async def test_what_was_used_counts_once_although_answers_are_lost(table, clock):
    """The sum is stated by each write."""
    one = Member(table, clock, "w1")
    await one.begin(3)
    for _ in range(3):
        one.settle()
        table.applied = 1
        with pytest.raises(UnknownResultError):
            await one.exchange(is_due=True)
    await one.exchange(is_due=True)
    assert (await stored(table)).used == ONE.times(3)


async def test_a_worker_that_leaves_gives_back_what_it_has_not_used(table, clock):
    """Also if the answer to its last write is lost, and it comes again."""
    one = Member(table, clock, "w1")
    await one.begin(2)
    one.settle()
    one.account.give_back(one.calls.pop())
    table.applied = 1
    with pytest.raises(UnknownResultError):
        await one.store.leave()
    await one.store.leave()
    ledger = await stored(table)
    assert (ledger.settled, ledger.shares) == (ONE, {})
    assert (await one.begin(1))[0] == 1
    assert (await stored(table)).used == ONE


async def test_no_call_begins_inside_what_is_being_given_back(table, clock):
    """It waits until the worker has left, and then needs a reservation of its own."""
    one, waiters = Member(table, clock, "w1"), []
    await one.begin(2)
    one.settle()
    one.settle()
    await one.exchange()
    assert (await stored(table)).reserved == ONE.times(2)
    table.meanwhile = lambda: waiters.append(one.account.join(ONE))
    await one.store.leave()
    table.meanwhile = lambda: None
    assert [waiter.done() for waiter in waiters] == [False, False]
    ledger = await stored(table)
    assert (ledger.settled, ledger.shares) == (ONE.times(2), {})
    await one.exchange()
    for waiter in waiters:
        one.account.settle(waiter.result(), ONE)
    await one.exchange()
    assert (await stored(table)).used == ONE.times(4)


async def test_a_call_that_needs_nothing_counts_although_its_worker_leaves(table, clock):
    """It begins and ends while the entry is taken out, so the next entry states what it has used."""
    one = Member(table, clock, "w1")
    await one.begin(1)
    one.settle()

    def call():
        one.account.settle(one.account.join(NO_AMOUNTS).result(), Amounts(1, 30, 0))

    table.meanwhile = call
    await one.store.leave()
    table.meanwhile = lambda: None
    assert one.account.has_debt
    await one.exchange()
    assert (await stored(table)).used == ONE + Amounts(2, 60, 0)


async def test_the_reservations_of_a_dead_worker_count_as_used(table, clock):
    """Another worker takes its entry out once it has not changed for the lease, by its own clock."""
    dead, alive = Member(table, clock, "dead"), Member(table, clock, "alive")
    await dead.begin(4)
    await alive.begin(6)
    for _ in range(6):
        alive.settle()
    await clock.advance(LEASE_S - 1)
    _, grant = await alive.begin(1)
    assert (grant.is_short, grant.shortage) == (True, None)
    await clock.advance(2)
    _, grant = await alive.begin(1)
    assert grant.shortage.used == ONE.times(10)
    assert set((await stored(table)).shares) == {"alive"}


async def test_a_worker_that_writes_is_not_taken_for_dead(table, clock):
    """A write without a change renews its entry."""
    slow, other = Member(table, clock, "slow"), Member(table, clock, "other")
    await slow.begin(1)
    for _ in range(8):
        await other.exchange()
        await clock.advance(LEASE_S / 2)
        await slow.exchange(is_due=True)
    await other.exchange()
    assert (await stored(table)).reserved == ONE


async def test_a_slow_worker_that_was_taken_for_dead_counts_only_what_goes_beyond(table, clock):
    """Its reservation counts as used already: what its call uses beyond that is added, nothing else."""
    slow, other = Member(table, clock, "slow"), Member(table, clock, "other")
    await slow.begin(2)
    await other.exchange()
    await clock.advance(LEASE_S)
    await other.exchange(is_due=True)
    await other.begin(1)
    assert (await stored(table)).used == ONE.times(2)
    slow.settle(ONE)
    await slow.exchange()
    slow.settle(ONE + Amounts(0, 7, 1))
    await slow.exchange()
    assert (await stored(table)).used == ONE.times(2) + Amounts(0, 7, 1)
    assert slow.metrics.totals["budget_reservations_lost"] == 1


async def test_of_two_writes_at_a_time_one_is_void(table, clock):
    """The loser has got nothing, and asks again."""
    one, two = Member(table, clock, "w1"), Member(table, clock, "w2")
    record = await table.record(KEY)

    class Stale(LossyTable):
        async def record(self, _key):
            return record

        async def swap(self, key, text, *, version, ttl):
            return await table.swap(key, text, version=version, ttl=ttl)

    await one.begin(10)
    late = Member(Stale(), clock, "w3")
    waiter = late.account.join(ONE)
    with pytest.raises(ConflictError):
        await late.exchange()
    assert not waiter.done()
    assert (await two.begin(1))[0] == 0


@given(st.integers(0, 2**32))
def test_no_budget_is_exceeded_whatever_happens(seed):
    """Calls that use what they reserve at most never use more than the budget, used and reserved together.

    Workers begin, settle, give back, leave, die and are taken for dead; answers are lost, limits raised.
    """
    asyncio.run(_run_fleet(Random(seed)))


async def _run_fleet(random):
    table, clock = LossyTable(), MemoryClock()
    budget = Budget(calls=random.choice((3, 10)), tokens=random.choice((None, 500)))
    members = [Member(table, clock, f"w{number}") for number in range(3)]
    made = NO_AMOUNTS
    for step in range(60):
        index = random.randrange(len(members))
        table.applied, table.dropped = random.choice(((0, 0), (0, 0), (0, 0), (1, 0), (0, 1)))
        await clock.advance(random.choice((0, 0, 1, LEASE_S)))
        if random.random() < 0.15:
            # It dies; its calls have been made all the same.
            made += sum((call.need for call in members[index].calls), NO_AMOUNTS)
            members[index] = Member(table, clock, f"w{index}-{step}")
        with suppress(UnknownResultError, ConflictError):
            made += await _act(members[index], random, budget, table)
        under_way = sum((call.need for other in members for call in other.calls), NO_AMOUNTS)
        assert budget.exceeded_by(made + under_way) is None
        if random.random() < 0.05:
            budget = Budget(calls=budget.calls + 2, tokens=budget.tokens)


async def _act(member, random, budget, table):
    """One step of a worker; return what its calls have used by it."""
    match random.randrange(5):
        case 0 | 1:
            await member.begin(random.randint(1, 3), Amounts(1, random.choice((20, 100)), 0), budget)
        case 2 if member.calls:
            call = member.calls.pop(0)
            actual = Amounts(1, random.randint(0, call.need.tokens), 0)
            member.account.settle(call, actual)
            return actual
        case 3 if member.calls:
            member.account.give_back(member.calls.pop(0))
        case 4 if not member.calls:
            await _leave(member, random, table)
    return NO_AMOUNTS


async def _leave(member, random, table):
    """The worker leaves. Calls come meanwhile, and some of their callers wait no longer than that."""
    need, waiters = Amounts(1, 20, 0), []
    if random.random() < 0.5:
        table.meanwhile = lambda: waiters.append(member.account.join(need))
    try:
        await member.store.leave()
    finally:
        table.meanwhile = lambda: None
        member.calls += [waiter.result() for waiter in waiters if waiter.done()]
        for waiter in waiters:
            waiter.cancel()
