"""From an ingest message to a sealed batch and its row messages."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.batch.large_rows import RESEND_BYTES, row_body
from service.csvio import Record
from service.domain.errors import (
    AccessError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
    UnreachableError,
)
from service.domain.messages import AggregateMessage, RowMessage, Span
from service.domain.model import MAX_MS, Checkpoint, Location, State
from service.domain.ports import MESSAGE_BYTES
from service.mapping import Definition

HEADER = "id,name\r\n"


def table_of(rows: int) -> str:
    return HEADER + "".join(f"{n},name {n}\r\n" for n in range(1, rows + 1))


def s3_event(key="incoming/demo/rows.csv", *, etag="", sequencer="0055", bucket="in", size=0) -> str:
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": bucket},
            "object": {"key": key, "size": size, "eTag": etag, "sequencer": sequencer},
        },
    }
    return json.dumps({"Records": [record]})


class FailingQueue(MemoryQueue):
    """Fails every call once `left` messages went through."""

    left = 10**9

    async def send(self, messages):
        """Send while it lasts."""
        if self.left < len(messages):
            raise UnreachableError("killed")
        self.left -= len(messages)
        return await super().send(messages)


async def split(lab, body, *, receives=1, **limits):
    await lab.splitter(**limits).handle(lab.delivery(body, receives=receives))


async def batch_of(lab, batch_id="demo#e1"):
    return (await lab.view(batch_id)).batch


async def only_batch(lab):
    (batch,) = await lab.table.recent(10)
    return batch


# -- open ------------------------------------------------------------------------------------------------


async def test_a_job_becomes_a_sealed_batch_and_its_rows(lab):
    """Every record is a row message, numbered in file order; then the total is written."""
    source = await lab.put(table_of(25))
    await split(lab, lab.job())
    batch = await batch_of(lab)
    definition = lab.definitions["demo"]
    assert (batch.state, batch.total, batch.columns) == (State.RUNNING, 25, ("id", "name"))
    assert batch.source == source
    assert batch.output == Location("out", "results/demo/e1/")
    assert batch.mapping_digest == definition.digest
    assert batch.output_fields == ("answer",)
    assert (batch.priority, batch.weight) == (5, 1)
    assert batch.created_at == "2023-11-14T22:13:20.000Z"
    assert batch.ttl == 1_700_000_000 + 7 * 86_400
    assert await lab.table.definition(batch.batch_id, batch.mapping_digest) == definition.text
    rows = await lab.sent_rows()
    assert rows == [RowMessage("demo#e1", 1, n, (str(n), f"name {n}")) for n in range(1, 26)]
    assert await lab.waiting(lab.aggregate) == []


async def test_row_messages_are_grouped_by_batch(lab):
    """Fair queues need to know whose message it is."""
    await lab.put(table_of(3))
    await split(lab, lab.job())
    assert {entry.outgoing.group for entry in lab.rows._entries.values()} == {"demo#e1"}


async def test_the_jobs_wishes_are_kept(lab):
    """Output place, limit, priority and weight come from the job."""
    await lab.put(table_of(25))
    options = {"limit": 7, "priority": 9, "weight": 30}
    await split(lab, lab.job(output="s3://mine/some/where", options=options))
    batch = await batch_of(lab)
    assert batch.output == Location("mine", "some/where/")
    assert (batch.limit, batch.total) == (7, 7)
    assert (batch.priority, batch.weight) == (9, 30)
    assert [row.number for row in await lab.sent_rows()] == list(range(1, 8))


@pytest.mark.parametrize("limit", [1, 9, 10, 11, 25, 26, 1_000])
@pytest.mark.parametrize("read_bytes", [7, 64, 10_000])
async def test_a_limit_takes_the_first_rows(lab, limit, read_bytes):
    """Whatever windows and chunks are, exactly the first rows are sent."""
    await lab.put(table_of(25))
    await split(lab, lab.job(options={"limit": limit}), read_bytes=read_bytes)
    expected = min(limit, 25)
    assert (await batch_of(lab)).total == expected
    assert [row.number for row in await lab.sent_rows()] == list(range(1, expected + 1))


@pytest.mark.parametrize("read_bytes", [1, 7, 64, 10_000])
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 20, 21])
async def test_windows_and_chunks_make_no_difference(lab, rows, read_bytes):
    """Every record is sent once, at the edges of windows and chunks too, with or without a final newline."""
    await lab.put(table_of(rows).removesuffix("\r\n"))
    await split(lab, lab.job(), read_bytes=read_bytes)
    assert (await batch_of(lab)).total == rows
    assert [row.cells[0] for row in await lab.sent_rows()] == [str(n) for n in range(1, rows + 1)]


async def test_a_redelivered_job_is_the_same_batch(lab):
    """Opening is idempotent: the second delivery finds the batch, and sends nothing again."""
    await lab.put(table_of(25))
    await split(lab, lab.job())
    first = await batch_of(lab)
    await lab.sent_rows()
    await lab.clock.advance(5)
    await split(lab, lab.job(), receives=2)
    assert await batch_of(lab) == first
    assert await lab.sent_rows() == []


async def test_the_same_execution_id_again_runs_nothing_twice(lab):
    """A second job message for the same source and id joins the batch that is there."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    await lab.sent_rows()
    await split(lab, lab.job())
    assert await lab.sent_rows() == []


