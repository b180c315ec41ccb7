"""Work that an operation leaves: rows are sent again or FAILED, once, whoever dies meanwhile."""

from dataclasses import replace

import pytest

from service.batch.completion import Completion
from service.domain.errors import LeaseLostError
from service.domain.model import Checkpoint, Commit, Dialect, State, Status, Work, WorkKind
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.steering import work as work_module
from service.steering.operate import operate
from service.steering.remapping.work import RemapWork
from service.steering.work import FleetWork

ROWS = 12
TEXT = "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, ROWS + 1))


async def running(lab, total=ROWS, **changes):
    """A batch whose source lies in the bucket as it was split."""
    source = await lab.put(TEXT)
    return await lab.batch(total, source=source, dialect=Dialect("utf-8", ","), **changes)


async def commit(lab, batch, *numbers):
    outcomes = tuple(lab.outcome(number) for number in numbers)
    await lab.table.commit(
        Commit(batch.batch_id, batch.round, batch.partitions, 0, outcomes, next(lab.tokens), batch.ttl)
    )


async def do(lab, batch, *ops):
    """Operate on the batch; return the request for the work of the last operation."""
    for number, op in enumerate(ops):
        await operate(lab.ports, OperationRequest(op, batch.batch_id, f"r{number}", "ada"))
    control = (await lab.view()).batch.control
    await lab.waiting(lab.ingest)
    return WorkRequest(batch.batch_id, batch.incarnation, control)


async def handle(lab, request):
    async with lab.committer() as committer:
        await lab.fleet_work(committer).handle(request, lab.delivery(request.encode()))


async def test_a_resume_sends_every_row_without_an_outcome(lab):
    """Once, as possible repeats, and of the new generation."""
    batch = await running(lab)
    await commit(lab, batch, 2, 3)
    request = await do(lab, batch, "pause", "resume")
    await handle(lab, request)
    rows = await lab.sent_rows()
    assert [row.number for row in rows] == [1, *range(4, ROWS + 1)]
    assert {(row.replay, row.generation) for row in rows} == {(True, 1)}
    assert (await lab.view()).batch.work is None
    await handle(lab, request)
    assert await lab.sent_rows() == []


async def test_a_resume_of_a_batch_whose_rows_are_all_done_completes_it(lab):
    """Its last calls ended while it was held."""
    batch = await running(lab)
    await do(lab, batch, "pause")
    await commit(lab, batch, *range(1, ROWS + 1))
    await handle(lab, await do(lab, batch, "pause", "resume"))
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert await lab.sent_rows() == []


async def test_work_whose_process_died_before_its_check_is_checked_when_it_comes_again(lab, monkeypatch):
    """Nobody else would find out that no row is left."""

    async def die(_batch_id):
        raise LeaseLostError("the process has died")

    batch = await running(lab)
    await do(lab, batch, "pause")
    await commit(lab, batch, *range(1, ROWS + 1))
    request = await do(lab, batch, "pause", "resume")
    with monkeypatch.context() as patch:
        patch.setattr(Completion, "check", lambda _, batch_id: die(batch_id))
        with pytest.raises(LeaseLostError):
            await handle(lab, request)
    view = await lab.view()
    assert (view.batch.state, view.batch.work) == (State.RUNNING, None)
    await handle(lab, request)
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_cancel_fails_every_row_without_an_outcome(lab):
    """With its cells and the class `cancelled`, and the batch completes."""
    batch = await running(lab)
    await commit(lab, batch, *range(1, 10))
    await handle(lab, await do(lab, batch, "cancel"))
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded, view.counts.cancelled) == (State.AGGREGATING, 9, 3)
    outcome = (await lab.outcomes(batch))[12]
    assert (outcome.status, outcome.error.type, outcome.error.failure_class) == (
        Status.FAILED, "CancelledError", "cancelled",
    )  # fmt: skip
    assert outcome.input_data == {"id": "12", "name": "name 12"}


async def test_a_reason_of_a_cancel_is_in_the_error_of_its_rows(lab):
    """Who reads failures.csv learns why."""
    batch = await running(lab, cancelled_at="2026-01-01T00:00:00Z", cancel_reason="too many failures",
                          control=1, work=Work(WorkKind.CANCEL, 1))  # fmt: skip
    await handle(lab, WorkRequest(batch.batch_id, batch.incarnation, 1))
    assert (await lab.outcomes(batch))[1].error.message == (
        "the batch was cancelled at 2026-01-01T00:00:00Z: too many failures"
    )


