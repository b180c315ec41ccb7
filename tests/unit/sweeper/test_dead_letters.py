"""Dead letters end as something: an outcome, a FAILED batch, or a message that is left and reported."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryQueue
from service.domain.errors import PoisonMessageError
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.messages import AggregateMessage, RowMessage, Span
from service.domain.model import Checkpoint, Commit, Dialect, State, Status, iso_time
from service.domain.operation_requests import OperationRequest
from service.domain.ports import MAX_DELAY_S

BIG = "id,name\n1,one\n2,two\n"


@asynccontextmanager
async def draining(lab, **limits):
    """The handlers, with a group commit."""
    async with lab.committer(linger_s=0) as committer:
        yield lab.dead_letters(committer, **limits)


async def commit(lab, batch, *outcomes):
    """Commit as a worker would."""
    await lab.table.commit(
        Commit(batch.batch_id, batch.round, batch.partitions, 5, outcomes, next(lab.tokens), batch.ttl)
    )


# -- rows ----------------------------------------------------------------------------------------------------


async def test_a_dead_row_gets_a_second_chance(lab):
    """Another row may have killed its workers: it is sent again, marked, with its lost deliveries."""
    batch = await lab.batch(2)
    async with draining(lab, rows_receives=7) as letters:
        await letters.row(lab.delivery(lab.row(2, batch, attempt=3).encode()))
    assert await lab.sent_rows() == [lab.row(2, batch, attempt=3, replay=True, lost_deliveries=7)]
    assert (await lab.view()).counts.done == 0


async def test_a_dead_row_that_lost_some_deliveries_before_gets_its_second_chance(lab):
    """Deliveries that it lost before it was requeued count, but are no second chance."""
    batch = await lab.batch(2)
    async with draining(lab, rows_receives=7) as letters:
        await letters.row(lab.delivery(lab.row(2, batch, lost_deliveries=2).encode()))
    assert await lab.sent_rows() == [lab.row(2, batch, replay=True, lost_deliveries=9)]


async def test_dead_rows_come_again_one_after_the_other(lab):
    """Rows that a worker receives together would be lost together."""
    batch = await lab.batch(3)
    async with draining(lab) as letters:
        for number in (1, 2, 3):
            await letters.row(lab.delivery(lab.row(number, batch).encode()))
    seen = []
    for _ in range(3):
        seen.append([row.number for row in await lab.sent_rows()])
        await lab.clock.advance(1)
    assert seen == [[1], [2], [3]]


async def test_so_many_dead_rows_begin_again_with_the_first_second(lab):
    """SQS delays a message by 15 minutes at most: the rows beyond share the seconds with earlier ones."""
    delays = []

    class Watched(MemoryQueue):
        async def send(self, messages):
            delays.extend(message.delay_s for message in messages)
            return await super().send(messages)

    lab.rows = Watched("rows", lab.clock)
    batch = await lab.batch(4)
    async with draining(lab) as letters:
        letters._next_resend_at = lab.clock.monotonic() + MAX_DELAY_S - 2
        for number in range(1, 5):
            await letters.row(lab.delivery(lab.row(number, batch).encode()))
    assert delays == [MAX_DELAY_S - 2, MAX_DELAY_S - 1, 0, 1]


async def test_a_row_that_is_dead_again_is_failed_and_its_batch_ends(lab):
    """A row that killed its worker each time is FAILED with its cells, once, and the batch completes."""
    batch = await lab.batch(2)
    await commit(lab, batch, lab.outcome(1))
    async with draining(lab, rows_receives=7) as letters:
        await letters.row(lab.delivery(lab.row(2, batch, lost_deliveries=7).encode()))
    outcome = (await lab.outcomes(batch))[2]
    assert (outcome.status, outcome.error.type) == (Status.FAILED, "WorkerLostError")
    assert "delivered 14 times without an outcome" in outcome.error.message
    assert outcome.input_data == {"id": "2", "name": "name 2"}
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded, view.counts.failed) == (State.AGGREGATING, 1, 1)
    assert lab.metrics.totals["dead_rows_committed"] == 1


async def test_a_dead_row_of_a_batch_that_is_being_split_is_failed_too(lab):
    """The splitter may have sent it up to one window beyond the checkpoint."""
    batch = await lab.batch(None, checkpoint=Checkpoint(10, 100, 11), window=5)
    async with draining(lab) as letters:
        await letters.row(lab.delivery(lab.row(15, batch, lost_deliveries=5).encode()))
        with pytest.raises(PoisonMessageError, match="row 16 of a batch that has sent 15 rows at most"):
            await letters.row(lab.delivery(lab.row(16, batch).encode()))
    assert list(await lab.outcomes(batch)) == [15]


async def test_a_dead_row_that_has_an_outcome_is_only_checked(lab):
    """If its worker died between commit and check, the outcome stands and the trigger is not lost."""
    batch = await lab.batch(1)
    await commit(lab, batch, lab.outcome(1))
    async with draining(lab) as letters:
        await letters.row(lab.delivery(lab.row(1, batch).encode()))
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded, view.counts.failed) == (State.AGGREGATING, 1, 0)
    assert lab.metrics.totals["dead_rows_committed"] == 0


async def test_a_late_worker_and_the_drain_count_a_row_once(lab):
    """The first commit decides; the other's outcome is dropped."""
    batch = await lab.batch(1)
    body = lab.row(1, batch, lost_deliveries=5).encode()
    async with draining(lab) as letters, lab.working() as worker:
        await asyncio.gather(letters.row(lab.delivery(body)), worker.handle(lab.delivery(body)))
    view = await lab.view()
    assert (view.batch.state, view.counts.done) == (State.AGGREGATING, 1)
    assert lab.metrics.totals["duplicate_outcomes"] == 1


