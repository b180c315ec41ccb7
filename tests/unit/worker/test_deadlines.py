"""Deadlines of batches and rows, and calls of agents that take minutes."""

import asyncio
import re
from dataclasses import replace

import pytest

from service.app.status import status_json
from service.app.submit import SubmitRequest, submit
from service.domain.deadlines import deadline_of
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentThrottledError,
    AgentUnavailableError,
    PoisonMessageError,
    UnreachableError,
)
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.message_format import encode
from service.domain.messages import RowMessage
from service.domain.model import MAX_MS, Status, iso_time, ms_of
from service.domain.operation_requests import OperationRequest
from service.runtime.tasks import timeout
from service.steering.operate import operate

SLOW_AGENT = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
input_mapping: {column_mappings: {name: name}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]
execution:
  timeout_seconds: 600
  retry_policy: {max_attempts: 9, base_seconds: 2, cap_seconds: 60}
"""


def deadline(lab, seconds):
    return iso_time(lab.clock.now_ms() + round(seconds * 1000))


async def handle(lab, *rows, **options):
    """Deliver rows to a worker and let time pass until they are handled."""
    async with lab.working(**options) as worker:
        tasks = [asyncio.create_task(worker.handle(lab.delivery(row.encode()))) for row in rows]
        await lab.until(lambda: all(task.done() for task in tasks), step_s=0.25)
        await asyncio.gather(*tasks)


async def outcome_of(lab, batch, number=1):
    return (await lab.outcomes(batch))[number]


async def forever(_):
    await asyncio.Event().wait()


# -- sources of deadlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_job", "of_mapping", "seconds"), [(None, None, None), (90, None, 90), (None, 70, 70), (90, 70, 90)]
)
async def test_a_batch_has_the_jobs_deadline_or_the_mappings(lab, define, of_job, of_mapping, seconds):
    """It counts in whole seconds from the opening. A redelivered message does not postpone it."""
    key = f"\n  batch_deadline_seconds: {of_mapping}" if of_mapping else ""
    lab.definitions["demo"] = define(SLOW_AGENT.rstrip() + key)
    await lab.put("id,name\n1,Ada\n")
    body = lab.job(options={"deadline_s": of_job}) if of_job else lab.job()
    at = deadline(lab, seconds) if seconds else ""
    for _ in range(2):
        await lab.splitter().handle(lab.delivery(body))
        assert (await lab.view()).batch.deadline_at == at
        await lab.clock.advance(10)
    assert status_json(await lab.view(), lab.clock)["deadline_at"] == (at or None)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1m", 10**12])
def test_a_jobs_deadline_is_a_whole_number_of_seconds(value):
    """Any other value fails the batch with a reason."""
    body = {"v": 1, "mapping": "demo", "source": "s3://in/k", "options": {"deadline_s": value}}
    (job,) = decode_ingest(encode(body)).jobs
    assert re.search("'deadline_s' is .*; use a whole number from 1", job.problem)


async def test_submit_sends_a_deadline(lab):
    """`--deadline` is one of the options of the job, like the limit."""
    await lab.put("id\n1\n")
    request = SubmitRequest("s3://in/files/rows.csv", "demo", "e1", limit=3, deadline_s=60)
    await submit(lab.ports, request, "in")
    (body,) = await lab.waiting(lab.ingest)
    (job,) = decode_ingest(body).jobs
    assert isinstance(job, Job)
    assert (job.limit, job.deadline_s) == (3, 60)


async def test_the_earlier_deadline_counts(lab):
    """It may be the batch's or the row's. Without either, time is unlimited."""
    batch = await lab.batch(1, deadline_at=iso_time(5_000))
    assert (deadline_of(batch, 4_999).at_ms, deadline_of(batch, 4_999).owner) == (4_999, "row")
    assert (deadline_of(batch, 5_001).at_ms, deadline_of(batch, None).owner) == (5_000, "batch")
    assert deadline_of(replace(batch, deadline_at=""), None).left_s(MAX_MS) > 10**9


@pytest.mark.parametrize("ms", [0, 1, 1_700_000_000_123, MAX_MS])
def test_a_time_is_read_back_exactly(ms):
    """Times are exact to the millisecond."""
    assert ms_of(iso_time(ms)) == ms


# -- batches -------------------------------------------------------------------------------------------------


async def test_after_its_batchs_deadline_a_row_fails_without_the_agent(lab):
    """It is committed FAILED, with its input, and the batch is completed."""
    batch = await lab.batch(1, deadline_at=deadline(lab, 5))
    await lab.clock.advance(5)
    await handle(lab, lab.row(1, batch))
    outcome = await outcome_of(lab, batch)
    assert outcome.error.type == "DeadlineError"
    assert outcome.error.message == f"the batch's deadline, {batch.deadline_at}, has passed"
    assert outcome.input_data == {"id": "1", "name": "name 1"}
    assert lab.agent.calls == []
    assert len(await lab.waiting(lab.aggregate)) == 1


async def test_an_invocation_is_cut_at_the_deadline(lab, define):
    """Its time-out is that of the mapping, as the deadline may be moved; its call is cancelled then."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 7))
    lab.agent.script = forever
    await handle(lab, lab.row(1, batch))
    assert lab.agent.calls[0].timeout_s == 600
    outcome = await outcome_of(lab, batch)
    assert (outcome.execution_time_ms, outcome.timestamp) == (7_000, batch.deadline_at)
    assert outcome.error.type == "DeadlineError"
    assert "AgentTimeoutError: no answer until then" in outcome.error.message


