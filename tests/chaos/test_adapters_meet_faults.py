"""The AWS adapters keep the promises of the ports while a proxy produces faults.

Other tests raise these errors from stubs. Here they are real responses, and applied calls are applied.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.errors import ConflictError, RetryableError, ThrottledError, UnknownResultError
from service.domain.model import (
    Batch,
    Commit,
    Counts,
    Event,
    EventKind,
    Location,
    OutboxKind,
    Outcome,
    Source,
    State,
    Status,
)
from service.domain.ports import OutgoingMessage
from service.runtime.clock import SystemClock
from service.runtime.metrics import Metrics
from service.runtime.sender import send_all
from tests.chaos.conftest import Behind
from tests.chaos.faults import Fault

NOW = "2026-11-18T10:00:00.000Z"
BATCH = Batch(
    "tool", "exec", State.SPLITTING, Source("bucket", "key"), Location("bucket", "results/"),
    created_at=NOW, updated_at=NOW, ttl=1_900_000_000,
)  # fmt: skip
PART = 5 * 2**20
ALWAYS = 3
"""So many faults that all of botocore's attempts at a call fail."""


def outcome(number: int, status: Status = Status.SUCCESS) -> Outcome:
    return Outcome(number, 1, status, {}, {}, execution_time_ms=7, timestamp=NOW)


def commit(*numbers: int) -> Commit:
    """A commit with a token of its own, since the tables of an account share the tokens."""
    outcomes = tuple(outcome(number) for number in numbers)
    return Commit(BATCH.batch_id, 1, BATCH.partitions, 0, outcomes, str(uuid.uuid4()), BATCH.ttl)


@pytest.fixture
async def table(behind: Behind, names: ResourceNames) -> DynamoTable:
    """A table with one batch, behind the proxy."""
    await provision_table(Access(behind.direct, may_write=True), names.table)
    made = DynamoTable(behind.clients, names.table)
    await made.open(BATCH, "{}")
    return made


async def queue_of(clients: Clients, names: ResourceNames, role: str = "rows") -> SqsQueue:
    made = await clients.sqs.create_queue(QueueName=names.queue(role))
    return SqsQueue(clients, names.queue(role), made["QueueUrl"])


async def counts(table: DynamoTable) -> Counts:
    view = await table.read(BATCH.batch_id)
    assert view is not None
    return view.counts


async def received(queue: SqsQueue, count: int) -> list[str]:
    """The bodies of `count` messages, and of any others that are visible."""
    found: list[str] = []
    while len(found) < count:
        found += [m.body for m in await queue.receive(10, wait_s=2, visibility_s=60)]
    found += [m.body for m in await queue.receive(10, wait_s=0, visibility_s=60)]
    return sorted(found)


# -- commits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HALF, Fault.HELD])
async def test_a_commit_applied_without_an_answer(behind: Behind, table: DynamoTable, fault: Fault) -> None:
    """The result is unknown. Repeated with its token the commit succeeds, and is counted once."""
    once, first = DynamoTable(behind.once, table._name), commit(1, 2)
    behind.script.add("TransactWriteItems", fault)
    with pytest.raises(UnknownResultError):
        await once.commit(first)
    assert (await counts(table)).succeeded == 2
    assert await once.commit(first) == ()
    assert (await counts(table)).succeeded == 2
    assert await once.commit(commit(1, 2)) == (0, 1)
    assert (await counts(table)).succeeded == 2


async def test_botocore_repeats_a_commit_under_its_token(behind: Behind, table: DynamoTable) -> None:
    """If botocore itself repeats a call whose answer was lost, the commit succeeds and is counted once."""
    behind.script.add("TransactWriteItems", Fault.LOST)
    assert await table.commit(commit(1, 2, 3)) == ()
    assert await counts(table) == Counts(succeeded=3, agent_ms=21)


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.CONFLICT, ConflictError), (Fault.THROTTLE, ThrottledError)]
)
async def test_a_cancelled_commit_applied_nothing(
    behind: Behind, table: DynamoTable, fault: Fault, error: type[RetryableError]
) -> None:
    """A conflict and a throttle raise their error. Nothing is counted, and the same commit then succeeds."""
    behind.script.add("TransactWriteItems", fault)
    made = commit(1)
    with pytest.raises(error):
        await table.commit(made)
    assert await counts(table) == Counts()
    assert await table.commit(made) == ()
    assert (await counts(table)).succeeded == 1


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.ERROR_503])
async def test_a_broken_service_may_have_applied(behind: Behind, table: DynamoTable, fault: Fault) -> None:
    """A 5xx to a write is no answer: its result is unknown."""
    behind.script.add("TransactWriteItems", *[fault] * ALWAYS)
    with pytest.raises(UnknownResultError):
        await table.commit(commit(1))


