import asyncio
import random
from contextlib import aclosing

import pytest

from service.adapters.memory import MemoryTable
from service.aggregator import ordered_outcomes
from service.aggregator.ordered_outcomes import AHEAD_BYTES, CONCURRENT_READS, outcomes_in_order
from service.domain.errors import UnreachableError
from service.domain.item_size import outcome_bytes
from service.domain.model import Commit

PAGE_BYTES = 1_000_000
ITEM_BYTES = 400_000


class WeighedTable(MemoryTable):
    """Knows how many bytes of outcomes the reader holds; `most` is the largest amount."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.held = self.most = 0

    async def outcomes(self, batch, partition, *, after, limit):
        """A page."""
        page = await super().outcomes(batch, partition, after=after, limit=limit)
        self.reads += 1
        self.held += sum(map(outcome_bytes, page.outcomes))
        self.most = max(self.most, self.held)
        return page


class SlowTable(WeighedTable):
    """Its queries take `query_s()`, and fail for rows beyond `fail_after`."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = None
        self.query_s = lambda: 0.01
        self.fail_after = None
        self.reading = self.most_reading = 0

    async def outcomes(self, batch, partition, *, after, limit):
        """A page, later."""
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            await self.clock.sleep(self.query_s())
        finally:
            self.reading -= 1
        if self.fail_after is not None and after > self.fail_after:
            raise UnreachableError("no route")
        return await super().outcomes(batch, partition, after=after, limit=limit)


@pytest.fixture
def slow_lab(make_lab):
    """A laboratory whose table takes its time."""
    lab = make_lab(table=SlowTable())
    lab.table.clock = lab.clock
    return lab


async def filled(lab, total, partitions, text_bytes, incarnation=""):
    """A batch with outcomes of these sizes, a function of the row's number."""
    batch = await lab.batch(total, partitions=partitions, incarnation=incarnation)
    for number in range(1, total + 1):
        outcome = lab.outcome(number)
        outcome.output_data["answer"] = "x" * text_bytes(number)
        await lab.table.commit(
            Commit(batch.batch_id, 1, partitions, 0, (outcome,), next(lab.tokens), batch.ttl, incarnation)
        )
    return batch


async def read(lab, batch, page_rows=16_000, turns=0):
    """All numbers in order. After each run all other tasks have so many turns for each of its rows."""
    numbers = []
    async for run in outcomes_in_order(lab.table, batch, page_rows):
        numbers += [outcome.number for outcome in run]
        for _ in range(turns * len(run)):
            await asyncio.sleep(0)
        lab.table.held -= sum(map(outcome_bytes, run))
    return numbers


@pytest.mark.parametrize(
    ("text_bytes", "total"),
    [
        (lambda _: 300_000, 256),
        (lambda n: 300_000 if n > 640 else 10, 900),
        (lambda n: 3_000 * (n % 90), 1_300),
    ],
    ids=["all large", "large from some row on", "mixed"],
)
async def test_64_partitions_of_large_outcomes_are_read_in_bounded_memory(make_lab, text_bytes, total):
    """16 MiB and the pages being read, not a page of 1 MB of each partition."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, total, 64, text_bytes)
    assert await read(lab, batch) == list(range(1, total + 1))
    assert lab.table.most <= AHEAD_BYTES + CONCURRENT_READS * PAGE_BYTES + ITEM_BYTES
    assert lab.table.most < 64 * PAGE_BYTES / 2


async def test_outcomes_that_are_taken_slowly_are_read_in_bounded_memory(make_lab):
    """The bound holds also if every read ends before the next outcome is taken."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, 256, 64, lambda _: 300_000)
    assert await read(lab, batch, turns=20) == list(range(1, 257))
    assert lab.table.most <= AHEAD_BYTES + ITEM_BYTES


async def test_small_outcomes_are_read_in_large_pages(make_lab):
    """64 partitions of small outcomes: one page of a hundred rows costs one read, not ten."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, 64 * 100, 64, lambda _: 10)
    assert await read(lab, batch) == list(range(1, batch.total + 1))
    assert lab.table.reads <= 64 * 3


async def test_pages_are_no_larger_than_asked_for(make_lab):
    """`page_rows` over two pages of each partition, at least ten for each."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, 400, 4, lambda _: 10)
    await read(lab, batch, page_rows=200)
    assert lab.table.reads == 4 * 4


