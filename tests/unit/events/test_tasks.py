"""Tasks of Step Functions: heartbeats while a batch works, one answer when it has ended."""

import json

import pytest
from structlog.testing import capture_logs

from service.domain.errors import RetryableError
from service.domain.model import Commit, OutboxKind, State, WaitingTask
from service.events.poller import SendLimits
from service.events.tasks import MAX_CAUSE_CHARS, MAX_OUTPUT_BYTES, TaskAnswering

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAT/0="


class TaskStates:
    """Step Functions: records calls; `failures` has the errors of the next ones, `over` the ended tokens."""

    def __init__(self, *failures):
        self.calls = []
        self.failures = list(failures)
        self.over = set()

    async def _call(self, *call):
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)
        return call[1] not in self.over

    async def succeed(self, token, output):
        """Record the output."""
        return await self._call("success", token, json.loads(output))

    async def fail(self, token, error, cause):
        """Record error and cause."""
        return await self._call("failure", token, error, cause)

    async def heartbeat(self, token):
        """Record the heartbeat."""
        return await self._call("heartbeat", token)


async def wait_for(lab, batch, token=TOKEN, **more):
    """Store a task that waits for the batch."""
    task = WaitingTask(
        batch.batch_id, token, batch.incarnation, at_ms=lab.clock.now_ms(), ttl=batch.ttl, **more
    )
    await lab.table.add(task.record())


def answering(lab, states, heartbeat_s=60.0):
    return TaskAnswering(lab.ports, states, heartbeat_s, SendLimits())


async def waiting(lab):
    return len((await lab.table.pending(OutboxKind.TASK, after=None, limit=9)).records)


@pytest.mark.parametrize("state", [State.SPLITTING, State.RUNNING, State.PAUSED, State.AGGREGATING], ids=str)
async def test_a_batch_that_works_sends_heartbeats(lab, state):
    """One at once, then one a minute, by whichever process."""
    batch = await lab.batch(3, state=state)
    await wait_for(lab, batch)
    states = TaskStates()
    both = [answering(lab, states), answering(lab, states)]
    for _ in range(61):
        for one in both:
            await one.send()
        await lab.clock.advance(2)
    assert states.calls == [("heartbeat", TOKEN)] * 3
    assert await waiting(lab) == 1


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.COMPLETED_WITH_ERRORS], ids=str)
async def test_a_batch_that_has_results_is_a_success(lab, state):
    """The output is the status JSON. The answer is given once."""
    batch = await lab.batch(3, state=state)
    await wait_for(lab, batch)
    states = TaskStates()
    one = answering(lab, states)
    await one.send()
    await one.send()
    assert states.calls == [("success", TOKEN, {"state": str(state)})]
    assert await waiting(lab) == 0


async def test_the_answer_does_not_wait_for_the_next_heartbeat(lab):
    """The batch ends right after a heartbeat; the next look answers."""
    batch = await lab.batch(3, state=State.AGGREGATING)
    await wait_for(lab, batch)
    states = TaskStates()
    one = answering(lab, states)
    await one.send()
    await lab.table.move(
        batch, expected=State.AGGREGATING, to=State.SUCCEEDED, now="2023-11-14T22:13:21.000Z"
    )
    await lab.clock.advance(2)
    await one.send()
    assert [call[0] for call in states.calls] == ["heartbeat", "success"]


async def test_failed_rows_fail_the_task_if_the_job_says_so(lab):
    """`fail_on_errors`: the cause says how many, and where the manifest is."""
    batch = await lab.batch(3, state=State.COMPLETED_WITH_ERRORS)
    outcomes = (lab.outcome(1), lab.outcome(2, failed="no"), lab.outcome(3))
    await lab.table.commit(Commit(batch.batch_id, 1, 1, 0, outcomes, "t" * 36, batch.ttl))
    await wait_for(lab, batch, fail_on_errors=True)
    states = TaskStates()
    await answering(lab, states).send()
    manifest = batch.results.url("manifest.json")
    assert states.calls == [
        ("failure", TOKEN, "COMPLETED_WITH_ERRORS", f"manifest: {manifest}; 1 of 3 rows failed")
    ]


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED], ids=str)
async def test_a_batch_without_results_fails_the_task(lab, state):
    """The state is the error, and the batch's error the cause, cut to what Step Functions takes."""
    batch = await lab.batch(3, state=state, error="x" * 40_000)
    await wait_for(lab, batch)
    states = TaskStates()
    await answering(lab, states).send()
    ((_, _, error, cause),) = states.calls
    assert error == str(state)
    assert len(cause) == MAX_CAUSE_CHARS
    assert "manifest.json; xxx" in cause


