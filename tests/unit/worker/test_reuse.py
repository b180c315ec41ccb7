"""`reuse`: one invocation for rows with the same input, on any number of workers."""

import asyncio
import random
from dataclasses import replace

import pytest

from service.batch.reuse_records import MAX_CACHED_REPLY_BYTES, InFlight, request_key_of
from service.domain.errors import AgentRejectedError, AgentThrottledError, RetryableError, UnreachableError
from service.domain.messages import RowMessage
from service.domain.model import Counts, State, Status, row_id

DAY_S = 86_400.0


@pytest.fixture
def reusing(define, demo_yaml):
    """Compile the demo's mapping with `reuse`; `more` makes another version of it."""
    return lambda reuse="batch", more="": define(f"{demo_yaml}reuse: {reuse}\n{more}")


def row_of(batch, number, name):
    return RowMessage(batch.batch_id, batch.round, number, (str(number), name))


class Link:
    """A link to a table. Calls of the methods in `cut` fail; with all of them cut, the process looks dead."""

    def __init__(self, table, *cut):
        self._table = table
        self.cut = set(cut)

    def __getattr__(self, name):
        async def call(*arguments, **named):
            if name in self.cut:
                raise UnreachableError("the table is gone")
            return await getattr(self._table, name)(*arguments, **named)

        return call


async def process(lab, rows, *, workers=1, max_running=32, step_s=0.5):
    """Let one or two workers, each like a process of its own, consume the queue until all rows settle."""
    await asyncio.gather(*(lab.send(lab.rows, row.encode()) for row in rows))
    done = settled(lab) + len(rows)
    async with lab.committer(slot=0) as one, lab.committer(slot=1) as two:
        consumers = [
            lab.consumer(
                lab.rows, lab.worker(committer, name=name).handle, max_running=max_running, pollers=2
            )
            for committer, name in [(one, "w1"), (two, "w2")][:workers]
        ]
        async with lab.consuming(*consumers):
            await lab.until(lambda: settled(lab) == done, step_s=step_s)


def settled(lab):
    return lab.metrics.totals["rows_succeeded"] + lab.metrics.totals["rows_failed"]


def names(lab):
    return [call.body["name"] for call in lab.agent.calls]


# -- within a batch -------------------------------------------------------------------------------------


async def test_many_rows_with_duplicates_cost_an_invocation_for_each_input(lab, reusing):
    """Of 300 rows in random order 90 are duplicates: two workers make 210 calls, and counts are exact."""
    batch = await lab.batch(300, definition=reusing())
    chance = random.Random(11)
    rows = [row_of(batch, n, f"name {n if n <= 210 else n - 210}") for n in range(1, 301)]
    rows = chance.sample(rows, len(rows))

    async def answer(call):
        await lab.clock.sleep(chance.choice([0.1, 1, 3]))
        return {"answer": f"re: {call.body['name']}", "usage": {"input_tokens": 10, "output_tokens": 1}}

    lab.agent.script = answer
    await process(lab, rows, workers=2)

    assert len(lab.agent.calls) == len(set(names(lab))) == 210
    outcomes = await lab.outcomes(batch)
    assert {n: outcome.output_data for n, outcome in outcomes.items()} == {
        row.number: {"answer": f"re: {row.cells[1]}"} for row in rows
    }
    reused = {n: outcome for n, outcome in outcomes.items() if outcome.reused_from}
    callers = {row_id(int(call.id.rsplit("/", 1)[1])) for call in lab.agent.calls}
    assert {outcome.reused_from.removeprefix("demo#e1/") for outcome in reused.values()} <= callers
    assert all(
        (outcome.execution_time_ms, outcome.input_tokens, outcome.output_tokens) == (0, 0, 0)
        for outcome in reused.values()
    )
    assert {outcome.worker for outcome in outcomes.values()} == {"w1", "w2"}
    view = await lab.view()
    counts = replace(view.counts, agent_ms=0)
    assert counts == Counts(succeeded=300, input_tokens=2_100, output_tokens=210, reused=90)
    assert view.batch.state is State.AGGREGATING
    assert lab.metrics.totals["rows_reused"] == 90


async def test_a_row_that_waits_holds_no_slot(lab, define, demo_yaml):
    """With one target slot there is no deadlock, and rows with other inputs are processed meanwhile."""
    one_place = define(demo_yaml.replace("execution:", "reuse: batch\nexecution:\n  max_concurrency: 1"))
    batch = await lab.batch(6, definition=one_place)
    await process(lab, [row_of(batch, n, "same" if n < 5 else f"other {n}") for n in range(1, 7)])
    assert sorted(names(lab)) == ["other 5", "other 6", "same"]
    assert lab.agent.most_running == 1
    assert (await lab.view()).counts.reused == 3


