"""An aggregation that was interrupted goes on at its last part, and the results are the same bytes."""

from dataclasses import replace

import pytest

from service.adapters.memory import MemoryObjects, MemoryTable
from service.aggregator.checkpoints import Checkpoints, FileProgress, Progress
from service.domain.errors import SourceError, UnreachableError
from service.domain.messages import AggregateMessage
from service.domain.model import Commit, Counts, State
from service.domain.ports import UploadProgress

PREFIX = "results/demo/e1/"
BODY = AggregateMessage("demo#e1", 1).encode()
ROWS = 300


class CuttingTable(MemoryTable):
    """Fails at a page of outcomes, and remembers after which rows it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []
        self.fail_after: int | None = None

    async def outcomes(self, batch, partition, *, after, limit):
        """A page."""
        if self.fail_after is not None and after >= self.fail_after:
            raise UnreachableError("no route")
        self.pages.append(after)
        return await super().outcomes(batch, partition, after=after, limit=limit)


class ClosedObjects(MemoryObjects):
    """Results that may be written and not read."""

    async def read(self, source, start, length):
        """Read, unless it is a result."""
        if source.key.startswith("results/"):
            raise SourceError("may not be read")
        return await super().read(source, start, length)


@pytest.fixture
def lab(make_lab):
    lab = make_lab(table=CuttingTable())
    lab.objects.part_bytes = 1_000
    return lab


async def finished(lab, **changes):
    """A batch of many rows, some of which failed, with cells too long for Excel."""
    batch = await lab.batch(ROWS, state=State.AGGREGATING, excel=True, partitions=3, **changes)
    for start in range(1, ROWS + 1, 50):
        rows = tuple(
            replace(
                lab.outcome(n, failed="no" if n % 10 == 0 else ""),
                output_data={"answer": "x" * (33_000 if n % 90 == 1 else 20)},
            )
            for n in range(start, start + 50)
        )
        token = next(lab.tokens)
        await lab.table.commit(Commit(batch.batch_id, 1, batch.partitions, 0, rows, token, batch.ttl))
    return batch


async def aggregate(lab):
    await lab.aggregator(page_rows=30, flush_bytes=200).handle(lab.delivery(BODY))
    trouble = (await lab.view()).batch.trouble
    if trouble is not None:
        await lab.clock.advance((trouble.again_at_ms - lab.clock.now_ms()) / 1000)


def results(lab):
    """The result files."""
    return {
        key.removeprefix(PREFIX): found.body
        for (_, key), found in lab.objects.stored.items()
        if key.startswith(PREFIX)
    }


async def undisturbed(lab):
    """The results of a batch that is aggregated in one go."""
    await finished(lab)
    await aggregate(lab)
    found = results(lab)
    lab.objects.stored.clear()
    lab.table._batches["demo#e1"] = replace((await lab.view()).batch, state=State.AGGREGATING)
    lab.table.pages.clear()
    return found


@pytest.mark.parametrize("objects", [MemoryObjects, ClosedObjects])
async def test_an_interrupted_aggregation_goes_on_at_its_last_part(lab, objects):
    """The rows before are not read again, the bytes are the same, and nothing is left."""
    wanted = await undisturbed(lab)
    stored, lab.objects = lab.objects, objects()
    lab.objects.part_bytes = stored.part_bytes
    for fail_after in (90, 150, 240):
        lab.table.fail_after = fail_after
        await aggregate(lab)
        assert results(lab) == {}
        assert (await lab.view()).batch.state is State.AGGREGATING
    lab.table.fail_after = None
    lab.table.pages.clear()
    await aggregate(lab)
    assert results(lab) == wanted
    assert set(wanted) == {
        "output.csv", "failures.csv", "long_cells.csv", "manifest.json", "latest.json",
    }  # fmt: skip
    if objects is MemoryObjects:
        assert min(lab.table.pages) > 200
    assert lab.objects.unfinished == []
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_the_uploads_of_a_dead_aggregator_go_on(lab):
    """Its checkpoint's uploads are kept and the others aborted; the next one begins at its last row."""
    wanted = await undisturbed(lab)
    lab.table.fail_after = 150
    await aggregate(lab)
    begun = {upload.key for upload in lab.objects.unfinished}
    await lab.objects.upload("out", PREFIX + "output.csv", content_type="text/csv").write(b"lost")
    now_ms = lab.clock.now_ms()
    batch = (await lab.view()).batch
    await lab.table.lease(batch, state=State.AGGREGATING, owner="dead", now_ms=now_ms, until_ms=now_ms + 1)
    await lab.clock.advance(60)
    lab.table.fail_after = None
    lab.table.pages.clear()
    await aggregate(lab)
    assert PREFIX + "output.csv" in begun
    assert results(lab) == wanted
    assert min(lab.table.pages) > 100
    assert lab.objects.unfinished == []