async def test_a_dropped_object_is_a_run_of_its_folders_mapping(lab):
    """An S3 event needs no job: mapping from the folder, execution id from the object."""
    source = await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag=source.etag))
    batch = await only_batch(lab)
    assert batch.tool_name == "demo"
    assert batch.execution_id.startswith("rows-")
    assert batch.total == 5


async def test_an_event_delivered_twice_is_the_same_batch(lab):
    """S3 may deliver an event more than once, in messages of their own: its sequencer tells."""
    source = await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag=source.etag))
    await split(lab, s3_event(etag=source.etag))
    await split(lab, s3_event(etag=source.etag), receives=2)
    assert len(await lab.table.recent(10)) == 1
    assert len(await lab.sent_rows()) == 5


async def test_a_new_upload_is_a_new_batch(lab):
    """The same bytes dropped again have another sequencer, and are another run."""
    source = await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag=source.etag, sequencer="0055"))
    await split(lab, s3_event(etag=source.etag, sequencer="0056"))
    assert len(await lab.table.recent(10)) == 2


async def test_an_event_of_an_object_replaced_since_fails_its_own_run(lab):
    """The announced bytes are gone; the newer upload has its own event."""
    await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag="older"))
    batch = await only_batch(lab)
    assert batch.state is State.FAILED
    assert "has changed since the event" in batch.error
    assert await lab.sent_rows() == []


async def test_a_job_without_an_id_is_one_run_per_message(lab):
    """The id is derived from source and message: a redelivery is the same run, another message another."""
    await lab.put(table_of(2))
    body = json.dumps({"v": 1, "mapping": "demo", "source": "s3://in/files/rows.csv"})
    delivery = lab.delivery(body)
    await lab.splitter().handle(delivery)
    await lab.splitter().handle(delivery)
    assert len(await lab.table.recent(10)) == 1
    await lab.splitter().handle(lab.delivery(body))
    assert len(await lab.table.recent(10)) == 2


