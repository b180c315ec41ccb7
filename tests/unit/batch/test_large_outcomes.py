"""Claim check for outcomes: data too large for an item is kept in S3."""

import asyncio
import itertools
import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.memory import MemoryObjects
from service.app.status import read_failed_row
from service.batch.large_outcomes import (
    AHEAD_BYTES,
    AHEAD_ROWS,
    LargeOutcomeLimits,
    LargeOutcomes,
)
from service.domain.errors import BatchRejectedError, RowRejectedError, RowTooLargeError, UnreachableError
from service.domain.item_size import depth, outcome_bytes
from service.domain.model import Batch, Location, Outcome, Source, State, Status, StoredPayload
from service.domain.ports import ITEM_BYTES, ITEM_DEPTH


class WatchedObjects(MemoryObjects):
    """Counts calls and the bytes being read. Each call raises the last error of `fail`, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = self.reading = self.reading_bytes = self.most_reading = self.most_bytes = 0
        self.fail: list[Exception] = []

    async def put(self, bucket, key, body, *, content_type):
        """Count the write."""
        self.puts += 1
        if self.fail:
            raise self.fail.pop()
        return await super().put(bucket, key, body, content_type=content_type)

    async def read(self, source, start, length):
        """Count the read, and take some turns of the event loop for it."""
        self.reading += 1
        self.reading_bytes += length
        self.most_reading = max(self.most_reading, self.reading)
        self.most_bytes = max(self.most_bytes, self.reading_bytes)
        for _ in range(5):
            await asyncio.sleep(0)
        if self.fail:
            raise self.fail.pop()
        try:
            return await super().read(source, start, length)
        finally:
            self.reading -= 1
            self.reading_bytes -= length


@pytest.fixture
def lab(make_lab):
    """A laboratory that watches its bucket."""
    lab = make_lab()
    lab.objects = WatchedObjects()
    return lab


def padded(lab, bytes_, number=1, **more):
    """An outcome of exactly `bytes_` bytes as an item."""
    outcome = replace(lab.outcome(number, **more), output_data={"answer": ""})
    return replace(outcome, output_data={"answer": "x" * (bytes_ - outcome_bytes(outcome))})


@pytest.mark.parametrize("limit", [20_000, ITEM_BYTES])
async def test_an_outcome_of_exactly_the_limit_stays_in_its_item(lab, limit):
    """With one byte more its data goes to S3. The table accepts both."""
    lab.large_outcome_limits = LargeOutcomeLimits("out", limit)
    batch = await lab.batch(3)
    fitting, larger = padded(lab, limit, 1), padded(lab, limit + 1, 2)
    assert await lab.large_outcomes.offload(batch, fitting) is fitting
    assert (await lab.large_outcomes.offload(batch, larger)).stored is not None
    async with lab.committer() as committer:
        await asyncio.gather(*(committer.commit(batch, one.number, one) for one in (fitting, larger)))
    found = await lab.outcomes(batch)
    assert [await lab.large_outcomes.load(found[n]) for n in (1, 2)] == [fitting, larger]


async def test_an_outcome_as_deep_as_the_limit_stays_in_its_item(lab):
    """With one level more its data goes to S3."""
    batch = await lab.batch(3)
    deep: object = "leaf"
    while depth({"answer": deep}) < ITEM_DEPTH:
        deep = [deep]
    fitting = replace(lab.outcome(1), output_data={"answer": deep})
    deeper = replace(lab.outcome(2), output_data={"answer": [deep]})
    assert (await lab.large_outcomes.offload(batch, fitting)).stored is None
    assert (await lab.large_outcomes.offload(batch, deeper)).stored is not None


async def test_the_key_of_an_object_has_the_digest_of_its_content(lab):
    """The object is JSON. The item keeps the reference and everything that is small."""
    batch = await lab.batch(3)
    original = padded(lab, ITEM_BYTES + 1, 2)
    small = await lab.large_outcomes.offload(batch, original)
    stored = small.stored
    assert stored is not None
    assert stored.key == f"work/demo/e1/1/row_0000000002-{stored.sha256[:16]}.json"
    body = lab.objects.stored["out", stored.key].body
    assert stored.size == len(body)
    assert json.loads(body)["output_data"] == original.output_data
    assert (small.input_data, small.output_data) == ({}, {})
    assert (small.status, small.counts, small.timestamp) == (
        original.status,
        original.counts,
        original.timestamp,
    )
    assert outcome_bytes(small) < 2_000


async def test_a_late_duplicate_does_not_replace_the_committed_data(lab):
    """Another worker's other reply to the row is an object of its own; the committed one stays readable."""
    batch = await lab.batch(3)
    first, second = padded(lab, ITEM_BYTES + 1), padded(lab, ITEM_BYTES + 2)
    async with lab.committer(slot=1) as one, lab.committer(slot=2) as two:
        await one.commit(batch, 1, first)
        await two.commit(batch, 1, second)
    found = await lab.outcomes(batch)
    assert await lab.large_outcomes.load(found[1]) == first
    assert lab.objects.puts == 2
    assert (await lab.view()).counts.done == 1