async def test_a_row_that_was_sent_again_meanwhile_is_counted_once(lab):
    """The sweeper's copy, processed after the drain, finds the outcome and is skipped."""
    batch = await lab.batch(2)
    async with draining(lab) as letters, lab.working() as worker:
        await letters.row(lab.delivery(lab.row(1, batch, lost_deliveries=5).encode()))
        await worker.handle(lab.delivery(lab.row(1, batch, replay=True).encode()))
    assert (await lab.view()).counts.done == 1
    assert lab.agent.calls == []


@pytest.mark.parametrize("state", [s for s in State if s.is_final])
async def test_a_dead_row_of_a_batch_that_ended_is_dropped(lab, state):
    """A batch that has ended needs no further outcome."""
    batch = await lab.batch(3, state=state)
    async with draining(lab) as letters:
        with capture_logs() as logs:
            await letters.row(lab.delivery(lab.row(1, batch).encode()))
    assert await lab.outcomes(batch) == {}
    assert [line["event"] for line in logs] == ["dead_message_dropped"]


async def test_a_dead_row_of_an_earlier_round_is_dropped(lab):
    """The round it belongs to is over."""
    batch = await lab.batch(3, round=2)
    async with draining(lab) as letters:
        await letters.row(lab.delivery(replace(lab.row(1, batch), round=1).encode()))
    assert await lab.outcomes(batch) == {}


async def test_a_dead_row_of_an_earlier_rounds_outcome_is_failed(lab):
    """An outcome of round 1 does not count in round 2."""
    batch = await lab.batch(1)
    await commit(lab, batch, lab.outcome(1, failed="no"))
    second = lab.table._batches[batch.batch_id] = replace(batch, round=2)
    async with draining(lab) as letters:
        await letters.row(lab.delivery(lab.row(1, second, lost_deliveries=5).encode()))
    assert (await lab.outcomes(second))[1].round == 2


async def test_impossible_dead_rows_are_left(lab):
    """Junk, an unknown batch, a row beyond the total, a future round: left for a person, not committed."""
    batch = await lab.batch(3)
    bodies = {
        "not JSON": "junk",
        "no batch": RowMessage("demo#none", 1, 1, ()).encode(),
        "row 4 of a batch": lab.row(4, batch).encode(),
        "round 2 of a batch": replace(lab.row(1, batch), round=2).encode(),
        "version 9": json.dumps({"v": 9}),
    }
    async with draining(lab) as letters:
        for reason, body in bodies.items():
            with pytest.raises(PoisonMessageError, match=reason):
                await letters.row(lab.delivery(body))
    assert await lab.outcomes(batch) == {}


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_dead_row_by_reference_gets_its_cells_where_they_are(lab, is_there):
    """A row too large for a message is read from its source if possible, and FAILED either way."""
    source = await lab.put(BIG)
    batch = await lab.batch(2, source=source, dialect=Dialect("utf-8", ","))
    row = RowMessage(
        batch.batch_id, 1, 2, (), span=Span(BIG.index("2,"), len("2,two\n"), 3), lost_deliveries=5
    )
    if not is_there:
        lab.objects.stored.clear()
    async with draining(lab) as letters:
        await letters.row(lab.delivery(row.encode()))
    outcome = (await lab.outcomes(batch))[2]
    assert outcome.error.type == "WorkerLostError"
    assert outcome.input_data == ({"id": "2", "name": "two"} if is_there else {})


