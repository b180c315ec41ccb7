"""A source becomes row messages and a sealed batch; a split resumes after a crash."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.domain.errors import (
    AccessError,
    ConflictError,
    LeaseLostError,
    UnreachableError,
)
from service.domain.jobs import Job
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import Checkpoint, Location, State, iso_time
from service.mapping import Definition
from service.splitter.splitter import AFTER_PROGRESS_S, GIVE_BACK_S, NEWER_SPLITTER_WAIT_S
from tests.unit.splitter.splitting import (
    HEADER,
    FailingQueue,
    batch_of,
    split,
    table_of,
)


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
    assert rows == [lab.row(n, batch) for n in range(1, 26)]
    assert await lab.waiting(lab.aggregate) == []


async def test_row_messages_are_grouped_by_batch(lab):
    """SQS fair queues tell batches apart by the message group."""
    await lab.put(table_of(3))
    await split(lab, lab.job())
    assert {entry.outgoing.group for entry in lab.rows._entries.values()} == {"demo#e1"}


@pytest.mark.parametrize("limit", [1, 9, 10, 11, 25, 26, 1_000])
@pytest.mark.parametrize("read_bytes", [7, 64, 10_000])
async def test_a_limit_takes_the_first_rows(lab, limit, read_bytes):
    """Exactly the first rows are sent, whatever the sizes of windows and chunks."""
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


async def test_a_header_alone_is_a_complete_run_of_no_rows(lab):
    """A batch of 0 rows is sealed and its aggregation triggered at once."""
    await lab.put(HEADER)
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.columns) == (State.AGGREGATING, 0, ("id", "name"))
    assert await lab.waiting(lab.aggregate) == [AggregateMessage.of(batch).encode()]


async def test_rows_done_before_the_seal_are_triggered_by_it(lab):
    """If every row was settled while the file was still being read, the check after the seal triggers."""
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
    """The redelivered ingest message finds the batch sealed and checks it."""

    class Dies(MemoryTable):
        dead = True

        async def seal(self, *args, **named):
            await super().seal(*args, **named)
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


@pytest.mark.parametrize(
    ("survived", "again_in_s"), [(9, None), (10, AFTER_PROGRESS_S), (29, AFTER_PROGRESS_S)]
)
async def test_a_split_that_made_progress_is_soon_tried_again(lab, survived, again_in_s):
    """Otherwise its job would wait for minutes after a few splitters have died, each of which got on."""
    await lab.put(table_of(35))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = survived
    with pytest.raises(UnreachableError) as raised:
        await split(lab, lab.job(), receives=6, send_concurrency=1)
    assert raised.value.retry_after_s == again_in_s


@pytest.mark.parametrize("write", ["checkpoint", "seal"])
async def test_a_write_of_a_split_is_tried_again(make_lab, write):
    """A conflict ends no split: its job would come again only after a pause."""

    class Conflicting(MemoryTable):
        failures = 2

        async def checkpoint(self, *args, **named):
            self._fail("checkpoint")
            return await super().checkpoint(*args, **named)

        async def seal(self, *args, **named):
            self._fail("seal")
            return await super().seal(*args, **named)

        def _fail(self, called):
            if called == write and self.failures:
                self.failures -= 1
                raise ConflictError("at the same moment")

    lab = make_lab(table=Conflicting())
    await lab.put(table_of(15))
    await split(lab, lab.job())
    assert lab.table.failures == 0
    assert (await batch_of(lab)).total == 15


@pytest.mark.parametrize("survived", [0, 1, 9, 10, 13, 20, 29, 30, 34, 35])
@pytest.mark.parametrize("name", ["name", '"two\nlines"'])
async def test_a_split_resumes_at_its_checkpoint(lab, survived, name):
    """After a crash at any row every row is sent, and rows that may be repeats carry the replay mark."""
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


@pytest.mark.parametrize("window", [5, 50])
async def test_the_window_of_replays_is_the_one_that_the_batch_was_opened_with(lab, window):
    """The setting may have changed since: the former splitter sent as far as its own window."""
    await lab.put(table_of(55))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 30
    with pytest.raises(UnreachableError):
        await split(lab, lab.job(), send_concurrency=1, checkpoint_rows=20)
    assert (await batch_of(lab)).checkpoint.rows == 20
    assert {row.number for row in await lab.sent_rows()} == set(range(1, 31))
    lab.rows.left = 10**9
    await split(lab, lab.job(), receives=2, checkpoint_rows=window)
    assert {row.number for row in await lab.sent_rows() if row.replay} == set(range(21, 41))


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
    """Only rows that may have been sent before are marked: a mark costs a read."""
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
    """The mapping file may change between two deliveries; the batch's definition does not."""

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
    """A resume after the limit sends nothing more, not even a last record without a line end."""

    class Dies(MemoryTable):
        dead = True

        async def seal(self, *args, **named):
            if self.dead:
                raise UnreachableError("killed")
            return await super().seal(*args, **named)

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
    """A redelivery uses the stored definition, even if the mapping file is gone."""
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
    """A splitter whose ingest message went to another one stops before its next window."""
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


async def test_a_missing_permission_to_send_raises_access_error(lab):
    """The consumer backs off on AccessError; the batch does not fail and continues later."""
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


