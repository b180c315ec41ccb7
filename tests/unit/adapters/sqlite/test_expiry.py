"""What becomes of batches that have expired."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from service.adapters.memory import MemoryClock
from service.adapters.sqlite import Store
from service.adapters.sqlite.expiry import PURGED_ROWS
from service.adapters.sqlite.store import PURGE_PAUSE_S
from service.domain.errors import SourceError
from service.domain.model import (
    Batch,
    BatchView,
    Commit,
    Counts,
    Event,
    EventKind,
    Location,
    Operation,
    OutboxKind,
    Outcome,
    Source,
    State,
    Status,
    new_incarnation,
)
from service.domain.ports import COMMIT_LIMIT, SharedRecord

BATCH = Batch(
    "demo", "e1", State.RUNNING, Source("bucket", "sources/one"), Location("bucket", "results/one/"),
    total=9, created_at="2026-11-18T10:00:00.000Z", ttl=1_000, incarnation=new_incarnation(5, 5),
)  # fmt: skip
OTHER = replace(
    BATCH, execution_id="e2", source=Source("bucket", "sources/two"), ttl=2_000,
    output=Location("bucket", "results/two/"),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def outcome(number: int) -> Outcome:
    return Outcome(number, 1, Status.FAILED, {"id": "1"}, {}, 5, "2026-11-18T10:00:00.000Z")


async def fill(store: Store, batch: Batch, rows: int) -> None:
    """Store a batch with all that belongs to it."""
    await store.table.open(
        batch, "{}", events=[Event.of(batch, EventKind.STARTED, at=BATCH.created_at, status={})]
    )
    await store.table.keep_answer(batch, Operation("set", "r1", "ada", "now"))
    for first in range(1, rows + 1, COMMIT_LIMIT):
        outcomes = tuple(outcome(number) for number in range(first, min(rows + 1, first + COMMIT_LIMIT)))
        made = Commit(
            batch.batch_id, 1, 1, 0, outcomes, f"{batch.batch_id}{first}", batch.ttl, batch.incarnation
        )
        await store.table.commit(made)
    work = f"work/demo/{batch.execution_id}/{batch.incarnation}/1/reply.json"
    for bucket, key in (
        ("bucket", batch.source.key),
        ("bucket", batch.output.prefix + "out"),
        ("other", work),
    ):
        await store.objects.put(bucket, key, b"x" * 100_000, content_type="text/csv")


def rows_in(folder: Path) -> dict[str, int]:
    """The rows of each table."""
    connection = sqlite3.connect(folder / "rowfleet.db")
    try:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    finally:
        connection.close()


async def purged(store: Store, clock: MemoryClock) -> None:
    """Let time pass until all outcomes of batches that are gone are removed."""
    assert store._purge is not None
    while not store._purge.done():
        await clock.advance(PURGE_PAUSE_S)
        await store.table.record("x")


async def test_an_expired_batch_goes_with_all_that_is_its_own(folder: Path) -> None:
    """When a store is opened; nothing of another batch goes with it."""
    async with await Store.open(folder, MemoryClock(0)) as store:
        await fill(store, BATCH, 2_500)
        await fill(store, OTHER, 3)
        await store.table.swap("old", "text", version=0, ttl=1_000)
        await store.table.swap("new", "text", version=0, ttl=1_001)
    clock = MemoryClock(1_000_000)
    async with await Store.open(folder, clock) as store:
        await purged(store, clock)
        assert await store.table.read(OTHER.batch_id) == BatchView(OTHER, Counts(0, 3, 15))
        assert len((await store.table.outcomes(OTHER, 0, after=0, limit=99)).outcomes) == 3
        assert len(await store.table.records(OTHER.batch_id, OutboxKind.EVENT)) == 1
        assert [await store.table.record(name) for name in ("old", "new")] == [
            SharedRecord(),
            SharedRecord("text", 1),
        ]
        with pytest.raises(SourceError):
            await store.objects.head("bucket", BATCH.source.key)
        assert (await store.objects.head("bucket", OTHER.source.key)).size == 100_000
    assert rows_in(folder) == {
        "batches": 1, "definitions": 1, "counters": 1, "outcomes": 3, "operations": 1, "outbox": 1,
        "records": 1, "objects": 3, "uploads": 0,
    }  # fmt: skip
    assert len(list((folder / "objects").iterdir())) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(OTHER, output=Location("bucket", "results/")),
        replace(OTHER, output=Location("bucket", "results/one/two/")),
        replace(OTHER, output=Location("bucket", "")),
        replace(OTHER, source=BATCH.source),
    ],
)
async def test_what_two_batches_share_stays(folder: Path, other: Batch) -> None:
    """A common source, or results below one prefix."""
    async with await Store.open(folder, MemoryClock(0)) as store:
        await fill(store, BATCH, 1)
        await fill(store, other, 1)
    async with await Store.open(folder, MemoryClock(1_000_000)) as store:
        shared = BATCH.source.key if other.source == BATCH.source else "results/one/out"
        assert (await store.objects.head("bucket", shared)).size == 100_000
        assert await store.table.read(BATCH.batch_id) is None


async def test_outcomes_go_a_few_at_a_time(folder: Path) -> None:
    """What was not removed when the store is closed goes the next time."""
    async with await Store.open(folder, MemoryClock(0)) as store:
        await fill(store, BATCH, 2 * PURGED_ROWS + 10)
    async with await Store.open(folder, MemoryClock(1_000_000)) as store:
        await all_left(store)  # the first step is asked for meanwhile
        assert len(await all_left(store)) == PURGED_ROWS + 10
    assert rows_in(folder)["outcomes"] == PURGED_ROWS + 10
    clock = MemoryClock(1_000_000)
    async with await Store.open(folder, clock) as store:
        await purged(store, clock)
    assert rows_in(folder)["outcomes"] == rows_in(folder)["batches"] == 0


async def all_left(store: Store) -> list[tuple[int]]:
    return await store._connection.run(lambda one: one.execute("SELECT id FROM outcomes").fetchall())


async def test_an_id_that_is_used_again_is_left_alone(folder: Path) -> None:
    """Its earlier outcomes stay, and count as absent."""
    async with await Store.open(folder, MemoryClock(0)) as store:
        await fill(store, BATCH, 2 * PURGED_ROWS)
    clock = MemoryClock(1_000_000)
    again = replace(BATCH, incarnation=new_incarnation(1_000_000, 1), ttl=5_000)
    async with await Store.open(folder, clock) as store:
        await store.table.open(again, "{}")
        await purged(store, clock)
        assert await store.table.read(BATCH.batch_id) == BatchView(again, Counts())
        assert await store.table.definition(BATCH.batch_id, "") == "{}"
        assert (await store.table.outcomes(again, 0, after=0, limit=99)).outcomes == []