async def test_what_asks_for_nothing_is_acknowledged(lab):
    """S3's own test event is no error, and no run."""
    await split(lab, json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in"}))
    assert await lab.table.recent(10) == []


async def test_junk_is_poison(lab):
    """A message that is neither a job nor an event is for the dead letters."""
    with pytest.raises(PoisonMessageError, match="neither a job"):
        await split(lab, "{}")


async def test_another_source_under_the_same_id_is_refused(lab):
    """A batch id names one source for good; whoever asks with another is told, and changes nothing."""
    await lab.put(table_of(5))
    await lab.put(table_of(9), "files/other.csv")
    await split(lab, lab.job())
    before = await batch_of(lab)
    for receives in (1, 2, 3):
        with pytest.raises(PoisonMessageError, match="exists with another source"):
            await split(lab, lab.job(key="files/other.csv"), receives=receives)
    assert await batch_of(lab) == before


async def test_a_changed_source_under_the_same_id_is_refused(lab):
    """The same key with other bytes is another source."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    await lab.put(table_of(9))
    with pytest.raises(PoisonMessageError, match="use another execution_id"):
        await split(lab, lab.job())


async def test_a_changed_source_is_refused_at_every_delivery(lab):
    """So that the message ends in the dead-letter queue, where somebody sees it; the batch stays as it is."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    await lab.put(table_of(9))
    for receives in (1, 2, 5):
        with pytest.raises(PoisonMessageError, match="use another execution_id"):
            await split(lab, lab.job(), receives=receives)
    assert (await batch_of(lab)).total == 5


async def test_a_redelivery_after_the_source_is_gone_is_no_error(lab):
    """A job that is done and delivered again asks for nothing new, whatever became of its source."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    lab.objects.stored.clear()
    await split(lab, lab.job(), receives=2)
    assert (await batch_of(lab)).total == 5


async def test_every_job_of_a_message_is_carried_out(lab):
    """An event may announce several objects."""
    await lab.put(table_of(2), "incoming/demo/a.csv")
    await lab.put(table_of(3), "incoming/demo/b.csv")
    first, second = (json.loads(s3_event(f"incoming/demo/{name}.csv")) for name in "ab")
    await split(lab, json.dumps({"Records": first["Records"] + second["Records"]}))
    assert sorted(batch.total for batch in await lab.table.recent(10)) == [2, 3]


# -- seal ------------------------------------------------------------------------------------------------


async def test_a_header_alone_is_a_complete_run_of_no_rows(lab):
    """0 rows: sealed, and triggered at once."""
    await lab.put(HEADER)
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.columns) == (State.AGGREGATING, 0, ("id", "name"))
    assert await lab.waiting(lab.aggregate) == [AggregateMessage("demo#e1", 1).encode()]


async def test_rows_done_before_the_seal_are_triggered_by_it(lab):
    """When every row was settled while the file was still being read, the seal's check finds it."""
    await lab.put(table_of(3))

    class Instant(MemoryQueue):
        async def send(self, messages):
            await super().send(messages)
            batch = await batch_of(lab)
            rows = [RowMessage.decode(message.body).number for message in messages]
            async with lab.committer() as committer:
                await asyncio.gather(*(committer.commit(batch, n, lab.outcome(n)) for n in rows))
            return ()

    lab.rows = Instant("rows", lab.clock)
    await split(lab, lab.job())
    assert (await batch_of(lab)).state is State.AGGREGATING
    assert len(await lab.waiting(lab.aggregate)) == 1


async def test_a_crash_between_seal_and_check_is_made_up_for(make_lab):
    """The redelivered ingest message finds the batch sealed, and checks."""

    class Dies(MemoryTable):
        dead = True

        async def seal(self, *args):
            await super().seal(*args)
            if self.dead:
                raise UnreachableError("killed")
            return True

    lab = make_lab(table=Dies())
    await lab.put(HEADER)
    with pytest.raises(UnreachableError):
        await split(lab, lab.job())
    assert await lab.waiting(lab.aggregate) == []
    lab.table.dead = False
    await split(lab, lab.job(), receives=2)
    assert len(await lab.waiting(lab.aggregate)) == 1


# -- resume ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("survived", [0, 1, 9, 10, 13, 20, 29, 30, 34, 35])
@pytest.mark.parametrize("name", ["name", '"two\nlines"'])
async def test_a_split_resumes_at_its_checkpoint(lab, survived, name):
    """After a crash at any row every row is sent, in place; what may be a repeat is marked as replay."""
    await lab.put("\ufeff" + table_of(35).replace("name ", f"{name} "))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = survived
    with suppress(UnreachableError):  # with 35 rows, all goes well
        await split(lab, lab.job(), send_concurrency=1)
    checkpoint = (await batch_of(lab)).checkpoint
    sent = await lab.sent_rows()
    lab.rows.left = 10**9
    await split(lab, lab.job(), receives=2)
    again = await lab.sent_rows()
    batch = await batch_of(lab)
    assert (batch.state, batch.total) == (State.RUNNING, 35)
    if survived < 35:
        assert [row.number for row in again] == list(range(checkpoint.rows + 1, 36))
    numbers = {row.number for row in sent}
    assert numbers | {row.number for row in again} == set(range(1, 36))
    assert all(row.replay for row in again if row.number in numbers)
    assert [row.replay for row in again] == [row.number <= checkpoint.rows + 10 for row in again]
    name = name.strip('"')
    assert {row.number: row.cells for row in sent + again} == {
        n: (str(n), f"{name} {n}") for n in range(1, 36)
    }


async def test_a_resumed_split_reads_from_the_checkpoint_on(lab):
    """Bytes before the checkpoint are not read again, and every read is tied to the etag."""
    reads = []

    class Watched(MemoryObjects):
        async def read(self, source, start, length):
            reads.append((source.etag, start))
            return await super().read(source, start, length)

    stored = lab.objects.stored
    lab.objects = Watched()
    lab.objects.stored = stored
    source = await lab.put(table_of(35))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 22
    with pytest.raises(UnreachableError):
        await split(lab, lab.job())
    checkpoint = (await batch_of(lab)).checkpoint
    assert checkpoint == Checkpoint(20, len(table_of(20)), 22)
    reads.clear()
    lab.rows.left = 100
    await split(lab, lab.job(), receives=2)
    assert reads[0] == (source.etag, checkpoint.byte_offset)
    assert {etag for etag, _ in reads} == {source.etag}


async def test_a_first_split_marks_nothing_as_replay(lab):
    """Only what may have been sent before is suspect: reading a row first costs."""
    await lab.put(table_of(25))
    await split(lab, lab.job())
    assert not any(row.replay for row in await lab.sent_rows())


async def test_a_limit_holds_over_a_resume(lab):
    """The limit counts from the start of the file, not from the checkpoint."""
    await lab.put(table_of(60))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 15
    body = lab.job(options={"limit": 20})
    with pytest.raises(UnreachableError):
        await split(lab, body)
    await lab.sent_rows()
    lab.rows.left = 100
    await split(lab, body, receives=2)
    assert [row.number for row in await lab.sent_rows()] == list(range(11, 21))
    assert (await batch_of(lab)).total == 20


async def test_a_split_keeps_the_definition_it_was_opened_with(lab, define, demo_yaml):
    """The folder's mapping may change between two deliveries; the batch does not."""

    class Down(MemoryObjects):
        async def read(self, source, start, length):
            raise UnreachableError("killed before the header was read")

    await lab.put(table_of(15))
    working, lab.objects = lab.objects, Down()
    lab.objects.stored = working.stored
    with pytest.raises(UnreachableError):
        await split(lab, lab.job())
    before = await batch_of(lab)
    lab.objects = working
    lab.definitions["demo"] = define(demo_yaml.replace("{name: name}", "{name: no_such_column}"))
    await split(lab, lab.job(), receives=2)
    after = await batch_of(lab)
    assert (after.state, after.mapping_digest) == (State.RUNNING, before.mapping_digest)


async def test_a_limit_that_was_reached_before_a_crash_holds(make_lab):
    """A resume behind the limit sends nothing more, not even a last record without a line end."""

    class Dies(MemoryTable):
        dead = True

        async def seal(self, *args):
            if self.dead:
                raise UnreachableError("killed")
            return await super().seal(*args)

    lab = make_lab(table=Dies())
    await lab.put(table_of(21).removesuffix("\r\n"))
    body = lab.job(options={"limit": 20})
    with pytest.raises(UnreachableError):
        await split(lab, body)
    assert len(await lab.sent_rows()) == 20
    lab.table.dead = False
    await split(lab, body, receives=2)
    assert await lab.sent_rows() == []
    assert (await batch_of(lab)).total == 20


async def test_a_mapping_that_vanished_does_not_stop_its_batch(lab):
    """A redelivery goes on with the stored definition, even where the folder has none any more."""
    await lab.put(table_of(15))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 10
    with pytest.raises(UnreachableError):
        await split(lab, lab.job())
    lab.definitions.clear()
    lab.rows.left = 100
    await split(lab, lab.job(), receives=2)
    assert (await batch_of(lab)).total == 15


async def test_a_lost_lease_ends_the_split(lab):
    """Somebody else has the ingest message: walk away before the next window."""
    await lab.put(table_of(35))
    delivery = lab.delivery(lab.job())
    sent = []

    class Watched(MemoryQueue):
        async def send(self, messages):
            sent.extend(messages)
            delivery.lease.is_lost = len(sent) >= 20
            return await super().send(messages)

    lab.rows = Watched("rows", lab.clock)
    with pytest.raises(LeaseLostError):
        await lab.splitter().handle(delivery)
    assert len(sent) == 20
    assert (await batch_of(lab)).state is State.SPLITTING


async def test_a_splitter_that_was_overtaken_gives_up(lab):
    """Another one's checkpoint is further: this one sends no more, and its message comes again later."""
    await lab.put(table_of(35))
    overtaken = asyncio.Event()

    class Overtaken(MemoryQueue):
        async def send(self, messages):
            await super().send(messages)
            if not overtaken.is_set() and len(self._entries) >= 20:
                overtaken.set()
                batch = await batch_of(lab)
                await lab.table.checkpoint(replace(batch, checkpoint=Checkpoint(30, len(table_of(30)), 32)))
            return ()

    lab.rows = Overtaken("rows", lab.clock)
    with pytest.raises(RetryableError, match="another splitter"):
        await split(lab, lab.job())
    assert len(await lab.sent_rows()) == 20
    assert (await batch_of(lab)).checkpoint.rows == 30


async def test_two_splitters_at_once_lose_no_row(lab):
    """An event delivered twice at the same time: each row is sent at least once, and the total is right."""
    await lab.put(table_of(95))
    results = await asyncio.gather(
        *(split(lab, lab.job(), receives=n) for n in (1, 2, 3)), return_exceptions=True
    )
    assert all(result is None or isinstance(result, RetryableError) for result in results)
    if any(results):
        await split(lab, lab.job(), receives=4)
    assert {row.number for row in await lab.sent_rows()} == set(range(1, 96))
    assert (await batch_of(lab)).total == 95


async def test_reads_that_fail_now_and_then_are_repeated(lab):
    """A throttled or dropped read does not restart the split."""
    failures = iter([True, False, True, True] + [False] * 1_000)

    class Shaky(MemoryObjects):
        async def read(self, source, start, length):
            if next(failures):
                raise UnreachableError("reset by peer")
            return await super().read(source, start, length)

    lab.objects = Shaky()
    await lab.put(table_of(25))
    await split(lab, lab.job())
    assert [row.number for row in await lab.sent_rows()] == list(range(1, 26))


async def test_a_missing_permission_to_send_is_told_as_such(lab):
    """The consumer holds back on AccessError; a batch is not failed for it, and goes on later."""
    await lab.put(table_of(25))

    class Forbidden(MemoryQueue):
        async def send(self, messages):
            raise AccessError("sqs:SendMessage")

    working, lab.rows = lab.rows, Forbidden("rows", lab.clock)
    with pytest.raises(AccessError):
        await split(lab, lab.job())
    lab.rows = working
    await split(lab, lab.job(), receives=2)
    assert len(await lab.sent_rows()) == 25


# -- room ------------------------------------------------------------------------------------------------


async def settle(lab, numbers, batch_id="demo#e1"):
    """Outcomes for rows of a batch, as its workers commit them."""
    batch = await batch_of(lab, batch_id)
    async with lab.committer() as committer:
        await asyncio.gather(*(committer.commit(batch, n, lab.outcome(n)) for n in numbers))


async def test_a_batch_is_split_just_ahead_of_its_workers(lab, places):
    """With `max_queued_rows` no window is sent while that many rows of the batch are sent and not done."""
    await lab.put(table_of(35))
    delivery = lab.delivery(lab.job(), places=places)
    splitting = asyncio.create_task(lab.splitter(max_queued_rows=20).handle(delivery))
    await lab.until(lambda: len(lab.rows._entries) == 20)
    await lab.pass_time(3600)
    assert len(lab.rows._entries) == 20
    assert places.freed == 1, "what waits occupies no place"
    await settle(lab, [1])
    await lab.until(lambda: len(lab.rows._entries) == 30, step_s=0.5)
    await settle(lab, range(2, 11))
    await lab.pass_time(60)
    assert len(lab.rows._entries) == 30
    await settle(lab, [11])
    await lab.until(splitting.done, step_s=0.5)
    assert (await batch_of(lab)).total == 35
    assert places.freed == 1


async def test_a_row_that_is_sent_again_is_not_done(lab):
    """Room is made by outcomes, not by messages that leave the queue: a row on its way back still counts."""
    await lab.put(table_of(35))
    splitting = asyncio.create_task(split(lab, lab.job(), max_queued_rows=10))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    assert len(await lab.sent_rows()) == 10
    lab.rows._entries.clear()
    await lab.pass_time(60)
    assert not lab.rows._entries
    for last in (10, 20, 30):
        await settle(lab, range(last - 9, last + 1))
        await lab.until(lambda: bool(lab.rows._entries), step_s=0.5)
        lab.rows._entries.clear()
    await lab.until(splitting.done, step_s=0.5)


async def test_rows_of_others_are_no_reason_to_wait(lab):
    """However deep the queue is, a batch has room of its own."""
    await lab.put(table_of(15))
    await lab.send(lab.rows, *(["another batch's"] * 100))
    await split(lab, lab.job(), max_queued_rows=10 + 1)
    assert (await batch_of(lab)).total == 15


async def test_a_small_batch_is_split_while_more_large_ones_wait_than_there_are_places(lab):
    """A batch that waits for room keeps no other from being split."""
    await lab.put(table_of(35))
    await lab.put(table_of(5), "files/small.csv")
    large = [f"large{n}" for n in range(3)]
    jobs = [lab.job(name) for name in large]
    await lab.send(lab.ingest, *jobs, lab.job("small", key="files/small.csv"))
    splitter = lab.splitter(max_queued_rows=10)
    async with lab.consuming(lab.consumer(lab.ingest, splitter.handle, max_running=1, max_held=4)):
        await lab.until(lambda: len(lab.rows._entries) == 35, step_s=0.1)
        await lab.pass_time(60)
        assert (await batch_of(lab, "demo#small")).total == 5
        for name in large:
            batch = await batch_of(lab, f"demo#{name}")
            assert (batch.state, batch.checkpoint.rows) == (State.SPLITTING, 10)
            await lab.table.move(
                batch.batch_id, expected=State.SPLITTING, round=1, to=State.CANCELLED, now=batch.created_at
            )


@pytest.mark.parametrize("state", [State.CANCELLED, State.FAILED, State.RUNNING])
async def test_a_batch_that_ends_while_it_waits_is_split_no_further(lab, state):
    """Whoever ended or sealed it: the job is done, and nothing more is sent."""
    await lab.put(table_of(35))
    splitting = asyncio.create_task(split(lab, lab.job(), max_queued_rows=10))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    await lab.table.move("demo#e1", expected=State.SPLITTING, round=1, to=state, now="")
    await lab.until(splitting.done, step_s=0.5)
    await splitting
    assert len(lab.rows._entries) == 10
    assert (await batch_of(lab)).state is state


async def test_a_lease_lost_while_waiting_for_room_ends_the_split(lab):
    """Waiting for room is no reason to forget whose message it is."""
    await lab.put(table_of(35))
    delivery = lab.delivery(lab.job())
    splitting = asyncio.create_task(lab.splitter(max_queued_rows=10).handle(delivery))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    delivery.lease.is_lost = True
    await lab.until(splitting.done, step_s=0.5)
    with pytest.raises(LeaseLostError):
        await splitting


# -- rows that no agent gets ------------------------------------------------------------------------------


async def test_a_ragged_row_carries_its_defect(lab):
    """Too few or too many cells: the row is sent with what it held, and why it must not be processed."""
    await lab.put("id,name\n1\n2,b,c\n3,d\n")
    await split(lab, lab.job())
    rows = await lab.sent_rows()
    assert [row.cells for row in rows] == [("1",), ("2", "b", "c"), ("3", "d")]
    assert rows[0].defect == "1 cell, the header has 2 (line 2)"
    assert rows[1].defect == "3 cells, the header has 2 (line 3)"
    assert rows[2].defect == ""


async def test_an_undecodable_row_carries_its_defect(lab):
    """Bytes that are no UTF-8 concern their own row."""
    await lab.put(b"id,name\n1,M\xfcnchen\n2,Paris\n")
    await split(lab, lab.job())
    bad, good = await lab.sent_rows()
    assert "byte 0xfc" in bad.defect
    assert bad.cells == ("1", "M\\xfcnchen")
    assert good.defect == ""


@pytest.mark.parametrize(
    "cells",
    [
        ("1", "x" * 2_000_000),
        ("1", "ü" * 300_000),
        ("1", "\U0001f600" * 120_000),
        ("\x01" * 200_000, "x"),
        ("",) * 700_000,
        ("\U0001f600",) * 300_000,
    ],
    ids=["long", "umlauts", "emoji", "control", "commas", "many emoji"],
)
async def test_a_row_too_large_for_a_message_is_sent_as_a_place(lab, cells):
    """Its message says where the record stands in the source, and nothing of what it holds."""
    batch = await lab.batch(None)
    record = Record(7, cells, 9, Checkpoint(7, 5_000_000, 12), "ragged", 2_000_000)
    row = RowMessage.decode(row_body(batch, record, replay=True))
    assert row == RowMessage("demo#e1", 1, 7, (), replay=True, span=Span(2_000_000, 3_000_000, 9))


async def test_a_row_that_just_fits_can_be_sent_again(lab):
    """The limit leaves room for what a message gets on its way; one byte more, and it is sent as a place."""
    batch = await lab.batch(None)
    empty = len(row_body(batch, Record(7, ("", ""), 9, Checkpoint())))
    most = MESSAGE_BYTES - RESEND_BYTES - empty
    row = RowMessage.decode(row_body(batch, Record(7, ("", "x" * most), 9, Checkpoint())))
    assert row.span is None
    again = replace(row, attempt=10**6, replay=True, deadline_ms=MAX_MS)
    assert len(again.encode()) <= MESSAGE_BYTES
    larger = Record(7, ("", "x" * (most + 1)), 9, Checkpoint(7, 100, 10), start=50)
    assert RowMessage.decode(row_body(batch, larger)).span == Span(50, 50, 9)


# -- batches that fail ---------------------------------------------------------------------------------------


async def test_a_missing_source_is_a_failed_batch(lab):
    """The user sees a batch that says what is missing, not a message that vanished."""
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.finished_at != "") == (State.FAILED, True)
    assert "s3://in/files/rows.csv does not exist" in batch.error


