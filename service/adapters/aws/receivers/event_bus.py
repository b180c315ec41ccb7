"""The event target `event_bus`: EventBridge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from service.adapters.aws.errors import THROTTLING, AwsCall, perform
from service.domain.errors import RetryableError, ThrottledError
from service.domain.model import Event

SOURCE = "rowfleet"


class EventBusTarget:
    """Puts events on the bus `name_or_arn`. `client` opens EventBridge's client."""

    name = "event_bus"

    def __init__(
        self, client: Callable[[], Awaitable[Any]], name_or_arn: str, timeout_s: float, endpoint: str = ""
    ) -> None:
        self._client = client
        self._bus = name_or_arn
        self._call = AwsCall(
            "events:PutEvents", f"event bus {name_or_arn}", timeout_s, writes=True, endpoint=endpoint
        )

    async def deliver(self, event: Event) -> None:
        """Put the event; its kind is the detail type, its body the detail."""
        entry = {
            "Source": SOURCE,
            "DetailType": event.kind.value,
            "Detail": event.body,
            "EventBusName": self._bus,
            "Time": datetime.fromisoformat(event.at),
        }
        response = await perform(self._call, (await self._client()).put_events(Entries=[entry]))
        # An entry may fail under HTTP 200, so the status of the call says nothing about it.
        if response["FailedEntryCount"]:
            failed = response["Entries"][0]
            code = str(failed.get("ErrorCode"))
            kind = ThrottledError if code in THROTTLING else RetryableError
            raise kind(f"event bus {self._bus} refuses the event: {code}: {failed.get('ErrorMessage')}")
