"""Calls are counted with the outcomes of their rows, and by themselves if they gave none."""

import asyncio
from dataclasses import replace

import pytest

from service.domain.errors import AccessError, RowRejectedError, UnreachableError
from service.domain.model import NOTHING_SPENT, Operation, Spending
from tests.unit.batch.commits.test_group_commit import FaultyTable

CALL = Spending(calls=1, input_tokens=10, output_tokens=2, cost=7)


@pytest.fixture
def lab(make_lab):
    """A laboratory on a faulty table."""
    return make_lab(table=FaultyTable())


async def spending(lab) -> Spending:
    return (await lab.view()).spending


async def test_the_calls_of_a_row_are_counted_in_the_transaction_of_its_outcome(lab):
    """One transaction holds the calls of all its rows."""
    batch = await lab.batch(10)
    async with lab.committer() as committer:
        await asyncio.gather(*(committer.commit(batch, n, lab.outcome(n), None, CALL) for n in range(1, 6)))
    (commit,) = lab.table.commits
    assert commit.spent == sum([CALL] * 5, NOTHING_SPENT) == await spending(lab)


async def test_the_call_for_a_row_that_another_worker_has_committed_is_counted(lab):
    """It was paid for, though its outcome is not used."""
    batch = await lab.batch(10)
    async with lab.committer() as committer:
        await committer.commit(batch, 1, lab.outcome(1), None, CALL)
        await committer.commit(batch, 1, lab.outcome(1), None, CALL)
    assert await spending(lab) == CALL + CALL
    assert (await lab.view()).counts.succeeded == 1


async def test_calls_without_an_outcome_join_the_next_transaction(lab):
    """They need none of their own if a row is committed soon."""
    batch = await lab.batch(10)
    async with lab.committer() as committer:
        committer.count_spending(batch, CALL)
        await committer.commit(batch, 1, lab.outcome(1), None, CALL)
    assert [commit.spent for commit in lab.table.commits] == [CALL + CALL]


async def test_calls_without_an_outcome_are_counted_when_the_process_ends(lab):
    """At once, and in a transaction without rows if none waits."""
    batch = await lab.batch(10)
    async with lab.committer() as committer:
        committer.count_spending(batch, CALL)
    assert [(commit.outcomes, commit.spent) for commit in lab.table.commits] == [((), CALL)]
    assert await spending(lab) == CALL


async def test_calls_are_counted_once_the_table_works_again(lab):
    """A count that failed is made again; it is lost only if the process ends meanwhile."""
    batch = await lab.batch(10)
    lab.table.before = {1: UnreachableError("away"), 2: AccessError("denied")}
    async with lab.committer() as committer:
        committer.count_spending(batch, CALL)
    assert await spending(lab) == CALL
    lab.table.always = {batch.batch_id: AccessError("denied")}
    async with lab.committer() as committer:
        committer.count_spending(batch, CALL)
    assert await spending(lab) == CALL


async def test_the_calls_of_an_outcome_that_cannot_be_stored_are_counted(lab):
    """Its row gets another outcome, and the call was made all the same."""
    batch = await lab.batch(10)
    lab.table.before = {1: RowRejectedError("row 1 cannot be stored")}
    async with lab.committer() as committer:
        with pytest.raises(RowRejectedError):
            await committer.commit(batch, 1, lab.outcome(1), None, CALL)
    assert await spending(lab) == CALL


async def test_calls_of_all_rounds_are_one_sum(lab):
    """The counters of a round are its own, what was spent is not."""
    batch = await lab.batch(10)
    async with lab.committer() as committer:
        await committer.commit(batch, 1, lab.outcome(1), None, CALL)
    second = replace(batch, round=2, control=1)
    assert await lab.table.operate(batch, second, Operation("redrive", "r1", "ann", "t", control=1))
    async with lab.committer() as committer:
        committer.count_spending(second, CALL)
    assert await spending(lab) == CALL + CALL
    assert (await lab.view()).counts.succeeded == 0
