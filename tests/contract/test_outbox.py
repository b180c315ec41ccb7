"""Contract of the port Outbox, and of changes of a batch that store events; on all tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.table.dynamodb import DynamoTable
from service.adapters.memory import MemoryTable
from service.adapters.sqlite import Store
from service.domain.model import (
    Batch,
    DeliveryEnd,
    DeliveryState,
    Event,
    EventKind,
    Location,
    Operation,
    OutboxKind,
    OutboxRecord,
    Source,
    State,
    WaitingTask,
    new_incarnation,
)
from service.domain.ports import Table

NOW = "2026-11-18T10:00:00.000Z"
BATCH = Batch(
    "demo", "e1", State.SPLITTING, Source("bucket", "key"), Location("bucket", "out/"),
    created_at=NOW, ttl=1_900_000_000, incarnation=new_incarnation(1_700_000_000_000, 7),
)  # fmt: skip
RUNNING = replace(BATCH, state=State.RUNNING, total=3)


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


def event(kind: EventKind = EventKind.STARTED, batch: Batch = BATCH, note: str = "") -> Event:
    """An event of the batch; its id does not depend on `note`."""
    return Event.of(batch, kind, at=NOW, status={"state": batch.state.value, "note": note})


def task(token: str = "token") -> OutboxRecord:
    return WaitingTask(BATCH.batch_id, token, BATCH.incarnation, 5, BATCH.ttl, problem="none").record()


async def events(table: Table) -> list[Event]:
    return [Event.from_record(record) for record in await table.records(BATCH.batch_id, OutboxKind.EVENT)]


async def pending(table: Table, kind: OutboxKind = OutboxKind.EVENT) -> list[str]:
    return [record.name for record in (await table.pending(kind, after=None, limit=100)).records]


# -- events in the transaction of a change


async def test_a_batch_is_opened_with_its_events(table: Table) -> None:
    """Both are stored, and the event comes back as it was."""
    started = event()
    assert await table.open(BATCH, "{}", events=[started]) == BATCH
    assert await events(table) == [started]
    assert await pending(table) == [started.id]


async def test_a_batch_that_is_there_gets_no_events_of_another_opening(table: Table) -> None:
    """A second opening of the id stores neither a batch nor an event."""
    await table.open(BATCH, "{}")
    other = replace(BATCH, incarnation=new_incarnation(1_700_000_000_001, 1))
    assert await table.open(other, "{}", events=[event(batch=other)]) == BATCH
    assert await events(table) == []


async def test_a_move_stores_its_events(table: Table) -> None:
    """The state and all events change together."""
    await table.open(RUNNING, "{}")
    told = [event(EventKind.PAUSED), event(EventKind.BUDGET)]
    assert await table.move(RUNNING, expected=State.RUNNING, to=State.PAUSED, now=NOW, events=told)
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch.state is State.PAUSED
    assert {found.id for found in await events(table)} == {one.id for one in told}


async def test_a_move_that_is_refused_stores_no_event(table: Table) -> None:
    """State, round and request are conditions of the whole transaction."""
    await table.open(RUNNING, "{}")
    told = [event(EventKind.FAILED)]
    for batch, expected in ((RUNNING, State.AGGREGATING), (replace(RUNNING, round=2), State.RUNNING)):
        assert not await table.move(batch, expected=expected, to=State.FAILED, now=NOW, events=told)
    assert await events(table) == []


async def test_a_move_that_is_told_is_refused_after_another_operation(table: Table) -> None:
    """The id of its event would be that of a change before the operation. Without events it is made."""
    await table.open(RUNNING, "{}")
    changed = replace(RUNNING, control=1)
    assert await table.operate(RUNNING, changed, Operation("set", "request-1", "me", NOW, control=1))
    move = partial(table.move, expected=State.RUNNING, to=State.FAILED, now=NOW)
    assert not await move(RUNNING, events=[event(EventKind.FAILED)])
    assert await events(table) == []
    told = event(EventKind.FAILED, changed)
    assert await move(changed, events=[told])
    assert await events(table) == [told]
    assert await table.move(RUNNING, expected=State.FAILED, to=State.RUNNING, now=NOW)


async def test_an_event_is_stored_once_with_its_first_bytes(table: Table) -> None:
    """A later move with an event of the same id changes the state and leaves the event, delivered or not."""
    await table.open(RUNNING, "{}", events=[event(note="first")])
    (record,) = await table.records(BATCH.batch_id, OutboxKind.EVENT)
    await table.settle(record)
    told = [event(note="second"), event(EventKind.PAUSED)]
    assert await table.move(RUNNING, expected=State.RUNNING, to=State.PAUSED, now=NOW, events=told)
    assert {found.body for found in await events(table)} == {event(note="first").body, told[1].body}
    assert await pending(table) == [told[1].id]


async def test_one_of_many_concurrent_moves_stores_its_event(table: Table) -> None:
    """The others fail their condition, and their events are not stored."""
    await table.open(RUNNING, "{}")
    made = [event(EventKind.PAUSED, note=str(number)) for number in range(4)]
    moves = (
        table.move(RUNNING, expected=State.RUNNING, to=State.PAUSED, now=NOW, events=[one]) for one in made
    )
    moved = await asyncio.gather(*moves)
    assert sum(moved) == 1
    assert await events(table) == [made[moved.index(True)]]


async def test_events_are_no_part_of_their_batch(table: Table) -> None:
    """Neither the read of a batch nor the list of batches or failed rows has them."""
    await table.open(RUNNING, "{}", events=[event()])
    await table.add(task())
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch == RUNNING
    assert [batch.batch_id for batch in (await table.batches(State.RUNNING, after="", limit=9)).batches] == [
        BATCH.batch_id
    ]
    assert list((await table.failed(RUNNING, 0, after=0, limit=9)).outcomes) == []
    assert list((await table.outcomes(RUNNING, 0, after=0, limit=9)).outcomes) == []


# -- records


async def test_a_record_is_added_once(table: Table) -> None:
    """The first one stays. Events and tasks are told apart, and a task comes back as it was."""
    assert await table.add(task())
    assert not await table.add(replace(task(), text="other"))
    assert list(await table.records(BATCH.batch_id, OutboxKind.TASK)) == [task()]
    assert WaitingTask.from_record(task()).token == "token"
    assert list(await table.records(BATCH.batch_id, OutboxKind.EVENT)) == []
    assert await pending(table, OutboxKind.TASK) == [task().name]


async def test_pending_records_come_in_pages(table: Table) -> None:
    """Each record is on one page."""
    for number in range(5):
        await table.add(task(str(number)))
    found: list[str] = []
    after = None
    while True:
        page = await table.pending(OutboxKind.TASK, after=after, limit=2)
        found += [record.name for record in page.records]
        if (after := page.after) is None:
            break
    assert sorted(found) == sorted(task(str(number)).name for number in range(5))


async def test_a_delivery_is_changed_by_one_process(table: Table) -> None:
    """A change needs the version before it; the answer has the deliveries to all targets."""
    record = event().record()
    await table.add(record)
    first = DeliveryState().tried(60_000)
    stored = await table.set_delivery(record, "webhook", first)
    assert stored is not None
    assert stored.delivery("webhook") == first
    assert await table.set_delivery(record, "webhook", DeliveryState().tried(70_000)) is None
    ended = first.ended(DeliveryEnd.DELIVERED)
    assert await table.set_delivery(record, "topic", DeliveryState().tried(1)) is not None
    stored = await table.set_delivery(record, "webhook", ended)
    assert stored is not None
    assert stored.deliveries == {"webhook": ended, "topic": DeliveryState().tried(1)}
    assert stored.is_settled(["webhook"])
    assert not stored.is_settled(["webhook", "topic"])
    assert await table.set_delivery(record, "webhook", first) is None


async def test_a_settled_record_is_pending_no_more(table: Table) -> None:
    """It stays among the records of its batch, with its deliveries."""
    record = event().record()
    await table.add(record)
    await table.set_delivery(record, "webhook", DeliveryState().tried(1))
    await table.settle(record)
    assert await pending(table) == []
    (left,) = await table.records(BATCH.batch_id, OutboxKind.EVENT)
    assert not left.is_pending
    assert left.delivery("webhook").tries == 1
    assert not await table.add(record)


async def test_a_record_that_is_gone_is_not_made_anew(table: Table) -> None:
    """Neither a delivery nor the end of one creates it."""
    await table.settle(task())
    assert await table.set_delivery(task(), "task", DeliveryState().tried(1)) is None
    assert list(await table.records(BATCH.batch_id, OutboxKind.TASK)) == []


async def test_an_operation_stores_its_events(table: Table) -> None:
    """Batch, log and events change together; an operation that is refused stores none."""
    await table.open(RUNNING, "{}")
    after = replace(RUNNING, state=State.PAUSED, control=1)
    operation = Operation("pause", "request-1", "me", NOW, control=1)
    told = event(EventKind.PAUSED, after)
    assert await table.operate(RUNNING, after, operation, events=[told])
    assert await events(table) == [told]
    late = event(EventKind.CANCELLED, after)
    assert not await table.operate(RUNNING, after, replace(operation, request_id="request-2"), events=[late])
    assert not await table.operate(after, replace(after, control=2), operation, events=[late])
    assert await events(table) == [told]
