"""Start of a run from a command."""

import asyncio
import json

import pytest

from service.app.submit import Reading, SubmitRequest, check_readable, check_request, follow, submit
from service.batch.outages import OutageBoard
from service.domain.errors import AccessError, UsageError
from service.domain.events import decode_ingest
from service.domain.model import Location, State
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate


@pytest.fixture
def rows_csv(tmp_path):
    """A local source."""
    path = tmp_path / "rows.csv"
    path.write_text("id,name\n1,Paris\n")
    return path


async def start(lab, source, **more):
    return (await submit(lab.ports, SubmitRequest(str(source), "demo", **more), "b")).batch_id


async def jobs(lab):
    return [json.loads(body) for body in await lab.waiting(lab.ingest)]


async def test_a_local_file_is_uploaded_and_its_job_published(lab, rows_csv):
    """A local file is uploaded before its job is sent, and the splitter accepts the job."""
    assert await start(lab, rows_csv, execution_id="e1", limit=20) == "demo#e1"
    ((bucket, key),) = lab.objects.stored
    assert lab.objects.stored[bucket, key].body == rows_csv.read_bytes()
    (job,) = await jobs(lab)
    assert job == {
        "v": 1,
        "mapping": "demo",
        "source": f"s3://b/{key}",
        "execution_id": "e1",
        "options": {"limit": 20},
    }, "options that were not given are not in the message"
    (decoded,) = decode_ingest(json.dumps(job)).jobs
    assert (decoded.execution_id, decoded.limit, decoded.problem) == ("e1", 20, "")


async def test_priority_and_weight_travel_in_the_jobs_options(lab, rows_csv):
    """Priority and weight reach the batch by the options of the job."""
    await start(lab, rows_csv, execution_id="e1", priority=9, weight=30)
    (body,) = await lab.waiting(lab.ingest)
    assert json.loads(body)["options"] == {"priority": 9, "weight": 30}
    await lab.splitter().handle(lab.delivery(body))
    batch = (await lab.view()).batch
    assert (batch.priority, batch.weight) == (9, 30)


async def test_the_same_file_has_the_same_key(lab, rows_csv, tmp_path):
    """The key depends on name and content: a file submitted twice is one object."""
    await start(lab, rows_csv)
    await start(lab, rows_csv)
    assert len(lab.objects.stored) == 1
    rows_csv.write_text("id,name\n2,Rome\n")
    await start(lab, rows_csv)
    assert len(lab.objects.stored) == 2


async def test_a_generated_execution_id_is_new_each_time(lab, rows_csv):
    """Without an execution id every submission is another run."""
    first, second = await start(lab, rows_csv), await start(lab, rows_csv)
    assert first != second
    assert first.startswith("demo#rows-")


@pytest.mark.parametrize("name", ["ü.csv", "-.csv", "a b.csv", "x" * 150 + ".csv", ".csv"])
async def test_a_generated_execution_id_is_valid(lab, tmp_path, name):
    """The generated execution id is valid for every file name."""
    path = tmp_path / name
    path.write_text("id\n")
    await start(lab, path)
    (job,) = await jobs(lab)
    assert decode_ingest(json.dumps(job)).jobs[0].execution_id


async def test_an_object_in_s3_is_not_copied(lab):
    """The job of an object in S3 names that object."""
    await lab.put("id,name\n")
    await start(lab, "s3://in/files/rows.csv", execution_id="e1")
    assert len(lab.objects.stored) == 1
    assert (await jobs(lab))[0]["source"] == "s3://in/files/rows.csv"


async def test_the_same_execution_id_for_the_same_source_is_the_same_batch(lab, rows_csv):
    """A repeated submission returns the id of the existing batch."""
    await start(lab, rows_csv, execution_id="e1")
    (body,) = await lab.waiting(lab.ingest)
    await lab.splitter().handle(lab.delivery(body))
    assert await start(lab, rows_csv, execution_id="e1") == "demo#e1"


async def test_the_same_execution_id_for_another_source_is_refused(lab, rows_csv):
    """An execution id of another source raises UsageError, and no job is published."""
    await lab.batch(3)
    with pytest.raises(UsageError, match=r"its source is s3://in/files/rows\.csv .*another --execution-id"):
        await start(lab, rows_csv, execution_id="e1")
    assert await jobs(lab) == []


