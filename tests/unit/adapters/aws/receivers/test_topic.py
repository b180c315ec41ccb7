"""Events on an SNS topic."""

from service.adapters.aws.receivers.topic import TopicTarget
from service.domain.model import Batch, Event, EventKind, Location, Source, State

BATCH = Batch("demo", "e1", State.PAUSED, Source("b", "k"), Location("b", "out/"), ttl=2_000_000_000)
EVENT = Event.of(BATCH, EventKind.PAUSED, at="2026-11-18T10:00:00.250Z", status={})


async def test_an_event_is_one_message_with_attributes():
    """Subscriptions can filter by kind and batch."""
    published = []

    class Topic:
        async def publish(self, **named):
            published.append(named)
            return {}

    async def client():
        return Topic()

    arn = "arn:aws:sns:eu-west-1:123456789012:t"
    await TopicTarget(client, arn, 1.0).deliver(EVENT)
    attributes = {"kind": "paused", "batch": "demo#e1", "id": EVENT.id}
    assert published == [
        {
            "TopicArn": arn,
            "Message": EVENT.body,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        }
    ]