async def test_a_ragged_row_carries_its_defect(lab):
    """A row with too few or too many cells is sent with its cells and the reason why no agent may get it."""
    await lab.put("id,name\n1\n2,b,c\n3,d\n")
    await split(lab, lab.job())
    rows = await lab.sent_rows()
    assert [row.cells for row in rows] == [("1",), ("2", "b", "c"), ("3", "d")]
    assert rows[0].defect == "1 cell, the header has 2 (line 2, delimiter ',')"
    assert rows[1].defect == "3 cells, the header has 2 (line 3, delimiter ',')"
    assert rows[2].defect == ""


async def test_an_undecodable_row_carries_its_defect(lab):
    """Bytes that are no UTF-8 affect only their own row."""
    await lab.put(b"id,name\n1,M\xfcnchen\n2,Paris\n")
    await split(lab, lab.job())
    bad, good = await lab.sent_rows()
    assert "byte 0xfc" in bad.defect
    assert bad.cells == ("1", "M\\xfcnchen")
    assert good.defect == ""


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
    """A problem that shows before the first row fails the batch, and no row is sent."""
    await lab.put(text)
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert reason in batch.error
    assert await lab.sent_rows() == []
    assert lab.metrics.totals["batches_failed"] == 1


async def test_a_quote_without_end_is_a_failed_batch(lab):
    """The error names the line of the opening quote; rows sent before find the batch FAILED."""
    await lab.put(table_of(25) + '26,"open\n27,x\n')
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "the quote opened on line 27 has no end" in batch.error


async def test_a_record_without_end_is_a_failed_batch(lab):
    """A record beyond the limit is refused before it fills the memory."""
    await lab.put(HEADER + '1,"' + "x" * 5_000)
    await split(lab, lab.job(), max_record_bytes=1_000)
    assert "larger than 1000 bytes (ROWFLEET_SPLIT__MAX_RECORD_BYTES)" in (await batch_of(lab)).error


async def test_a_source_that_changes_mid_split_is_a_failed_batch(lab):
    """A result is never made of half of one file and half of another."""

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
    """An empty read before the end is an error, not an endless loop."""

    class Short(MemoryObjects):
        async def head(self, bucket, key, version=""):
            return replace(await super().head(bucket, key, version), size=10_000)

    lab.objects = Short()
    await lab.put(table_of(3))
    await split(lab, lab.job())
    assert "ended after" in (await batch_of(lab)).error


async def test_a_batch_that_was_failed_meanwhile_is_left_alone(lab):
    """A worker that cannot open the agent fails the batch: the splitter stops sending."""
    await lab.put(table_of(95))

    class Failed(MemoryQueue):
        async def send(self, messages):
            batch = await batch_of(lab)
            await lab.table.move(
                batch,
                expected=State.SPLITTING,
                to=State.FAILED,
                now="now",
                error="no agent",
            )
            return await super().send(messages)

    lab.rows = Failed("rows", lab.clock)
    await split(lab, lab.job(), message_id="m")
    assert len(await lab.sent_rows()) == 10
    await split(lab, lab.job(), receives=2, message_id="m")
    batch = await batch_of(lab)
    assert (batch.state, batch.error) == (State.FAILED, "no agent")


async def test_a_header_too_large_for_the_table_is_a_failed_batch(lab):
    """A batch whose columns do not fit an item cannot be run, and says so."""
    await lab.put("name," + ",".join(f"c{n:09}" for n in range(45_000)) + "\n")
    await split(lab, lab.job(), read_bytes=10**6)
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "the table cannot hold this batch" in batch.error


async def newer_batch(lab):
    """A batch of a mapping that only a newer version can compile, being split, and its job."""
    definition = Definition("demo", '{"a_key_of_tomorrow": 1}')
    source = await lab.put(table_of(3))
    created_at = iso_time(lab.clock.now_ms())
    stored = await lab.batch(
        None, source=source, columns=(), compiled_by="99.0.0", created_at=created_at,
        incarnation="018bcfe5680a1b2c",
    )  # fmt: skip
    batch = replace(stored, mapping_digest=definition.digest)
    lab.table._batches[batch.batch_id] = batch
    lab.table._definitions[batch.batch_id, definition.digest] = definition.text
    return batch, Job.again_for(batch).encode()


async def test_a_job_of_a_newer_mapping_is_given_back(lab):
    """Its message is done and another one comes later, so that no delivery is used up."""
    _, job = await newer_batch(lab)
    await split(lab, job, receives=5)
    stored = await batch_of(lab)
    assert (stored.state, stored.lease_owner) == (State.SPLITTING, "")
    (entry,) = lab.ingest._entries.values()
    assert (entry.outgoing.body, entry.outgoing.delay_s) == (job, NEWER_SPLITTER_WAIT_S)


async def test_a_job_that_no_newer_splitter_takes_fails_its_batch(lab):
    """After a day no update of the fleet is under way."""
    _, job = await newer_batch(lab)
    await lab.clock.advance(GIVE_BACK_S)
    await split(lab, job)
    stored = await batch_of(lab)
    assert stored.state is State.FAILED
    assert "opened by 99.0.0: update it" in stored.error
    assert await lab.ingest.depth() == 0
