"""Contract of the port Table, tested in memory, on SQLite and on DynamoDB (ministack, moto)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.table.dynamodb import DynamoTable
from service.adapters.aws.table.keys import primary_key
from service.adapters.memory import MemoryClock, MemoryTable
from service.adapters.sqlite import Store
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from service.domain.errors import BatchRejectedError, RowRejectedError, RowTooLargeError
from service.domain.model import (
    MAX_ROWS,
    Batch,
    BatchView,
    Checkpoint,
    Commit,
    Counts,
    Dialect,
    Hold,
    Location,
    Operation,
    Outcome,
    PackedReply,
    Recount,
    RowError,
    SampleGate,
    Source,
    State,
    Status,
    StoredPayload,
    Trouble,
    Work,
    WorkKind,
    new_incarnation,
    row_id,
)
from service.domain.ports import COMMIT_LIMIT, LeaseGrant, OutcomePage, SharedRecord, Table

NOW = "2026-11-18T10:00:00.000Z"
LATER = "2026-11-18T10:05:00.000Z"
TROUBLE = Trouble("refused", 1_000, 2, 5_000)
TTL = 1_900_000_000

BATCH = Batch(
    tool_name="address-search",
    execution_id="exec-1",
    state=State.SPLITTING,
    source=Source(bucket="bucket", key="incoming/a b.csv", etag="etag", version="v1", size=1234),
    output=Location("bucket", "results/"),
    mapping_digest="digest",
    columns=("address", "", "größe"),
    output_fields=("exchange",),
    provenance=True,
    dialect=Dialect("utf-8", ";", 3),
    limit=20,
    priority=9,
    weight=30,
    checkpoint=Checkpoint(10, 200, 12),
    created_at=NOW,
    updated_at=NOW,
    ttl=TTL,
    notes=("one note",),
    compiled_by="1.2.3",
)
AGGREGATING = replace(BATCH, state=State.AGGREGATING, total=3)


class Age(MemoryClock):
    """The time of a table, which tests set in seconds since 1970."""

    now_s = 1_000_000_000

    def now_ms(self) -> int:
        """The time in milliseconds."""
        return self.now_s * 1000


@pytest.fixture(params=["memory", "sqlite", "ministack", "ministack-aiobotocore", "moto"])
async def table(
    request: pytest.FixtureRequest,
    names: ResourceNames,
    options_of: Callable[[str], AwsOptions],
    open_store: Callable[[], Awaitable[Store]],
    make_table: Callable[[Clients, str], Awaitable[None]],
) -> AsyncIterator[Table]:
    if request.param == "memory":
        yield MemoryTable()
        return
    if request.param == "sqlite":
        async with await open_store() as store:
            yield store.table
        return
    async with open_clients(options_of(request.param)) as clients:
        await make_table(clients, names.table)
        yield DynamoTable(clients, names.table)


def outcome(number: int, *, round_: int = 1, failed: bool = False, **fields: Any) -> Outcome:
    made = Outcome(
        number=number,
        round=round_,
        status=Status.FAILED if failed else Status.SUCCESS,
        input_data={"address": f"{number} Downing Street"},
        output_data={} if failed else {"exchange": "WHITEHALL"},
        execution_time_ms=100,
        timestamp=NOW,
        worker="w1",
        error=RowError("AgentRejectedError", "HTTP 400") if failed else None,
    )
    return replace(made, **fields)


def commit(*outcomes: Outcome, batch: Batch = BATCH, slot: int = 0, token: str = "") -> Commit:
    round_ = outcomes[0].round
    token = token or str(uuid.uuid4())
    return Commit(
        batch_id=batch.batch_id,
        round=round_,
        partitions=batch.partitions,
        slot=slot,
        outcomes=outcomes,
        token=token,
        ttl=TTL,
    )


async def all_pages(
    table: Table, batch: Batch, partition: int, limit: int, *, failed: bool
) -> list[OutcomePage]:
    pages: list[OutcomePage] = []
    after: int | None = 0
    while after is not None:
        read = table.failed if failed else table.outcomes
        pages.append(await read(batch, partition, after=after, limit=limit))
        after = pages[-1].after
    return pages


async def numbers(
    table: Table, batch: Batch = BATCH, partition: int = 0, limit: int = 1000, *, failed: bool = False
) -> list[int]:
    pages = await all_pages(table, batch, partition, limit, failed=failed)
    return [found.number for page in pages for found in page.outcomes]


# -- batches


async def test_open_stores_the_batch_and_its_definition(table: Table) -> None:
    """A new batch is stored unchanged, with optional fields set or absent, together with its definition."""
    assert await table.open(BATCH, '{"type": "agent"}') == BATCH
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert (view.batch, view.counts) == (BATCH, Counts())
    assert await table.definition(BATCH.batch_id, "digest") == '{"type": "agent"}'
    assert await table.definition(BATCH.batch_id, "other") is None
    bare = Batch(
        tool_name="t",
        execution_id="e",
        state=State.SPLITTING,
        source=Source("b", "k"),
        output=Location("b", ""),
    )
    assert await table.open(bare, "{}") == bare
    assert (await table.read("t#e")).batch == bare  # type: ignore[union-attr]


async def test_open_returns_the_stored_batch(table: Table) -> None:
    """`open` with a batch id that is taken changes nothing and returns the stored batch."""
    await table.open(BATCH, "{}")
    assert await table.open(replace(BATCH, source=Source("other", "key")), "{}") == BATCH


async def test_concurrent_opens_agree(table: Table) -> None:
    """Concurrent openers of one batch id all get the same batch."""
    batches = [replace(BATCH, updated_at=str(number)) for number in range(8)]
    opened = await asyncio.gather(*(table.open(batch, "{}") for batch in batches))
    assert len(set(opened)) == 1


async def test_an_unknown_batch_is_none(table: Table) -> None:
    """`read` of an unknown batch returns None; changes of it return False."""
    assert await table.read("no#batch") is None
    assert not await table.seal(BATCH, 1, NOW, owner="")
    assert not await table.move(BATCH, expected=State.RUNNING, to=State.PAUSED, now=NOW)
    assert not await table.checkpoint(BATCH, owner="")


async def test_a_checkpoint_stores_the_progress(table: Table) -> None:
    """A checkpoint stores progress, columns, dialect and notes; it may be repeated."""
    await table.open(replace(BATCH, columns=(), dialect=None), "{}")
    further = replace(
        BATCH, checkpoint=Checkpoint(20, 400, 25), columns=("a",), notes=("n",), updated_at=LATER
    )
    assert await table.checkpoint(further, owner="")
    assert await table.checkpoint(further, owner="")
    assert (await table.read(BATCH.batch_id)).batch == further  # type: ignore[union-attr]
    assert await table.checkpoint(replace(further, dialect=None), owner="")
    assert (await table.read(BATCH.batch_id)).batch.dialect is None  # type: ignore[union-attr]


async def test_a_late_checkpoint_moves_nothing_back(table: Table) -> None:
    """A call that had no answer was repeated, and is applied after a later one."""
    await table.open(BATCH, "{}")
    assert await table.checkpoint(replace(BATCH, checkpoint=Checkpoint(20, 400, 25, 3)), owner="")
    for late in (Checkpoint(10, 200, 12, 1), Checkpoint(20, 400, 25, 2)):
        assert not await table.checkpoint(replace(BATCH, checkpoint=late), owner="")
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch.checkpoint == Checkpoint(20, 400, 25, 3)
    assert await table.checkpoint(replace(BATCH, checkpoint=Checkpoint(20, 400, 25, 4)), owner="")


async def test_seal_ends_splitting(table: Table) -> None:
    """`seal` sets RUNNING, total and the last checkpoint once; after that checkpoints are refused."""
    await table.open(BATCH, "{}")
    assert await table.checkpoint(replace(BATCH, checkpoint=Checkpoint(20, 400, 25)), owner="")
    last = replace(BATCH, checkpoint=Checkpoint(30, 600, 35, 3), unread_from=31)
    assert await table.seal(last, 30, LATER, owner="")
    assert not await table.seal(BATCH, 31, LATER, owner="")
    assert not await table.checkpoint(replace(BATCH, checkpoint=Checkpoint(99, 9, 9)), owner="")
    expected = replace(last, state=State.RUNNING, total=30, updated_at=LATER)
    assert (await table.read(BATCH.batch_id)).batch == expected  # type: ignore[union-attr]


async def test_move_needs_state_and_round(table: Table) -> None:
    """`move` works only from the expected state and round; a final state sets `finished_at`."""
    await table.open(replace(BATCH, state=State.RUNNING), "{}")
    move = table.move
    key = BATCH.batch_id
    second = replace(BATCH, round=2)
    assert not await move(BATCH, expected=State.PAUSED, to=State.RUNNING, now=LATER)
    assert not await move(second, expected=State.RUNNING, to=State.AGGREGATING, now=LATER)
    assert await move(BATCH, expected=State.RUNNING, to=State.AGGREGATING, now=LATER)
    expected = replace(BATCH, state=State.AGGREGATING, updated_at=LATER)
    assert (await table.read(key)).batch == expected  # type: ignore[union-attr]
    assert await move(BATCH, expected=State.AGGREGATING, to=State.FAILED, now=LATER, error="disk")
    expected = replace(expected, state=State.FAILED, finished_at=LATER, error="disk")
    assert (await table.read(key)).batch == expected  # type: ignore[union-attr]


async def test_an_operation_changes_the_batch_and_keeps_its_log(table: Table) -> None:
    """Only the attributes that differ are written; the log has the operations in order."""
    await table.open(BATCH, "{}")
    hold = Hold("user", "ada", NOW, {"now": True})
    paused = replace(BATCH, state=State.PAUSED, holds=(hold,), control=1, updated_at=LATER)
    first = Operation("pause", "r1", "ada", NOW, 1, {"now": True}, {"text": "paused"})
    assert await table.operation(BATCH, "r1") is None
    assert await table.operate(BATCH, paused, first)
    assert await table.read(BATCH.batch_id) == BatchView(paused, Counts())
    assert (await table.batches(State.PAUSED, after="", limit=9)).batches == [paused]
    work = Work(WorkKind.SEND, 2)
    resumed = replace(paused, state=State.SPLITTING, holds=(), control=2, generation=1, work=work)
    second = Operation("resume", "r2", "bob", LATER, 2, {}, {"text": "goes on"})
    assert await table.operate(paused, resumed, second)
    assert await table.read(BATCH.batch_id) == BatchView(resumed, Counts())
    assert [await table.operation(BATCH, name) for name in ("r1", "r2")] == [first, second]
    assert await table.operations(BATCH) == [first, second]


async def test_an_answer_that_changed_nothing_is_kept(table: Table) -> None:
    """Whoever has asked reads it; it is no part of the log, and a request has one answer."""
    await table.open(BATCH, "{}")
    refused = Operation("redrive", "r1", "ada", NOW, answer={"text": "no", "refused": True})
    assert await table.keep_answer(BATCH, refused)
    assert not await table.keep_answer(BATCH, replace(refused, answer={"text": "other"}))
    assert await table.operation(BATCH, "r1") == refused
    assert await table.operations(BATCH) == []
    made = Operation("set", "r1", "ada", NOW, 1)
    assert not await table.operate(BATCH, replace(BATCH, priority=1, control=1), made)


async def test_a_round_opens_in_one_operation(table: Table) -> None:
    """The batch of the next round, the definition of its mapping and the operation that opened it."""
    first = replace(BATCH, state=State.CANCELLED, total=9, unread_from=10, cancelled_at=NOW, error="why")
    await table.open(first, "{}")
    second = replace(
        first,
        state=State.SPLITTING,
        round=2,
        total=None,
        unread_from=0,
        cancelled_at="",
        error="",
        control=1,
        generation=1,
        work=Work(WorkKind.SEND, 1),
        kept=StoredPayload("bucket", "work/kept.bin", 9, "0" * 64),
        carried=Counts(7, 1, 30, rejected=1),
        digests=("digest",),
        mapping_digest="newer",
        same_id=True,
    )
    operation = Operation("redrive", "r1", "ada", NOW, 1, answer={"round": 2})
    assert await table.operate(first, second, operation, definition='{"newer": 1}')
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch == second
    assert await table.definition(BATCH.batch_id, "newer") == '{"newer": 1}'


async def test_a_gate_is_stored_and_opened_by_operations(table: Table) -> None:
    """The sample that a splitter has reached, and who has let the other rows through."""
    gate = SampleGate(2, is_random=True, conditions={"success": ">= 98%"})
    opened = replace(BATCH, gate=gate)
    await table.open(opened, "{}")
    reached = replace(gate, end=Checkpoint(9, 99, 10), numbers=(3, 7))
    held = replace(opened, state=State.RUNNING, total=9, control=1, gate=reached)
    assert await table.operate(opened, held, Operation("sample", "s1", "rowfleet", NOW, 1))
    passed = replace(reached, opened_by="ada", opened_at=NOW)
    split_on = replace(held, state=State.SPLITTING, total=None, control=2, gate=passed)
    assert await table.operate(held, split_on, Operation("approve", "r1", "ada", NOW, 2))
    assert await table.read(BATCH.batch_id) == BatchView(split_on, Counts())


async def test_an_operation_is_made_on_the_batch_that_it_was_decided_on(table: Table) -> None:
    """State, round, `control` and incarnation have to be those that were read, or nothing is changed."""
    batch = replace(BATCH, state=State.RUNNING, total=3, control=3, incarnation=new_incarnation(1, 7))
    await table.open(batch, "{}")
    operation = Operation("set", "r1", "ada", NOW, 4)
    for before in (
        replace(batch, control=2),
        replace(batch, control=0),
        replace(batch, round=2),
        replace(batch, state=State.SPLITTING),
        replace(batch, incarnation=new_incarnation(2, 7)),
    ):
        assert not await table.operate(before, replace(before, priority=1, control=4), operation)
    assert await table.read(batch.batch_id) == BatchView(batch, Counts())
    assert await table.operations(batch) == []


async def test_a_request_is_carried_out_once(table: Table) -> None:
    """A second operation of the same request changes nothing, though the batch stands as it expects."""
    await table.open(BATCH, "{}")
    first = replace(BATCH, priority=1, control=1)
    assert await table.operate(BATCH, first, Operation("set", "r1", "ada", NOW, 1))
    assert not await table.operate(
        first, replace(first, priority=2, control=2), Operation("set", "r1", "ada", LATER, 2)
    )
    assert await table.read(BATCH.batch_id) == BatchView(first, Counts())
    assert [operation.at for operation in await table.operations(BATCH)] == [NOW]


async def test_one_of_many_concurrent_operations_is_made(table: Table) -> None:
    """Each was decided on the same batch; the others have to decide again."""
    await table.open(BATCH, "{}")
    operations = (
        table.operate(BATCH, replace(BATCH, weight=n, control=1), Operation("set", f"r{n}", "ada", NOW, 1))
        for n in range(1, 9)
    )
    assert sum(await asyncio.gather(*operations)) == 1
    assert len(await table.operations(BATCH)) == 1


async def test_an_operation_may_store_a_definition(table: Table) -> None:
    """It is stored in the same transaction, under the mapping digest that the batch has from then on."""
    await table.open(BATCH, "{}")
    after = replace(BATCH, mapping_digest="newer", digests=("digest",), control=1)
    stale = replace(BATCH, control=7)
    operation = Operation("redrive", "r1", "ada", NOW, 1)
    assert not await table.operate(stale, replace(after, control=8), operation, definition="[]")
    assert await table.definition(BATCH.batch_id, "newer") is None
    assert await table.operate(BATCH, after, operation, definition="[]")
    assert await table.definition(BATCH.batch_id, "newer") == "[]"
    assert await table.definition(BATCH.batch_id, "digest") == "{}"


async def test_a_lease_ends_with_an_operation_that_changes_state_or_generation(table: Table) -> None:
    """Its holder works for rows that do not count any more. Another operation leaves it alone."""
    await table.open(BATCH, "{}")
    batch = BATCH
    changes: list[tuple[dict[str, Any], bool]] = [
        ({"priority": 1}, True),
        ({"state": State.PAUSED}, False),
        ({"state": State.SPLITTING}, False),
        ({"generation": 1}, False),
        ({"generation": 2, "round": 2}, False),
    ]
    for control, (change, is_kept) in enumerate(changes, start=1):
        if batch.state is State.SPLITTING:
            grant = await table.lease(batch, state=batch.state, owner="s1", now_ms=1, until_ms=99)
            assert grant.is_ours
        after = replace(batch, control=control, **change)
        assert await table.operate(batch, after, Operation("set", f"r{control}", "ada", NOW, control))
        batch = (await table.read(BATCH.batch_id)).batch  # type: ignore[union-attr]
        assert (batch.lease_owner == "s1") is is_kept, change
        assert await table.checkpoint(batch, owner="s1") is is_kept, change


async def test_work_is_stored_while_it_is_that_of_the_last_operation(table: Table) -> None:
    """Progress is stored, and its end; nothing once an operation has replaced it, or in another round."""
    batch = replace(BATCH, state=State.RUNNING, total=9, control=2, work=Work(WorkKind.SEND, 2))
    await table.open(batch, "{}")
    assert await table.set_work(batch, Work(WorkKind.SEND, 2, after=5))
    view = await table.read(BATCH.batch_id)
    assert view == BatchView(replace(batch, work=Work(WorkKind.SEND, 2, after=5)), Counts())
    assert await table.set_work(batch, Work(WorkKind.SEND, 2, after=7))
    for other in (replace(batch, work=Work(WorkKind.SEND, 1)), replace(batch, round=2)):
        assert not await table.set_work(other, None)
    assert await table.set_work(batch, None)
    assert await table.read(BATCH.batch_id) == BatchView(replace(batch, work=None), Counts())
    assert not await table.set_work(batch, Work(WorkKind.SEND, 2, after=9))


async def test_trouble_is_stored_while_results_are_written(table: Table) -> None:
    """It is stored and cleared in AGGREGATING and in the round only; nothing else changes."""
    assert not await table.set_trouble(BATCH, TROUBLE)
    assert await table.read(BATCH.batch_id) is None
    await table.open(AGGREGATING, "{}")
    assert not await table.set_trouble(replace(BATCH, round=2), TROUBLE)
    assert await table.set_trouble(BATCH, TROUBLE)
    assert (await table.read(BATCH.batch_id)).batch == replace(AGGREGATING, trouble=TROUBLE)  # type: ignore[union-attr]
    assert await table.set_trouble(BATCH, None)
    assert (await table.read(BATCH.batch_id)).batch == AGGREGATING  # type: ignore[union-attr]
    await table.move(BATCH, expected=State.AGGREGATING, to=State.SUCCEEDED, now=LATER)
    assert not await table.set_trouble(BATCH, TROUBLE)


async def test_one_of_many_concurrent_moves_succeeds(table: Table) -> None:
    """Of concurrent moves from one state exactly one returns True."""
    await table.open(replace(BATCH, state=State.RUNNING), "{}")
    moves = (table.move(BATCH, expected=State.RUNNING, to=State.AGGREGATING, now=NOW) for _ in range(8))
    assert sum(await asyncio.gather(*moves)) == 1


async def test_recent_lists_the_newest_first(table: Table) -> None:
    """Batches are listed by creation, newest first, up to the limit, in their current state."""
    for minute in (3, 1, 2):
        batch = replace(BATCH, execution_id=f"e{minute}", created_at=f"2026-11-18T10:0{minute}:00Z")
        await table.open(batch, "{}")
    await table.seal(replace(BATCH, execution_id="e3"), 5, LATER, owner="")
    found = await table.recent(2)
    assert [(batch.execution_id, batch.state) for batch in found] == [
        ("e3", State.RUNNING),
        ("e2", State.SPLITTING),
    ]


# -- deletion


async def test_a_batch_is_deleted(table: Table) -> None:
    """Its rows first, partition by partition; then all else, and it itself. Other batches stay."""
    other = replace(BATCH, execution_id="exec-2")
    for batch in (BATCH, other):
        await table.open(batch, "{}")
        assert await table.commit(replace(commit(outcome(1), outcome(2)), batch_id=batch.batch_id)) == ()
        await table.keep_answer(batch, Operation("pause", "r1", "me", LATER, 0, {}, {"text": "no"}))
    rows = 0
    for partition in range(BATCH.partitions):
        while number := await table.delete_rows(BATCH, partition):
            rows += number
    assert rows == 2
    assert await table.outcome(BATCH, 1) is None
    assert not await table.delete_batch(replace(BATCH, state=State.SUCCEEDED))
    assert not await table.delete_batch(replace(BATCH, control=7))
    assert await table.definition(BATCH.batch_id, BATCH.mapping_digest) == "{}"
    assert await table.delete_batch(BATCH)
    assert await table.read(BATCH.batch_id) is None
    assert await table.definition(BATCH.batch_id, BATCH.mapping_digest) is None
    assert await table.operation(BATCH, "r1") is None
    assert not await table.delete_batch(BATCH)
    view = await table.read(other.batch_id)
    assert view is not None
    assert view.counts.succeeded == 2
    assert await table.outcome(other, 2) is not None
    assert await table.definition(other.batch_id, other.mapping_digest) == "{}"


# -- commits


async def test_a_commit_stores_outcomes_and_counts(table: Table) -> None:
    """All fields of an outcome are stored, and the counters of all slots are added up."""
    await table.open(BATCH, "{}")
    sources = {"answer": "direct[0]:$.answer"}
    good = outcome(1, attempts=3, input_tokens=10, output_tokens=5, provenance=sources)
    bad = outcome(2, failed=True, reply='{"no":"é","half":"\\ud83d"}')
    reused = outcome(3, reused_from="address-search#exec-0/row_0000000017")
    packed = outcome(
        4, reply_at=PackedReply("0123456789abcdef", 5_000, 17, 300, "a" * 43), reply_round=1, values_round=2
    )
    earlier = outcome(5, reply_at=StoredPayload("bucket", "work/reply.json", 5_000, "0" * 64))
    assert await table.commit(commit(good, slot=3)) == ()
    assert await table.commit(commit(bad, reused, packed, earlier, slot=7)) == ()
    assert await table.outcome(BATCH, 1) == good
    assert await table.outcome(BATCH, 2) == bad
    assert await table.outcome(BATCH, 3) == reused
    assert await table.outcome(BATCH, 4) == packed
    assert await table.outcome(BATCH, 5) == earlier
    assert await table.outcome(BATCH, 6) is None
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.counts == Counts(
        succeeded=4, failed=1, agent_ms=500, input_tokens=10, output_tokens=5, reused=1
    )


async def test_reused_rows_are_counted_atomically(table: Table) -> None:
    """Reused rows are counted once, by their commit; `reused_from` is kept for large outcomes as well."""
    await table.open(BATCH, "{}")
    stored = StoredPayload("bucket", "work/x.json", 500_000, "0" * 64)
    origin = "address-search#exec-0/row_0000000001"
    once = commit(
        outcome(1), outcome(2, reused_from=origin), outcome(3, reused_from=origin, stored=stored), slot=1
    )
    assert await table.commit(once) == ()
    assert await table.commit(once) == ()
    assert list(await table.commit(commit(outcome(2, reused_from=origin)))) == [0]
    assert (await table.outcome(BATCH, 3)).reused_from == origin  # type: ignore[union-attr]
    assert (await table.read(BATCH.batch_id)).counts == Counts(3, 0, 300, reused=2)  # type: ignore[union-attr]


async def test_a_committed_row_cancels_the_commit(table: Table) -> None:
    """If some rows are committed already, their indices are returned and nothing is applied."""
    await table.open(BATCH, "{}")
    await table.commit(commit(outcome(2), outcome(4)))
    assert list(await table.commit(commit(outcome(1), outcome(2), outcome(3), outcome(4)))) == [1, 3]
    assert await numbers(table) == [2, 4]
    assert (await table.read(BATCH.batch_id)).counts.done == 2  # type: ignore[union-attr]


async def test_the_same_token_applies_once(table: Table) -> None:
    """A commit that is repeated under its token returns () and counts nothing twice."""
    await table.open(BATCH, "{}")
    once = commit(outcome(1), outcome(2))
    assert await table.commit(once) == ()
    assert await table.commit(once) == ()
    assert (await table.read(BATCH.batch_id)).counts.done == 2  # type: ignore[union-attr]


async def test_a_failure_keeps_type_message_and_class(table: Table) -> None:
    """The error of a FAILED outcome is the same by `outcome` and by `failed`."""
    await table.open(BATCH, "{}")
    error = RowError("AgentThrottledError", "HTTP 429: ü", "rate_limit")
    failed = outcome(1, failed=True, error=error)
    await table.commit(commit(failed))
    assert (await table.outcome(BATCH, 1)) == failed
    assert (await table.failed(BATCH, 0, after=0, limit=10)).outcomes == [failed]


async def test_an_outcome_of_an_earlier_version_has_no_class(names: ResourceNames, endpoint: str) -> None:
    """An error without a class, as earlier versions stored it, is read with the class ""."""
    options = AwsOptions(REGION, endpoint, ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients:
        await provision_table(Access(clients, may_write=True), names.table)
        table = DynamoTable(clients, names.table)
        await table.commit(commit(outcome(1, failed=True)))
        await clients.dynamodb.update_item(
            TableName=names.table,
            Key=primary_key(BATCH.batch_id, row_id(1)),
            UpdateExpression="REMOVE #error.#class",
            ExpressionAttributeNames={"#error": "error", "#class": "class"},
        )
        found = await table.outcome(BATCH, 1)
    assert found is not None
    assert found.error == RowError("AgentRejectedError", "HTTP 400", "")


async def test_a_token_for_other_outcomes_is_a_bug(table: Table) -> None:
    """A token that was used for other outcomes raises RuntimeError."""
    await table.open(BATCH, "{}")
    first = commit(outcome(1))
    await table.commit(first)
    with pytest.raises(RuntimeError, match="bug"):
        await table.commit(commit(outcome(2), token=first.token))


async def test_concurrent_commits_count_each_row_once(table: Table) -> None:
    """If workers commit the same rows concurrently, each row is counted once."""
    await table.open(BATCH, "{}")

    async def work(worker: int) -> None:
        pending = [outcome(number, worker=f"w{worker}") for number in range(1, 31)]
        while pending:
            taken = await table.commit(commit(*pending[:10], slot=worker))
            pending = [entry for index, entry in enumerate(pending[:10]) if index not in taken][
                : 10 if taken else 0
            ] + pending[10:]

    await asyncio.gather(*(work(worker) for worker in range(4)))
    assert (await table.read(BATCH.batch_id)).counts.succeeded == 30  # type: ignore[union-attr]
    assert await numbers(table) == list(range(1, 31))


async def test_a_later_round_replaces_an_outcome(table: Table) -> None:
    """A later round replaces an outcome, an earlier one does not; each round has its own counters."""
    second = replace(BATCH, round=2)
    await table.open(second, "{}")
    await table.commit(commit(outcome(1, failed=True)))
    assert await numbers(table, failed=True) == [1]
    assert await table.commit(commit(outcome(1, round_=2))) == ()
    assert list(await table.commit(commit(outcome(1, failed=True)))) == [0]
    assert (await table.outcome(BATCH, 1)).status is Status.SUCCESS  # type: ignore[union-attr]
    assert await numbers(table, failed=True) == []
    assert (await table.read(BATCH.batch_id)).counts == Counts(1, 0, 100)  # type: ignore[union-attr]


async def test_the_largest_commit_fits(table: Table) -> None:
    """A commit takes 99 outcomes; 100, none, or a row twice raise ValueError."""
    await table.open(BATCH, "{}")
    rows = [outcome(number) for number in range(1, COMMIT_LIMIT + 2)]
    assert await table.commit(commit(*rows[:COMMIT_LIMIT])) == ()
    with pytest.raises(ValueError, match="distinct"):
        await table.commit(commit(*rows))
    with pytest.raises(ValueError, match="distinct"):
        await table.commit(commit(rows[0], rows[0]))


async def test_json_values_are_stored(table: Table) -> None:
    """JSON values are read back equal, whole numbers as int and fractions as Decimal."""
    await table.open(BATCH, "{}")
    values = {
        "text": "größe 😀",
        "empty": "",
        "": "nameless",
        "none": None,
        "yes": True,
        "zero": 0,
        "big": 12345678901234567890,
        "list": [1, "a", [], {}],
        "map": {"a": {"b": [None]}},
    }
    numbers = {"half": 0.5, "money": Decimal("19.99"), "thirty-eight": Decimal("0." + "1" * 38)}
    assert await table.commit(commit(outcome(1, output_data=values | numbers))) == ()
    found = (await table.outcome(BATCH, 1)).output_data  # type: ignore[union-attr]
    assert found == values | {name: Decimal(str(number)) for name, number in numbers.items()}
    assert [type(found[name]) for name in ("yes", "zero", "half")] == [bool, int, Decimal]


async def test_numbers_keep_their_last_zeros(table: Table) -> None:
    """`50.0` comes back as `50.0` and not as `50`, at any depth."""
    await table.open(BATCH, "{}")
    values = {"speed": Decimal("50.0"), "list": [Decimal("12.50"), {"a": Decimal("0.0")}], "whole": 50}
    await table.commit(commit(outcome(1, output_data=values)))
    found = (await table.outcome(BATCH, 1)).output_data  # type: ignore[union-attr]
    assert repr(found) == repr(values)


async def test_numbers_out_of_range_are_stored_as_text(table: Table) -> None:
    """A number beyond DynamoDB's range or precision is stored exactly, as text."""
    await table.open(BATCH, "{}")
    values = {
        "digits": int("9" * 39),
        "large": Decimal("1E+126"),
        "tiny": 1e-300,
        "pi": Decimal("3." + "14" * 19),
    }
    await table.commit(commit(outcome(1, output_data=values)))
    found = (await table.outcome(BATCH, 1)).output_data  # type: ignore[union-attr]
    assert found == {"digits": "9" * 39, "large": "1E+126", "tiny": "1e-300", "pi": "3." + "14" * 19}


