"""Jobs with a task token: the task that waits is stored, once, and the latest one counts."""

import json

import pytest
from structlog.testing import capture_logs

from service.domain.errors import PoisonMessageError
from service.domain.model import OutboxKind, State, WaitingTask

FIRST, SECOND = "first-token", "second-token"


async def tasks(lab, execution_id="e1"):
    """The tasks of the batch: token -> (pending, problem, fail_on_errors)."""
    records = await lab.table.records(f"demo#{execution_id}", OutboxKind.TASK)
    found = [(record, WaitingTask.from_record(record)) for record in records]
    return {task.token: (record.is_pending, task.problem, task.fail_on_errors) for record, task in found}


async def send(lab, token, *, message_id, **more):
    await lab.splitter().handle(lab.delivery(lab.job(task_token=token, **more), message_id=message_id))


async def test_a_job_stores_its_task(lab):
    """With the incarnation and expiry of its batch."""
    await lab.put("id,name\n1,a\n")
    await send(lab, FIRST, message_id="m-1")
    assert await tasks(lab) == {FIRST: (True, "", False)}
    (record,) = await lab.table.records("demo#e1", OutboxKind.TASK)
    batch = (await lab.view()).batch
    assert (record.incarnation, record.ttl) == (batch.incarnation, batch.ttl)


async def test_failed_rows_fail_the_task_of_a_job_that_says_so(lab):
    """The option belongs to the task, and does not make another batch of the same job."""
    await lab.put("id,name\n1,a\n")
    await send(lab, FIRST, message_id="m-1", options={"fail_on_errors": True})
    assert await tasks(lab) == {FIRST: (True, "", True)}


async def test_a_new_token_replaces_one_that_was_not_answered(lab):
    """The first job that comes again does not take its place back."""
    await lab.put("id,name\n1,a\n")
    await send(lab, FIRST, message_id="m-1")
    await lab.clock.advance(1)
    await send(lab, SECOND, message_id="m-2")
    await lab.clock.advance(1)
    await send(lab, FIRST, message_id="m-1")
    assert await tasks(lab) == {FIRST: (False, "", False), SECOND: (True, "", False)}


async def test_a_batch_that_has_ended_takes_another_task(lab):
    """It is answered at once by whoever answers."""
    await lab.put("id,name\n")
    await send(lab, FIRST, message_id="m-1")
    batch = (await lab.view()).batch
    now = "2023-11-14T22:13:21.000Z"
    assert await lab.table.move(batch, expected=State.AGGREGATING, to=State.SUCCEEDED, now=now)
    await lab.clock.advance(1)
    await send(lab, SECOND, message_id="m-2")
    assert (await tasks(lab))[SECOND] == (True, "", False)


async def test_a_job_that_fails_its_batch_has_its_task_answered(lab):
    """A job with a wrong option keeps its token."""
    await send(lab, FIRST, message_id="m-1", options={"limt": 3})
    assert (await lab.view()).batch.state is State.FAILED
    assert await tasks(lab) == {FIRST: (True, "", False)}


async def test_a_job_that_is_refused_fails_its_task(lab):
    """The id is taken by a run of another source; the task of that run still waits."""
    await lab.put("id,name\n1,a\n")
    await lab.put("id,name\n1,b\n", "other.csv")
    await send(lab, FIRST, message_id="m-1")
    await lab.clock.advance(1)
    for _ in range(2):
        with pytest.raises(PoisonMessageError):
            await send(lab, SECOND, message_id="m-2", key="other.csv")
    found = await tasks(lab)
    assert found[FIRST] == (True, "", False)
    assert found[SECOND][0]
    assert "another source" in found[SECOND][1]


async def test_no_token_is_logged_or_stored_with_the_batch(lab):
    """Neither is it in the text of the batch or of the job."""
    await lab.put("id,name\n1,a\n")
    with capture_logs() as logs:
        await send(lab, FIRST, message_id="m-1")
        await lab.clock.advance(1)
        await send(lab, SECOND, message_id="m-2")
    assert {"task_waits", "task_replaced"} <= {line["event"] for line in logs}
    shown = json.dumps(logs, default=repr) + repr(await lab.view())
    assert FIRST not in shown
    assert SECOND not in shown