async def test_a_group_committer_gets_past_all_faults(
    behind: Behind, table: DynamoTable, names: ResourceNames
) -> None:
    """Conflict, throttle, lost and half answers in a row: each row settled and counted once, one trigger."""
    await table.seal(BATCH, 5, NOW, owner="")
    clock = SystemClock()
    aggregate = await queue_of(behind.clients, names, "aggregate")
    objects = S3Objects(behind.clients)
    ports = Ports(
        table,
        objects,
        Queues(*[aggregate] * 6),
        LargeOutcomes(objects, LargeOutcomeLimits()),
        clock,
        Metrics(),
    )
    limits = GroupCommitLimits(linger_s=0.01)
    behind.script.add(
        "TransactWriteItems",
        *[Fault.CONFLICT, Fault.LOST, Fault.THROTTLE, Fault.HALF, Fault.ERROR_500, Fault.CONFLICT],
    )
    behind.script.add("Query", Fault.RESET, Fault.THROTTLE)
    behind.script.add("SendMessageBatch", Fault.PARTIAL, Fault.THROTTLE)
    running = replace(BATCH, state=State.RUNNING, total=5)
    async with GroupCommitter(
        ports,
        Completion(ports),
        limits,
        slot=0,
        tokens=lambda: str(uuid.uuid4()),
    ) as committer:
        views = await asyncio.gather(*(committer.commit(running, n, outcome(n)) for n in range(1, 6)))
    assert {view.batch.state for view in views if view is not None} == {State.AGGREGATING}
    assert (await counts(table)).succeeded == 5
    assert len(await received(aggregate, 1)) == 1


# -- the batch item --------------------------------------------------------------------------------------


async def test_a_seal_that_meets_its_own_success(behind: Behind, table: DynamoTable) -> None:
    """A seal repeated by botocore, its answer lost, fails its condition: False, and the batch is sealed."""
    behind.script.add("UpdateItem", Fault.LOST)
    assert not await table.seal(BATCH, 3, NOW, owner="")
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert (view.batch.state, view.batch.total) == (State.RUNNING, 3)


async def test_a_move_that_meets_its_own_success(behind: Behind, table: DynamoTable) -> None:
    """Likewise for a move: after False the caller reads the batch."""
    await table.seal(BATCH, 0, NOW, owner="")
    behind.script.add("UpdateItem", Fault.LOST)
    assert not await table.move(BATCH, expected=State.RUNNING, to=State.AGGREGATING, now=NOW)
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch.state is State.AGGREGATING


def told(kind: EventKind = EventKind.CANCELLED) -> Event:
    """An event of the batch."""
    return Event.of(BATCH, kind, at=NOW, status={})


async def test_a_move_with_events_whose_answer_was_lost(behind: Behind, table: DynamoTable) -> None:
    """Botocore repeats the transaction under its token: True, one change, one event."""
    behind.script.add("TransactWriteItems", Fault.LOST)
    moved = await table.move(BATCH, expected=State.SPLITTING, to=State.CANCELLED, now=NOW, events=[told()])
    assert moved
    assert [record.name for record in await table.records(BATCH.batch_id, OutboxKind.EVENT)] == [told().id]


async def test_a_move_with_events_that_nobody_answered(behind: Behind, table: DynamoTable) -> None:
    """Its result is unknown. Its repetition is refused, and the change and its event are stored."""
    behind.script.add("TransactWriteItems", *[Fault.LOST] * ALWAYS)
    for _ in range(2):
        change = table.move(BATCH, expected=State.SPLITTING, to=State.CANCELLED, now=NOW, events=[told()])
        try:
            assert not await change
        except UnknownResultError:
            continue
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch.state is State.CANCELLED
    assert [record.name for record in await table.records(BATCH.batch_id, OutboxKind.EVENT)] == [told().id]


async def test_a_move_with_events_gets_past_conflicts(behind: Behind, table: DynamoTable) -> None:
    """The lease of the batch may be renewed at the same moment; that many conflicts raise their error."""
    behind.script.add("TransactWriteItems", *[Fault.CONFLICT] * 4)
    assert await table.move(
        BATCH, expected=State.SPLITTING, to=State.RUNNING, now=NOW, events=[told(EventKind.STARTED)]
    )
    behind.script.add("TransactWriteItems", *[Fault.CONFLICT] * 5)
    with pytest.raises(ConflictError):
        await table.move(BATCH, expected=State.RUNNING, to=State.FAILED, now=NOW, events=[told()])
    view = await table.read(BATCH.batch_id)
    assert view is not None
    assert view.batch.state is State.RUNNING
    assert len(await table.records(BATCH.batch_id, OutboxKind.EVENT)) == 1


