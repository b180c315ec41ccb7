"""The ways on which S3 tells the ingest queue of a file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.adapters.aws.clients import Clients, open_client
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.bucket import BucketOptions
from service.adapters.aws.provision.incoming import provision_incoming
from service.adapters.aws.provision.queues import FoundQueue
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.domain.errors import ConfigError
from service.domain.events import decode_ingest

BRIDGE = BucketOptions(notified_by="eventbridge")
KEYS = ("incoming/tool/a b ü+%20.CSV", "incoming/tool/日本 (1).csv")


class Team:
    """A bucket of a team that tells EventBridge of its files, and a rule with the queue as its target."""

    def __init__(self, clients: Clients, events: Any, names: ResourceNames, queue: FoundQueue) -> None:
        self.clients = clients
        self.events = events
        self.bucket = names.bucket
        self.rule = f"{names.prefix}-incoming"
        self.queue = queue

    async def send_events(self) -> None:
        """Switch the bucket's events on."""
        await self.clients.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )

    async def make_rule(self, key: dict[str, str] | None = None, **change: Any) -> None:
        """Make the rule as the Terraform module does, or with a change of it."""
        detail = {
            "bucket": {"name": [self.bucket]},
            "object": {"key": [key or {"prefix": "incoming/"}]},
        }
        pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail}
        rule = {"Name": self.rule, "EventPattern": json.dumps(pattern), "State": "ENABLED"}
        await self.events.put_rule(**(rule | change))

    async def make_target(self, **change: Any) -> None:
        """Make the queue the rule's target."""
        target = {"Id": "rowfleet-ingest", "Arn": self.queue.arn, **change}
        await self.events.put_targets(Rule=self.rule, Targets=[target])

    async def admit_rule(self) -> None:
        """Let the rule send to the queue."""
        arn = (await self.events.describe_rule(Name=self.rule))["Arn"]
        statement = {
            "Sid": f"rowfleet-{self.rule}",
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": self.queue.arn,
            "Condition": {
                "ArnEquals": {"aws:SourceArn": arn},
                "StringEquals": {"aws:SourceAccount": arn.split(":")[4]},
            },
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        await self.clients.sqs.set_queue_attributes(QueueUrl=self.queue.url, Attributes={"Policy": policy})

    async def problem(self) -> str:
        """What a check says; "" if it finds no difference."""
        (about,) = await provision_incoming(
            Access(self.clients, may_write=False), self.bucket, self.queue, BRIDGE
        )
        return about.line if about.differs else ""


@pytest.fixture
async def team(clients: Clients, names: ResourceNames) -> AsyncIterator[Team]:
    """A bucket and a queue, and nothing between them yet."""
    await clients.s3.create_bucket(Bucket=names.bucket)
    url = (await clients.sqs.create_queue(QueueName=names.queue("ingest")))["QueueUrl"]
    attributes = await clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    async with open_client(clients.options, "events") as events:
        yield Team(clients, events, names, FoundQueue(url, attributes["Attributes"]["QueueArn"]))


async def test_files_of_a_teams_bucket_start_runs(team: Team) -> None:
    """The event that a target of the rule gets names the object, whatever signs its key has."""
    await team.send_events()
    await team.make_rule()
    await team.make_target()
    await team.admit_rule()
    assert await team.problem() == ""
    objects = S3Objects(team.clients)
    for key in ("elsewhere/tool/c.csv", *KEYS):
        await objects.put(team.bucket, key, b"x\n1\n", content_type="text/csv")
    queue = SqsQueue(team.clients, "ingest", team.queue.url)
    jobs = {}
    while len(jobs) < len(KEYS):
        for message in await queue.receive(10, wait_s=5, visibility_s=30):
            decoded = decode_ingest(message.body)
            assert decoded.ignored == ()
            jobs |= {job.source.key: job for job in decoded.jobs}
    assert sorted(jobs) == sorted(KEYS)
    for key, job in jobs.items():
        assert job.mapping == "tool"
        assert job.source.is_same_object(await objects.head(team.bucket, key))


async def test_what_a_check_of_the_rule_finds(team: Team) -> None:
    """Step by step, each thing that is missing between bucket and queue is named, until nothing is."""
    assert "does not send its events to EventBridge" in await team.problem()
    await team.send_events()
    assert f"no EventBridge rule has {team.queue.arn} as its target" in await team.problem()
    await team.make_rule(State="DISABLED")
    await team.make_target(InputPath="$.detail")
    assert f"rule {team.rule} is disabled" in await team.problem()
    await team.make_rule({"suffix": ".csv"})
    assert f"leaves out s3://{team.bucket}/incoming/a/b ü.TSV.gz" in await team.problem()
    await team.make_rule()
    assert "sends the queue something else than S3's event" in await team.problem()
    await team.make_target()
    assert f"policy does not let the EventBridge rule {team.rule} send" in await team.problem()
    await team.admit_rule()
    assert await team.problem() == ""


async def test_setup_does_not_make_the_rule(team: Team) -> None:
    """The bucket's events belong to its owner: `setup` names what is missing and changes nothing."""
    with pytest.raises(ConfigError, match="does not send its events to EventBridge"):
        await provision_incoming(Access(team.clients, may_write=True), team.bucket, team.queue, BRIDGE)
    found = await team.clients.s3.get_bucket_notification_configuration(Bucket=team.bucket)
    assert set(found) <= {"ResponseMetadata"}
    await team.send_events()
    await team.make_rule()
    await team.make_target()
    await team.admit_rule()
    (about,) = await provision_incoming(Access(team.clients, may_write=True), team.bucket, team.queue, BRIDGE)
    assert about.line == f"notification of bucket {team.bucket} through EventBridge: found"


async def test_a_bucket_that_only_sends_to_event_bridge_has_no_notification(team: Team) -> None:
    """A check of a deployment that expects the bucket's own notification says so."""
    await team.send_events()
    about = await provision_incoming(
        Access(team.clients, may_write=False), team.bucket, team.queue, BucketOptions()
    )
    assert [finding.differs for finding in about] == [True, True]
    assert about[1].line.endswith(f"{team.bucket}: none of incoming/* to the ingest queue alone")
