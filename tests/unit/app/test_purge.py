"""Purge: everything that is kept of a batch is deleted."""

from dataclasses import replace

import pytest

from service.adapters.memory import MemoryTable
from service.app.purge import StoredObjects, purge
from service.batch.replies.pack import kept_text
from service.domain.errors import UsageError
from service.domain.model import Location, Operation, OutboxKind, OutboxRecord, State
from service.domain.operation_requests import OperationRequest
from service.steering.filters import Filters
from service.steering.rounds import check_redrivable


class FailingTable(MemoryTable):
    """Fails the next deletions of rows."""

    failures = 0

    async def delete_rows(self, batch, partition):
        """Delete, unless it fails."""
        if self.failures:
            self.failures -= 1
            raise PermissionError
        return await super().delete_rows(batch, partition)


def request_of(batch, op="purge"):
    return OperationRequest(op, batch.batch_id, f"{op}-1", "me", {})


async def ended(lab, *, execution_id="e1", state=State.SUCCEEDED, partitions=2, **changes):
    """A batch with a packed reply, a large outcome, an operation, an event and results."""
    batch = await lab.batch(
        2, execution_id=execution_id, state=State.RUNNING, partitions=partitions,
        output=Location("out", f"results/demo/{execution_id}/"), **changes,
    )  # fmt: skip
    reply = kept_text({"answer": "x" * 300})
    async with lab.committer() as committer:
        await committer.commit(batch, 1, replace(lab.outcome(1), reply=reply))
        await committer.commit(batch, 2, replace(lab.outcome(2), input_data={"name": "y" * 500_000}))
    batch = (await lab.table.read(batch.batch_id)).batch
    await lab.table.keep_answer(batch, Operation("pause", "r1", "me", "", 0, {}, {}))
    await lab.table.add(
        OutboxRecord(OutboxKind.EVENT, batch.batch_id, "e", text="x", incarnation=batch.incarnation)
    )
    lab.table._batches[batch.batch_id] = batch = replace(batch, state=state)
    for name in ("output.csv", "manifest.json", "latest.json", "notes.txt"):
        await lab.objects.put("out", f"{batch.output.prefix}{name}", b"x", content_type="text/plain")
    return batch


def keys(lab):
    return sorted(key for _, key in lab.objects.stored)


async def test_everything_of_a_batch_is_deleted(lab):
    """Other batches, the source and files that are none of ours stay."""
    other = await ended(lab, execution_id="e2")
    left = keys(lab)
    batch = await ended(lab)
    await lab.objects.put("in", "table.csv", b"x", content_type="text/csv")
    assert any("/replies/" in key for key in keys(lab))
    purged = await purge(lab.ports, request_of(batch))
    assert (purged.rows, purged.objects) == (2, 5)
    assert purged.as_json() == {"rows": 2, "objects": 5}
    assert keys(lab) == sorted([*left, "results/demo/e1/notes.txt", "table.csv"])
    table = lab.table
    assert await table.read(batch.batch_id) is None
    assert await table.definition(batch.batch_id, batch.mapping_digest) is None
    assert await table.records(batch.batch_id, OutboxKind.EVENT) == []
    assert [await lab_rows(lab, batch, partition) for partition in range(2)] == [[], []]
    assert (await table.read(other.batch_id)).counts.done == 2
    with pytest.raises(UsageError, match="there is no batch"):
        await purge(lab.ports, request_of(batch))


async def lab_rows(lab, batch, partition):
    return (await lab.table.outcomes(batch, partition, after=0, limit=10)).outcomes


@pytest.mark.parametrize("state", [State.SPLITTING, State.RUNNING, State.PAUSED, State.AGGREGATING])
async def test_a_batch_that_has_not_ended_is_refused(lab, state):
    """Nothing is deleted then."""
    batch = await ended(lab, state=state)
    before = keys(lab)
    with pytest.raises(UsageError, match=f"is {state}: only a batch that has ended"):
        await purge(lab.ports, request_of(batch))
    assert keys(lab) == before
    assert (await lab.table.read(batch.batch_id)).batch == batch


async def test_an_interrupted_purge_is_repeated(make_lab):
    """The batch is there to the end, and no round opens on it meanwhile."""
    lab = make_lab(table=FailingTable())
    batch = await ended(lab, ttl=lab.clock.now_ms() // 1000 + 7 * 86_400)
    lab.table.failures = 1
    with pytest.raises(PermissionError):
        await purge(lab.ports, request_of(batch))
    marked = (await lab.table.read(batch.batch_id)).batch
    assert marked.state is State.SUCCEEDED
    with pytest.raises(UsageError, match="a round needs a day"):
        check_redrivable(marked, request_of(batch, "redrive"), Filters.of({}), lab.clock.now_ms())
    assert (await purge(lab.ports, request_of(batch))).rows == 2
    assert await lab.table.read(batch.batch_id) is None


async def test_further_objects_are_deleted(lab):
    """Such as the copy of the file that a run on this machine has read."""
    batch = await ended(lab)
    await lab.objects.put("in", "table.csv", b"x", content_type="text/csv")
    await lab.objects.put("in", "table.csv.old", b"x", content_type="text/csv")
    await purge(lab.ports, request_of(batch), also=[StoredObjects("in", "table.csv", is_prefix=False)])
    assert "table.csv" not in keys(lab)
    assert "table.csv.old" in keys(lab)


async def test_a_batch_that_was_changed_meanwhile_is_not_deleted(lab):
    """The command has to be run again."""
    batch = await ended(lab)

    async def changed(batch):
        return False

    lab.table.delete_batch = changed
    with pytest.raises(UsageError, match="was changed while it was purged"):
        await purge(lab.ports, request_of(batch))