async def test_nan_is_refused(table: Table) -> None:
    """NaN raises RowRejectedError that names the row, and nothing is applied."""
    with pytest.raises(RowRejectedError, match="row 2"):
        await table.commit(commit(outcome(1), outcome(2, output_data={"x": float("nan")})))
    assert await table.outcome(BATCH, 1) is None


async def test_a_row_too_large_is_refused(table: Table) -> None:
    """An item above 400 KB raises RowTooLargeError that names the row, and nothing is applied."""
    await table.open(BATCH, "{}")
    with pytest.raises(RowTooLargeError, match="row 2"):
        await table.commit(commit(outcome(1), outcome(2, output_data={"text": "x" * 410_000})))
    assert await table.outcome(BATCH, 1) is None
    assert await table.commit(commit(outcome(2, output_data={"text": "x" * 390_000}))) == ()


async def test_a_transaction_too_large_is_refused(table: Table) -> None:
    """Outcomes that fit alone but not together raise RowTooLargeError; fewer of them are committed."""
    await table.open(BATCH, "{}")
    rows = [outcome(number, output_data={"text": "x" * 350_000}) for number in range(1, 13)]
    with pytest.raises(RowTooLargeError, match="12 outcomes"):
        await table.commit(commit(*rows))
    assert await table.commit(commit(*rows[:10])) == ()


