"""A job or an S3 event becomes one batch, or a FAILED batch that says why."""

import asyncio
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.domain.errors import (
    PoisonMessageError,
)
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.model import BatchBudgets, Budget, EventKind, Location, OutboxKind, State
from service.domain.model.event_composer import EventComposer
from service.domain.tolerance import tolerance_text
from service.mapping import Definition
from service.splitter.opening import OpenLimits
from tests.unit.laboratory import DEMO
from tests.unit.splitter.splitting import batch_of, only_batch, s3_event, split, table_of


async def test_the_options_of_a_job_are_kept(lab):
    """Output place, limit, priority and weight come from the job."""
    await lab.put(table_of(25))
    options = {"limit": 7, "priority": 9, "weight": 30}
    await split(lab, lab.job(output="s3://mine/some/where", options=options))
    batch = await batch_of(lab)
    assert batch.output == Location("mine", "some/where/")
    assert (batch.limit, batch.total) == (7, 7)
    assert (batch.priority, batch.weight) == (9, 30)
    assert [row.number for row in await lab.sent_rows()] == list(range(1, 8))


async def test_tolerated_failures_are_stored_with_the_batch(lab, define):
    """Those of the mapping, with the parts that the job changes."""
    await lab.put(table_of(5))
    lab.definitions["demo"] = define(DEMO.replace("execution:", "execution:\n  tolerate: {rejected: 5%}"))
    await split(lab, lab.job("e1"))
    await split(lab, lab.job("e2", options={"tolerate": "any=500,on_exceeded=cancel"}))
    batches = [(await lab.view(f"demo#{id_}")).batch for id_ in ("e1", "e2")]
    assert [tolerance_text(batch.tolerate) for batch in batches] == [
        "rejected=5%,first=20,on_exceeded=pause",
        "rejected=5%,any=500,first=20,on_exceeded=cancel",
    ]


async def test_budgets_are_stored_with_the_batch(lab, define):
    """That of the job, and that of the mapping for each day."""
    await lab.put(table_of(5))
    lab.definitions["demo"] = define(f"{DEMO}\nbudget: {{calls_per_day: 40}}\n")
    await split(lab, lab.job("e1", options={"max_calls": 9, "budget_tokens": "1000"}))
    batch = await batch_of(lab)
    assert batch.budgets == BatchBudgets(Budget(calls=9, tokens=1_000), Budget(calls=40))


@pytest.mark.parametrize(
    ("options", "more", "error"),
    [
        ({"budget_usd": 5}, "", "needs the price of a call"),
        ({}, "budget: {usd_per_day: 5}", "needs the price of a call"),
        ({"budget_usd": 5}, "pricing: {per_call: 1, currency: EUR}", "states EUR"),
        ({"budget_usd": 5}, "pricing: {per_call: 1}", ""),
    ],
)
async def test_a_budget_of_money_needs_a_known_price(lab, define, options, more, error):
    """The batch fails before a row is sent, and says what to do."""
    await lab.put(table_of(5))
    lab.definitions["demo"] = define(f"{DEMO}\n{more}\n")
    await split(lab, lab.job("e1", options=options))
    batch = await batch_of(lab)
    assert error in batch.error
    assert (batch.state is State.FAILED) == bool(error)


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
    """An S3 event needs no job: the folder names the mapping, and the object gives the execution id."""
    source = await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag=source.etag))
    batch = await only_batch(lab)
    assert batch.tool_name == "demo"
    assert batch.execution_id.startswith("rows-")
    assert batch.total == 5


async def test_an_event_delivered_twice_is_the_same_batch(lab):
    """S3 may deliver one event in two messages; their sequencer shows that they are one."""
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
    """The announced bytes are gone, so this run fails; the newer upload has an event of its own."""
    await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag="older"))
    batch = await only_batch(lab)
    assert batch.state is State.FAILED
    assert "has changed since the event" in batch.error
    assert await lab.sent_rows() == []


async def test_a_job_without_an_id_is_one_run_per_message(lab):
    """The id is derived from source and message: a redelivery is the same run, a second message is not."""
    await lab.put(table_of(2))
    body = json.dumps({"v": 1, "mapping": "demo", "source": "s3://in/files/rows.csv"})
    delivery = lab.delivery(body)
    await lab.splitter().handle(delivery)
    await lab.splitter().handle(delivery)
    assert len(await lab.table.recent(10)) == 1
    await lab.splitter().handle(lab.delivery(body))
    assert len(await lab.table.recent(10)) == 2