async def test_the_same_execution_id_for_another_run_is_refused(lab, rows_csv):
    """What differs is named, and no job is published; a default that is spelt out is no difference."""
    await start(lab, rows_csv, execution_id="e1", limit=5)
    (body,) = await lab.waiting(lab.ingest)
    await lab.splitter().handle(lab.delivery(body))
    with pytest.raises(
        UsageError, match="another limit and priority: its limit is 5, this job asks for none; "
    ):
        await start(lab, rows_csv, execution_id="e1", priority=9)
    assert await jobs(lab) == []
    assert await start(lab, rows_csv, execution_id="e1", limit=5, priority=5) == "demo#e1"


async def test_the_id_of_a_batch_that_failed_after_rows_were_sent_is_refused(lab, rows_csv):
    """Its rows may be paid for."""
    await start(lab, rows_csv, execution_id="e1")
    (body,) = await lab.waiting(lab.ingest)
    await lab.splitter().handle(lab.delivery(body))
    batch = (await lab.view()).batch
    await lab.table.move(batch, expected=State.RUNNING, to=State.FAILED, now="now", error="no agent")
    with pytest.raises(
        UsageError, match=r"failed after rows were sent \(no agent\); use another --execution-id"
    ):
        await start(lab, rows_csv, execution_id="e1")
    assert await jobs(lab) == []


async def test_a_batch_that_failed_before_a_row_was_sent_is_followed_to_its_replacement(lab, rows_csv):
    """The old failure is not taken for the end of the new run."""
    await lab.splitter().handle(lab.delivery(lab.job()))
    failed = (await lab.view()).batch
    submission = await submit(lab.ports, SubmitRequest(str(rows_csv), "demo", execution_id="e1"), "b")
    assert submission.replaces == failed
    views = follow(lab.ports, submission.batch_id, replaces=submission.replaces)
    assert await anext(views) == Reading()
    (body,) = await lab.waiting(lab.ingest)
    await lab.splitter().handle(lab.delivery(body))
    following = asyncio.create_task(anext(views))
    await lab.until(following.done, step_s=0.1)
    view = (await following).view
    assert (view.batch.state, view.batch.total) == (State.RUNNING, 1)


@pytest.mark.parametrize("may_count", [True, False])
async def test_a_failed_batch_that_the_service_does_not_replace_ends_the_wait(lab, rows_csv, may_count):
    """A service of an older version takes the job and leaves the batch as it is: an error says so."""
    await lab.splitter().handle(lab.delivery(lab.job()))
    submission = await submit(lab.ports, SubmitRequest(str(rows_csv), "demo", execution_id="e1"), "b")

    async def follow_it():
        async for reading in follow(lab.ports, submission.batch_id, replaces=submission.replaces):
            assert reading.view is None

    following = asyncio.create_task(follow_it())
    await lab.clock.advance(1_000)
    assert not following.done(), "the job waits: the service may be down"
    (body,) = await lab.waiting(lab.ingest)
    assert body
    lab.ingest = lab.queue("ingest")
    if not may_count:

        async def refused():
            raise AccessError("no sqs:GetQueueAttributes")

        lab.ingest.depth = refused
    following.cancel()
    following = asyncio.create_task(follow_it())
    await lab.clock.advance(100)
    assert not following.done()
    await lab.clock.advance(30)
    with pytest.raises(UsageError, match="another --execution-id"):
        await following


@pytest.mark.parametrize(
    ("source", "more", "reason"),
    [
        ("no-such-file.csv", {}, "there is no file no-such-file.csv"),
        ("s3:/in/x.csv", {}, "there is no file"),
        ("s3://in", {}, "not of the form"),
        ("ROWS", {"execution_id": "a b"}, "--execution-id 'a b'"),
    ],
)
async def test_an_invalid_request_is_refused(lab, rows_csv, source, more, reason):
    """An invalid request raises UsageError with the reason, and no job is published."""
    with pytest.raises(UsageError, match=reason):
        await start(lab, rows_csv if source == "ROWS" else source, **more)
    assert await jobs(lab) == []