async def test_a_row_nested_too_deeply_is_refused(table: Table) -> None:
    """A value deeper than DynamoDB's 32 levels raises RowTooLargeError that names the row."""
    await table.open(BATCH, "{}")
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    with pytest.raises(RowTooLargeError, match="row 1 is nested"):
        await table.commit(commit(outcome(1, output_data={"deep": deep})))


async def test_a_batch_too_large_is_refused(table: Table) -> None:
    """A header or definition that does not fit an item raises BatchRejectedError."""
    with pytest.raises(BatchRejectedError, match="cannot hold this batch"):
        await table.open(BATCH, "x" * 410_000)
    await table.open(BATCH, "{}")
    with pytest.raises(BatchRejectedError, match="cannot hold this batch"):
        await table.checkpoint(replace(BATCH, columns=("c" * 410_000,)), owner="")


# -- reading outcomes


async def test_outcomes_are_ascending_and_paged(table: Table) -> None:
    """Pages hold at most `limit` outcomes in row order; `after` continues to the end."""
    await table.open(BATCH, "{}")
    await table.commit(commit(*(outcome(number) for number in (9, 100, 2, 11, 1))))
    pages = await all_pages(table, BATCH, 0, 2, failed=False)
    assert [len(page.outcomes) for page in pages] == [2, 2, 1]
    assert await numbers(table, limit=2) == [1, 2, 9, 11, 100]
    page = await table.outcomes(BATCH, 0, after=9, limit=10)
    assert ([found.number for found in page.outcomes], page.after) == ([11, 100], None)
    assert not (await table.outcomes(BATCH, 0, after=9_999_999_999, limit=10)).outcomes