async def set_deadline(lab, seconds):
    await operate(lab.ports, OperationRequest("set", "demo#e1", "r", "ada", {"deadline": seconds}))


async def test_a_call_goes_on_when_its_batchs_deadline_is_put_off(lab, define):
    """It is paid for, and the former deadline holds no longer."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 60))

    async def answer(_):
        await lab.clock.sleep(30)
        await set_deadline(lab, 400)
        await lab.clock.sleep(300)
        return {"answer": 1}

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch))
    assert ((await outcome_of(lab, batch)).status, len(lab.agent.calls)) == (Status.SUCCESS, 1)


async def test_a_call_is_cut_when_its_batchs_deadline_is_brought_forward(lab, define):
    """At the new deadline, if workers have noticed it by then."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 500))

    async def answer(_):
        await lab.clock.sleep(30)
        await set_deadline(lab, 20)
        await forever(_)

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch))
    outcome = await outcome_of(lab, batch)
    assert (outcome.error.type, outcome.execution_time_ms) == ("DeadlineError", 50_000)


@pytest.mark.parametrize("inline_wait_s", [0.0, 60.0], ids=["in the queue", "in place"])
async def test_a_row_is_tried_again_when_its_batchs_deadline_is_put_off(lab, define, inline_wait_s):
    """The former deadline would have left no time for that."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 60))

    async def fail(_):
        await lab.clock.sleep(30)
        await set_deadline(lab, 400)
        await lab.clock.sleep(20)
        lab.agent.script = lambda _: {"answer": 1}
        return AgentThrottledError("HTTP 429", retry_after_s=30)

    lab.agent.script = fail
    await handle(lab, lab.row(1, batch), inline_wait_s=inline_wait_s)
    await lab.clock.advance(60)
    await handle(lab, *await lab.sent_rows())
    assert ((await outcome_of(lab, batch)).status, len(lab.agent.calls)) == (Status.SUCCESS, 2)


async def test_no_call_is_cut_by_a_view_that_is_too_old(lab, define):
    """The table was away since before the deadline was put off."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 60))
    read = lab.table.read

    async def away(_batch_id):
        raise UnreachableError("the table is away")

    async def answer(_):
        await lab.clock.sleep(20)
        await set_deadline(lab, 400)
        lab.table.read = away
        await lab.clock.sleep(100)
        lab.table.read = read
        await lab.clock.sleep(10)
        return {"answer": 1}

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch))
    assert (await outcome_of(lab, batch)).status is Status.SUCCESS


async def test_a_reply_before_the_deadline_counts(lab, define):
    """A reply in the last moment makes the row a success."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 7))

    async def answer(_):
        await lab.clock.sleep(6.5)
        return {"answer": 1}

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch))
    assert (await outcome_of(lab, batch)).status is Status.SUCCESS


@pytest.mark.parametrize(("wish_s", "deadline_s"), [(30.0, 20), (3.0, 2)], ids=["in the queue", "in place"])
async def test_no_retry_is_planned_beyond_a_deadline(lab, define, wish_s, deadline_s):
    """The row fails at once with the error of the last attempt."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, deadline_s))
    lab.agent.script = lambda _: AgentThrottledError("HTTP 429", retry_after_s=wish_s)
    now = deadline(lab, 0)
    await handle(lab, lab.row(1, batch))
    outcome = await outcome_of(lab, batch)
    assert outcome.timestamp == now
    assert outcome.error.type == "DeadlineError"
    assert outcome.error.message.endswith("the last: AgentThrottledError: HTTP 429")
    assert await lab.sent_rows() == []