# -- jobs ----------------------------------------------------------------------------------------------------


async def split_batch(lab, moved_s=10_000.0, **changes):
    """A batch that is being split and last moved that long ago."""
    moved_at = iso_time(lab.clock.now_ms() - round(moved_s * 1000))
    return await lab.batch(None, checkpoint=Checkpoint(70, 900, 71), updated_at=moved_at, **changes)


async def test_a_source_that_kills_its_splitter_fails_its_batch(lab):
    """After five deliveries without progress the batch is FAILED, and the error says how far it came."""
    await split_batch(lab)
    async with draining(lab) as letters:
        await letters.job(lab.delivery(lab.job()))
    batch = (await lab.view()).batch
    assert batch.state is State.FAILED
    assert batch.finished_at
    assert "the splitter gave up" in batch.error
    assert "beyond row 70" in batch.error


async def test_a_batch_whose_splitter_has_a_lease_lives(lab):
    """A split that takes long between two checkpoints is at work as long as it renews its lease."""
    batch = await split_batch(lab)
    now_ms = lab.clock.now_ms()
    await lab.table.lease(batch, state=batch.state, owner="a", now_ms=now_ms, until_ms=now_ms + 1)
    async with draining(lab) as letters:
        await letters.job(lab.delivery(lab.job()))
    assert (await lab.view()).batch.state is State.SPLITTING


async def test_a_batch_that_is_being_split_by_another_message_lives(lab):
    """Of two messages of one job, the one that lost every race does not fail the other's batch."""
    await split_batch(lab, moved_s=100)
    async with draining(lab) as letters:
        await letters.job(lab.delivery(lab.job()))
    assert (await lab.view()).batch.state is State.SPLITTING
    assert lab.metrics.totals["dead_messages_dropped"] == 1


async def test_a_job_refused_for_its_source_does_not_fail_the_rightful_batch(lab):
    """A job with the same execution id but another file does not end that id's batch."""
    await split_batch(lab)
    async with draining(lab) as letters:
        with pytest.raises(PoisonMessageError, match="this job asks for s3://in/other"):
            await letters.job(lab.delivery(lab.job(key="other.csv")))
    assert (await lab.view()).batch.state is State.SPLITTING


async def test_the_batch_of_a_dead_job_is_found_by_its_message_id(lab):
    """A job without an execution id gets one from its message, whose id SQS keeps for dead letters."""
    await lab.put(BIG)
    lab.ingest = lab.queue("ingest", max_receives=1)
    body = json.dumps({"v": 1, "mapping": "demo", "source": "s3://in/files/rows.csv"})
    await lab.send(lab.ingest, body)
    [message] = await lab.ingest.receive(1, wait_s=0, visibility_s=1)
    [job] = decode_ingest(body).jobs
    opened, _ = await lab.splitter()._opener.open(job, message.id)
    await lab.clock.advance(2_000)
    assert await lab.ingest.receive(1, wait_s=0, visibility_s=1) == []
    [dead] = await lab.dead["ingest"].receive(1, wait_s=0, visibility_s=1)
    delivery = lab.delivery(dead.body)
    delivery.lease.message = dead
    async with draining(lab) as letters:
        await letters.job(delivery)
    assert (await lab.view(opened.batch_id)).batch.state is State.FAILED


async def test_a_dead_job_of_a_batch_that_went_on_is_dropped_and_checked(lab):
    """If its splitter died between seal and check, the check is repeated."""
    await lab.batch(0)
    async with draining(lab) as letters:
        await letters.job(lab.delivery(lab.job()))
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_dead_job_without_a_batch_is_sent_again(lab):
    """The table was out of reach for all of its deliveries. The file is run when it is back."""
    await lab.put(BIG)
    async with draining(lab, stuck_after_s=300) as letters:
        await letters.job(lab.delivery(lab.job()))
    assert await lab.waiting(lab.ingest) == []
    await lab.clock.advance(300)
    assert await lab.waiting(lab.ingest) == [lab.job()]
    assert lab.metrics.totals["jobs_resent"] == 1