async def test_a_row_that_reads_the_record_keeps_its_consumer_slot(lab, reusing, stub_consumer):
    """It is likely to need a target slot next. It releases the consumer slot when it waits."""
    batch = await lab.batch(2, definition=reusing())
    freed_before_read, may_reply = [], asyncio.Event()
    table = lab.table

    class Watched(Link):
        async def record(self, key):
            freed_before_read.append(stub_consumer.slots_released)
            return await table.record(key)

    lab.table = Watched(table)
    lab.agent.script = lambda _: may_reply.wait()
    async with lab.working() as worker:
        row = row_of(batch, 1, "same")
        first = asyncio.create_task(worker.handle(lab.delivery(row.encode(), consumer=stub_consumer)))
        await lab.until(lambda: lab.agent.calls)
        assert (freed_before_read, stub_consumer.slots_released) == ([0], 1)
        row = row_of(batch, 2, "same")
        second = asyncio.create_task(worker.handle(lab.delivery(row.encode(), consumer=stub_consumer)))
        await lab.until(lambda: stub_consumer.slots_released == 2)
        assert len(lab.agent.calls) == 1
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)


# -- leaders that do not answer -------------------------------------------------------------------------


async def test_after_a_failure_the_next_row_calls_the_agent(lab, reusing):
    """Only a success is shared: the failed row stays FAILED, and the others reuse the second reply."""
    batch = await lab.batch(5, definition=reusing())
    answers = iter([AgentRejectedError("422"), {"answer": "yes"}])
    lab.agent.script = lambda _: next(answers)
    await process(lab, [row_of(batch, n, "same") for n in range(1, 6)], workers=2)
    assert len(lab.agent.calls) == 2
    assert (await lab.view()).counts == Counts(succeeded=4, failed=1, reused=3, rejected=1)


async def test_a_short_retry_keeps_the_lock(lab, reusing):
    """While the leader backs off, no other row asks. All reuse its late success."""
    batch = await lab.batch(4, definition=reusing())
    answers = iter([AgentThrottledError("429"), AgentThrottledError("429"), {"answer": "yes"}])
    lab.agent.script = lambda _: next(answers)
    await process(lab, [row_of(batch, n, "same") for n in range(1, 5)], workers=2)
    assert len(lab.agent.calls) == 3
    assert (await lab.view()).counts == Counts(succeeded=4, reused=3)


async def test_a_leader_that_is_requeued_releases_its_lock(lab, reusing):
    """The next row asks, and the requeued row finds that reply later."""
    batch = await lab.batch(3, definition=reusing())
    answers = iter([AgentThrottledError("429", retry_after_s=200), {"answer": "yes"}])
    lab.agent.script = lambda _: next(answers)
    await process(lab, [row_of(batch, n, "same") for n in (1, 2, 3)], step_s=5)
    first, second = lab.agent.calls
    assert (first.attempt, second.attempt) == (1, 1)
    assert first.id != second.id
    assert (await lab.view()).counts == Counts(succeeded=3, reused=2)


async def test_the_lock_of_a_crashed_worker_expires(lab, define, demo_yaml):
    """Rows that wait for it are requeued. When it expires, one of them asks."""
    slow = define(demo_yaml.replace("timeout_seconds: 10", "timeout_seconds: 600") + "reuse: batch\n")
    batch = await lab.batch(4, definition=slow)
    table, lab.table = lab.table, Link(lab.table)
    dying = asyncio.Event()

    async def hang(_):
        dying.set()
        await asyncio.Event().wait()

    lab.agent.script = hang
    async with lab.working(name="dies") as worker:
        doomed = asyncio.create_task(worker.handle(lab.delivery(row_of(batch, 1, "same").encode())))
        await lab.until(dying.is_set)
        lab.table.cut |= {"swap", "record", "commit"}
        lab.table, lab.agent.script = table, lambda _: {"answer": "yes"}
        started = lab.clock.monotonic()
        await process(lab, [row_of(batch, n, "same") for n in (1, 2, 3, 4)], step_s=1)
        assert 60 <= lab.clock.monotonic() - started < 90
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)
    assert len(lab.agent.calls) == 2
    assert (await lab.view()).counts == Counts(succeeded=4, reused=3)
    assert lab.metrics.totals["rows_sent_again"] > 0


