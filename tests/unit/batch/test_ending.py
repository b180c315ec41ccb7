"""A batch fails in one way, and its manifest says why."""

import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryObjects, MemoryTable
from service.batch.ending import fail_batch
from service.domain.errors import AccessError
from service.domain.model import Commit, Event, EventKind, Operation, OutboxKind, State
from service.domain.model.event_composer import EventComposer

WORK = (State.SPLITTING, State.RUNNING)


@pytest.mark.parametrize("total", [None, 3], ids=["splitting", "running"])
async def test_a_failed_batch_is_moved_counted_and_logged(lab, total):
    """The batch is caught in whichever of the expected states it is."""
    batch = await lab.batch(total)
    with capture_logs() as logs:
        failed = await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    stored = (await lab.view()).batch
    assert (stored.state, stored.error, stored.finished_at) == (State.FAILED, "no agent", failed.finished_at)
    assert (failed.state, failed.error) == (State.FAILED, "no agent")
    assert lab.metrics.totals["batches_failed"] == 1
    assert [(line["event"], line["reason"], line["moved"]) for line in logs] == [
        ("batch_failed", "no agent", True)
    ]


async def test_an_operation_during_the_end_changes_its_event(lab):
    """The event is made anew: its id follows from the operations before it, so that no two ends share one."""
    batch = await lab.batch(3, event_kinds=("failed",))
    ports = replace(
        lab.ports, events=EventComposer(frozenset(), lambda view: {"control": view.batch.control})
    )
    read = lab.table.read

    async def read_before(batch_id):
        view = await read(batch_id)
        lab.table.read = read
        changed = replace(view.batch, control=1, priority=9)
        assert await lab.table.operate(view.batch, changed, Operation("set", "r1", "ada", "", 1))
        return view

    lab.table.read = read_before
    await fail_batch(ports, batch, "no agent", expected=WORK)
    [record] = await lab.table.records(batch.batch_id, OutboxKind.EVENT)
    assert json.loads(record.text)["status"] == {"control": 1}
    assert record.name == Event.of(replace(batch, control=1), EventKind.FAILED, at="", status={}).id
    assert (await lab.view()).batch.state is State.FAILED


async def test_a_failed_batch_writes_its_manifest(lab):
    """Whoever reads only the bucket learns there that the batch has failed, and why."""
    batch = await lab.batch(3)
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    await lab.clock.advance(1)
    await fail_batch(lab.ports, batch, "another reason", expected=WORK)
    place = batch.results
    source = await lab.objects.head(place.bucket, place.prefix + "manifest.json")
    manifest = json.loads(await lab.objects.read(source, 0, source.size))
    assert (manifest["state"], manifest["error"], manifest["files"]) == ("FAILED", "no agent", [])
    assert (manifest["batch_id"], manifest["total"], manifest["succeeded"]) == (batch.batch_id, 3, 0)


async def test_a_repeated_failure_writes_the_manifest_that_a_crash_prevented(lab):
    """The batch was moved, and the process died: the manifest gives the reason that stands in the table."""
    batch = await lab.batch(3)
    await lab.table.move(
        batch, expected=State.RUNNING, to=State.FAILED, now="2026-01-01T00:00:00Z", error="first"
    )
    await fail_batch(lab.ports, batch, "again", expected=WORK)
    source = await lab.objects.head(batch.results.bucket, batch.results.prefix + "manifest.json")
    assert json.loads(await lab.objects.read(source, 0, source.size))["error"] == "first"


async def test_a_bucket_that_refuses_the_manifest_does_not_change_the_state(lab):
    """The manifest of a failed batch is written if the bucket takes it; if not, the log says so."""

    class RefusingObjects(MemoryObjects):
        async def put_if(self, *_args, **_named):
            raise AccessError("s3:PutObject is not allowed")

    ports = replace(lab.ports, objects=RefusingObjects())
    batch = await lab.batch(3)
    with capture_logs() as logs:
        failed = await fail_batch(ports, batch, "no agent", expected=WORK)
    assert (failed.state, (await lab.view()).batch.state) == (State.FAILED, State.FAILED)
    assert [line["event"] for line in logs] == ["batch_failed", "manifest_not_written"]


async def test_a_batch_that_has_ended_is_left_alone(lab):
    """A batch in another state keeps it, and is not counted as failed."""
    batch = await lab.batch(3, state=State.SUCCEEDED)
    with capture_logs() as logs:
        stands = await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert (stands.state, stands.error) == (State.SUCCEEDED, "")
    assert lab.metrics.totals["batches_failed"] == 0
    assert [line["moved"] for line in logs] == [False]