async def test_a_test_event_of_s3_is_acknowledged(lab):
    """S3 sends a test event when a notification is set up: neither an error nor a run."""
    await split(lab, json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in"}))
    assert await lab.table.recent(10) == []


async def test_junk_is_poison(lab):
    """A message that is neither a job nor an event goes to the dead letters."""
    with pytest.raises(PoisonMessageError, match="neither a job"):
        await split(lab, "{}")


async def test_another_source_under_the_same_id_is_refused(lab):
    """A batch id belongs to one source; a job with another source is refused and changes nothing."""
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
    """The message ends in the dead-letter queue, where a person sees it; the batch stays as it is."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    await lab.put(table_of(9))
    for receives in (1, 2, 5):
        with pytest.raises(PoisonMessageError, match="use another execution_id"):
            await split(lab, lab.job(), receives=receives)
    assert (await batch_of(lab)).total == 5


async def test_a_redelivery_after_the_source_is_gone_is_no_error(lab):
    """A redelivered job whose batch was split needs no source any more."""
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


async def test_a_refused_job_does_not_keep_the_others_of_its_message(lab):
    """The jobs behind one that is refused are carried out; the message is left to the dead letters."""
    await lab.put(table_of(2), "incoming/demo/a.csv")
    await lab.put(table_of(3), "incoming/demo/b.csv")
    first, second = s3_event("incoming/demo/a.csv"), s3_event("incoming/demo/b.csv")
    (job,) = decode_ingest(first).jobs
    await split(lab, lab.job(job.execution_id_for(""), key="incoming/demo/b.csv", options={"limit": 2}))
    both = json.loads(first)["Records"] + json.loads(second)["Records"]
    with pytest.raises(PoisonMessageError, match="exists with another source"):
        await split(lab, json.dumps({"Records": both}))
    assert sorted(batch.total for batch in await lab.table.recent(10)) == [2, 3]
    await split(lab, second)
    assert len(await lab.table.recent(10)) == 2


async def test_a_file_that_starts_no_run_is_logged(lab):
    """The log has bucket, key and reason, as a warning; no batch is opened."""
    with capture_logs() as logs:
        await split(lab, s3_event("incoming/demo/rows.xlsx", size=3))
    (line,) = [log for log in logs if log["event"] == "ingest_ignored"]
    assert (line["bucket"], line["key"], line["log_level"]) == ("in", "incoming/demo/rows.xlsx", "warning")
    assert "its name ends in none of" in line["reason"]
    assert await lab.table.recent(10) == []


async def test_a_job_with_an_option_of_a_wrong_type_is_a_failed_batch(lab):
    """The batch says which option is wrong; no message is poisoned."""
    await lab.put(table_of(3))
    await split(lab, lab.job(options={"limit": "all"}))
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "job option 'limit' is \"all\"; use a whole number from 1" in batch.error


async def test_a_job_with_a_large_wrong_key_is_a_failed_batch(lab):
    """The reason is cut, so that the table can hold the batch."""
    await lab.put(table_of(3))
    await split(lab, lab.job(**{"k" * 900_000: 1}))
    batch = await batch_of(lab)
    assert batch.error.startswith("a job has no key 'kkk")
    assert len(batch.error) <= 1_000


RESERVED = {Location("mine", "incoming/"): "every result would start a run"}


@pytest.mark.parametrize("output", ["s3://mine/incoming", "s3://mine/incoming/a/b/", "s3://mine//incoming/"])
async def test_an_output_whose_results_would_start_runs_is_refused(lab, output):
    """The batch fails with the reason, and its manifest goes to the place of jobs without an output."""
    await lab.put(table_of(3))
    await split(lab, lab.job(output=output), opening=OpenLimits(reserved=RESERVED))
    batch = await batch_of(lab)
    assert (batch.state, batch.output) == (State.FAILED, Location("rowfleet", "results/demo/e1/"))
    assert "lies under s3://mine/incoming/: every result would start a run" in batch.error
    assert await lab.sent_rows() == []


@pytest.mark.parametrize("output", ["s3://mine/incoming-results/", "s3://other/incoming/", "s3://mine/"])
async def test_an_output_beside_a_reserved_place_is_taken(lab, output):
    """Only keys under the reserved prefix of the same bucket are refused."""
    await lab.put(table_of(3))
    await split(lab, lab.job(output=output), opening=OpenLimits(reserved=RESERVED))
    assert (await batch_of(lab)).error == ""


async def test_an_output_that_would_replace_the_source_is_refused(lab):
    """The failures of an earlier run may be the source; they are not overwritten while they are read."""
    await lab.put(table_of(3), "files/failures.csv")
    await split(lab, lab.job(key="files/failures.csv", output="s3://in/files/"))
    assert "would replace the source" in (await batch_of(lab)).error


async def test_a_batch_that_fails_at_its_opening_writes_its_manifest(lab):
    """A missing source is said in the bucket as well."""
    await split(lab, lab.job())
    source = await lab.objects.head("out", "results/demo/e1/manifest.json")
    manifest = json.loads(await lab.objects.read(source, 0, source.size))
    assert manifest["state"] == "FAILED"
    assert "does not exist" in manifest["error"]


async def test_a_redelivered_job_writes_the_manifest_that_a_crash_prevented(lab):
    """The batch was stored as FAILED, and its splitter died before it wrote why (here: wrote nothing)."""
    await split(lab, lab.job())
    await lab.objects.put("out", "results/demo/e1/manifest.json", b"", content_type="application/json")
    await lab.clock.advance(5)
    await split(lab, lab.job(), receives=2)
    source = await lab.objects.head("out", "results/demo/e1/manifest.json")
    manifest = json.loads(await lab.objects.read(source, 0, source.size))
    assert (manifest["state"], manifest["error"]) == ("FAILED", (await batch_of(lab)).error)


async def test_a_limit_written_as_text_is_understood(lab):
    """`"limit": "2"` has one meaning."""
    await lab.put(table_of(5))
    await split(lab, lab.job(options={"limit": "2"}))
    assert (await batch_of(lab)).total == 2


async def test_a_missing_source_is_a_failed_batch(lab):
    """The user sees a batch that says what is missing, not a message that vanished."""
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.finished_at != "") == (State.FAILED, True)
    assert "s3://in/files/rows.csv does not exist" in batch.error


async def test_an_unknown_mapping_is_a_failed_batch(lab):
    """The error names the mapping; no row is sent."""
    await lab.put(table_of(3))
    await split(lab, lab.job(mapping="nonesuch"))
    batch = await batch_of(lab, "nonesuch#e1")
    assert batch.state is State.FAILED
    assert "unknown mapping 'nonesuch'" in batch.error
    assert await lab.sent_rows() == []


async def test_a_job_with_an_unsupported_option_is_a_failed_batch(lab):
    """A planned option is refused in words, never ignored."""
    await lab.put(table_of(3))
    await split(lab, lab.job(options={"paused": True}))
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert "paused" in batch.error
    assert await lab.sent_rows() == []


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


async def test_opening_is_logged_once(lab):
    """One line says that a batch was opened, however often its message is delivered."""
    await lab.put(table_of(3))
    with capture_logs() as logs:
        await split(lab, lab.job())
        await split(lab, lab.job(), receives=2)
    assert [line["event"] for line in logs].count("batch_opened") == 1
    assert [line["event"] for line in logs].count("batch_sealed") == 1


@pytest.mark.parametrize(("size", "partitions"), [(0, 1), (999, 1), (1_000, 2), (5_500, 6), (10**6, 64)])
async def test_large_sources_are_partitioned(lab, size, partitions):
    """The number of partitions is fixed when the batch is opened, by the size of its source."""
    await lab.put("id,name\n".ljust(size, "\n")[:size] if size else "")
    await split(lab, lab.job(), partition_bytes=1_000, read_bytes=2**20)
    assert (await batch_of(lab)).partitions == partitions


@pytest.mark.parametrize("mapping", ["demo", "nonesuch"], ids=["missing source", "unknown mapping"])
async def test_a_batch_that_fails_when_it_is_opened_is_counted_and_logged_once(lab, mapping):
    """The alarm on `batches_failed` sees it, and a redelivery of the job adds nothing."""
    with capture_logs() as logs:
        await split(lab, lab.job(mapping=mapping), message_id="m")
        await lab.clock.advance(1)
        await split(lab, lab.job(mapping=mapping), receives=2, message_id="m")
    batch = await only_batch(lab)
    assert lab.metrics.totals["batches_failed"] == 1
    (line,) = [line for line in logs if line["event"] == "batch_failed"]
    assert (line["batch_id"], line["reason"]) == (batch.batch_id, batch.error)


# -- the same execution id again


async def test_a_failure_before_the_first_row_does_not_keep_the_id(lab):
    """Once its cause is mended, another job with the id opens the batch anew, with a later incarnation."""
    await split(lab, lab.job(options={"limit": "all"}))
    await split(lab, lab.job(mapping="demo"))
    failed = await batch_of(lab)
    assert "does not exist" in failed.error
    await lab.put(table_of(3))
    await split(lab, lab.job(options={"limit": 2}))
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.error) == (State.RUNNING, 2, "")
    assert batch.incarnation > failed.incarnation
    assert [row.incarnation for row in await lab.sent_rows()] == [batch.incarnation] * 2
    assert lab.metrics.totals["batches_failed"] == 2


@pytest.mark.parametrize("failing", ["encoding", "columns"])
async def test_a_source_that_could_not_be_read_does_not_keep_the_id(lab, failing):
    """No row was sent: neither an encoding that fits nothing nor a missing column needs another id."""
    if failing == "encoding":
        await lab.put(table_of(3))
        await split(lab, lab.job(options={"encoding": "utf-16"}))
    else:
        await lab.put("id,other\r\n1,x\r\n")
        await split(lab, lab.job())
    assert (await batch_of(lab)).state is State.FAILED
    await lab.put(table_of(3))
    await split(lab, lab.job())
    assert (await batch_of(lab)).total == 3


async def test_a_redelivered_job_finds_the_failure_of_its_first_delivery(lab):
    """One message opens one batch, also if the cause of its failure is mended between its deliveries."""
    await split(lab, lab.job(), message_id="m")
    failed = await batch_of(lab)
    await lab.put(table_of(3))
    await split(lab, lab.job(), message_id="m", receives=2)
    assert await batch_of(lab) == failed


async def test_a_second_message_of_an_event_finds_the_failure_of_the_first(lab):
    """S3's sequencer shows that they are one upload."""
    await lab.put(table_of(5), "incoming/demo/rows.csv")
    await split(lab, s3_event(etag="older"))
    failed = await only_batch(lab)
    await split(lab, s3_event(etag="older"))
    assert await only_batch(lab) == failed
    assert lab.metrics.totals["batches_failed"] == 1


async def test_one_of_two_jobs_opens_a_failed_batch_anew(lab):
    """Their splitters read the same failed batch; the later one joins the earlier one's batch."""
    await split(lab, lab.job())
    await lab.put(table_of(3))
    await asyncio.gather(
        *(lab.splitter().handle(lab.delivery(lab.job())) for _ in range(2)), return_exceptions=True
    )
    assert [line.total for line in await lab.table.recent(9)] == [3]
    assert {row.incarnation for row in await lab.sent_rows()} == {(await batch_of(lab)).incarnation}


async def test_a_failure_after_the_first_row_keeps_the_id(lab):
    """Rows may be paid for: the job is refused and the remedy named."""
    await lab.put(table_of(3))
    await split(lab, lab.job(), message_id="m")
    batch = await batch_of(lab)
    await lab.table.move(batch, expected=State.RUNNING, to=State.FAILED, now="now", error="no agent")
    await split(lab, lab.job(), message_id="m", receives=2)
    with pytest.raises(
        PoisonMessageError, match=r"failed after rows were sent \(no agent\); use another execution_id"
    ):
        await split(lab, lab.job())
    assert (await batch_of(lab)).identity == batch.identity


@pytest.mark.parametrize(
    ("job", "names"),
    [
        ({"output": "s3://mine/there/"}, "output"),
        ({"options": {"limit": 2}}, "limit"),
        ({"options": {"priority": 9, "weight": 2}}, "priority and weight"),
        ({"options": {"deadline_s": 60}}, "deadline_s"),
        ({"options": {"tolerate": "any=5"}}, "tolerate"),
        ({"options": {"delimiter": ","}}, "delimiter"),
        ({"options": {"encoding": "utf-8"}}, "encoding"),
    ],
)
async def test_another_run_under_the_same_id_is_refused(lab, job, names):
    """The reason names the differences, by whichever of the two jobs came first."""
    await lab.put(table_of(5))
    await split(lab, lab.job("plain"))
    await split(lab, lab.job("special", **job))
    for execution_id, other in (("plain", job), ("special", {})):
        before = await batch_of(lab, f"demo#{execution_id}")
        with pytest.raises(
            PoisonMessageError, match=f"exists with another {names}: .*use another execution_id"
        ):
            await split(lab, lab.job(execution_id, **other))
        assert await batch_of(lab, f"demo#{execution_id}") == before


async def test_a_wrong_job_under_the_same_id_is_refused(lab):
    """It is not taken for the job that opened the batch."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    with pytest.raises(PoisonMessageError, match="this job is refused: job option 'limit'"):
        await split(lab, lab.job(options={"limit": "all"}))


async def test_a_default_that_is_spelt_out_is_no_difference(lab):
    """An option that is missing counts as its default."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    before = await batch_of(lab)
    output = "s3://out/results/demo/e1"
    await split(lab, lab.job(output=output, options={"priority": 5, "weight": 1, "limit": None}))
    assert await batch_of(lab) == before


async def test_a_redelivered_job_is_never_refused(lab):
    """The batch is its own, also if source and settings have changed since it was opened."""
    await lab.put(table_of(5))
    await split(lab, lab.job(), message_id="m")
    await lab.put(table_of(9))
    opening = OpenLimits(results_bucket="another")
    await split(lab, lab.job(), message_id="m", receives=2, opening=opening)
    assert (await batch_of(lab)).total == 5


@pytest.mark.parametrize("has_batch", [True, False])
async def test_a_job_that_was_sent_again_opens_no_batch(lab, has_batch):
    """The sweeper sent it for a batch that is gone; another one may have its id by now."""
    await lab.put(table_of(5))
    if has_batch:
        await split(lab, lab.job())
    before = await lab.table.recent(9)
    late = Job("demo", await lab.put(table_of(5)), "e1", incarnation="018bcfe568000000")
    await split(lab, late.encode())
    assert await lab.table.recent(9) == before


async def test_a_job_that_was_sent_again_continues_its_batch(lab):
    """It is the batch's own: nothing of it is compared."""
    await lab.put(table_of(25))
    await split(lab, lab.job(options={"delimiter": ","}))
    sealed = await batch_of(lab)
    lab.table._batches[sealed.batch_id] = replace(sealed, state=State.SPLITTING, total=None)
    await split(lab, Job("demo", sealed.source, "e1", incarnation=sealed.incarnation).encode())
    assert (await batch_of(lab)).total == 25


async def test_a_source_that_fails_before_the_first_row_keeps_no_id(lab):
    """The header was read, and no row was sent: the id is opened anew once the file is mended."""
    await lab.put(table_of(5) + '6,"open')
    await split(lab, lab.job(), message_id="m1")
    failed = await batch_of(lab)
    assert (failed.state, failed.columns) == (State.FAILED, ())
    await lab.put(table_of(5))
    await split(lab, lab.job(), message_id="m2")
    batch = await batch_of(lab)
    assert (batch.state, batch.total) == (State.RUNNING, 5)
    assert [row.incarnation for row in await lab.sent_rows()] == [batch.incarnation] * 5


@pytest.mark.parametrize("key", ["in.csv", "missing.csv"])
async def test_a_batch_that_is_opened_tells_of_it(lab, key):
    """It has started, or has failed at once; a job that comes again tells nothing more."""
    lab.events = EventComposer(frozenset(EventKind), lambda view: {"error": view.batch.error})
    await lab.put(table_of(5), "in.csv")
    for _ in range(2):
        await split(lab, lab.job(key=key), message_id="m")
    batch = await batch_of(lab)
    assert set(batch.event_kinds) == set(EventKind)
    (record,) = await lab.table.records(batch.batch_id, OutboxKind.EVENT)
    body = json.loads(record.text)
    assert body["kind"] == ("started" if key == "in.csv" else "failed")
    assert body["status"] == {"error": batch.error}
    assert record.incarnation == batch.incarnation