async def test_a_page_is_about_a_megabyte(table: Table) -> None:
    """A page of large outcomes ends before its limit."""
    await table.open(BATCH, "{}")
    rows = [outcome(number, output_data={"text": "x" * 300_000}) for number in range(1, 8)]
    await table.commit(commit(*rows))
    pages = await all_pages(table, BATCH, 0, 100, failed=False)
    assert len(pages) > 1
    assert await numbers(table, limit=100) == list(range(1, 8))


async def test_partitions_hold_their_rows(table: Table) -> None:
    """Row i is in partition i mod P, for all outcomes, failed outcomes and single reads."""
    batch = replace(BATCH, partitions=3)
    await table.open(batch, "{}")
    await table.commit(commit(*(outcome(number, failed=number > 5) for number in range(1, 9)), batch=batch))
    assert [await numbers(table, batch, partition) for partition in range(3)] == [
        [3, 6],
        [1, 4, 7],
        [2, 5, 8],
    ]
    failed = [await numbers(table, batch, partition, failed=True) for partition in range(3)]
    assert failed == [[6], [7], [8]]
    assert (await table.outcome(batch, 7)).number == 7  # type: ignore[union-attr]
    assert (await table.read(batch.batch_id)).counts.done == 8  # type: ignore[union-attr]


