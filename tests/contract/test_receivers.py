"""Events at EventBridge and SNS, over the real protocol against the embedded endpoint, ministack."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_client
from service.adapters.aws.receivers.event_bus import EventBusTarget
from service.adapters.aws.receivers.topic import TopicTarget
from service.app.events.aws_receivers import open_receivers
from service.app.settings import load_settings
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.model import Batch, Event, EventKind, Location, Source, State

BATCH = Batch("demo", "e1", State.SUCCEEDED, Source("b", "k"), Location("b", "out/"), ttl=2_000_000_000)
EVENT = Event.of(BATCH, EventKind.COMPLETED, at="2026-11-18T10:00:00.250Z", status={"state": "SUCCEEDED"})


class Place:
    """A queue behind a topic and a bus."""

    def __init__(self, clients: Clients, url: str, arn: str) -> None:
        self.clients = clients
        self.url = url
        self.arn = arn

    async def message(self) -> dict[str, Any]:
        """The next message."""
        found = await self.clients.sqs_poll.receive_message(
            QueueUrl=self.url, WaitTimeSeconds=10, MessageAttributeNames=["All"]
        )
        (message,) = found["Messages"]
        return dict(message)


@pytest.fixture
async def place(clients: Clients) -> Place:
    name = f"q{uuid.uuid4().hex}"
    url = (await clients.sqs.create_queue(QueueName=name))["QueueUrl"]
    found = await clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return Place(clients, url, found["Attributes"]["QueueArn"])


@pytest.fixture
async def opened(aws_options: AwsOptions) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def getter(client: Any) -> Any:
    async def get() -> Any:
        return client

    return get


async def test_an_event_on_a_bus(aws_options: AwsOptions, opened: AsyncExitStack, place: Place) -> None:
    """A rule that selects by source and kind gets the body as the detail."""
    client = await opened.enter_async_context(open_client(aws_options, "events"))
    bus = f"bus-{uuid.uuid4().hex}"
    await client.create_event_bus(Name=bus)
    pattern = {"source": ["rowfleet"], "detail-type": ["completed"]}
    await client.put_rule(Name="r", EventBusName=bus, EventPattern=json.dumps(pattern))
    await client.put_targets(Rule="r", EventBusName=bus, Targets=[{"Id": "1", "Arn": place.arn}])
    await EventBusTarget(getter(client), bus, 10.0).deliver(EVENT)
    got = json.loads((await place.message())["Body"])
    assert (got["source"], got["detail-type"]) == ("rowfleet", "completed")
    assert got["detail"] == json.loads(EVENT.body)


async def test_an_event_on_a_topic(aws_options: AwsOptions, opened: AsyncExitStack, place: Place) -> None:
    """A raw subscription gets the body, and kind and batch as attributes."""
    client = await opened.enter_async_context(open_client(aws_options, "sns"))
    topic = (await client.create_topic(Name=f"t{uuid.uuid4().hex}"))["TopicArn"]
    await client.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=place.arn, Attributes={"RawMessageDelivery": "true"}
    )
    await TopicTarget(getter(client), topic, 10.0).deliver(EVENT)
    got = await place.message()
    assert got["Body"] == EVENT.body
    assert got["MessageAttributes"]["kind"]["StringValue"] == "completed"
    assert got["MessageAttributes"]["batch"]["StringValue"] == "demo#e1"


async def test_a_topic_that_is_missing(aws_options: AwsOptions, opened: AsyncExitStack) -> None:
    """The sender tries again: somebody may create it."""
    client = await opened.enter_async_context(open_client(aws_options, "sns"))
    arn = "arn:aws:sns:us-east-1:000000000000:none"
    with pytest.raises((RetryableError, AccessError, ConfigError)) as raised:
        await TopicTarget(getter(client), arn, 10.0).deliver(EVENT)
    assert arn in str(raised.value)


async def test_receivers_are_made_from_the_settings(
    aws_options: AwsOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One target for each setting; no client is opened before its first use."""
    for name, value in {
        "WEBHOOK_URL": "https://example.com/hook",
        "WEBHOOK_SECRET": "env:SIGNING",
        "EVENT_BUS": "default",
        "TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:t",
    }.items():
        monkeypatch.setenv(f"ROWFLEET_EVENTS__{name}", value)
    async with open_receivers(aws_options, load_settings()) as receivers:
        assert [target.name for target in receivers.targets] == ["webhook", "event_bus", "topic"]
        assert not await receivers.tasks.heartbeat("no-such-token")
    monkeypatch.delenv("ROWFLEET_EVENTS__WEBHOOK_URL")
    monkeypatch.delenv("ROWFLEET_EVENTS__WEBHOOK_SECRET")
    async with open_receivers(aws_options, load_settings()) as receivers:
        assert [target.name for target in receivers.targets] == ["event_bus", "topic"]