@pytest.mark.parametrize("ops", [("pause",), ("pause", "resume", "pause"), ("pause", "resume", "cancel")])
async def test_work_that_another_operation_has_replaced_is_dropped(lab, ops):
    """Its message may come late."""
    batch = await running(lab)
    await do(lab, batch, *ops)
    await handle(lab, WorkRequest(batch.batch_id, batch.incarnation, 2 if len(ops) > 1 else 1))
    assert await lab.sent_rows() == []
    assert (await lab.view()).counts.done == 0


async def test_work_of_an_earlier_batch_with_the_id_is_dropped(lab):
    """The message names the incarnation."""
    batch = await running(lab, incarnation="018bcfe5680a1b2c")
    request = await do(lab, batch, "pause", "resume")
    await handle(lab, replace(request, incarnation="018bcfe568000000"))
    assert await lab.sent_rows() == []


async def test_work_before_the_seal_is_the_splitters(lab):
    """It sends what lies before the checkpoint, and asks for a cancel's rows once the split has ended."""
    batch = await running(lab, None, checkpoint=Checkpoint(5, 60, 6))
    await handle(lab, await do(lab, batch, "pause", "resume"))
    assert await lab.sent_rows() == []
    assert (await lab.view()).batch.work == Work(WorkKind.SEND, 2)


async def test_work_waits_for_the_lease_of_another(lab):
    """The message is sent again for the time when that lease ends."""
    batch = await running(lab)
    request = await do(lab, batch, "pause", "resume")
    now_ms = lab.clock.now_ms()
    stands = (await lab.view()).batch
    await lab.table.lease(
        stands, state=State.RUNNING, owner="sweeper", now_ms=now_ms, until_ms=now_ms + 40_000
    )
    await handle(lab, request)
    assert await lab.sent_rows() == []
    await lab.pass_time(40)
    assert await lab.waiting(lab.ingest) == []
    await lab.pass_time(1)
    assert await lab.waiting(lab.ingest) == [request.encode()]


async def test_work_goes_on_where_a_dead_process_has_left_it(lab, monkeypatch):
    """The progress is stored; only what came after it is sent twice."""
    monkeypatch.setattr(work_module, "SAVE_ROWS", 4)
    batch = await running(lab)
    await do(lab, batch, "pause", "resume")
    stands = (await lab.view()).batch
    checks = 0

    def dies():
        nonlocal checks
        checks += 1
        if checks > 5:
            raise LeaseLostError("dead")

    async with lab.committer() as committer:
        recovery = lab.recovery(committer, max_rows=4)
        remaps = RemapWork(lab.ports, committer, worker="w")
        work = FleetWork(lab.ports, recovery, lab.completion, remaps, owners=lambda: "o", lease_s=40.0)
        with pytest.raises(LeaseLostError):
            await work.do(stands, dies)
        after = (await lab.view()).batch.work.after
        assert after > 0
        assert after % 4 == 0
        await lab.sent_rows()
        await work.do((await lab.view()).batch, lambda: None)
    assert [row.number for row in await lab.sent_rows()] == list(range(after + 1, ROWS + 1))


async def test_work_ends_when_an_operation_replaces_it(lab, monkeypatch):
    """Another operation comes while the rows are sent: the rest is not sent."""
    monkeypatch.setattr(work_module, "SAVE_ROWS", 4)
    batch = await running(lab)
    await do(lab, batch, "pause", "resume")
    stands = (await lab.view()).batch
    async with lab.committer() as committer:
        recovery = lab.recovery(committer, max_rows=4)
        remaps = RemapWork(lab.ports, committer, worker="w")
        work = FleetWork(lab.ports, recovery, lab.completion, remaps, owners=lambda: "o", lease_s=40.0)
        await operate(lab.ports, OperationRequest("cancel", batch.batch_id, "late", "ada"))
        await work.do(stands, lambda: None)
    assert [row.number for row in await lab.sent_rows()] == [1, 2, 3, 4]
    assert (await lab.view()).batch.work == Work(WorkKind.CANCEL, 3)