async def test_a_checkpoint_repeated_stands(behind: Behind, table: DynamoTable) -> None:
    """A repeated checkpoint succeeds, since its writer has the lease."""
    behind.script.add("UpdateItem", Fault.LOST, Fault.CONFLICT)
    with pytest.raises(ConflictError):
        await table.checkpoint(replace(BATCH, columns=("a",)), owner="")
    assert await table.checkpoint(replace(BATCH, columns=("a",)), owner="")


async def test_an_open_whose_answer_was_lost(behind: Behind, table: DynamoTable) -> None:
    """The caller gets its own batch, whether botocore or the splitter repeats the call."""
    other = replace(BATCH, execution_id="other")
    behind.script.add("TransactWriteItems", Fault.LOST)
    assert await table.open(other, "{}") == other
    behind.script.add("TransactWriteItems", *[Fault.LOST] * ALWAYS)
    third = replace(BATCH, execution_id="third")
    with pytest.raises(UnknownResultError):
        await table.open(third, "{}")
    assert await table.open(third, "{}") == third


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.HALF, Fault.HELD, Fault.THROTTLE, Fault.ERROR_500])
async def test_a_read_that_fails_may_be_repeated(behind: Behind, table: DynamoTable, fault: Fault) -> None:
    """Every fault of a read is a RetryableError, and the next read succeeds."""
    once = DynamoTable(behind.once, table._name)
    behind.script.add("Query", fault)
    with pytest.raises(RetryableError):
        await once.read(BATCH.batch_id)
    assert (await counts(once)) == Counts()


# -- queues ----------------------------------------------------------------------------------------------


async def test_only_refused_entries_are_sent_again(behind: Behind, names: ResourceNames) -> None:
    """If SendMessageBatch refuses entries, only these are sent again: each message is queued once."""
    queue = await queue_of(behind.clients, names)
    behind.script.add("SendMessageBatch", Fault.PARTIAL, Fault.PARTIAL)
    assert await queue.send([OutgoingMessage(f"a{n}") for n in range(3)]) == [0, 2]
    await send_all(queue, [OutgoingMessage(f"b{n}") for n in range(10)])
    assert await received(queue, 11) == ["a1", *(f"b{n}" for n in range(10))]


@pytest.mark.parametrize("fault", [Fault.THROTTLE, Fault.RESET, Fault.ERROR_503])
async def test_a_send_that_was_refused_is_repeated(
    behind: Behind, names: ResourceNames, fault: Fault
) -> None:
    """`send_all` repeats the call. No message is doubled, since none was sent."""
    queue = await queue_of(behind.clients, names)
    behind.script.add("SendMessageBatch", *[fault] * ALWAYS)
    await send_all(queue, [OutgoingMessage("a"), OutgoingMessage("b")])
    assert await received(queue, 2) == ["a", "b"]


async def test_a_send_without_an_answer_may_come_twice(behind: Behind, names: ResourceNames) -> None:
    """The message is doubled, not lost: SQS has no token for a send."""
    queue = await queue_of(behind.clients, names)
    behind.script.add("SendMessageBatch", Fault.LOST)
    await send_all(queue, [OutgoingMessage("a")])
    assert await received(queue, 2) == ["a", "a"]


async def test_a_delete_refused_in_part(behind: Behind, names: ResourceNames) -> None:
    """The call returns the refused entries, and only they stay in the queue."""
    queue = await queue_of(behind.clients, names)
    await queue.send([OutgoingMessage(f"m{n}") for n in range(3)])
    held = [m for _ in range(3) for m in await queue.receive(1, wait_s=1, visibility_s=60)]
    behind.script.add("DeleteMessageBatch", Fault.PARTIAL)
    assert await queue.delete([m.receipt for m in held]) == [0, 2]
    assert await queue.depth() == 2


async def test_an_extension_refused_by_a_fault_is_no_lost_lease(behind: Behind, names: ResourceNames) -> None:
    """InternalError for an entry is retryable; the lease is not lost."""
    queue = await queue_of(behind.clients, names)
    await queue.send([OutgoingMessage("m")])
    (message,) = await queue.receive(1, wait_s=1, visibility_s=60)
    behind.script.add("ChangeMessageVisibilityBatch", Fault.PARTIAL)
    with pytest.raises(RetryableError):
        await queue.extend([message.receipt], 30)
    assert await queue.extend([message.receipt], 30) in ((), [])


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HALF])
async def test_a_delivery_that_got_lost_comes_again(
    behind: Behind, names: ResourceNames, fault: Fault
) -> None:
    """A receive without an answer hides the message. It is redelivered as a second delivery."""
    queue = await queue_of(behind.clients, names)
    await queue.send([OutgoingMessage("m")])
    behind.script.add("ReceiveMessage", fault)
    with pytest.raises(RetryableError):
        await queue.receive(1, wait_s=0, visibility_s=1)
    found = [m for wait_s in (2, 0) for m in await queue.receive(1, wait_s=wait_s, visibility_s=60)]
    assert [(m.body, m.receives) for m in found] == [("m", 2)]


