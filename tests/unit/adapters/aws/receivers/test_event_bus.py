"""Events on EventBridge."""

from datetime import UTC, datetime

import pytest

from service.adapters.aws.receivers.event_bus import EventBusTarget
from service.domain.errors import RetryableError, ThrottledError
from service.domain.model import Batch, Event, EventKind, Location, Source, State

BATCH = Batch("demo", "e1", State.PAUSED, Source("b", "k"), Location("b", "out/"), ttl=2_000_000_000)
EVENT = Event.of(BATCH, EventKind.PAUSED, at="2026-11-18T10:00:00.250Z", status={})


class Bus:
    """EventBridge with one answer."""

    def __init__(self, **answer):
        self.answer = {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]} | answer
        self.entries = []

    async def put_events(self, **named):
        """Record the entries."""
        self.entries += named["Entries"]
        return self.answer


def target(bus):
    async def client():
        return bus

    return EventBusTarget(client, "main", 1.0)


async def test_an_event_is_one_entry():
    """Its kind is the detail type, so that rules select by it."""
    bus = Bus()
    await target(bus).deliver(EVENT)
    assert bus.entries == [
        {
            "Source": "rowfleet",
            "DetailType": "paused",
            "Detail": EVENT.body,
            "EventBusName": "main",
            "Time": datetime(2026, 11, 18, 10, 0, 0, 250_000, tzinfo=UTC),
        }
    ]


@pytest.mark.parametrize(
    ("code", "error"), [("ThrottlingException", ThrottledError), ("InternalFailure", RetryableError)]
)
async def test_an_entry_may_fail_under_http_200(code, error):
    """The number of failed entries counts, not the status of the call."""
    failed = {"ErrorCode": code, "ErrorMessage": "why"}
    with pytest.raises(error, match=f"event bus main refuses the event: {code}: why"):
        await target(Bus(FailedEntryCount=1, Entries=[failed])).deliver(EVENT)
