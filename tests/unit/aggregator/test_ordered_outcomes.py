import pytest

from service.adapters.memory import MemoryTable
from service.aggregator.ordered_outcomes import AHEAD_BYTES, outcomes_in_order
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


async def filled(lab, total, partitions, text_bytes):
    """A batch with outcomes of these sizes, a function of the row's number."""
    batch = await lab.batch(total, partitions=partitions)
    for number in range(1, total + 1):
        outcome = lab.outcome(number)
        outcome.output_data["answer"] = "x" * text_bytes(number)
        await lab.table.commit(
            Commit(batch.batch_id, 1, partitions, 0, (outcome,), next(lab.tokens), batch.ttl)
        )
    return batch


async def read(lab, batch, page_rows=8_000):
    """All numbers in order."""
    numbers = []
    async for outcome in outcomes_in_order(lab.table, batch, page_rows):
        numbers.append(outcome.number)
        lab.table.held -= outcome_bytes(outcome)
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
    """8 MiB, a page and one outcome of each partition, not a page of 1 MB of each."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, total, 64, text_bytes)
    assert await read(lab, batch) == list(range(1, total + 1))
    largest = max(text_bytes(number) for number in range(1, total + 1)) + 2_000
    assert lab.table.most <= AHEAD_BYTES + PAGE_BYTES + ITEM_BYTES + 64 * largest
    assert lab.table.most < 64 * PAGE_BYTES / 2


async def test_small_outcomes_are_read_in_large_pages(make_lab):
    """64 partitions of small outcomes: one page of a hundred rows costs one read, not ten."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, 64 * 100, 64, lambda _: 10)
    assert await read(lab, batch) == list(range(1, batch.total + 1))
    assert lab.table.reads <= 64 * 3


async def test_pages_are_no_larger_than_asked_for(make_lab):
    """`page_rows` over all partitions, at least ten for each."""
    lab = make_lab(table=WeighedTable())
    batch = await filled(lab, 400, 4, lambda _: 10)
    await read(lab, batch, page_rows=100)
    assert lab.table.reads == 4 * 4