async def test_failed_finds_only_failed_rows(table: Table) -> None:
    """`failed` returns whole FAILED outcomes in row order, page by page."""
    await table.open(BATCH, "{}")
    await table.commit(commit(*(outcome(number, failed=number % 2 == 0) for number in range(1, 9))))
    assert await numbers(table, limit=3, failed=True) == [2, 4, 6, 8]
    page = await table.failed(BATCH, 0, after=6, limit=10)
    assert list(page.outcomes) == [outcome(8, failed=True)]


# -- the lease of a batch


async def leased(
    table: Table,
    owner: str,
    *,
    now_ms: int,
    until_ms: int = 2_000,
    round_: int = 1,
    state: State = State.AGGREGATING,
) -> LeaseGrant:
    batch = replace(BATCH, round=round_)
    return await table.lease(batch, state=state, owner=owner, now_ms=now_ms, until_ms=until_ms)


async def lease_of(table: Table) -> tuple[str, int]:
    view = await table.read(BATCH.batch_id)
    assert view is not None
    return view.batch.lease_owner, view.batch.lease_until_ms


async def test_one_owner_has_the_lease(table: Table) -> None:
    """The first owner gets the lease; others learn its end; only the owner extends it."""
    await table.open(AGGREGATING, "{}")
    assert await leased(table, "a", now_ms=1_000) == LeaseGrant(is_ours=True)
    assert await leased(table, "b", now_ms=1_000) == LeaseGrant(is_ours=False, until_ms=2_000)
    assert await leased(table, "a", now_ms=0, until_ms=5_000) == LeaseGrant(True, "a")
    assert await leased(table, "b", now_ms=4_999) == LeaseGrant(is_ours=False, until_ms=5_000)
    assert await lease_of(table) == ("a", 5_000)