async def test_a_row_whose_deadline_passes_while_it_waits_for_a_slot_fails(lab, define):
    """The agent is not called for it."""
    one = SLOW_AGENT + "  max_concurrency: 1\n"
    batch = await lab.batch(2, definition=define(one), deadline_at=deadline(lab, 5))
    lab.agent.script = forever
    await handle(lab, lab.row(1, batch), lab.row(2, batch))
    assert len(lab.agent.calls) == 1
    outcomes = await lab.outcomes(batch)
    assert [outcomes[n].error.type for n in (1, 2)] == ["DeadlineError"] * 2


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (AgentOutageError("connection refused"), "connection refused"),
        (AgentCredentialsError("HTTP 401"), "HTTP 401"),
        (AgentThrottledError("HTTP 429", retry_after_s=30), "AgentThrottledError: HTTP 429"),
        (AgentUnavailableError("HTTP 500", retry_after_s=30), "AgentUnavailableError: HTTP 500"),
    ],
)
async def test_a_row_that_was_requeued_names_its_last_failure_at_the_deadline(lab, define, error, cause):
    """An agent that is down is the cause that the user has to know, not only the deadline."""
    batch = await lab.batch(2, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 100))
    lab.agent.script = lambda _: error
    rows = [lab.row(1, batch)]
    while rows:
        await handle(lab, *rows, inline_wait_s=0)
        await lab.clock.advance(40)
        rows = await lab.sent_rows()
    outcome = await outcome_of(lab, batch)
    assert outcome.error.type == "DeadlineError"
    assert cause in outcome.error.message
    assert "the batch's deadline" in outcome.error.message


async def test_a_row_that_never_got_a_slot_names_the_outage_of_its_target(lab, define):
    """A row that the circuit breaker turned away has had no call of its own."""
    batch = await lab.batch(9, definition=define(SLOW_AGENT), deadline_at=deadline(lab, 60))
    lab.agent.script = lambda _: AgentOutageError("connection refused")
    await handle(lab, *[lab.row(n, batch) for n in range(1, 10)], inline_wait_s=0)
    await lab.clock.advance(60)
    rows = await lab.sent_rows()
    assert len(rows) + len(await lab.outcomes(batch)) == 9
    await handle(lab, *rows, inline_wait_s=0)
    for outcome in (await lab.outcomes(batch)).values():
        assert outcome.error.type == "DeadlineError"
        assert "connection refused" in outcome.error.message


async def test_splitting_goes_on_after_the_deadline(lab):
    """The total has to become known; otherwise the batch could never end."""
    await lab.put("id,name\n" + "".join(f"{n},x\n" for n in range(1, 26)))
    splitter = lab.splitter()
    delivery = lab.delivery(lab.job(options={"deadline_s": 1}))
    await lab.clock.advance(5)
    await splitter.handle(delivery)
    await lab.clock.advance(5)
    await handle(lab, *await lab.sent_rows())
    view = await lab.view()
    assert (view.batch.total, view.counts.failed) == (25, 25)


# -- rows ----------------------------------------------------------------------------------------------------


def with_row_deadline(define, seconds):
    return define(SLOW_AGENT + f"  row_deadline_seconds: {seconds}\n")


async def test_a_rows_deadline_runs_from_its_first_attempt(lab, define):
    """It holds for all attempts, wherever they are made: a requeued row carries it."""
    batch = await lab.batch(2, definition=with_row_deadline(define, 100))
    lab.agent.script = lambda _: AgentUnavailableError("HTTP 503", retry_after_s=40)
    until_ms = lab.clock.now_ms() + 100_000
    await handle(lab, lab.row(1, batch))
    for attempt in (2, 3):
        await lab.clock.advance(50)
        (again,) = await lab.sent_rows()
        assert (again.attempt, again.deadline_ms) == (attempt, until_ms)
        lab.agent.calls.clear()
        await handle(lab, again)
        if attempt == 2:
            assert lab.agent.calls[0].timeout_s < 51
    assert lab.agent.calls == []
    assert (await outcome_of(lab, batch)).error.message.startswith("the row's deadline, ")


async def test_waiting_for_the_first_attempt_does_not_use_up_the_rows_deadline(lab, define):
    """Time in the queue and time without a target slot do not count."""
    batch = await lab.batch(2, definition=with_row_deadline(define, 5))
    await lab.clock.advance(1_000)
    await handle(lab, lab.row(1, batch))
    assert (await outcome_of(lab, batch)).status is Status.SUCCESS