async def test_of_two_processes_that_fail_a_batch_one_counts_it(lab):
    """Every worker of a fleet finds out that an agent cannot be opened; the batch fails once."""
    batch = await lab.batch(3)
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    await lab.clock.advance(1)
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert lab.metrics.totals["batches_failed"] == 1


async def test_a_move_whose_reply_was_lost_is_counted(make_lab):
    """A repeated call finds its own success and reports False: the batch is read, and counted."""

    class LosesReplies(MemoryTable):
        async def move(self, *args, **named):
            await super().move(*args, **named)
            return False

    lab = make_lab(table=LosesReplies())
    batch = await lab.batch(3)
    stands = await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert stands.state is State.FAILED
    assert lab.metrics.totals["batches_failed"] == 1


async def test_an_earlier_incarnation_fails_nothing(lab):
    """A process that still works on an expired batch changes nothing of the one that has the id now."""
    batch = await lab.batch(3, incarnation="018bcfe5680a1b2c")
    late = replace(batch, incarnation="018bcfe568000000")
    assert await fail_batch(lab.ports, late, "no agent", expected=WORK) == batch
    assert lab.metrics.totals["batches_failed"] == 0
    assert lab.objects.stored == {}


class SlowObjects(MemoryObjects):
    """Runs `before_put` once before a manifest is written under a condition."""

    before_put = None

    async def put_if(self, *args, **named):
        """Write."""
        action, self.before_put = self.before_put, None
        if action is not None:
            await action()
        return await super().put_if(*args, **named)


async def manifest_state(lab, batch):
    source = await lab.objects.head(batch.results.bucket, batch.results.prefix + "manifest.json")
    return json.loads(await lab.objects.read(source, 0, source.size))["state"]


@pytest.mark.parametrize("has_one", [True, False])
async def test_a_late_manifest_of_a_failure_replaces_no_result(lab, has_one):
    """The id was opened anew, and the other batch has ended, before the manifest of the first arrives."""
    lab.objects = SlowObjects()
    batch = await lab.batch(3, incarnation="018bcfe568000000")
    place = batch.results
    if has_one:
        await lab.objects.put(place.bucket, place.prefix + "manifest.json", b"{}", content_type="")

    async def succeed():
        again = replace(batch, incarnation="018bcfe5680a1b2c", state=State.SUCCEEDED)
        lab.table._batches[batch.batch_id] = again
        body = json.dumps({"state": "SUCCEEDED"}).encode()
        await lab.objects.put(place.bucket, place.prefix + "manifest.json", body, content_type="")

    lab.objects.before_put = succeed
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert await manifest_state(lab, batch) == "SUCCEEDED"


async def test_a_failure_replaces_the_manifest_of_an_earlier_one(lab):
    """Two processes write it at once, or another batch with the id has failed before."""
    lab.objects = SlowObjects()
    batch = await lab.batch(3)
    place = batch.results

    async def other():
        await lab.objects.put(place.bucket, place.prefix + "manifest.json", b"{}", content_type="")

    lab.objects.before_put = other
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert await manifest_state(lab, batch) == "FAILED"


# -- events ----------------------------------------------------------------------------------------------


async def test_a_failed_batch_tells_of_it_once(lab):
    """The event is stored with the state, by the process that moved the batch; its counts are the batch's."""
    lab.events = EventComposer(
        status=lambda view: {"state": str(view.batch.state), "failed": view.counts.failed}
    )
    batch = await lab.batch(3, event_kinds=("failed",))
    await lab.table.commit(
        Commit(batch.batch_id, 1, 1, 0, (lab.outcome(1, failed="no"),), "t" * 36, batch.ttl)
    )
    for _ in range(2):
        await fail_batch(lab.ports, batch, "no agent", expected=WORK)
        await lab.clock.advance(1)
    (record,) = await lab.table.records(batch.batch_id, OutboxKind.EVENT)
    body = json.loads(record.text)
    assert (body["kind"], body["status"]) == ("failed", {"state": "FAILED", "failed": 1})
    assert body["manifest"] == batch.results.url("manifest.json")


async def test_a_batch_that_tells_nobody_is_not_read_for_it(lab):
    """Without events a move stays one call."""
    batch = await lab.batch(3)
    await fail_batch(lab.ports, batch, "no agent", expected=WORK)
    assert await lab.table.records(batch.batch_id, OutboxKind.EVENT) == []