@pytest.mark.parametrize(
    ("source", "more", "reason"),
    [
        ("s3://in/", {}, "s3://in/ names a bucket but no key"),
        ("s3://in", {}, "not of the form"),
        ("no-such-file.csv", {}, "there is no file no-such-file.csv"),
        ("ROWS", {"delimiter": ";;"}, "--delimiter: ';;' is not one .* use auto, tab or one character"),
        ("ROWS", {"encoding": "utf9"}, "--encoding: 'utf9' is not .* use auto, utf-8 or cp1252"),
        ("ROWS", {"output": "results/"}, "--output: 'results/' is not of the form s3://"),
        ("ROWS", {"output": "s3://b/incoming/x"}, "--output: .* under s3://b/incoming/: it starts a run"),
        ("s3://in/output.csv", {"output": "s3://in/"}, "--output: .* would replace the source"),
    ],
)
def test_a_wrong_request_is_found_before_aws_is_called(rows_csv, source, more, reason):
    """Whatever is stored."""
    request = SubmitRequest(str(rows_csv if source == "ROWS" else source), "demo", **more)
    with pytest.raises(UsageError, match=reason):
        check_request(request, {Location("b", "incoming/"): "it starts a run"})


async def test_the_results_go_where_the_request_wants_them(lab, rows_csv):
    """The output travels in the job; a prefix ends in a slash."""
    request = SubmitRequest(str(rows_csv), "demo", execution_id="e1", output="s3://out/june")
    check_request(request, {Location("b", "incoming/"): "it starts a run"})
    await submit(lab.ports, request, "b")
    (body,) = await lab.waiting(lab.ingest)
    assert json.loads(body)["output"] == "s3://out/june/"
    await lab.splitter().handle(lab.delivery(body))
    assert (await lab.view()).batch.output == Location("out", "june/")


async def test_a_missing_object_is_refused(lab):
    """A missing object raises UsageError before the job is published."""
    with pytest.raises(UsageError, match="does not exist"):
        await start(lab, "s3://in/none.csv")
    assert await jobs(lab) == []


def test_a_folder_is_not_readable(tmp_path):
    """A folder raises UsageError with the operating system's reason."""
    with pytest.raises(UsageError, match="Is a directory"):
        check_readable(str(tmp_path))


async def test_following_ends_with_the_batch(lab):
    """`follow` has no batch until it is opened, then batch and outage, and ends with the batch."""
    outages = OutageBoard(lab.table, lab.clock)
    seen = []
    following = follow(lab.ports, "demo#e1")

    async def next_view():
        import asyncio

        step = asyncio.ensure_future(anext(following, "end"))
        await lab.until(step.done, step_s=1.0)
        seen.append(step.result())

    await next_view()
    batch = await lab.batch(3)
    await next_view()
    await outages.report(batch, "refused")
    await next_view()
    await lab.table.move(batch, expected=State.RUNNING, to=State.SUCCEEDED, now="now")
    await next_view()
    await next_view()
    assert seen[0] == Reading()
    assert [reading.view.batch.state for reading in seen[1:4]] == [
        State.RUNNING, State.RUNNING, State.SUCCEEDED,
    ]  # fmt: skip
    assert seen[1].outage == seen[3].outage == ""
    assert seen[2].outage.startswith("refused (since ")
    assert seen[4] == "end"


async def test_following_shows_operations_and_ends_when_the_batch_is_held(lab):
    """An operation is in the reading after it; those before the first reading are not news."""
    batch = await lab.batch(3)
    await operate(lab.ports, OperationRequest("set", batch.batch_id, "r1", "ann", {"priority": 8}))
    following = follow(lab.ports, batch.batch_id)
    readings = [await anext(following)]
    for request_id, op, args in (("r2", "set", {"priority": 7}), ("r3", "pause", {})):
        await operate(lab.ports, OperationRequest(op, batch.batch_id, request_id, "ann", args))
        step = asyncio.ensure_future(anext(following))
        await lab.until(step.done, step_s=1.0)
        readings.append(step.result())
    made = [[operation.request_id for operation in reading.operations] for reading in readings]
    assert made == [[], ["r2"], ["r3"]]
    assert [reading async for reading in following] == []