# -- objects ---------------------------------------------------------------------------------------------


async def bucket_of(behind: Behind, names: ResourceNames) -> tuple[S3Objects, S3Objects, str]:
    """Objects behind the proxy, the same without it, and a bucket."""
    await behind.direct.s3.create_bucket(Bucket=names.bucket)
    return (
        S3Objects(behind.clients, part_bytes=PART),
        S3Objects(behind.direct, part_bytes=PART),
        names.bucket,
    )


async def content(objects: S3Objects, bucket: str, key: str) -> bytes:
    source = await objects.head(bucket, key)
    return await objects.read(source, 0, source.size)


async def upload(objects: S3Objects, bucket: str, pieces: Sequence[bytes]) -> None:
    async with objects.upload(bucket, "big", content_type="text/csv") as writing:
        for piece in pieces:
            await writing.write(piece)
        await writing.complete()


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("CreateMultipartUpload", Fault.THROTTLE),
        ("UploadPart", Fault.RESET),
        ("UploadPart", Fault.LOST),
        ("UploadPart", Fault.ERROR_500),
        ("CompleteMultipartUpload", Fault.THROTTLE),
        ("CompleteMultipartUpload", Fault.LATE_ERROR),
    ],
)
async def test_an_upload_gets_past_a_fault(
    behind: Behind, names: ResourceNames, operation: str, fault: Fault
) -> None:
    """If a call of a multipart upload fails once, the object is complete nevertheless."""
    objects, direct, bucket = await bucket_of(behind, names)
    pieces = [b"a" * PART, b"b" * 1_000]
    behind.script.add(operation, fault)
    await upload(objects, bucket, pieces)
    assert await content(direct, bucket, "big") == b"".join(pieces)


async def test_a_completion_whose_answer_was_lost(behind: Behind, names: ResourceNames) -> None:
    """The upload is complete. The caller does not know and repeats it: there is one complete object."""
    objects, direct, bucket = await bucket_of(behind, names)
    pieces = [b"a" * PART, b"b" * 1_000]
    behind.script.add("CompleteMultipartUpload", *[Fault.LOST] * ALWAYS)
    with pytest.raises(UnknownResultError):
        await upload(objects, bucket, pieces)
    assert await content(direct, bucket, "big") == b"".join(pieces)
    await upload(objects, bucket, pieces)
    assert await content(direct, bucket, "big") == b"".join(pieces)
    assert not (await behind.direct.s3.list_multipart_uploads(Bucket=bucket)).get("Uploads")


async def test_an_upload_that_cannot_be_completed_is_aborted(behind: Behind, names: ResourceNames) -> None:
    """No object becomes visible, and no part stays in the bucket."""
    objects, _, bucket = await bucket_of(behind, names)
    behind.script.add("CompleteMultipartUpload", *[Fault.THROTTLE] * ALWAYS)
    with pytest.raises(ThrottledError):
        await upload(objects, bucket, [b"a" * PART, b"b"])
    assert not (await behind.direct.s3.list_multipart_uploads(Bucket=bucket)).get("Uploads")
    assert not (await behind.direct.s3.list_objects_v2(Bucket=bucket)).get("Contents")


@pytest.mark.parametrize(
    ("fault", "times"),
    [(Fault.HALF, 1), (Fault.THROTTLE, 1), (Fault.RESET, 2), (Fault.HELD, 1)],  # aiohttp repeats a GET once
)
async def test_a_source_that_breaks_off_is_read_again(
    behind: Behind, names: ResourceNames, fault: Fault, times: int
) -> None:
    """A partial object raises RetryableError, and the next read has every byte."""
    _, direct, bucket = await bucket_of(behind, names)
    body = bytes(range(256)) * 400
    await direct.put(bucket, "k", body, content_type="text/csv")
    once = S3Objects(behind.once)
    source = await direct.head(bucket, "k")
    behind.script.add("GetObject", *[fault] * times)
    with pytest.raises(RetryableError):
        await once.read(source, 0, len(body))
    assert await once.read(source, 0, len(body)) == body