async def test_data_is_written_before_its_commit(lab):
    """A row whose data cannot be written is not committed, so its message is redelivered."""
    batch = await lab.batch(3)
    lab.objects.fail = [UnreachableError("no S3")] * 1_000
    async with lab.committer() as committer:
        with pytest.raises(UnreachableError):
            await committer.commit(batch, 1, padded(lab, ITEM_BYTES + 1))
        assert await lab.outcomes(batch) == {}
        lab.objects.fail = [UnreachableError("no S3")]
        await committer.commit(batch, 1, padded(lab, ITEM_BYTES + 1))
    assert (await lab.view()).counts.done == 1


async def test_the_size_of_an_offloaded_outcome_is_bounded(lab):
    """One byte above the limit a success is refused, and a failure is cut."""
    batch = await lab.batch(3)
    outcome = padded(lab, ITEM_BYTES + 1)
    size = (await lab.large_outcomes.offload(batch, outcome)).stored.size
    exact = LargeOutcomes(lab.objects, LargeOutcomeLimits("out", max_outcome_bytes=size))
    assert (await exact.offload(batch, outcome)).stored.size == size
    less = LargeOutcomes(lab.objects, LargeOutcomeLimits("out", max_outcome_bytes=size - 1))
    with pytest.raises(RowTooLargeError, match=f"takes {size:,} bytes"):
        await less.offload(batch, outcome)
    failed = replace(lab.outcome(1, failed="no"), input_data={"id": "1", "name": "y" * ITEM_BYTES})
    cut = await less.offload(batch, failed)
    assert cut.stored is None
    assert outcome_bytes(cut) <= ITEM_BYTES
    assert set(cut.input_data["name"]) == {"y"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
async def test_an_outcome_that_is_no_json_is_refused(lab, value):
    """The error names the row."""
    outcome = replace(padded(lab, ITEM_BYTES), input_data={"x": "y" * 500}, output_data={"answer": [[value]]})
    small = LargeOutcomes(lab.objects, LargeOutcomeLimits("out", 1_000))
    with pytest.raises(RowRejectedError, match="row 1 cannot be stored"):
        await small.offload(await lab.batch(3), outcome)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from("abc"), values))
async def test_data_is_loaded_as_it_was_offloaded(output_data):
    """Numbers keep all their digits, texts all their characters."""
    tiny = LargeOutcomes(MemoryObjects(), LargeOutcomeLimits("out", 1))
    batch = Batch("demo", "e1", State.RUNNING, Source("in", "k"), Location("out", ""))
    outcome = Outcome(1, 1, Status.SUCCESS, {}, output_data, 5, "2026-11-23", provenance={"a": "b"})
    stored = await tiny.offload(batch, outcome)
    back = await tiny.load(stored)
    assert stored.stored is not None
    assert (back.provenance, back.stored) == ({"a": "b"}, None)
    assert exact(back.output_data) == exact(output_data)


def exact(value):
    """The value with its numbers as decimals, whatever their type."""
    match value:
        case dict():
            return {name: exact(member) for name, member in value.items()}
        case list():
            return [exact(member) for member in value]
        case bool() | str() | None:
            return value
        case _:
            return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


async def test_half_a_surrogate_pair_is_stored_as_in_an_item(lab):
    """UTF-8 cannot encode it. U+FFFD replaces it, as in the table."""
    tiny = LargeOutcomes(lab.objects, LargeOutcomeLimits("out", 1))
    outcome = replace(lab.outcome(1), output_data={"answer": "a\ud800b\U0001f600"})
    back = await tiny.load(await tiny.offload(await lab.batch(3), outcome))
    assert back.output_data == {"answer": "a\ufffdb\U0001f600"}


