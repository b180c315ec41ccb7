"""From a complete batch to its result files."""

import asyncio
import base64
import codecs
import csv
import hashlib
import io
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryObjects, MemoryTable, MemoryUpload
from service.domain.errors import AccessError, LeaseLostError, PoisonMessageError, UnreachableError
from service.domain.messages import AggregateMessage
from service.domain.model import Commit, Counts, Dialect, OutboxKind, Spending, State, iso_time

PREFIX = "results/demo/e1/"


class FailingObjects(MemoryObjects):
    """Raises `error` instead of writing names in `refuse`."""

    refuse: frozenset[str] = frozenset()
    error: Exception = AccessError("s3:PutObject is not allowed")

    async def put(self, bucket, key, body, *, content_type):
        """Write, unless refused."""
        if key.rsplit("/", 1)[-1] in self.refuse:
            raise self.error
        return await super().put(bucket, key, body, content_type=content_type)


class WatchedTable(MemoryTable):
    """Remembers how much was asked for at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[tuple[int, int, int]] = []
        self.on_page = None

    async def outcomes(self, batch, partition, *, after, limit):
        """A page."""
        self.pages.append((partition, after, limit))
        if self.on_page:
            self.on_page()
        return await super().outcomes(batch, partition, after=after, limit=limit)


@pytest.fixture
def lab(make_lab):
    """A laboratory whose table is watched and whose bucket can refuse."""
    lab = make_lab(table=WatchedTable())
    lab.objects = FailingObjects()
    return lab


async def finished(
    lab, total, *, failed=(), state=State.AGGREGATING, change=lambda outcome: outcome, **changes
):
    """A batch whose rows all have outcomes."""
    batch = await lab.batch(total, state=state, **changes)
    outcomes = [
        change(lab.outcome(n, failed="no" if n in failed else "", round_=batch.round))
        for n in range(1, total + 1)
    ]
    await commit(lab, batch, outcomes)
    return batch


async def commit(lab, batch, outcomes):
    for start in range(0, len(outcomes), 99):
        rows = tuple(outcomes[start : start + 99])
        token = f"{batch.batch_id}-{batch.round}-{rows[0].number}"
        await lab.table.commit(
            Commit(batch.batch_id, batch.round, batch.partitions, 0, rows, token, batch.ttl)
        )


async def aggregate(lab, batch, *, round_=1, receives=1, page_rows=1_000):
    body = AggregateMessage(batch.batch_id, round_).encode()
    await lab.aggregator(page_rows).handle(lab.delivery(body, receives=receives))


def files(lab):
    return {key.removeprefix(PREFIX): stored.body for (_, key), stored in lab.objects.stored.items()}


def records(body):
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


@pytest.mark.parametrize("partitions", [1, 2, 7, 16])
@pytest.mark.parametrize("total", [1, 2, 15, 16, 17, 250])
async def test_rows_come_out_in_file_order(lab, partitions, total):
    """The output has each row once, in input order, whatever the number of partitions and the page size."""
    batch = await finished(lab, total, failed=(2, 16), partitions=partitions)
    await aggregate(lab, batch, page_rows=20)
    header, *rows = records(files(lab)["output.csv"])
    assert header == [
        "input_id", "input_name", "output_answer",
        "_row", "_status", "_execution_time_ms", "_timestamp", "_error",
    ]  # fmt: skip
    assert [int(row[0]) for row in rows] == list(range(1, total + 1))
    assert rows[0] == ["1", "name 1", "re: name 1", "1", "SUCCESS", "5", "2026-11-23T07:00:01.000Z", ""]
    if total > 1:
        assert rows[1][2:5] == ["", "2", "FAILED"]
        assert rows[1][-1] == "AgentRejectedError: no"


async def test_a_run_without_rows_has_a_header(lab):
    """Header-only input: header-only output, SUCCEEDED."""
    batch = await finished(lab, 0)
    await aggregate(lab, batch)
    assert len(records(files(lab)["output.csv"])) == 1
    assert files(lab).keys() == {"output.csv", "manifest.json", "latest.json"}
    assert (await lab.view()).batch.state is State.SUCCEEDED


async def test_a_batch_without_failures_succeeds(lab):
    """There is no failures.csv where nothing failed."""
    batch = await finished(lab, 5)
    await lab.clock.advance(60)
    await aggregate(lab, batch)
    assert files(lab).keys() == {"output.csv", "manifest.json", "latest.json"}
    view = await lab.view()
    assert (view.batch.state, view.batch.error) == (State.SUCCEEDED, "")
    assert view.batch.finished_at == "2023-11-14T22:14:20.000Z"


@pytest.mark.parametrize("total", [0, 5])
async def test_a_batch_that_was_not_read_to_its_end_is_cancelled(lab, total):
    """Rows that were not read are in no file, so the batch has not succeeded, whatever the others did."""
    batch = await finished(lab, total, unread_from=total + 1, cancelled_at="2023-11-14T22:13:20.000Z")
    await aggregate(lab, batch)
    assert (await lab.view()).batch.state is State.CANCELLED
    assert json.loads(files(lab)["manifest.json"])["state"] == "CANCELLED"


async def test_failures_are_written_apart(lab):
    """failures.csv holds the original columns and the error of each failed row; it can be run again."""
    batch = await finished(lab, 30, failed=(7, 21))
    await aggregate(lab, batch)
    assert records(files(lab)["failures.csv"]) == [
        ["id", "name", "_row", "_error"],
        ["7", "name 7", "7", "AgentRejectedError: no"],
        ["21", "name 21", "21", "AgentRejectedError: no"],
    ]
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_the_manifest_says_what_there_is(lab):
    """Totals, times, columns, mapping, source, and the size and digest of each file."""
    settled = Spending(calls=30, input_tokens=300, output_tokens=60, cost=30_000_000)
    batch = await finished(
        lab, 30, failed=(7, 21), notes=("Column 3 has no name",), prices={"currency": "USD"}, settled=settled
    )
    await aggregate(lab, batch)
    found = files(lab)
    manifest = json.loads(found["manifest.json"])
    listed = manifest.pop("files")
    assert manifest == {
        "batch_id": "demo#e1",
        "tool_name": "demo",
        "execution_id": "e1",
        "state": "COMPLETED_WITH_ERRORS",
        "error": "",
        "round": 1,
        "total": 30,
        "succeeded": 28,
        "failed": 2,
        "agent_ms": 150,
        "input_tokens": 0,
        "output_tokens": 0,
        "reused": 0,
        "calls": 30,
        "tokens": {"input": 300, "cached_input": 0, "cache_write": 0, "output": 60, "reasoning": 0},
        "cost": {
            "currency": "USD",
            "estimate": {"low": "0.30", "high": "0.30"},
            "spent": "0.30",
            "in_results": "0.00",
            "to_finish": {"low": "0.00", "high": "0.00"},
            "saved": "0.00",
            "unpriced_calls": 0,
            "uncertain_calls": 0,
        },
        "cancelled_at": "",
        "cancel_reason": "",
        "unread_from": None,
        "started_at": "2026-11-23T07:00:00.000Z",
        "last_outcome_at": "2026-11-23T07:00:01.000Z",
        "columns": ["id", "name"],
        "dialect": None,
        "blank_records": 0,
        "output_fields": ["answer"],
        "notes": ["Column 3 has no name"],
        "mapping": {"name": "demo", "digest": batch.mapping_digest},
        "mappings": [{"digest": batch.mapping_digest, "rows": 30}],
        "operations": [],
        "skipped": [],
        "skipped_rows": 0,
        "source": {"url": "s3://in/files/rows.csv", "etag": "etag", "version": "", "bytes": 0},
    }
    assert [(file["name"], file["rows"]) for file in listed] == [("failures.csv", 2), ("output.csv", 30)]
    for file in listed:
        body = found[file["name"]]
        assert file["url"] == f"s3://out/{PREFIX}{file['name']}"
        assert (file["bytes"], file["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


async def test_formulas_are_disarmed_unless_the_batch_says_otherwise(lab):
    """The setting that the batch was opened with decides."""

    def formula(outcome):
        return replace(outcome, output_data={"answer": "=1+1"})

    for execution_id, escape, cell in (("e1", True, "'=1+1"), ("e2", False, "=1+1")):
        batch = await finished(lab, 1, change=formula, execution_id=execution_id, escape_formulas=escape)
        await aggregate(lab, batch)
        body = lab.objects.stored["out", f"results/demo/{execution_id}/output.csv"].body
        assert records(body)[1][2] == cell


# -- crashes and duplicates -------------------------------------------------------------------------------


@pytest.mark.parametrize("died_at", ["failures.csv", "output.csv", "manifest.json"])
async def test_a_crash_at_any_file_is_repeated_with_the_same_bytes(lab, died_at):
    """No half-written file is visible, the manifest comes last, and the redelivery writes the same bytes."""
    batch = await finished(lab, 30, failed=(7,))
    lab.objects.refuse, lab.objects.error = frozenset({died_at}), UnreachableError("killed")
    await aggregate(lab, batch)
    first = files(lab)
    assert "manifest.json" not in first
    assert (await lab.view()).batch.state is State.AGGREGATING
    lab.objects.refuse = frozenset()
    await lab.clock.advance(600)
    await aggregate(lab, batch, receives=2)
    second = files(lab)
    assert second.keys() == {"failures.csv", "output.csv", "manifest.json", "latest.json"}
    assert {name: second[name] for name in first} == first
    assert len(records(second["output.csv"])) == 31


async def test_a_crash_before_the_last_step_is_made_up_for(make_lab):
    """After a crash between manifest and final state, the redelivery writes the same and ends the batch."""

    class Dies(MemoryTable):
        dead = True

        async def move(self, batch, **change):
            if self.dead:
                raise UnreachableError("killed")
            return await super().move(batch, **change)

    lab = make_lab(table=Dies())
    batch = await finished(lab, 30, failed=(7,))
    await aggregate(lab, batch)
    first = files(lab)
    lab.table.dead = False
    await lab.clock.advance(600)
    await aggregate(lab, batch, receives=2)
    assert files(lab) == first
    assert first.keys() == {"failures.csv", "output.csv", "manifest.json", "latest.json"}
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_a_duplicate_after_the_end_changes_nothing(lab):
    """The batch is final: the message is acknowledged and nothing is written."""
    batch = await finished(lab, 3)
    await aggregate(lab, batch)
    lab.objects.refuse = frozenset({"output.csv", "manifest.json"})
    before = await lab.view()
    await aggregate(lab, batch)
    assert await lab.view() == before


async def test_two_at_once_write_the_same(lab):
    """A trigger sent twice is aggregated twice at worst, with the same result."""
    batch = await finished(lab, 200, failed=(7,), partitions=3)
    await aggregate(lab, batch)
    alone = files(lab)
    lab.objects.stored.clear()
    lab.table._batches[batch.batch_id] = batch
    await asyncio.gather(*(aggregate(lab, batch, page_rows=30) for _ in range(3)))
    assert files(lab) == alone
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_a_trigger_that_arrives_before_the_move_makes_it(lab):
    """The trigger is sent before RUNNING -> AGGREGATING, so its aggregator may have to make that move."""
    batch = await finished(lab, 3, state=State.RUNNING)
    await aggregate(lab, batch)
    assert (await lab.view()).batch.state is State.SUCCEEDED
    assert "manifest.json" in files(lab)


async def test_a_batch_that_is_not_complete_is_not_written(lab):
    """A stray message must not make a result of some of the rows."""
    batch = await lab.batch(3)
    await commit(lab, batch, [lab.outcome(1)])
    await aggregate(lab, batch)
    assert files(lab) == {}
    assert (await lab.view()).batch.state is State.RUNNING


@pytest.mark.parametrize("round_", [1, 3])
async def test_a_message_of_another_round_is_ignored(lab, round_):
    """A message of an earlier or later round writes nothing."""
    batch = await finished(lab, 3, round=2)
    await aggregate(lab, batch, round_=round_)
    assert files(lab) == {}
    await aggregate(lab, batch, round_=2)
    assert json.loads(files(lab)["round-002/manifest.json"])["round"] == 2


async def test_an_unknown_batch_is_poison(lab):
    """A message for a batch that is not in the table can never be handled."""
    with pytest.raises(PoisonMessageError, match="no batch 'demo#none'"):
        await lab.aggregator().handle(lab.delivery(AggregateMessage("demo#none", 1).encode()))


async def test_a_body_that_is_no_message_is_poison(lab):
    """A body that cannot be decoded can never be handled."""
    with pytest.raises(PoisonMessageError, match="not JSON"):
        await lab.aggregator().handle(lab.delivery("junk"))


async def test_a_lost_lease_aborts_the_upload(lab):
    """After its lease was lost to another aggregator, an upload is aborted and no file becomes visible."""
    batch = await finished(lab, 100)
    delivery = lab.delivery(AggregateMessage(batch.batch_id, 1).encode())

    def lose():
        delivery.lease.is_lost = len(lab.table.pages) > 3

    lab.table.on_page = lose
    with pytest.raises(LeaseLostError):
        await lab.aggregator(page_rows=10).handle(delivery)
    assert files(lab) == {}
    assert (await lab.view()).batch.state is State.AGGREGATING


# -- what cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [1, 7, 10])
async def test_a_missing_outcome_fails_the_batch_in_words(lab, missing):
    """A row that is counted but missing (restored table, short ttl) fails the batch."""
    batch = await finished(lab, 10, partitions=3)
    partition = batch.batch_id + (f"#{missing % 3}" if missing % 3 else "")
    del lab.table._rows[partition][missing]
    lab.table._numbers[partition].remove(missing)
    await aggregate(lab, batch)
    view = await lab.view()
    assert view.batch.state is State.FAILED
    assert f"row {missing} of 10 is counted but has no outcome" in view.batch.error
    assert list(files(lab)) == ["manifest.json"]


async def test_a_refused_batch_waits_with_its_reason_and_holds_nothing(lab):
    """It stays AGGREGATING; its message is acknowledged, and its trigger sent with pauses that grow."""
    batch = await finished(lab, 3)
    lab.objects.refused.add("out/results/")
    pauses = []
    for tries in range(1, 12):
        await aggregate(lab, batch)
        view = await lab.view()
        trouble = view.batch.trouble
        assert view.batch.state is State.AGGREGATING
        assert "s3:PutObject on s3://out/results/demo/e1/output.csv is not allowed" in trouble.reason
        assert (trouble.tries, trouble.since_ms) == (tries, (await lab.view()).batch.trouble.since_ms)
        assert view.batch.lease_owner == ""
        pauses.append((trouble.again_at_ms - lab.clock.now_ms()) / 1000)
        await lab.clock.advance(pauses[-1] - 0.5)
        assert await lab.waiting(lab.aggregate) == []
        await lab.clock.advance(0.5)
        assert await lab.waiting(lab.aggregate) == [AggregateMessage(batch.batch_id, 1).encode()]
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    lab.objects.refused.clear()
    await aggregate(lab, batch)
    view = await lab.view()
    assert (view.batch.state, view.batch.trouble, view.batch.error) == (State.SUCCEEDED, None, "")


async def test_a_trigger_that_comes_before_its_time_waits_for_it(lab):
    """A duplicate, or a message whose receiver died, neither shortens the pause nor is lost."""
    batch = await finished(lab, 3)
    lab.objects.refused.add("out/results/")
    for _ in range(4):
        await aggregate(lab, batch)
        await lab.clock.advance(((await lab.view()).batch.trouble.again_at_ms - lab.clock.now_ms()) / 1000)
        await lab.waiting(lab.aggregate)
    await aggregate(lab, batch)
    await aggregate(lab, batch)
    assert (await lab.view()).batch.trouble.tries == 5
    await lab.clock.advance(32)
    assert len(await lab.waiting(lab.aggregate)) == 2


async def test_a_refused_batch_keeps_no_other_waiting(lab):
    """The consumer of an aggregator neither pauses for it nor gives it a slot while it waits."""
    lab.objects.refused.add("out/results/demo/bad")
    for number in range(4):
        await finished(lab, 3, execution_id=f"bad-{number}")
    await finished(lab, 3, execution_id="good")
    for name in ("bad-0", "bad-1", "bad-2", "bad-3", "good"):
        await lab.send(lab.aggregate, AggregateMessage(f"demo#{name}", 1).encode())
    consumer = lab.consumer(lab.aggregate, lab.aggregator().handle, max_running=1, max_held=1)
    async with lab.consuming(consumer):
        await lab.until(lambda: lab.table._batches["demo#good"].state is State.SUCCEEDED)
        assert lab.clock.monotonic() == 0
        assert consumer.problem == ""


@pytest.mark.parametrize("ttl_days", [7, 100])
async def test_results_are_given_up_after_fourteen_days_or_a_day_before_the_outcomes_expire(lab, ttl_days):
    """Then the batch is FAILED; the error names the reason, and the way to write the results later."""
    now_ms = lab.clock.now_ms()
    now, ttl = iso_time(now_ms), now_ms // 1000 + ttl_days * 86_400
    batch = await finished(lab, 3, created_at=now, updated_at=now, ttl=ttl)
    lab.objects.refused.add("out/results/")
    await lab.clock.advance(min(14, ttl_days - 1) * 86_400 - 1)
    await aggregate(lab, batch)
    assert (await lab.view()).batch.state is State.AGGREGATING
    await lab.clock.advance(10)
    await aggregate(lab, batch)
    view = await lab.view()
    assert view.batch.state is State.FAILED
    assert view.batch.error.startswith("the results could not be written: s3:PutObject on s3://out/")
    assert view.batch.error.endswith("run `rowfleet finish demo#e1`")


async def test_a_table_that_cannot_be_written_releases_the_message(lab):
    """An outage of the table concerns all batches: the consumer pauses for it."""
    batch = await finished(lab, 3)
    lab.objects.refused.add("out/results/")

    async def refuse(*_, **__):
        raise UnreachableError("no route")

    lab.table.set_trouble = refuse
    with pytest.raises(UnreachableError):
        await aggregate(lab, batch)


async def test_memory_is_bounded_by_pages(lab):
    """`page_rows` outcomes are held over all partitions together, two pages of each, each page once."""
    batch = await finished(lab, 500, partitions=4)
    await aggregate(lab, batch, page_rows=200)
    assert {limit for _, _, limit in lab.table.pages} == {25}
    assert len(set(lab.table.pages)) == len(lab.table.pages)
    first_pages = lab.table.pages[:4]
    assert sorted(partition for partition, _, _ in first_pages) == [0, 1, 2, 3]


async def test_pages_are_written_as_they_are_read(lab):
    """Rows go to the upload in pieces while later pages are still to be read."""
    written = []

    class Watched(MemoryObjects):
        def upload(self, bucket, key, *, content_type, progress=None):
            return WatchedUpload(self, bucket, key, content_type, progress)

    class WatchedUpload(MemoryUpload):
        async def write(self, data):
            written.append((len(lab.table.pages), len(data)))
            await super().write(data)

    lab.objects = Watched()
    batch = await finished(
        lab, 300, change=lambda outcome: replace(outcome, output_data={"answer": "x" * 10_000})
    )
    await aggregate(lab, batch, page_rows=30)
    assert len(written) > 8
    assert max(size for _, size in written) < 300_000
    assert written[0][0] < 4, "of 20 pages"


async def test_counters_that_differ_from_the_rows_are_reported(lab):
    """The rows decide the output; a difference from the counters is a bug and is logged as an error."""
    batch = await finished(lab, 3)
    (counter,) = lab.table._counters[batch.batch_id].values()
    counter.counts = replace(counter.counts, succeeded=2, failed=1)
    with capture_logs() as logs:
        await aggregate(lab, batch)
    assert "counters_differ_from_rows" in [line["event"] for line in logs]
    assert json.loads(files(lab)["manifest.json"])["succeeded"] == 3
    view = await lab.view()
    assert (view.batch.state, view.counts) == (State.SUCCEEDED, Counts(3, 0, 15))


async def test_long_cells_for_excel(lab):
    """With `excel`, output.csv has a mark, and cells that Excel would cut are in a file of their own."""
    long = "x" * 32_768
    batch = await finished(
        lab, 2, bom=True, excel=True,
        change=lambda outcome: replace(outcome, output_data={"answer": long[outcome.number - 1 :]}),
    )  # fmt: skip
    await aggregate(lab, batch)
    found = files(lab)
    assert found.keys() == {"output.csv", "long_cells.csv", "manifest.json", "latest.json"}
    assert found["output.csv"].startswith(codecs.BOM_UTF8)
    _, first, second = records(found["output.csv"].removeprefix(codecs.BOM_UTF8))
    assert first[2] == "(32,768 characters: see long_cells.csv, row 1, column output_answer)"
    assert second[2] == long[1:]
    assert records(found["long_cells.csv"].removeprefix(codecs.BOM_UTF8)) == [
        ["_row", "column", "value"], ["1", "output_answer", long],
    ]  # fmt: skip


async def test_refused_records_keep_their_bytes(lab):
    """failures.csv has a refused record byte for byte, in the encoding of the source."""
    raw = base64.b64encode("1;Zo\u00eb;x".encode("cp1252")).decode()
    batch = await finished(
        lab, 1, failed=(1,), dialect=Dialect("cp1252", ";"),
        change=lambda outcome: replace(outcome, input_data={**outcome.input_data, "_record": raw}),
    )  # fmt: skip
    await aggregate(lab, batch)
    assert files(lab)["failures.csv"] == (b"id;name;_row;_error\r\n1;Zo\xeb;x;1;AgentRejectedError: no\r\n")


@pytest.mark.parametrize("state", [State.RUNNING, State.AGGREGATING, State.SUCCEEDED])
async def test_a_trigger_of_another_incarnation_is_dropped(lab, state):
    """It writes nothing, and leaves the uploads of the batch that has the id now alone."""
    batch = await lab.batch(1, incarnation="018bcfe5680a1b2c")
    await commit_as(lab, batch, lab.outcome(1))
    lab.table._batches[batch.batch_id] = batch = replace(batch, state=state)
    place = batch.results
    async with lab.objects.upload(
        place.bucket, place.prefix + "output.csv", content_type="text/csv"
    ) as upload:
        late = AggregateMessage(batch.batch_id, 1, "018bcfe568000000").encode()
        await lab.aggregator().handle(lab.delivery(late, receives=2))
        assert lab.objects.stored == {}
        await upload.complete()
    assert (await lab.view()).batch == batch


async def commit_as(lab, batch, *outcomes):
    """Commit as a worker of this batch."""
    async with lab.committer() as committer:
        for outcome in outcomes:
            await committer.commit(batch, outcome.number, outcome)


async def test_a_batch_that_has_results_tells_of_it_once(lab):
    """The event is stored with the state, after the manifest; a repeated trigger tells nothing more."""
    batch = await finished(lab, 3, event_kinds=("completed",))
    for _ in range(2):
        await aggregate(lab, batch)
        await lab.clock.advance(1)
    (record,) = await lab.table.records(batch.batch_id, OutboxKind.EVENT)
    body = json.loads(record.text)
    assert body["kind"] == "completed"
    assert body["status"] == {"state": str((await lab.view()).batch.state)}
    assert body["manifest"] == batch.results.url("manifest.json")
