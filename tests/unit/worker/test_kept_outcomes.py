"""Kept outcomes: an answer that was paid for outlives an outage while its message is held."""

import asyncio
import copy

import pytest
import stamina
import stamina.instrumentation

from service.adapters.memory import MemoryTable
from service.domain.errors import AccessError, LeaseLostError, OutcomeRefusedError, ThrottledError
from service.domain.messages import RowMessage
from service.worker.admission.commit_backlog import MAX_COMMIT_WAIT_S


@pytest.fixture(autouse=True)
def many_attempts():
    """Retries that do not wait, and whose number only the leases bound."""
    hooks = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([])
    with stamina.set_testing(True, attempts=1_000_000):
        yield
    stamina.instrumentation.set_on_retry_hooks(hooks)


class RefusingTable(MemoryTable):
    """Refuses every commit with `error` while there is one."""

    def __init__(self, error=None) -> None:
        super().__init__()
        self.error = error
        self.refused = 0

    async def commit(self, commit):
        """Commit or refuse."""
        if self.error is not None:
            self.refused += 1
            # A new error each time: one that is raised again and again keeps all its tracebacks.
            raise copy.copy(self.error).with_traceback(None)
        return await super().commit(commit)


@pytest.mark.parametrize("error", [ThrottledError("no write units"), AccessError("dynamodb:PutItem")])
async def test_an_answer_outlives_an_outage_of_commits(make_lab, error):
    """Throttled or denied for ten minutes, each row takes one call, one delivery and one outcome."""
    lab = make_lab(table=RefusingTable(error))
    batch = await lab.batch(3)
    await lab.send(lab.rows, *(lab.row(number, batch).encode() for number in (1, 2, 3)))
    async with lab.working() as worker:
        consumer = lab.consumer(lab.rows, worker.handle, capacity=lab.gates, visibility_s=30.0)
        async with lab.consuming(consumer):
            await lab.until(lambda: lab.table.refused > 0, step_s=0.1)
            await lab.pass_time(600.0)
            assert "3 outcomes wait for their commit" in consumer.problem
            assert str(error) in consumer.problem
            lab.table.error = None
            await lab.until(lambda: not lab.rows._entries, step_s=0.1)
            assert consumer.problem == ""
    assert len(lab.agent.calls) == 3
    assert (await lab.view()).counts.succeeded == 3
    assert lab.metrics.totals["outcomes_given_up"] == 0
    assert len(lab.metrics._timings["commit_wait_ms"].values) == 3


class ChoosyTable(MemoryTable):
    """Refuses outcomes for which `is_refused`, as DynamoDB does without naming the row."""

    def __init__(self, is_refused) -> None:
        super().__init__()
        self.is_refused = is_refused

    async def commit(self, commit):
        """Commit or refuse."""
        if any(map(self.is_refused, commit.outcomes)):
            raise OutcomeRefusedError("table t cannot store row 2: number overflow")
        return await super().commit(commit)


@pytest.mark.parametrize(
    ("is_refused", "has_cells"),
    [
        (lambda outcome: outcome.number == 2 and outcome.output_data, True),
        (lambda outcome: outcome.number == 2 and outcome.input_data, False),
    ],
)
async def test_an_outcome_that_the_table_refuses_for_good_fails_its_row(make_lab, is_refused, has_cells):
    """It is not kept: the row is FAILED with the reason after one call, and its neighbours succeed."""
    lab = make_lab(table=ChoosyTable(is_refused))
    batch = await lab.batch(3)
    await lab.send(lab.rows, *(lab.row(number, batch).encode() for number in (1, 2, 3)))
    async with lab.working() as worker:
        consumer = lab.consumer(lab.rows, worker.handle, capacity=lab.gates)
        async with lab.consuming(consumer):
            await lab.until(lambda: not lab.rows._entries, step_s=0.1)
    outcomes = await lab.outcomes(batch)
    error = outcomes[2].error
    assert (error.type, error.failure_class) == ("OutcomeRefusedError", "rejected")
    assert "number overflow" in error.message
    assert bool(outcomes[2].input_data) is has_cells
    assert {outcomes[1].status, outcomes[3].status} == {"SUCCESS"}
    assert len(lab.agent.calls) == 3


async def test_a_table_that_stores_nothing_fails_no_row(make_lab):
    """If even an outcome without data is refused, the row is not the cause: only an operator can help."""
    lab = make_lab(table=ChoosyTable(lambda _: True))
    batch = await lab.batch(1)
    async with lab.working() as worker:
        with pytest.raises(AccessError, match=r"stores no outcome of this row: .* overflow"):
            await worker.handle(lab.delivery(lab.row(1, batch).encode()))
    assert (await lab.view()).counts.done == 0