async def test_an_unknown_mapping_is_a_failed_batch(lab):
    """It names the mappings that there are."""
    await lab.put(table_of(3))
    await split(lab, lab.job(mapping="nonesuch"))
    batch = await batch_of(lab, "nonesuch#e1")
    assert batch.state is State.FAILED
    assert "unknown mapping 'nonesuch'" in batch.error
    assert await lab.sent_rows() == []


async def test_a_job_that_asks_for_what_there_is_not_is_a_failed_batch(lab):
    """A later option is refused in words, never ignored."""
    await lab.put(table_of(3))
    await split(lab, lab.job(options={"approve": True}))
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "approve" in batch.error
    assert await lab.sent_rows() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,title\n1,a\n", "column 'name'"),
        ("", "the file is empty"),
        ("\r\n\r\n", "the file is empty"),
        (b"id,n\xfcme\n1,a\n", "header cannot be read"),
    ],
    ids=["column", "empty", "blank", "header"],
)
async def test_a_source_that_is_no_table_is_a_failed_batch(lab, text, reason):
    """What can be seen before the first row is: the batch fails, and no row is sent."""
    await lab.put(text)
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert reason in batch.error
    assert await lab.sent_rows() == []
    assert lab.metrics.totals["batches_failed"] == 1


async def test_a_quote_without_end_is_a_failed_batch(lab):
    """It names the line where the quote was opened; rows that were sent before find the batch FAILED."""
    await lab.put(table_of(25) + '26,"open\n27,x\n')
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "the quote opened on line 27 has no end" in batch.error