async def test_a_lease_that_has_ended_is_taken_over(table: Table) -> None:
    """When a lease ends, another owner gets it and learns the previous one, who cannot extend it any more."""
    await table.open(AGGREGATING, "{}")
    await leased(table, "a", now_ms=1_000)
    assert await leased(table, "b", now_ms=2_000, until_ms=3_000) == LeaseGrant(True, "a")
    assert await leased(table, "a", now_ms=0, until_ms=9_000) == LeaseGrant(is_ours=False, until_ms=3_000)
    assert await lease_of(table) == ("b", 3_000)


async def test_an_extension_never_takes_over_a_lease(table: Table) -> None:
    """An extension (`now_ms` 0) does not take over an ended lease of another owner."""
    await table.open(AGGREGATING, "{}")
    await leased(table, "a", now_ms=1_000, until_ms=1_001)
    assert not (await leased(table, "b", now_ms=0)).is_ours


async def test_a_lease_that_was_released_is_not_extended(table: Table) -> None:
    """Another owner may have had it in between; its former owner has to take it anew, and knows so."""
    await table.open(AGGREGATING, "{}")
    await leased(table, "a", now_ms=1_000, until_ms=2_000)
    await leased(table, "b", now_ms=3_000, until_ms=4_000)
    await table.release(BATCH.batch_id, owner="b")
    refused = await leased(table, "a", now_ms=0, until_ms=5_000)
    assert not refused.is_ours
    assert refused.until_ms
    assert await lease_of(table) == ("", 0)
    assert (await leased(table, "a", now_ms=3_500)).is_ours


async def test_a_lease_passes_to_another_name_of_its_owner(table: Table) -> None:
    """No other process gets it in between, and the former name counts no more."""
    await table.open(BATCH, "{}")
    split = {"state": State.SPLITTING, "until_ms": 2_000}
    await table.lease(BATCH, owner="a", now_ms=1_000, **split)
    assert not (await table.lease(BATCH, owner="b.1", former="b", now_ms=0, **split)).is_ours
    for _ in range(2):
        assert (await table.lease(BATCH, owner="a.1", former="a", now_ms=0, **split)).is_ours
    assert not (await table.lease(BATCH, owner="a", now_ms=0, **split)).is_ours
    assert await lease_of(table) == ("a.1", 2_000)


@pytest.mark.parametrize("state", [State.SPLITTING, State.RUNNING, State.PAUSED, State.AGGREGATING])
async def test_who_may_send_rows_is_the_sender_of_the_batch(table: Table, state: State) -> None:
    """An aggregator sends none."""
    batch = replace(AGGREGATING, state=state, sender="before")
    await table.open(batch, "{}")
    assert (await leased(table, "a", now_ms=1_000, state=state)).is_ours
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch.sender == ("before" if state is State.AGGREGATING else "a")


async def test_a_change_of_state_ends_the_lease(table: Table) -> None:
    """It was for the former state: an aggregator need not wait for a sweeper."""
    running = replace(AGGREGATING, state=State.RUNNING)
    await table.open(running, "{}")
    await leased(table, "sweeper", now_ms=1_000, state=State.RUNNING)
    assert await table.move(running, expected=State.RUNNING, to=State.AGGREGATING, now=LATER)
    assert await lease_of(table) == ("", 0)
    assert (await leased(table, "aggregator", now_ms=1_000)).is_ours


async def test_one_of_many_concurrent_owners_gets_the_lease(table: Table) -> None:
    """Of concurrent requests for a lease exactly one is granted."""
    await table.open(AGGREGATING, "{}")
    answers = await asyncio.gather(*(leased(table, f"o{n}", now_ms=1_000) for n in range(8)))
    assert sum(answer.is_ours for answer in answers) == 1


async def test_a_split_is_leased_like_an_aggregation(table: Table) -> None:
    """A lease is for one state of the batch; the seal releases it by the same write."""
    await table.open(BATCH, "{}")
    assert (await leased(table, "a", now_ms=1_000, state=State.SPLITTING)).is_ours
    assert await leased(table, "b", now_ms=1_000, state=State.SPLITTING) == LeaseGrant(False, until_ms=2_000)
    assert await leased(table, "b", now_ms=9_000) == LeaseGrant(is_ours=False)
    assert await table.seal(BATCH, 3, LATER, owner="a")
    assert await lease_of(table) == ("", 0)
    assert await leased(table, "a", now_ms=0, state=State.SPLITTING) == LeaseGrant(is_ours=False)


async def test_only_the_holder_of_the_lease_writes_progress(table: Table) -> None:
    """Checkpoint and seal of any other process are refused, whatever rows it has sent."""
    await table.open(BATCH, "{}")
    await leased(table, "a", now_ms=1_000, state=State.SPLITTING)
    await leased(table, "b", now_ms=2_000, until_ms=3_000, state=State.SPLITTING)
    further = replace(BATCH, checkpoint=Checkpoint(99, 999, 99))
    for other in ("a", ""):
        assert not await table.checkpoint(further, owner=other)
        assert not await table.seal(BATCH, 99, LATER, owner=other)
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert (view.batch.checkpoint, view.batch.state) == (BATCH.checkpoint, State.SPLITTING)
    assert await table.checkpoint(further, owner="b")
    assert await lease_of(table) == ("b", 3_000)


@pytest.mark.parametrize("state", [state for state in State if state is not State.AGGREGATING])
async def test_a_batch_in_another_state_is_not_leased(table: Table, state: State) -> None:
    """A lease of a batch that is not in the state asked for is refused with `until_ms` 0."""
    await table.open(replace(AGGREGATING, state=state), "{}")
    assert await leased(table, "a", now_ms=1_000) == LeaseGrant(is_ours=False)


async def test_another_round_or_no_batch_is_not_leased(table: Table) -> None:
    """A lease for another round, or for an unknown batch, is refused and creates nothing."""
    assert await leased(table, "a", now_ms=1_000) == LeaseGrant(is_ours=False)
    assert await table.read(BATCH.batch_id) is None
    await table.open(replace(AGGREGATING, round=2), "{}")
    assert await leased(table, "a", now_ms=1_000) == LeaseGrant(is_ours=False)
    assert await leased(table, "a", now_ms=1_000, round_=2) == LeaseGrant(is_ours=True)


