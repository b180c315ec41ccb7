"""Parameters of AWS calls, as botocore's validator sees them in every test.

`tests/conftest.py` switches the validator on, so each call of each suite is checked. Here every operation
of the adapters is called at least once.
"""

from __future__ import annotations

import ast
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ParamValidationError

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import ResourceNames, provision
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.domain.model import (
    Batch,
    Checkpoint,
    Commit,
    DeliveryState,
    Event,
    EventKind,
    Location,
    OutboxKind,
    Outcome,
    Source,
    State,
    Status,
    Trouble,
    new_incarnation,
)
from service.domain.ports import OutgoingMessage

ADAPTERS = Path(__file__).parents[2] / "service" / "adapters" / "aws"
NOW = "2026-11-18T10:00:00.000Z"
TTL = 1_900_000_000


def operations_in_the_code() -> set[str]:
    """The names of the operations that the adapters call, such as `GetItem`."""
    loader = botocore.session.get_session()
    models = [loader.get_service_model(name) for name in ("dynamodb", "s3", "sqs")]
    names = {xform_name(name): name for model in models for name in model.operation_names}
    return {names[method] for method in methods_of_clients() if method in names}


def methods_of_clients() -> Iterator[str]:
    """The methods that the adapters call on clients, which all have names such as `clients.s3`."""
    for path in sorted(ADAPTERS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name.lstrip("_") in ("s3", "sqs", "poll", "sqs_poll", "sqs_send", "dynamodb"):
                yield node.attr


async def use_table(table: DynamoTable) -> None:
    """Call every method of the table that has a call of its own."""
    batch = Batch(
        "demo", "e1", State.SPLITTING, Source("bucket", "key"), Location("bucket", "out/"),
        columns=("a",), checkpoint=Checkpoint(1, 2, 3), created_at=NOW, ttl=TTL,
        incarnation=new_incarnation(1_700_000_000_000, 7),
    )  # fmt: skip
    await table.open(batch, "{}")
    await table.open(batch, "{}", replacing=batch)
    started = Event.of(batch, EventKind.STARTED, at=NOW, status={})
    await table.move(batch, expected=State.SPLITTING, to=State.SPLITTING, now=NOW, events=[started])
    await table.add(started.record())
    page = await table.pending(OutboxKind.EVENT, after=None, limit=1)
    await table.pending(OutboxKind.EVENT, after=page.records[0], limit=1)
    await table.records(batch.batch_id, OutboxKind.EVENT)
    await table.set_delivery(started.record(), "webhook", DeliveryState().tried(1))
    await table.settle(started.record())
    await table.lease(batch, state=State.SPLITTING, owner="s1", now_ms=1, until_ms=2)
    await table.lease(batch, state=State.SPLITTING, owner="s2", now_ms=1, until_ms=2)
    await table.checkpoint(batch, owner="s1")
    await table.release(batch.batch_id, owner="s1")
    await table.seal(batch, 1, NOW, owner="")
    outcome = Outcome(
        number=1, round=1, status=Status.SUCCESS, input_data={}, output_data={}, execution_time_ms=1,
        timestamp=NOW, worker="w",
    )  # fmt: skip
    commit = Commit(batch.batch_id, 1, 1, 0, (outcome,), str(uuid.uuid4()), TTL)
    await table.commit(replace(commit, incarnation=batch.incarnation))
    await table.move(batch, expected=State.RUNNING, to=State.AGGREGATING, now=NOW)
    await table.set_trouble(batch, Trouble("refused", 1, 2, 3))
    await table.read(batch.batch_id)
    await table.definition(batch.batch_id, "digest")
    await table.outcome(batch, 1)
    await table.outcomes(batch, 0, after=0, limit=10)
    await table.failed(batch, 0, after=0, limit=10)
    await table.done_numbers(batch, 0, after=0, limit=10)
    await table.batches(State.AGGREGATING, after="", limit=1)
    await table.batches(State.AGGREGATING, after=batch.batch_id, limit=1)
    await table.recent(10)
    await table.record("limit/demo")
    await table.swap("limit/demo", "one", version=0, ttl=TTL)
    await table.swap("limit/demo", "two", version=1, ttl=TTL)
    await table.delete_rows(batch, 0)
    assert await table.delete_batch(replace(batch, state=State.AGGREGATING))


async def use_queue(queue: SqsQueue) -> None:
    """Call every method of the queue."""
    await queue.find()
    await queue.send([OutgoingMessage("one", "demo#e1", 0), OutgoingMessage("two")])
    messages = await queue.receive(1, wait_s=1, visibility_s=30)
    await queue.extend([message.receipt for message in messages], 0.5)
    await queue.delete([message.receipt for message in messages])
    await queue.depth()
    await queue.in_flight()


async def use_objects(clients: Clients, bucket: str) -> None:
    """Call every method of the objects, an upload with two parts among them."""
    objects = S3Objects(clients, part_bytes=5 * 2**20)
    await objects.put(bucket, "small", b"x", content_type="text/csv")
    for etag in ("", hashlib.md5(b"x", usedforsecurity=False).hexdigest()):
        await objects.put_if(bucket, f"if{etag}", b"x", content_type="text/csv", etag=etag)
    await objects.check_writable(bucket, "key")
    async with objects.upload(bucket, "large", content_type="text/csv") as upload:
        await upload.write(b"x" * (5 * 2**20 + 1))
        await upload.complete()
    async with objects.upload(bucket, "none", content_type="text/csv") as upload:
        await upload.write(b"x" * (5 * 2**20 + 1))
        assert await objects.abort_uploads(bucket, "none") == 1
    source = await objects.head(bucket, "large")
    await objects.read(source, 0, 10)
    await objects.listing(bucket, "l", after="a", limit=10)
    await objects.delete(bucket, "large")


async def test_every_operation_of_the_adapters_is_called_with_valid_parameters(
    aws_options: AwsOptions, names: ResourceNames
) -> None:
    """Names, types and required members of all parameters are those of the service's own model."""
    seen: set[str] = set()
    # a direct call is validated only when its template is made
    stock = replace(aws_options, direct_calls=False)
    async with open_clients(stock, lambda _, operation: seen.add(operation)) as clients:
        await provision(clients, names)
        # an attribute that differs is changed
        await provision(clients, names, {"rows": QueueOptions(visibility_s=45)})
        await use_table(DynamoTable(clients, names.table))
        await use_queue(SqsQueue(clients, names.queue("rows")))
        await use_objects(clients, names.bucket)
    wanted = operations_in_the_code()
    assert len(wanted) > 20
    assert wanted - seen == set()


async def test_parameters_that_aws_does_not_know_are_refused(clients: Clients) -> None:
    """The validator is on in the tests, for each client."""
    with pytest.raises(ParamValidationError, match="QueueURL"):
        await clients.sqs.get_queue_attributes(QueueURL="https://queue")
    with pytest.raises(ParamValidationError, match="ReceiptHandle"):
        await clients.sqs_poll.change_message_visibility_batch(QueueUrl="u", Entries=[{"Id": "1"}])
    with pytest.raises(ParamValidationError, match="ConsistentRead"):
        await clients.dynamodb.get_item(TableName="t", Key={}, ConsistentRead="yes")
    with pytest.raises(ParamValidationError, match="PartNumber"):
        await clients.s3.upload_part(Bucket="b", Key="k", UploadId="u", PartNumber="1")
