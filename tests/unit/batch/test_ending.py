"""A batch fails in one way: its state, its metric and its log line."""

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryTable
from service.batch.ending import fail_batch
from service.domain.model import State

WORK = (State.SPLITTING, State.RUNNING)


@pytest.mark.parametrize("total", [None, 3], ids=["splitting", "running"])
async def test_a_failed_batch_is_moved_counted_and_logged(lab, total):
    """The batch is caught in whichever of the expected states it is."""
    batch = await lab.batch(total)
    with capture_logs() as logs:
        failed = await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    stored = (await lab.view()).batch
    assert (stored.state, stored.error, stored.finished_at) == (State.FAILED, "no agent", failed.finished_at)
    assert (failed.state, failed.error) == (State.FAILED, "no agent")
    assert lab.metrics.totals["batches_failed"] == 1
    assert [(line["event"], line["reason"], line["moved"]) for line in logs] == [
        ("batch_failed", "no agent", True)
    ]


async def test_a_batch_that_has_ended_is_left_alone(lab):
    """A batch in another state keeps it, and is not counted as failed."""
    batch = await lab.batch(3, state=State.SUCCEEDED)
    with capture_logs() as logs:
        stands = await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert (stands.state, stands.error) == (State.SUCCEEDED, "")
    assert lab.metrics.totals["batches_failed"] == 0
    assert [line["moved"] for line in logs] == [False]


async def test_of_two_processes_that_fail_a_batch_one_counts_it(lab):
    """Every worker of a fleet finds out that an agent cannot be opened; the batch fails once."""
    batch = await lab.batch(3)
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    await lab.clock.advance(1)
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert lab.metrics.totals["batches_failed"] == 1


async def test_a_move_whose_reply_was_lost_is_counted(make_lab):
    """A repeated call finds its own success and reports False: the batch is read, and counted."""

    class LosesReplies(MemoryTable):
        async def move(self, *args, **named):
            await super().move(*args, **named)
            return False

    lab = make_lab(table=LosesReplies())
    batch = await lab.batch(3)
    stands = await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert stands.state is State.FAILED
    assert lab.metrics.totals["batches_failed"] == 1