async def test_a_lease_is_released_by_its_owner(table: Table) -> None:
    """Only the owner releases a lease."""
    await table.open(AGGREGATING, "{}")
    await leased(table, "a", now_ms=1_000)
    assert not await table.release(BATCH.batch_id, owner="b")
    assert await table.release(BATCH.batch_id, owner="a")
    assert await lease_of(table) == ("", 0)
    assert await leased(table, "b", now_ms=1_000) == LeaseGrant(is_ours=True)
    assert not await table.release("nobody#here", owner="b")


async def test_a_recount_replaces_the_counters_of_its_round(table: Table) -> None:
    """It is stored in the state and round of the batch only, and does not hold in another round."""
    await table.open(replace(BATCH, state=State.RUNNING, total=3), "{}")
    running = replace(BATCH, state=State.RUNNING)
    await table.commit(commit(outcome(1)))
    right = Counts(2, 1, 300, 10, 5, 1)
    assert not await table.recount(replace(running, state=State.AGGREGATING), right)
    assert not await table.recount(replace(running, round=2), right)
    assert not await table.recount(replace(running, incarnation=new_incarnation(5, 5)), right)
    assert await table.recount(running, right)
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert (view.counts, view.batch.recount) == (right, Recount(1, right))
    assert replace(view.batch, round=2).counts_of([Counts(1)]) == Counts(1)
    assert await table.move(view.batch, expected=State.RUNNING, to=State.AGGREGATING, now=LATER)
    assert (await table.read(BATCH.batch_id)).counts == right  # type: ignore[union-attr]


# -- ids that are used again


FIRST = replace(BATCH, incarnation=new_incarnation(1_000_000_000_000, 1), ttl=1_000_000_100)
SECOND = replace(
    BATCH, incarnation=new_incarnation(1_000_000_100_000, 2), ttl=1_000_000_200, state=State.RUNNING, total=2
)
"""Two batches with one id, the second opened when the first had expired."""


def commit_of(batch: Batch, *outcomes: Outcome, slot: int = 0) -> Commit:
    made = commit(*outcomes, batch=batch, slot=slot)
    return replace(made, incarnation=batch.incarnation, ttl=batch.ttl)