async def test_a_record_without_end_is_a_failed_batch(lab):
    """A record beyond the limit is refused before it fills the memory."""
    await lab.put(HEADER + '1,"' + "x" * 5_000)
    await split(lab, lab.job(), max_record_bytes=1_000)
    assert "larger than 1000 bytes" in (await batch_of(lab)).error


async def test_a_source_that_changes_mid_split_is_a_failed_batch(lab):
    """Half of one file and half of another is no result."""

    class Replaced(MemoryQueue):
        async def send(self, messages):
            await lab.put(table_of(99))
            return await super().send(messages)

    lab.rows = Replaced("rows", lab.clock)
    await lab.put(table_of(35))
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "was changed while it was read" in batch.error


async def test_a_source_that_changed_between_two_deliveries_is_a_failed_batch(lab):
    """A split that was interrupted cannot go on with other bytes."""
    await lab.put(table_of(35))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 12
    with pytest.raises(UnreachableError):
        await split(lab, lab.job())
    await lab.put(table_of(99))
    lab.rows.left = 1_000
    await split(lab, lab.job(), receives=2)
    assert "was changed while it was read" in (await batch_of(lab)).error


async def test_a_source_shorter_than_announced_is_a_failed_batch(lab):
    """Reading nothing before the end is an error, not an endless loop."""

    class Short(MemoryObjects):
        async def head(self, bucket, key, version=""):
            return replace(await super().head(bucket, key, version), size=10_000)

    lab.objects = Short()
    await lab.put(table_of(3))
    await split(lab, lab.job())
    assert "ended after" in (await batch_of(lab)).error