async def test_a_dead_job_keeps_the_batch_id_that_comes_from_its_message(lab):
    """The new message has another id. If both were carried out, the file would be paid for twice."""
    body = json.dumps({"v": 1, "mapping": "demo", "source": "s3://in/files/rows.csv"})
    delivery = lab.delivery(body)
    [job] = decode_ingest(body).jobs
    async with draining(lab) as letters:
        await letters.job(delivery)
    await lab.clock.advance(900)
    [again] = await lab.waiting(lab.ingest)
    [job_again] = decode_ingest(again).jobs
    assert job_again.execution_id == job.execution_id_for(delivery.message.id)


async def test_a_dead_event_is_sent_again_as_it_is(lab):
    """Its batch ids come from S3's version and sequencer, which a job message could not carry."""
    objects = {"key": "incoming/demo/a.csv", "eTag": "e", "sequencer": "0A", "size": 5}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    body = json.dumps({"Records": [record | {"s3": {"bucket": {"name": "in"}, "object": objects}}]})
    async with draining(lab) as letters:
        await letters.job(lab.delivery(body))
    await lab.clock.advance(900)
    assert await lab.waiting(lab.ingest) == [body]


async def test_a_dead_message_that_is_no_job_is_left(lab):
    """No batch can be made of it."""
    async with draining(lab) as letters:
        with pytest.raises(PoisonMessageError, match="neither a job"):
            await letters.job(lab.delivery("{}"))
    assert await lab.ingest.depth() == 0


async def test_an_event_that_asks_for_nothing_is_dropped(lab):
    """S3's test event is no error, not even as a dead letter."""
    async with draining(lab) as letters:
        await letters.job(lab.delivery(json.dumps({"Event": "s3:TestEvent"})))
    assert lab.metrics.totals["dead_messages_dropped"] == 1


# -- aggregations --------------------------------------------------------------------------------------------


async def complete_batch(lab, state=State.AGGREGATING, done_s=0.0, **changes):
    """A batch whose only row was done `done_s` ago."""
    batch = await lab.batch(
        1, state=state, updated_at=iso_time(lab.clock.now_ms() - round(done_s * 1000)), **changes
    )
    await commit(lab, batch, lab.outcome(1))
    return batch


def trigger(batch, round_=0):
    """The aggregate message of the batch."""
    return AggregateMessage(batch.batch_id, round_ or batch.round).encode()


async def test_results_are_tried_again_for_days(lab):
    """An aggregator that dies each time does not cost the results; the batch says what it waits for."""
    batch = await complete_batch(lab, done_s=13 * 86_400)
    async with draining(lab) as letters:
        await letters.aggregation(lab.delivery(trigger(batch)))
    view = await lab.view()
    assert view.batch.state is State.AGGREGATING
    assert "the aggregator failed or died 5 times in a row" in view.batch.trouble.reason
    assert await lab.waiting(lab.aggregate) == []
    await lab.clock.advance(300)
    assert await lab.waiting(lab.aggregate) == [trigger(batch)]


@pytest.mark.parametrize("state", [State.AGGREGATING, State.RUNNING])
async def test_results_that_can_never_be_written_fail_their_batch(lab, state):
    """After 14 days of deliveries the batch fails, and the error says where the outcomes are."""
    batch = await complete_batch(lab, state=state, done_s=14 * 86_400 + 1)
    async with draining(lab) as letters:
        await letters.aggregation(lab.delivery(trigger(batch)))
    view = await lab.view()
    assert view.batch.state is State.FAILED
    assert "the results could not be written" in view.batch.error
    assert "the outcomes are in the table" in view.batch.error


async def test_a_dead_operation_is_carried_out(lab):
    """A request to finish a batch whose splitters died takes effect; one that is refused is dropped."""
    batch = await complete_batch(lab, state=State.FAILED)
    await lab.batch(2, execution_id="e2")
    async with draining(lab) as letters:
        await letters.job(lab.delivery(OperationRequest("finish", batch.batch_id, "r1").encode()))
        await letters.job(lab.delivery(OperationRequest("finish", "demo#e2", "r2").encode()))
        with pytest.raises(PoisonMessageError, match="no batch"):
            await letters.job(lab.delivery(OperationRequest("finish", "demo#e3", "r3").encode()))
    assert await lab.waiting(lab.aggregate) == [trigger(batch)]
    assert (await lab.view("demo#e2")).batch.state is State.RUNNING
    assert lab.metrics.totals["dead_messages_dropped"] == 2


