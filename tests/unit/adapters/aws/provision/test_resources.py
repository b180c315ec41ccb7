"""Provisioning creates missing resources, updates existing ones, and refuses unsuitable ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.bucket import BucketOptions
from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import ResourceNames, find_differences, provision
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue, queue_url
from service.cli.embedded import ACCESS_KEY, SECRET_KEY
from service.domain.errors import ConfigError
from service.domain.events import decode_ingest


async def attributes(clients: Clients, url: str) -> dict[str, str]:
    answer = await clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


async def test_everything_is_created_once(clients: Clients, names: ResourceNames) -> None:
    """The first run creates, the second finds everything; a dropped CSV is announced on the ingest queue."""
    first = await provision(clients, names, {"rows": QueueOptions(visibility_s=45, max_receives=3)})
    assert len(first) == 11
    assert not any("found" in line for line in first)
    second = await provision(clients, names, {"rows": QueueOptions(visibility_s=45, max_receives=3)})
    assert len(second) == 11
    assert all("found" in line for line in second), second
    found = ("aggregate", "aggregate-dlq", "ingest", "ingest-dlq", "rows", "rows-dlq")
    urls = {role: await queue_url(clients, names.queue(role)) for role in found}
    rows = await attributes(clients, urls["rows"])
    assert (rows["VisibilityTimeout"], rows["MessageRetentionPeriod"]) == ("45", "345600")
    redrive = json.loads(rows["RedrivePolicy"])
    assert int(redrive["maxReceiveCount"]) == 3
    assert redrive["deadLetterTargetArn"].endswith(names.dead_letters("rows"))
    assert (await attributes(clients, urls["rows-dlq"]))["MessageRetentionPeriod"] == "1209600"
    await drop_and_receive(clients, names, urls["ingest"])


async def drop_and_receive(clients: Clients, names: ResourceNames, url: str) -> None:
    objects = S3Objects(clients)
    for key in ("other/tool/c.csv", "incoming/tool/b ü.txt", "incoming/tool/a b ü.CSV"):
        await objects.put(names.bucket, key, b"x\n1\n", content_type="text/csv")
    queue = SqsQueue(clients, "ingest", url)
    jobs, ignored = [], []
    while not (jobs and ignored):
        for message in await queue.receive(10, wait_s=5, visibility_s=30):
            decoded = decode_ingest(message.body)
            jobs += decoded.jobs
            ignored += [part.key for part in decoded.ignored if part.key]
    assert [(job.mapping, job.source.key) for job in jobs] == [("tool", "incoming/tool/a b ü.CSV")]
    assert jobs[0].source.is_same_object(await objects.head(names.bucket, "incoming/tool/a b ü.CSV"))
    assert ignored == ["incoming/tool/b ü.txt"]


async def test_changed_queue_settings_are_brought_up_to_date(clients: Clients, names: ResourceNames) -> None:
    """A queue with other attributes is updated, and its line names the attributes."""
    await provision(clients, names)
    lines = await provision(clients, names, {"rows": QueueOptions(visibility_s=90)})
    assert f"queue {names.queue('rows')}: updated VisibilityTimeout" in lines
    url = await queue_url(clients, names.queue("rows"))
    assert (await attributes(clients, url))["VisibilityTimeout"] == "90"


async def test_a_check_changes_nothing(endpoint: str, names: ResourceNames) -> None:
    """It only reads, with resources and without: each missing resource is a difference, none is created."""
    calls: set[str] = set()

    def count(_: str, operation: str) -> None:
        calls.add(operation)

    options = AwsOptions("us-east-1", endpoint, ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients, open_clients(options, count) as reading:
        missing = await find_differences(reading, names)
        assert [finding.differs for finding in missing] == [True] * 8
        assert [finding.line for finding in missing[-2:]] == [
            f"table {names.table}: missing",
            f"bucket {names.bucket}: missing",
        ]
        assert await find_differences(reading, names) == missing
        await provision(clients, names)
        found = await find_differences(reading, names)
        assert [finding for finding in found if finding.differs] == []
        assert len(found) == 11
    assert all(operation.startswith(("Get", "Describe", "Head")) for operation in calls), calls


async def test_differences_are_named(clients: Clients, names: ResourceNames) -> None:
    """A check says what an attribute is and should be, goes on, and leaves everything as it is."""
    await provision(clients, names, {"rows": QueueOptions(visibility_s=45, max_receives=3)})
    await clients.dynamodb.update_time_to_live(
        TableName=names.table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    )
    await clients.s3.put_bucket_notification_configuration(Bucket=names.bucket, NotificationConfiguration={})
    bucket = BucketOptions(work_days=31)
    differences = [
        each.line for each in await find_differences(clients, names, bucket=bucket) if each.differs
    ]
    rows, table, lifecycle, notification = differences
    assert rows.startswith(f"queue {names.queue('rows')}: RedrivePolicy is ")
    assert rows.endswith("VisibilityTimeout is 45, not 60")
    assert table == f"table {names.table}: TTL is off, not on ttl"
    assert "'rowfleet-work' deletes objects under work/ within 31 days" in lifecycle
    assert notification.startswith(f"notification of bucket {names.bucket}: none of incoming/*")
    again = await find_differences(clients, names, bucket=bucket)
    assert [each.line for each in again if each.differs] == differences


async def test_a_table_that_cannot_be_used_is_a_difference(clients: Clients, names: ResourceNames) -> None:
    """A check does not stop at it."""
    await create_table(clients, names.table, "id", "when")
    findings = await find_differences(clients, names)
    (about,) = [each for each in findings if names.table in each.line]
    assert about.differs
    assert about.line.startswith(f"table {names.table} has the key id + when, not batch_id + row_id: choose")
    assert findings[-1].line == f"bucket {names.bucket}: missing"


async def test_a_bucket_in_another_region_is_refused(endpoint: str, names: ResourceNames) -> None:
    """S3 would send nothing to a queue in this region."""
    async with open_clients(AwsOptions("eu-west-2", endpoint, ACCESS_KEY, SECRET_KEY)) as clients:
        await provision(clients, names)
    async with open_clients(AwsOptions("us-east-1", endpoint, ACCESS_KEY, SECRET_KEY)) as clients:
        with pytest.raises(ConfigError, match=f"bucket {names.bucket} is in eu-west-2, not in us-east-1"):
            await provision(clients, names)


async def test_intermediate_data_is_kept_long_enough(clients: Clients, names: ResourceNames) -> None:
    """A lifecycle rule that expires data too early is replaced; one that keeps it longer stays."""

    async def days() -> int:
        found = await clients.s3.get_bucket_lifecycle_configuration(Bucket=names.bucket)
        (rule,) = [rule for rule in found["Rules"] if rule["Filter"].get("Prefix") == "work/"]
        return int(rule["Expiration"]["Days"])

    for wanted, kept in ((8, 8), (31, 31), (15, 31)):
        await provision(clients, names, bucket=BucketOptions(work_days=wanted))
        assert await days() == kept


async def test_existing_notifications_and_rules_stay(clients: Clients, names: ResourceNames) -> None:
    """Notifications and rules that others configured on the bucket are kept."""
    made = await clients.sqs.create_queue(QueueName=names.prefix + "-mine")
    arn = (await attributes(clients, made["QueueUrl"]))["QueueArn"]
    await clients.s3.create_bucket(Bucket=names.bucket)
    mine: dict[str, Any] = {"Id": "mine", "QueueArn": arn, "Events": ["s3:ObjectRemoved:*"]}
    await clients.s3.put_bucket_notification_configuration(
        Bucket=names.bucket, NotificationConfiguration={"QueueConfigurations": [mine]}
    )
    rule = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}}
    await clients.s3.put_bucket_lifecycle_configuration(
        Bucket=names.bucket, LifecycleConfiguration={"Rules": [rule]}
    )
    await provision(clients, names)
    found = await clients.s3.get_bucket_notification_configuration(Bucket=names.bucket)
    assert {entry["Id"] for entry in found["QueueConfigurations"]} == {"mine", "rowfleet-ingest"}
    found = await clients.s3.get_bucket_lifecycle_configuration(Bucket=names.bucket)
    assert {entry["ID"] for entry in found["Rules"]} == {"logs", "rowfleet-work", "rowfleet-work-uploads"}


async def test_a_missing_queue_is_named(clients: Clients, names: ResourceNames) -> None:
    """Looking up a URL before `setup` raises ConfigError that names the command."""
    with pytest.raises(
        ConfigError, match=f"queue {names.queue('ingest')} does not exist: run `rowfleet setup`"
    ):
        await queue_url(clients, names.queue("ingest"))


async def create_table(clients: Clients, name: str, partition: str, sort: str) -> None:
    await clients.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in (partition, sort)],
        KeySchema=[
            {"AttributeName": partition, "KeyType": "HASH"},
            {"AttributeName": sort, "KeyType": "RANGE"},
        ],
    )


async def test_a_table_with_another_key_is_refused(clients: Clients, names: ResourceNames) -> None:
    """A table with other keys raises ConfigError and is not changed."""
    await create_table(clients, names.table, "id", "when")
    with pytest.raises(ConfigError, match=r"has the key id \+ when, not batch_id \+ row_id"):
        await provision(clients, names)


async def test_a_missing_index_is_refused(clients: Clients, names: ResourceNames) -> None:
    """A table without an index raises ConfigError; adding the index would cost time and money."""
    await create_table(clients, names.table, "batch_id", "row_id")
    with pytest.raises(ConfigError, match="has no index by_timestamp"):
        await provision(clients, names)


async def test_other_regions(endpoint: str, names: ResourceNames) -> None:
    """A bucket outside us-east-1 is created with its LocationConstraint."""
    async with open_clients(AwsOptions("eu-west-2", endpoint, ACCESS_KEY, SECRET_KEY)) as clients:
        await provision(clients, names)
        found = await clients.s3.get_bucket_location(Bucket=names.bucket)
        assert found["LocationConstraint"] == "eu-west-2"
