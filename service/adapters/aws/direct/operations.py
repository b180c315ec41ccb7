"""The operations of the hot path, and botocore's description of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOT_PATH = {
    "sqs": {
        "change_message_visibility_batch": "ChangeMessageVisibilityBatch",
        "delete_message_batch": "DeleteMessageBatch",
        "receive_message": "ReceiveMessage",
        "send_message_batch": "SendMessageBatch",
    },
    "dynamodb": {
        "get_item": "GetItem",
        "query": "Query",
        "transact_write_items": "TransactWriteItems",
    },
}
"""Methods of clients that are called for rows, by service, with the names of their operations."""


@dataclass(frozen=True, slots=True)
class HotOperation:
    """An operation of a client: its method, botocore's model of it, and the end of its events' names."""

    method: str
    model: Any
    event: str

    @property
    def name(self) -> str:
        """The operation's name: `GetItem`."""
        return str(self.model.name)


def hot_operations(client: Any) -> list[HotOperation]:
    """The operations of the hot path of a client of SQS or DynamoDB."""
    service = client.meta.service_model
    return [
        HotOperation(method, service.operation_model(name), f"{service.service_id.hyphenize()}.{name}")
        for method, name in HOT_PATH[service.service_name].items()
    ]