async def test_data_that_is_gone_or_changed_fails_the_batch(lab):
    """Results are never written with a gap, or with data that was not committed."""
    batch = await lab.batch(1, state=State.RUNNING)
    async with lab.committer() as committer:
        await committer.commit(batch, 1, padded(lab, ITEM_BYTES + 1))
    (found,) = (await lab.outcomes(batch)).values()
    key = ("out", found.stored.key)
    kept = lab.objects.stored[key]
    lab.objects.stored[key] = replace(kept, body=kept.body.replace(b"x", b"y", 1))
    with pytest.raises(BatchRejectedError, match=r"row 1 in s3://out/work/.* is not what was stored"):
        await lab.large_outcomes.load(found)
    del lab.objects.stored[key]
    with pytest.raises(BatchRejectedError, match=r"row 1 is kept in s3://out/work/.*lifecycle"):
        await lab.large_outcomes.load(found)


async def runs_of(made):
    """The outcomes in runs of different lengths."""
    first = 0
    for length in itertools.cycle((1, 3, 50, 2)):
        if first >= len(made):
            return
        yield made[first : first + length]
        first += length


async def test_data_is_read_ahead_in_bounds(lab):
    """Reads run side by side up to a number of rows and bytes.

    Outcomes come in order, whatever their sizes.
    """
    sizes = [AHEAD_BYTES // 4, 10, 0, AHEAD_BYTES + 5, 0, *([100] * 200), AHEAD_BYTES // 2, 7] * 2
    made = []
    for number, size in enumerate(sizes, 1):
        stored = StoredPayload("out", f"k{number}", size, "") if size else None
        made.append(replace(lab.outcome(number), stored=stored))

    class Reading(LargeOutcomes):
        """Reads as many bytes as the outcome refers to, from any object."""

        async def load(self, outcome):
            if outcome.stored:
                await lab.objects.read(Source("out", "any"), 0, outcome.stored.size)
            return outcome

    await lab.objects.put("out", "any", b"", content_type="text/plain")
    reading = Reading(lab.objects, LargeOutcomeLimits("out"))
    order = [outcome.number async for run in reading.load_all(runs_of(made)) for outcome in run]
    assert order == list(range(1, len(made) + 1))
    assert 1 < lab.objects.most_reading <= AHEAD_ROWS
    assert lab.objects.most_bytes <= AHEAD_BYTES + 5, "a payload beyond the bound is read alone"
    assert lab.objects.reading == 0


async def test_closing_the_generator_ends_the_reads_ahead(lab):
    """If writing the results fails, no read goes on."""
    batch = await lab.batch(9)
    made = [await lab.large_outcomes.offload(batch, padded(lab, ITEM_BYTES + 1, n)) for n in range(1, 10)]
    runs = lab.large_outcomes.load_all(runs_of(made))
    assert [outcome.number for outcome in await anext(runs)] == [1]
    await runs.aclose()
    assert lab.objects.reading == 0


async def test_results_have_large_outcomes_like_any_others(lab):
    """A large value goes through worker, table and aggregator, and is whole in output.csv."""
    await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 31)))
    lab.agent.script = lambda call: {"answer": "=" + call.body["name"] * 60_000}
    await lab.splitter().handle(lab.delivery(lab.job()))
    async with lab.working() as worker:
        rows = await lab.sent_rows()
        await asyncio.gather(*(worker.handle(lab.delivery(row.encode())) for row in rows))
    (message,) = await lab.waiting(lab.aggregate)
    await lab.aggregator().handle(lab.delivery(message))
    lines = lab.objects.stored["out", "results/demo/e1/output.csv"].body.decode().split("\r\n")
    assert [line.split(",")[2] for line in lines[1:-1]] == ["'=" + f"name {n}" * 60_000 for n in range(1, 31)]
    assert (await lab.view()).batch.state is State.SUCCEEDED


async def test_a_failed_row_is_read_whole(lab):
    """`errors --row` shows input and reply wherever they are kept."""
    batch = await lab.batch(2)
    large = replace(
        lab.outcome(1, failed="no"), input_data={"name": "x" * ITEM_BYTES}, reply=f'"{"y" * 10_000}"'
    )
    async with lab.committer() as committer:
        await committer.commit(batch, 1, large)
    kept = await lab.table.outcome(batch, 1)
    assert (kept.stored is not None, kept.reply_at is not None) == (True, True)
    shown, reply = await read_failed_row(lab.ports, batch, 1)
    assert (shown.input_data, reply.text) == (large.input_data, "y" * 10_000)