async def test_a_batch_that_was_failed_meanwhile_is_left_alone(lab):
    """A worker that cannot serve the mapping fails the batch: the splitter stops sending."""
    await lab.put(table_of(95))

    class Failed(MemoryQueue):
        async def send(self, messages):
            batch = await batch_of(lab)
            await lab.table.move(
                batch.batch_id,
                expected=State.SPLITTING,
                round=1,
                to=State.FAILED,
                now="now",
                error="no agent",
            )
            return await super().send(messages)

    lab.rows = Failed("rows", lab.clock)
    with pytest.raises(RetryableError):
        await split(lab, lab.job())
    assert len(await lab.sent_rows()) == 10
    await split(lab, lab.job(), receives=2)
    batch = await batch_of(lab)
    assert (batch.state, batch.error) == (State.FAILED, "no agent")


async def test_a_header_too_large_for_the_table_is_a_failed_batch(lab):
    """A batch whose columns do not fit an item cannot be run, and says so."""
    await lab.put("name," + ",".join(f"c{n:09}" for n in range(45_000)) + "\n")
    await split(lab, lab.job(), read_bytes=10**6)
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "the table cannot hold this batch" in batch.error


async def test_a_definition_too_large_for_the_table_is_a_failed_batch(lab):
    """The user sees a batch that says so, not a dead letter."""
    await lab.put(table_of(3))
    document = json.loads(lab.definitions["demo"].text)
    document["input_mapping"]["static_values"] = {"filler": "x" * 450_000}
    lab.definitions["demo"] = Definition("demo", json.dumps(document))
    await split(lab, lab.job())
    await split(lab, lab.job(), receives=2)
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "the table cannot hold this batch" in batch.error
    assert await lab.sent_rows() == []


async def test_opening_is_told_once(lab):
    """One line says that a batch was opened, however often its message comes."""
    await lab.put(table_of(3))
    with capture_logs() as logs:
        await split(lab, lab.job())
        await split(lab, lab.job(), receives=2)
    assert [line["event"] for line in logs].count("batch_opened") == 1
    assert [line["event"] for line in logs].count("batch_sealed") == 1


@pytest.mark.parametrize(("size", "partitions"), [(0, 1), (999, 1), (1_000, 2), (5_500, 6), (10**6, 16)])
async def test_large_sources_are_partitioned(lab, size, partitions):
    """The number of partitions is fixed when the batch is opened, by the size of its source."""
    await lab.put("id,name\n".ljust(size, "\n")[:size] if size else "")
    await split(lab, lab.job(), partition_bytes=1_000, read_bytes=2**20)
    assert (await batch_of(lab)).partitions == partitions