async def test_trouble_ends_with_the_next_part(lab):
    """Pauses begin anew once the aggregation gets on."""
    await finished(lab)
    lab.table.fail_after = 0
    for _ in range(5):
        await aggregate(lab)
    assert (await lab.view()).batch.trouble.tries == 5
    lab.table.fail_after = 150
    await aggregate(lab)
    assert (await lab.view()).batch.trouble.tries == 1


async def test_uploads_that_are_gone_are_begun_anew(lab):
    """If a lifecycle rule has aborted them, the results are written from the first row."""
    wanted = await undisturbed(lab)
    lab.table.fail_after = 150
    await aggregate(lab)
    lab.objects.unfinished.clear()
    lab.table.fail_after = None
    await aggregate(lab)
    assert results(lab) == {}
    lab.table.pages.clear()
    await aggregate(lab)
    assert results(lab) == wanted
    assert min(lab.table.pages) == 0
    assert lab.objects.unfinished == []


async def test_an_aggregator_that_dies_before_the_manifest_writes_it(lab):
    """Files that are whole are not written again, also if their sha256 is still to be found."""
    wanted = await undisturbed(lab)
    lab.table.fail_after = 150
    await aggregate(lab)
    lab.table.fail_after = None
    lab.objects.refused.add("out/results/demo/e1/manifest.json")
    await aggregate(lab)
    assert set(results(lab)) == set(wanted) - {"manifest.json", "latest.json"}
    lab.objects.refused.clear()
    lab.table.pages.clear()
    await aggregate(lab)
    assert results(lab) == wanted
    assert lab.table.pages == []


async def test_results_that_are_written_once_more_begin_with_the_first_row(lab):
    """At the end the checkpoint is void."""
    wanted = await undisturbed(lab)
    lab.table.fail_after = 150
    await aggregate(lab)
    lab.table.fail_after = None
    await aggregate(lab)
    lab.table._batches["demo#e1"] = replace((await lab.view()).batch, state=State.AGGREGATING)
    lab.table.pages.clear()
    await aggregate(lab)
    assert results(lab) == wanted
    assert min(lab.table.pages) == 0


async def test_a_batch_that_fails_leaves_no_upload(lab):
    """A row that is missing ends the batch; its parts are not kept."""
    await finished(lab)
    partition = "demo#e1#1"
    del lab.table._rows[partition][280]
    lab.table._numbers[partition].remove(280)
    await aggregate(lab)
    assert (await lab.view()).batch.state is State.FAILED
    assert lab.objects.unfinished == []


async def test_a_checkpoint_survives_the_round_trip(lab):
    """It holds the parts, the bytes after them, and the counts; one of another batch does not fit."""
    batch = await lab.batch(3, state=State.AGGREGATING)
    upload = UploadProgress("u1", ({"PartNumber": 1, "ETag": '"e"', "ChecksumCRC32": "c="},), 9, b"\xff\x00")
    files = {
        "output.csv": FileProgress(2, upload),
        "failures.csv": FileProgress(1, UploadProgress("", (), 3, b"abc")),
    }
    progress = Progress(2, Counts(succeeded=1, failed=1), "then", files)
    checkpoints = Checkpoints(lab.ports, batch)
    assert await checkpoints.load() is None
    assert await checkpoints.save(progress)
    assert await Checkpoints(lab.ports, batch).load() == progress
    for other in (replace(batch, total=4), replace(batch, round=2), replace(batch, incarnation="b" * 16)):
        found = Checkpoints(lab.ports, other)
        lab.objects.stored[found._bucket, found._key] = lab.objects.stored[
            checkpoints._bucket, checkpoints._key
        ]
        assert await found.load() is None
    await checkpoints.clear()
    assert await Checkpoints(lab.ports, batch).load() is None