async def test_partitions_without_rows_are_not_read(make_lab):
    """Three rows in 64 partitions take three queries, and no query follows a partition's last row."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, 3, 64, lambda _: 10)
    assert await read(lab, batch) == [1, 2, 3]
    assert lab.table.reads == 3


@pytest.mark.parametrize("page_rows", [2, 4, 20])
async def test_leftovers_of_an_earlier_batch_with_the_id_end_no_partition(make_lab, page_rows, monkeypatch):
    """They lie under the same keys; a page that ends with one has a number that is none of the partition."""
    monkeypatch.setattr(ordered_outcomes, "LEAST_PAGE_ROWS", 1)
    lab = make_lab()
    await filled(lab, 18, 4, lambda _: 10, incarnation="18bcfe5692d47e71")
    lab.table._batches.clear()
    again = await filled(lab, 18, 3, lambda _: 10, incarnation="18bcff9401468821")
    async with aclosing(outcomes_in_order(lab.table, again, page_rows)) as outcomes:
        assert [outcome.number async for run in outcomes for outcome in run] == list(range(1, 19))


async def test_the_duration_is_not_that_of_all_queries(slow_lab):
    """Eight pages are read at a time, in the order in which they are needed."""
    lab = slow_lab
    batch = await filled(lab, 64 * 60, 64, lambda _: 10)
    reading = asyncio.ensure_future(read(lab, batch, page_rows=64 * 20))
    began = lab.clock.monotonic()
    while not reading.done():
        await lab.clock.advance(0.01)
    assert reading.result() == list(range(1, batch.total + 1))
    assert lab.table.most_reading == CONCURRENT_READS
    assert lab.clock.monotonic() - began < 0.01 * lab.table.reads / (CONCURRENT_READS - 1)


@pytest.mark.parametrize("seed", range(5))
async def test_rows_are_in_order_however_long_each_query_takes(slow_lab, seed):
    """From any row on, with pages that arrive in any order and outcomes of all sizes."""
    lab, rng = slow_lab, random.Random(seed)
    lab.table.query_s = lambda: rng.uniform(0, 1)
    sizes = [rng.choice((10, 2_000, 200_000)) for _ in range(400)]
    batch = await filled(lab, 400, rng.choice((1, 2, 7, 64)), lambda number: sizes[number - 1])
    after = rng.randrange(300)

    async def numbers():
        return [o.number async for run in outcomes_in_order(lab.table, batch, 500, after=after) for o in run]

    reading = asyncio.ensure_future(numbers())
    await lab.clock.advance(1_000)
    assert await reading == list(range(after + 1, 401))


async def test_a_page_that_cannot_be_read_ends_it_at_its_row(slow_lab):
    """The rows before it are yielded, the error is raised, and no read goes on."""
    lab = slow_lab
    lab.table.query_s = lambda: 0.0
    batch = await filled(lab, 200, 4, lambda _: 10)
    lab.table.fail_after = 80
    numbers = []

    async def read_on():
        async for run in outcomes_in_order(lab.table, batch, 80):
            numbers.extend(outcome.number for outcome in run)

    with pytest.raises(UnreachableError):
        await read_on()
    assert numbers == list(range(1, len(numbers) + 1))
    assert 80 <= len(numbers) < 200
    assert (lab.table.reading, len(asyncio.all_tasks())) == (0, 1)


async def test_no_read_goes_on_after_it_is_closed(slow_lab):
    """An aggregator that loses its lease leaves nothing behind."""
    lab = slow_lab
    lab.table.query_s = lambda: 0.0
    batch = await filled(lab, 200, 4, lambda _: 10)
    async with aclosing(outcomes_in_order(lab.table, batch, 80)) as outcomes:
        await anext(outcomes)
        lab.table.query_s = lambda: 60.0
        while not lab.table.reading:
            await anext(outcomes)
            await asyncio.sleep(0)
    assert (lab.table.reading, len(asyncio.all_tasks())) == (0, 1)