async def test_a_reply_whose_outcome_was_lost_belongs_to_its_row(lab, reusing):
    """The worker crashed before the commit: the redelivered row takes its own reply, with its tokens."""
    batch = await lab.batch(2, definition=reusing())
    table, lab.table = lab.table, Link(lab.table, "commit")
    lab.agent.script = lambda _: {"answer": "yes", "usage": {"input_tokens": 9, "output_tokens": 2}}
    row = row_of(batch, 1, "same")
    async with lab.working() as worker:
        with pytest.raises(RetryableError):
            await worker.handle(lab.delivery(row.encode()))
    lab.table = table
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode(), receives=2))
    outcome = (await lab.outcomes(batch))[1]
    assert len(lab.agent.calls) == 1
    assert (outcome.output_data, outcome.reused_from) == ({"answer": "yes"}, "")
    assert (await lab.view()).counts == Counts(succeeded=1, input_tokens=9, output_tokens=2)


async def test_a_deadline_ends_the_wait(lab, reusing):
    """A row whose batch's deadline has passed fails, even if another row is still asking for its input."""
    batch = await lab.batch(2, definition=reusing(), deadline_at="2023-11-14T22:13:24.000Z")
    key = request_key_of(batch, 9, reusing().compile(), {"name": "same"})
    lock = InFlight("other/1", key.row, lab.clock.now_ms() + 60_000)
    await lab.table.swap(key.key, lock.text, version=0, ttl=batch.ttl)
    await process(lab, [row_of(batch, 1, "same")])
    outcome = (await lab.outcomes(batch))[1]
    assert (outcome.status, outcome.error.type) == (Status.FAILED, "DeadlineError")
    assert lab.agent.calls == []
    assert lab.metrics.totals["rows_sent_again"] == 0


async def test_for_a_large_reply_every_row_calls_the_agent(lab, reusing):
    """A reply too large for a record is not shared, and no row waits for it twice."""
    batch = await lab.batch(4, definition=reusing())
    lab.agent.script = lambda _: {"answer": "x" * MAX_CACHED_REPLY_BYTES}
    await process(lab, [row_of(batch, n, "same") for n in range(1, 5)])
    assert len(lab.agent.calls) == 4
    assert (await lab.view()).counts == Counts(succeeded=4)


# -- for days -------------------------------------------------------------------------------------------


async def drop(lab, definition, execution_id, rows):
    """Process a file with these rows. Return the number of invocations."""
    before = len(lab.agent.calls)
    batch = await lab.batch(len(rows), definition=definition, execution_id=execution_id)
    await process(lab, [row_of(batch, number, name) for number, name in enumerate(rows, 1)])
    return len(lab.agent.calls) - before


async def test_a_file_processed_again_costs_an_invocation_for_each_changed_row(lab, reusing):
    """Ten of 60 rows are changed: fifty rows name the batch whose reply they reuse."""
    rows = [f"name {n}" for n in range(60)]
    changed = [*rows[:25], *(f"new {n}" for n in range(10)), *rows[35:]]
    days = reusing("7 days")
    assert await drop(lab, days, "e1", rows) == 60
    await lab.clock.advance(6 * DAY_S)
    assert await drop(lab, days, "e2", changed) == 10
    counts = (await lab.view("demo#e2")).counts
    assert (counts.succeeded, counts.reused) == (60, 50)
    outcomes = await lab.outcomes((await lab.view("demo#e2")).batch)
    assert outcomes[60].output_data == {"answer": "re: name 59"}
    assert outcomes[60].reused_from == "demo#e1/row_0000000060"


async def test_a_reply_expires_after_its_days(lab, reusing):
    """A new reply is valid for as many days again."""
    days = reusing("2 days")
    costs = []
    for execution_id in ("e1", "e2", "e3"):
        costs.append(await drop(lab, days, execution_id, ["a", "b"]))
        await lab.clock.advance(1.5 * DAY_S)
    assert costs == [2, 0, 2]


async def test_another_version_of_the_mapping_reuses_nothing(lab, reusing):
    """Values extracted by another mapping are not reused."""
    assert await drop(lab, reusing("7 days"), "e1", ["a", "b"]) == 2
    assert await drop(lab, reusing("7 days", more="csv: {provenance: true}\n"), "e2", ["a", "b"]) == 2


async def test_reuse_is_off_by_default(lab, define, demo_yaml):
    """Every row calls the agent, and no record is written."""
    assert await drop(lab, define(demo_yaml), "e1", ["a", "a"]) == 2
    assert lab.table._records == {}
