"""Holds for rows that are left end by themselves once no row is."""

from dataclasses import replace

import pytest

from service.domain.errors import UnreachableError
from service.domain.model import Hold, HoldReason, State
from tests.unit.steering.test_failures import failed, fill

FAILURES = Hold(HoldReason.FAILURES, "rowfleet", "2026-01-01T00:00:00.000Z")
TARGET = Hold(HoldReason.TARGET, "rowfleet", "2026-01-01T00:00:00.000Z")
USER = Hold(HoldReason.USER, "ann", "2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize("holds", [(FAILURES,), (TARGET,), (FAILURES, TARGET)])
async def test_the_last_rows_may_end_while_the_batch_is_held(lab, holds):
    """The results are written, although nobody resumes it."""
    batch = await lab.batch(3, state=State.PAUSED, holds=holds)
    assert (await fill(lab, batch, [failed(lab, 1), failed(lab, 2)])).batch.state is State.PAUSED
    view = await fill(lab, batch, [failed(lab, 3)])
    assert (view.batch.state, view.batch.holds) == (State.AGGREGATING, ())
    (operation,) = await lab.table.operations(view.batch)
    assert (operation.op, operation.by) == ("resume", "rowfleet")
    assert len(await lab.waiting(lab.aggregate)) == 1


async def test_a_hold_at_the_moment_of_the_last_row_ends(lab):
    """The judge has counted before the last row was committed, and holds after that."""
    batch = await lab.batch(3)
    await fill(lab, batch, [failed(lab, 1), failed(lab, 2), failed(lab, 3)])
    lab.table._batches[batch.batch_id] = replace(batch, state=State.PAUSED, holds=(FAILURES,))
    view = await lab.completion.check(batch.batch_id)
    assert view.batch.state is State.AGGREGATING


@pytest.mark.parametrize("holds", [(USER,), (FAILURES, USER)])
async def test_a_hold_of_a_user_stays(lab, holds):
    """Somebody has asked that it waits."""
    batch = await lab.batch(1, state=State.PAUSED, holds=holds)
    view = await fill(lab, batch, [failed(lab, 1)])
    assert (view.batch.state, view.batch.holds) == (State.PAUSED, holds)


async def test_a_batch_that_is_read_further_stays_held(lab):
    """Before the seal more rows may come."""
    batch = await lab.batch(None)
    batch = replace(batch, state=State.PAUSED, holds=(FAILURES,))
    lab.table._batches[batch.batch_id] = batch
    view = await fill(lab, batch, [failed(lab, 1)])
    assert view.batch.state is State.PAUSED


async def test_an_error_of_the_table_is_left_to_the_sweeper(lab, monkeypatch):
    """The commit is not held up; the next sweep ends the hold."""
    batch = await lab.batch(1, state=State.PAUSED, holds=(FAILURES,))

    async def unreachable(*_, **__):
        raise UnreachableError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(lab.table, "operate", unreachable)
        assert (await fill(lab, batch, [failed(lab, 1)])).batch.state is State.PAUSED
    async with lab.committer() as committer:
        await lab.sweeper(committer).sweep()
    assert (await lab.view()).batch.state is State.AGGREGATING