async def test_rows_that_come_meanwhile_wait_in_the_queue(make_lab):
    """They are requeued without a call, an attempt or a lost delivery, and are called when the gate opens."""
    lab = make_lab(table=RefusingTable(ThrottledError("no write units")))
    batch = await lab.batch(2)
    async with lab.working() as worker:
        first = asyncio.create_task(worker.handle(lab.delivery(lab.row(1, batch).encode())))
        await lab.until(lambda: lab.table.refused > 0)
        await lab.pass_time(MAX_COMMIT_WAIT_S)
        await worker.handle(lab.delivery(lab.row(2, batch).encode()))
        assert len(lab.agent.calls) == 1
        await lab.pass_time(20.0)
        (body,) = await lab.waiting(lab.rows)
        again = RowMessage.decode(body)
        assert (again.number, again.attempt, again.lost_deliveries, again.replay) == (2, 1, 0, True)
        assert again.last_failure.startswith("CommitsWaitError")
        lab.table.error = None
        await first
        await worker.handle(lab.delivery(body))
    assert len(lab.agent.calls) == 2
    assert lab.metrics.totals["rows_turned_away_CommitsWaitError"] == 1


async def test_a_lost_lease_gives_an_outcome_up(make_lab):
    """Another worker has the row, so waiting longer would help nobody. The loss is counted."""
    lab = make_lab(table=RefusingTable(ThrottledError("no write units")))
    batch = await lab.batch(1)
    delivery = lab.delivery(lab.row(1, batch).encode())
    async with lab.working() as worker:
        handling = asyncio.create_task(worker.handle(delivery))
        await lab.until(lambda: lab.table.refused > 100)
        assert not handling.done()
        delivery.lease.is_lost = True
        with pytest.raises(LeaseLostError):
            await handling
    assert lab.metrics.totals["outcomes_given_up"] == 1


async def test_a_committed_row_waits_for_its_check(make_lab):
    """A row that only has to be checked keeps its message as well: nothing of it costs a delivery."""

    class Unreadable(MemoryTable):
        reads = refusals = 0

        async def read(self, batch_id):
            self.reads += 1
            if self.reads > 1 and self.refusals < 200:
                self.refusals += 1
                raise ThrottledError("no read units")
            return await super().read(batch_id)

    lab = make_lab(table=Unreadable())
    batch = await lab.batch(1)
    async with lab.committer() as committer:
        worker = lab.worker(committer)
        await worker.handle(lab.delivery(lab.row(1, batch).encode()))
        assert lab.table.refusals == 200
        lab.table.refusals = 0
        await worker.handle(lab.delivery(lab.row(1, batch, replay=True).encode()))
    assert len(lab.agent.calls) == 1


async def test_the_drain_uses_its_whole_time(make_lab):
    """A process that is told to stop commits what it holds, if commits are taken again before the end."""
    lab = make_lab(table=RefusingTable(ThrottledError("no write units")))
    batch = await lab.batch(1)
    await lab.send(lab.rows, lab.row(1, batch).encode())
    async with lab.working() as worker:
        consumer = lab.consumer(lab.rows, worker.handle, capacity=lab.gates, drain_s=3600.0)
        async with lab.consuming(consumer) as stop:
            await lab.until(lambda: lab.table.refused > 0, step_s=0.1)
            stop.set()
            await lab.until(lambda: consumer.is_draining, step_s=0.1)
            await lab.pass_time(60.0)
            lab.table.error = None
    assert (await lab.view()).counts.succeeded == 1
    assert len(lab.agent.calls) == 1


async def test_the_end_of_the_drain_gives_an_outcome_up(make_lab):
    """The message goes back at once, and the process ends although no commit is taken."""
    lab = make_lab(table=RefusingTable(ThrottledError("no write units")))
    batch = await lab.batch(1)
    await lab.send(lab.rows, lab.row(1, batch).encode())
    async with lab.working() as worker:
        consumer = lab.consumer(lab.rows, worker.handle, capacity=lab.gates, drain_s=0.01)
        async with lab.consuming(consumer):
            await lab.until(lambda: lab.table.refused > 0, step_s=0.1)
    assert lab.metrics.totals["outcomes_given_up"] == 1
    assert len(await lab.waiting(lab.rows)) == 1