@pytest.fixture(params=["memory", "sqlite", "ministack"])
async def aging(
    request: pytest.FixtureRequest,
    names: ResourceNames,
    tmp_path: Path,
    make_table: Callable[[Clients, str], Awaitable[None]],
) -> AsyncIterator[tuple[Table, Age]]:
    """A table whose time the test sets, in seconds since 1970."""
    age = Age()
    if request.param == "memory":
        yield MemoryTable(age.now_ms), age
        return
    if request.param == "sqlite":
        async with await Store.open(tmp_path / "store", age) as store:
            yield store.table, age
        return
    options = AwsOptions(REGION, request.getfixturevalue("endpoint"), ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients:
        await make_table(clients, names.table)
        yield DynamoTable(clients, names.table, now_ms=age.now_ms), age


async def test_an_expired_batch_counts_as_absent(aging: tuple[Table, Age]) -> None:
    """From its `ttl` on it is neither read nor listed, and its id can be opened anew."""
    table, age = aging
    age.now_s = FIRST.ttl - 1
    assert await table.open(FIRST, "{}") == FIRST
    assert await table.open(SECOND, "{}") == FIRST
    assert await table.recent(5) == [FIRST]
    assert (await table.batches(State.SPLITTING, after="", limit=5)).batches == [FIRST]
    age.now_s = FIRST.ttl
    assert await table.read(FIRST.batch_id) is None
    assert await table.recent(5) == []
    assert (await table.batches(State.SPLITTING, after="", limit=5)).batches == []
    assert await table.open(SECOND, "{}") == SECOND
    assert await table.open(FIRST, "{}") == SECOND
    assert (await table.read(FIRST.batch_id)).batch == SECOND  # type: ignore[union-attr]


async def test_a_batch_without_an_expiry_never_expires(aging: tuple[Table, Age]) -> None:
    """A `ttl` of 0 is none, as for DynamoDB."""
    table, age = aging
    endless = replace(BATCH, ttl=0)
    await table.open(endless, "{}")
    age.now_s = 4_000_000_000
    assert await table.open(SECOND, "{}") == endless


async def test_a_failed_batch_is_replaced_on_request(aging: tuple[Table, Age]) -> None:
    """Only the batch that is named, only while it is FAILED, and by one of many."""
    table, _ = aging
    failed = replace(FIRST, state=State.FAILED)
    await table.open(failed, "{}")
    other = replace(failed, incarnation=new_incarnation(5, 5))
    assert await table.open(SECOND, "{}", replacing=other) == failed
    answers = await asyncio.gather(
        *(
            table.open(replace(SECOND, incarnation=new_incarnation(n, n)), "{}", replacing=failed)
            for n in range(8)
        )
    )
    assert len(set(answers)) == 1
    assert answers[0] != failed
    assert await table.open(FIRST, "{}", replacing=answers[0]) == answers[0], "it is not FAILED"


async def test_leftovers_of_an_earlier_batch_count_as_absent(aging: tuple[Table, Age]) -> None:
    """Its outcomes, failed rows, done numbers and counters are not those of the batch that has the id now."""
    table, age = aging
    await table.open(FIRST, "{}")
    await table.commit(commit_of(FIRST, outcome(1), outcome(2, failed=True), slot=3))
    age.now_s = FIRST.ttl
    await table.open(SECOND, "{}")
    view = await table.read(SECOND.batch_id)
    assert view == BatchView(SECOND, Counts())
    assert await table.outcome(SECOND, 1) is None
    assert await numbers(table, SECOND) == await numbers(table, SECOND, failed=True) == []
    assert (await table.done_numbers(SECOND, 0, after=0, limit=10)).numbers == []
    assert await table.commit(commit_of(SECOND, outcome(1, attempts=2), slot=3)) == ()
    assert (await table.outcome(SECOND, 1)).attempts == 2  # type: ignore[union-attr]
    assert (await table.read(SECOND.batch_id)).counts.done == 1  # type: ignore[union-attr]
    assert await numbers(table, SECOND, limit=1) == [1]


async def test_a_late_worker_replaces_nothing_of_a_later_batch(aging: tuple[Table, Age]) -> None:
    """Its commit is refused where the later batch has an outcome, and not counted where it has none."""
    table, _ = aging
    await table.open(SECOND, "{}")
    await table.commit(commit_of(SECOND, outcome(1)))
    assert list(await table.commit(commit_of(replace(FIRST, round=2), outcome(1, round_=2)))) == [0]
    assert await table.commit(commit_of(FIRST, outcome(2))) == ()
    assert (await table.read(SECOND.batch_id)).counts.done == 1  # type: ignore[union-attr]
    assert await numbers(table, SECOND) == [1]
    assert await table.commit(commit_of(SECOND, outcome(2))) == ()
    assert (await table.read(SECOND.batch_id)).counts.done == 2  # type: ignore[union-attr]


async def test_an_earlier_batch_changes_nothing_of_a_later_one(aging: tuple[Table, Age]) -> None:
    """Checkpoint, seal, move and lease need the incarnation of the stored batch, or that it has none."""
    table, _ = aging
    for stored, others in ((SECOND, (FIRST, BATCH)), (replace(BATCH, execution_id="old"), (FIRST,))):
        splitting = replace(stored, state=State.SPLITTING, total=None)
        await table.open(splitting, "{}")
        for late in (replace(other, execution_id=stored.execution_id) for other in others):
            assert not await table.checkpoint(late, owner="")
            assert not await table.seal(late, 5, NOW, owner="")
            assert not await table.move(late, expected=State.SPLITTING, to=State.FAILED, now=NOW)
        assert await table.move(splitting, expected=State.SPLITTING, to=State.AGGREGATING, now=NOW)
        for late in (replace(other, execution_id=stored.execution_id) for other in others):
            grant = await table.lease(late, state=State.AGGREGATING, owner="a", now_ms=1_000, until_ms=2_000)
            assert grant == LeaseGrant(is_ours=False)
        grant = await table.lease(splitting, state=State.AGGREGATING, owner="a", now_ms=1_000, until_ms=2_000)
        assert grant.is_ours


async def test_a_worker_of_an_earlier_version_counts(aging: tuple[Table, Age]) -> None:
    """It writes outcomes and counts without an incarnation; the expiry shows whose they are."""
    table, _ = aging
    await table.open(SECOND, "{}")
    old = replace(SECOND, incarnation="")
    assert await table.commit(commit_of(old, outcome(1))) == ()
    assert list(await table.commit(commit_of(SECOND, outcome(1), outcome(2)))) == [0]
    assert list(await table.commit(commit_of(SECOND, outcome(2)))) == []
    assert list(await table.commit(commit_of(old, outcome(2)))) == [0]
    assert (await table.read(SECOND.batch_id)).counts.done == 2  # type: ignore[union-attr]
    assert await numbers(table, SECOND) == [1, 2]
    leftover = replace(FIRST, incarnation="")
    assert await table.commit(commit_of(leftover, outcome(3), slot=9)) == ()
    assert await numbers(table, SECOND) == [1, 2]
    assert await table.commit(commit_of(SECOND, outcome(3))) == ()
    assert (await table.read(SECOND.batch_id)).counts.done == 3  # type: ignore[union-attr]


# -- reads of the sweeper


async def all_batches(table: Table, state: State, limit: int) -> list[Batch]:
    found: list[Batch] = []
    after = ""
    while True:
        page = await table.batches(state, after=after, limit=limit)
        assert len(page.batches) <= limit
        found += page.batches
        after = page.after
        if not after:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_batches_in_a_state_are_found_page_by_page(table: Table, limit: int) -> None:
    """Pages list each batch of the state exactly once and nothing else, no failed rows either."""
    opened = [replace(BATCH, execution_id=f"e{n}") for n in range(7)]
    for batch in opened:
        await table.open(batch, "{}")
    await table.commit(commit(outcome(1, failed=True), batch=opened[0]))
    await table.seal(opened[3], 5, LATER, owner="")
    splitting = await all_batches(table, State.SPLITTING, limit)
    assert sorted(batch.execution_id for batch in splitting) == ["e0", "e1", "e2", "e4", "e5", "e6"]
    assert set(splitting) == {*opened} - {opened[3]}
    [running] = await all_batches(table, State.RUNNING, limit)
    assert (running.batch_id, running.total) == (opened[3].batch_id, 5)
    assert await all_batches(table, State.FAILED, limit) == []


async def test_a_state_change_between_pages_hides_no_other_batch(table: Table) -> None:
    """A page can start after a batch that has left the state."""
    for number in range(6):
        await table.open(replace(BATCH, execution_id=f"e{number}"), "{}")
    page = await table.batches(State.SPLITTING, after="", limit=3)
    seen = {batch.batch_id for batch in page.batches}
    (last,) = [batch for batch in page.batches if batch.batch_id == page.after]
    await table.seal(last, 1, LATER, owner="")
    rest = await table.batches(State.SPLITTING, after=page.after, limit=100)
    assert seen | {batch.batch_id for batch in rest.batches} == {f"address-search#e{n}" for n in range(6)}


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
async def test_numbers_lists_rows_that_need_no_outcome(table: Table, limit: int) -> None:
    """Rows with an outcome of this round or a later one, in row order."""
    batch = replace(BATCH, partitions=2, round=2)
    await table.open(batch, "{}")
    first = replace(batch, round=1)
    await table.commit(commit(outcome(2), outcome(4, failed=True), outcome(6, failed=True), batch=first))
    await table.commit(
        commit(outcome(6, round_=2, failed=True), outcome(8, round_=2), outcome(7, round_=2), batch=batch)
    )
    await table.commit(commit(outcome(10, round_=3, failed=True), batch=replace(batch, round=3)))
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await table.done_numbers(batch, 0, after=after, limit=limit)
        found += page.numbers
        after = page.after
    assert found == [6, 8, 10]
    assert list((await table.done_numbers(batch, 0, after=6, limit=100)).numbers) == [8, 10]
    assert list((await table.done_numbers(batch, 1, after=0, limit=100)).numbers) == [7]
    assert list((await table.done_numbers(batch, 1, after=MAX_ROWS, limit=100)).numbers) == []


# -- shared records


async def test_a_record_is_swapped_by_its_version(table: Table) -> None:
    """Version 0 creates a record, the stored version replaces it; any other returns the stored record."""
    assert await table.record("limit/a") == SharedRecord()
    assert await table.swap("limit/a", "one", version=0, ttl=TTL) == SharedRecord("one", 1)
    assert await table.swap("limit/a", "late", version=0, ttl=TTL) == SharedRecord("one", 1)
    assert await table.swap("limit/a", "two", version=1, ttl=TTL) == SharedRecord("two", 2)
    assert await table.swap("limit/a", "behind", version=1, ttl=TTL) == SharedRecord("two", 2)
    assert await table.record("limit/a") == SharedRecord("two", 2)


async def test_an_expired_record_is_not_replaced(table: Table) -> None:
    """A swap of a record that is gone returns version 0 and writes nothing."""
    assert await table.swap("gone", "text", version=3, ttl=TTL) == SharedRecord()
    assert await table.record("gone") == SharedRecord()


async def test_one_of_many_concurrent_swaps_succeeds(table: Table) -> None:
    """Of ten writers with the same version one succeeds, and all get its text."""
    answers = await asyncio.gather(
        *(table.swap("busy", f"writer {n}", version=0, ttl=TTL) for n in range(10))
    )
    assert len({answer.text for answer in answers}) == 1
    assert {answer.version for answer in answers} == {1}


async def test_a_record_larger_than_an_item_is_refused(table: Table) -> None:
    """A text that does not fit an item raises RowTooLargeError."""
    with pytest.raises(RowTooLargeError, match="a record of"):
        await table.swap("large", "x" * 400_001, version=0, ttl=TTL)