async def test_an_output_that_is_too_long_is_cut_to_json(lab):
    """Its longest lists are left out."""
    lab.events = type(lab.events)(status=lambda _: {"state": "SUCCEEDED", "operations": ["x" * 1_000] * 400})
    batch = await lab.batch(3, state=State.SUCCEEDED)
    await wait_for(lab, batch)
    states = TaskStates()
    await answering(lab, states).send()
    assert states.calls == [("success", TOKEN, {"state": "SUCCEEDED", "operations": []})]
    assert MAX_OUTPUT_BYTES == 256 * 1024


async def test_a_refused_job_fails_its_task(lab):
    """The cause is the reason of the refusal."""
    batch = await lab.batch(3)
    await wait_for(lab, batch, problem="batch demo#e1 exists with another source")
    states = TaskStates()
    await answering(lab, states).send()
    assert states.calls == [("failure", TOKEN, "REFUSED", "batch demo#e1 exists with another source")]


async def test_a_batch_that_is_gone_fails_the_task(lab):
    """It has expired, or another one has its id."""
    batch = await lab.batch(3, state=State.SUCCEEDED, incarnation="018bcfe5680a1b2c")
    task = WaitingTask(batch.batch_id, TOKEN, "018bcfe500000000", 1, batch.ttl)
    await lab.table.add(task.record())
    states = TaskStates()
    await answering(lab, states).send()
    assert states.calls[0][:3] == ("failure", TOKEN, "EXPIRED")


async def test_an_answer_that_fails_is_repeated(lab):
    """With pauses, until Step Functions takes it."""
    batch = await lab.batch(3, state=State.SUCCEEDED)
    await wait_for(lab, batch)
    states = TaskStates(RetryableError("down"), RetryableError("down"))
    one = answering(lab, states)
    for _ in range(10):
        await one.send()
        await lab.clock.advance(2)
    assert [call[0] for call in states.calls] == ["success"] * 3
    assert await waiting(lab) == 0


async def test_an_answer_is_given_up_a_day_after_the_end(lab):
    """The log and a metric say so."""
    batch = await lab.batch(3, state=State.SUCCEEDED, finished_at="2023-11-14T22:13:20.000Z")
    await wait_for(lab, batch)
    one = answering(lab, TaskStates(*[RetryableError("down")] * 1_000))
    with capture_logs() as logs:
        for _ in range(300):
            await one.send()
            await lab.clock.advance(300)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["task_given_up"]
    assert await waiting(lab) == 0


async def test_a_token_that_is_over_gets_nothing_more(lab):
    """A heartbeat finds out that the task has timed out: no answer follows."""
    batch = await lab.batch(3)
    await wait_for(lab, batch)
    states = TaskStates()
    states.over.add(TOKEN)
    one = answering(lab, states)
    await one.send()
    await lab.clock.advance(600)
    await one.send()
    assert states.calls == [("heartbeat", TOKEN)]
    assert await waiting(lab) == 0


async def test_a_lost_heartbeat_is_made_up_for_by_the_next(lab):
    """An error of Step Functions changes nothing else."""
    batch = await lab.batch(3)
    await wait_for(lab, batch)
    states = TaskStates(RetryableError("down"))
    one = answering(lab, states)
    for _ in range(2):
        await one.send()
        await lab.clock.advance(60)
    assert states.calls == [("heartbeat", TOKEN)] * 2
    assert await waiting(lab) == 1


async def test_a_token_is_never_logged(lab):
    """Neither in a success nor in a failure, nor in the text of a record."""
    batch = await lab.batch(3, state=State.SUCCEEDED)
    await wait_for(lab, batch)
    with capture_logs() as logs:
        one = answering(lab, TaskStates(RetryableError("down")))
        await one.send()
        await lab.clock.advance(10)
        await one.send()
    assert logs
    (record,) = await lab.table.records(batch.batch_id, OutboxKind.TASK)
    assert TOKEN not in repr((logs, record, WaitingTask.from_record(record)))