async def test_short_retries_end_at_the_rows_deadline(lab, define):
    """The deadline also holds if all attempts are made by one worker without a requeue."""
    batch = await lab.batch(2, definition=with_row_deadline(define, 10))
    lab.agent.script = lambda _: AgentUnavailableError("503")
    await handle(lab, lab.row(1, batch), inline_wait_s=60)
    outcome = await outcome_of(lab, batch)
    assert outcome.error.type == "DeadlineError"
    assert 1 < outcome.attempts < 9


async def test_a_deadline_is_sent_as_absolute_time():
    """The key is absent without a deadline. The latest deadline is in the year 9999."""
    row = RowMessage("demo#e1", 1, 1, ("a",), attempt=2, deadline_ms=MAX_MS)
    assert RowMessage.decode(row.encode()) == row
    assert "until_ms" not in replace(row, deadline_ms=None).encode()
    with pytest.raises(PoisonMessageError, match="'until_ms'"):
        RowMessage.decode(replace(row, deadline_ms=MAX_MS + 1).encode())


# -- slow agents ---------------------------------------------------------------------------------------------


async def slow_batch(lab, seconds):
    """A batch of one row whose agent takes `seconds`, and the list of the times of its calls."""
    batch = await lab.batch(1, definition=lab.definitions["demo"])
    started: list[float] = []

    async def answer(_):
        started.append(lab.clock.monotonic())
        await lab.clock.sleep(seconds)
        return {"answer": len(started)}

    lab.agent.script = answer
    await lab.send(lab.rows, lab.row(1, batch).encode())
    return batch, started


async def test_a_call_of_minutes_keeps_the_lease(lab, define):
    """The lease is extended during the call, so no other worker gets the row, and it is invoked once."""
    lab.definitions["demo"] = define(SLOW_AGENT)
    batch, started = await slow_batch(lab, 500)
    async with lab.working() as one, lab.working(name="w2") as two:
        consumers = [lab.consumer(lab.rows, worker.handle, visibility_s=30.0) for worker in (one, two)]
        async with lab.consuming(*consumers):
            await lab.until(lambda: lab.metrics.totals["rows_succeeded"], step_s=1.0)
    assert len(started) == 1
    assert (await outcome_of(lab, batch)).execution_time_ms == 500_000
    assert await lab.rows.depth() == 0


async def test_a_lost_lease_costs_an_invocation_and_no_count(lab, define):
    """Another worker gets the row during the call. It is committed and counted once."""
    lab.definitions["demo"] = define(SLOW_AGENT)
    batch, started = await slow_batch(lab, 100)

    class NoExtensions(type(lab.rows)):
        """A queue that refuses to extend leases."""

        async def extend(self, receipts, visibility_s):
            return tuple(range(len(receipts))) if visibility_s else await super().extend(receipts, 0)

    lab.rows.__class__ = NoExtensions
    async with lab.working() as one, lab.working(name="w2") as two:
        consumers = [lab.consumer(lab.rows, worker.handle, visibility_s=60.0) for worker in (one, two)]
        async with lab.consuming(*consumers):
            await lab.until(lambda: len(started) == 2, step_s=1.0)
            await lab.until(lambda: lab.metrics.totals["messages_deleted"], step_s=1.0)
    view = await lab.view()
    assert (view.counts.succeeded, view.counts.failed) == (1, 0)
    assert len(await lab.outcomes(batch)) == 1


# -- time-outs -----------------------------------------------------------------------------------------------


async def test_a_timeout_goes_by_the_clock(lab):
    """The body is cancelled when the clock reaches the time-out, and not before."""

    async def body():
        async with timeout(lab.clock, 5):
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await lab.clock.advance(4.9)
    assert not task.done()
    await lab.clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await task


async def test_a_timeout_does_not_touch_a_body_that_ends_in_time(lab):
    """Its result and its errors are passed on, and nothing is cancelled later."""
    async with timeout(lab.clock, 5):
        await lab.clock.sleep(0)
    with pytest.raises(KeyError):
        async with timeout(lab.clock, 5):
            raise KeyError
    await lab.clock.advance(10)
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_from_outside_is_no_timeout(lab):
    """A drain that cancels a call must not look like a slow agent."""

    async def body():
        async with timeout(lab.clock, 5):
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await lab.clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
