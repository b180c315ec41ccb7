"""The event target `topic`: SNS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from service.adapters.aws.errors import AwsCall, perform
from service.domain.model import Event


class TopicTarget:
    """Publishes events to the topic `arn`. `client` opens SNS's client."""

    name = "topic"

    def __init__(
        self, client: Callable[[], Awaitable[Any]], arn: str, timeout_s: float, endpoint: str = ""
    ) -> None:
        self._client = client
        self._arn = arn
        self._call = AwsCall("sns:Publish", f"topic {arn}", timeout_s, writes=True, endpoint=endpoint)

    async def deliver(self, event: Event) -> None:
        """Publish the event; the attributes `kind` and `batch` are for filters of subscriptions."""
        attributes = {"kind": event.kind.value, "batch": event.batch_id, "id": event.id}
        publish = (await self._client()).publish(
            TopicArn=self._arn,
            Message=event.body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )
        await perform(self._call, publish)