async def test_results_that_are_being_written_are_left_alone(lab):
    """A live lease shows that another message's aggregator is at work."""
    batch = await complete_batch(lab, done_s=10_000)
    now_ms = lab.clock.now_ms()
    await lab.table.lease(batch, state=batch.state, owner="a", now_ms=now_ms, until_ms=now_ms + 1)
    async with draining(lab) as letters:
        await letters.aggregation(lab.delivery(trigger(batch)))
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert await lab.aggregate.depth() == 0


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SPLITTING])
async def test_a_dead_trigger_that_is_not_due_is_dropped(lab, state):
    """The batch has ended, or is not complete yet."""
    batch = await lab.batch(1, state=state)
    async with draining(lab) as letters:
        await letters.aggregation(lab.delivery(trigger(batch)))
    assert (await lab.view()).batch.state is state


async def test_a_dead_trigger_of_another_round_or_too_early_is_dropped(lab):
    """Neither may end the batch."""
    batch = await complete_batch(lab, done_s=10_000, round=2)
    unready = await lab.batch(2, execution_id="e2")
    async with draining(lab) as letters:
        await letters.aggregation(lab.delivery(trigger(batch, round_=1)))
        await letters.aggregation(lab.delivery(trigger(unready)))
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert (await lab.view("demo#e2")).batch.state is State.RUNNING


async def test_impossible_dead_triggers_are_left(lab):
    """Junk, and a batch that is not in the table, are left for a person."""
    async with draining(lab) as letters:
        for body, reason in (("junk", "not JSON"), (AggregateMessage("demo#x", 1).encode(), "no batch")):
            with pytest.raises(PoisonMessageError, match=reason):
                await letters.aggregation(lab.delivery(body))


# -- the queues ----------------------------------------------------------------------------------------------


async def test_a_row_that_is_given_up_ends_its_batch_through_the_queues(lab):
    """After twice five lost deliveries the drain commits the row, and the batch completes without a sweep."""
    batch = await lab.batch(1)
    await lab.send(lab.rows, lab.row(1, batch).encode())
    async with draining(lab) as letters, lab.consuming(lab.drain("rows", letters.row)):
        for chance in (1, 2):
            for _ in range(5):
                assert len(await lab.rows.receive(10, wait_s=0, visibility_s=30)) == 1
                await lab.clock.advance(31)
            assert await lab.rows.receive(10, wait_s=0, visibility_s=30) == []
            await lab.until(lambda: lab.metrics.totals["messages_deleted"] == chance, step_s=0.1)  # noqa: B023
    view = await lab.view()
    assert (view.batch.state, view.counts.failed) == (State.AGGREGATING, 1)


@pytest.mark.parametrize("number", [2, 99])
async def test_a_dead_row_of_another_incarnation_is_dropped(lab, number):
    """It is neither sent again nor counted: it is of an earlier batch that had this id."""
    batch = await lab.batch(3, incarnation="018bcfe5680a1b2c")
    late = replace(lab.row(number, batch, lost_deliveries=5), incarnation="018bcfe568000000")
    async with draining(lab) as letters:
        await letters.row(lab.delivery(late.encode()))
    assert lab.metrics.totals["dead_messages_dropped"] == 1
    assert await lab.sent_rows() == []
    assert (await lab.view()).counts.done == 0


async def test_a_dead_trigger_of_another_incarnation_is_dropped(lab):
    """The batch that has the id now gets a trigger of its own, and does not fail by this one."""
    batch = await lab.batch(
        3, state=State.AGGREGATING, incarnation="018bcfe5680a1b2c", updated_at=iso_time(0)
    )
    async with draining(lab) as letters:
        await letters.aggregation(lab.delivery(AggregateMessage(batch.batch_id, 1).encode()))
    assert await lab.waiting(lab.aggregate) == []
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_refused_job_does_not_fail_the_batch_of_another(lab):
    """It asks for another run under an id that is in use: it stays, and the batch goes on."""
    batch = await lab.batch(None, incarnation="018bcfe5680a1b2c", updated_at=iso_time(0))
    async with draining(lab) as letters:
        with pytest.raises(
            PoisonMessageError, match=r"exists with another limit: .*use another execution_id"
        ):
            await letters.job(lab.delivery(lab.job(options={"limit": 2})))
    assert (await lab.view()).batch == batch


async def test_a_job_that_was_sent_again_for_an_earlier_batch_is_dropped(lab):
    """The batch that has the id now has a job of its own."""
    batch = await lab.batch(None, incarnation="018bcfe5680a1b2c", updated_at=iso_time(0))
    late = Job("demo", batch.source, "e1", incarnation="018bcfe568000000")
    async with draining(lab) as letters:
        await letters.job(lab.delivery(late.encode()))
    assert (await lab.view()).batch == batch
    assert lab.metrics.totals["dead_messages_dropped"] == 1
