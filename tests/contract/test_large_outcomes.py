"""Outcomes at the size limits of items and transactions, in memory, on SQLite and on AWS (ministack)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from service.adapters.aws.clients import AwsOptions, open_clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.table.dynamodb import DynamoTable
from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.adapters.sqlite import Store
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from service.domain.errors import BatchRejectedError
from service.domain.item_size import outcome_bytes
from service.domain.model import Batch, Commit, Counts, Location, Outcome, Source, State, Status
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT, ITEM_BYTES, Objects, Table
from service.runtime.clock import SystemClock
from service.runtime.metrics import Metrics

BATCH = Batch(
    tool_name="demo",
    execution_id="e1",
    state=State.SPLITTING,
    source=Source("in", "k", "e"),
    output=Location("out", ""),
    ttl=1_900_000_000,
)


@dataclass
class Stores:
    """A table, and a bucket for outcomes that are too large for it."""

    table: Table
    objects: Objects
    large_outcomes: LargeOutcomes

    async def commit(self, *outcomes: Outcome) -> int:
        """Commit all outcomes concurrently; return the number of transactions."""
        await self.table.open(BATCH, "{}")
        metrics, clock = Metrics(), SystemClock()
        queue = MemoryQueue("aggregate", clock)
        queues = Queues(
            ingest=queue,
            rows=queue,
            aggregate=queue,
            dead_ingest=queue,
            dead_rows=queue,
            dead_aggregate=queue,
        )
        ports = Ports(
            table=self.table,
            objects=self.objects,
            queues=queues,
            large_outcomes=self.large_outcomes,
            clock=clock,
            metrics=metrics,
        )
        limits = GroupCommitLimits(linger_s=0.01)
        async with GroupCommitter(
            ports,
            Completion(ports),
            limits,
            slot=0,
            tokens=lambda: str(uuid.uuid4()),
        ) as committer:
            await asyncio.gather(*(committer.commit(BATCH, one.number, one) for one in outcomes))
        return metrics.totals["commits"]

    async def found(self, number: int) -> Outcome:
        """The outcome of a row as stored in the table."""
        outcome = await self.table.outcome(BATCH, number)
        assert outcome is not None
        return outcome


@pytest.fixture(params=["memory", "sqlite", "ministack"])
async def stores(
    request: pytest.FixtureRequest, names: ResourceNames, open_store: Callable[[], Awaitable[Store]]
) -> AsyncIterator[Stores]:
    limits = LargeOutcomeLimits(names.bucket)
    if request.param == "memory":
        objects = MemoryObjects()
        yield Stores(MemoryTable(), objects, LargeOutcomes(objects, limits))
        return
    if request.param == "sqlite":
        async with await open_store() as store:
            yield Stores(store.table, store.objects, LargeOutcomes(store.objects, limits))
        return
    options = AwsOptions(REGION, request.getfixturevalue("endpoint"), ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients:
        await provision_table(Access(clients, may_write=True), names.table)
        await clients.s3.create_bucket(Bucket=names.bucket)
        s3 = S3Objects(clients)
        yield Stores(DynamoTable(clients, names.table), s3, LargeOutcomes(s3, limits))


def outcome(number: int, text: str = "x") -> Outcome:
    """A SUCCESS with the text as its field `answer`."""
    return Outcome(
        number=number,
        round=1,
        status=Status.SUCCESS,
        input_data={"id": str(number)},
        output_data={"answer": text},
        execution_time_ms=5,
        timestamp="2026-11-23T07:00:01.000Z",
    )


def padded(number: int, size: int) -> Outcome:
    """An outcome whose estimated size is exactly `size` bytes."""
    empty = outcome(number, "")
    return replace(empty, output_data={"answer": "x" * (size - outcome_bytes(empty))})


@pytest.mark.parametrize(
    ("text_bytes", "is_stored"), [(397_000, False), (399_000, True), (401_000, True), (5_000_000, True)]
)
async def test_a_large_outcome_is_loaded_unchanged(stores: Stores, text_bytes: int, is_stored: bool) -> None:
    """A text of 397 KB fits the item; from 399 KB on, with the other attributes, the outcome is in S3."""
    made = replace(outcome(1, "é" * (text_bytes // 2)), reused_from="demo#e0/row_0000000017")
    await stores.commit(made)
    found = await stores.found(1)
    assert (found.stored is not None) == is_stored
    assert await stores.large_outcomes.load(found) == made


@pytest.mark.parametrize("more", [0, 1])
async def test_the_size_limit_of_an_item(stores: Stores, more: int) -> None:
    """An outcome of exactly the limit stays in its item; one byte more is stored in S3."""
    made = padded(1, ITEM_BYTES + more)
    await stores.commit(made)
    found = await stores.found(1)
    assert (found.stored is not None) == bool(more)
    assert await stores.large_outcomes.load(found) == made


@pytest.mark.parametrize("more", [0, 1])
async def test_the_size_limit_of_a_transaction(stores: Stores, more: int) -> None:
    """Outcomes of exactly 4 MB are one transaction; one byte more makes two."""
    rows = [padded(number, COMMIT_BYTES // 10) for number in range(1, 10)]
    rest = COMMIT_BYTES - 9 * (COMMIT_BYTES // 10)
    rows += [padded(10, rest // 2), padded(11, rest - rest // 2 + more)]
    assert await stores.commit(*rows) == 1 + more
    view = await stores.table.read(BATCH.batch_id)
    assert view is not None
    assert view.counts.done == 11


@pytest.mark.parametrize("more", [0, 1])
async def test_the_item_limit_of_a_transaction(stores: Stores, more: int) -> None:
    """99 outcomes and the counter are the 100 items of a transaction; one more outcome makes two."""
    rows = [outcome(number) for number in range(1, COMMIT_LIMIT + more + 1)]
    assert await stores.commit(*rows) == 1 + more
    view = await stores.table.read(BATCH.batch_id)
    assert view is not None
    assert view.counts == Counts(len(rows), 0, 5 * len(rows))


async def test_pages_with_large_outcomes_are_loaded(stores: Stores) -> None:
    """Large and small outcomes in the pages of a partition are loaded in row order."""
    made = [outcome(n, "x" * (450_000 if n % 3 == 0 else 10)) for n in range(1, 13)]
    await stores.commit(*made)

    async def pages() -> AsyncIterator[Sequence[Outcome]]:
        after: int | None = 0
        while after is not None:
            page = await stores.table.outcomes(BATCH, 0, after=after, limit=5)
            yield page.outcomes
            after = page.after

    assert [one async for run in stores.large_outcomes.load_all(pages()) for one in run] == made


async def test_a_failed_row_with_a_large_outcome_is_in_the_index(stores: Stores) -> None:
    """A large FAILED outcome is found by the index of failures, without reading S3."""
    error = {"error": None, "status": Status.FAILED}
    made = replace(outcome(1, "x" * 450_000), **error)
    await stores.commit(made)
    page = await stores.table.failed(BATCH, 0, after=0, limit=5)
    assert [one.stored is not None for one in page.outcomes] == [True]


async def test_missing_data_in_s3_is_an_error(stores: Stores) -> None:
    """If the data of an outcome is missing in S3, the error names row, address and remedy."""
    await stores.commit(outcome(1, "x" * 450_000))
    found = await stores.found(1)
    assert found.stored is not None
    lost = replace(found, stored=replace(found.stored, key=found.stored.key + "-gone"))
    with pytest.raises(BatchRejectedError, match=r"row 1 is kept in s3://.*ROWFLEET_TTL_DAYS"):
        await stores.large_outcomes.load(lost)


async def test_a_repeated_commit_of_large_outcomes_counts_once(stores: Stores) -> None:
    """A commit that is repeated under its token, after a lost response, is counted once."""
    await stores.table.open(BATCH, "{}")
    fitted = await stores.large_outcomes.offload(BATCH, outcome(1, "x" * 450_000))
    commit = Commit(
        batch_id=BATCH.batch_id,
        round=1,
        partitions=1,
        slot=0,
        outcomes=(fitted,),
        token=str(uuid.uuid4()),
        ttl=BATCH.ttl,
    )
    assert await stores.table.commit(commit) == ()
    assert await stores.table.commit(commit) == ()
    view = await stores.table.read(BATCH.batch_id)
    assert view is not None
    assert view.counts.done == 1
