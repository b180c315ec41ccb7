"""Records of the outbox as DynamoDB items and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.adapters.aws.table.keys import outbox_prefix, outbox_sort, pending_key, primary_key
from service.adapters.aws.table.values import Item, Value, decode, encode, int_attribute
from service.domain.model import DeliveryEnd, DeliveryState, OutboxKind, OutboxRecord

_DELIVERY = "delivery_"
"""Beginning of the attribute with the deliveries to one target."""


def outbox_item(record: OutboxRecord) -> Item:
    """A record as an item; `status_key` puts it into the sparse index while it is pending."""
    item = primary_key(record.batch_id, outbox_sort(record.kind, record.name)) | {
        "text": encode(record.text),
        "at_ms": encode(record.at_ms),
        "ttl": encode(record.ttl),
    }
    if record.incarnation:
        item["incarnation"] = encode(record.incarnation)
    if record.is_pending:
        item["status_key"] = {"S": pending_key(record.kind)}
    return item | {delivery_name(name): delivery_value(one) for name, one in record.deliveries.items()}


def outbox_record(item: Item) -> OutboxRecord:
    """The record in an item."""
    sort = item["row_id"]["S"]
    kind = next(kind for kind in OutboxKind if sort.startswith(outbox_prefix(kind)))
    return OutboxRecord(
        kind,
        item["batch_id"]["S"],
        sort.removeprefix(outbox_prefix(kind)),
        text=item["text"]["S"],
        incarnation=item["incarnation"]["S"] if "incarnation" in item else "",
        at_ms=int_attribute(item, "at_ms"),
        ttl=int_attribute(item, "ttl"),
        deliveries={
            name.removeprefix(_DELIVERY): _delivery(value)
            for name, value in item.items()
            if name.startswith(_DELIVERY)
        },
        is_pending="status_key" in item,
    )


def outbox_key(record: OutboxRecord) -> Item:
    """The primary key of a record."""
    return primary_key(record.batch_id, outbox_sort(record.kind, record.name))


def put_unless_stored(table: str, record: OutboxRecord) -> dict[str, Any]:
    """Parameters of a Put that fails its condition if the record is stored already."""
    return {
        "TableName": table,
        "Item": outbox_item(record),
        "ConditionExpression": "attribute_not_exists(#batch_id)",
        "ExpressionAttributeNames": {"#batch_id": "batch_id"},
    }


def delivery_name(target: str) -> str:
    """The attribute with the deliveries to a target."""
    return f"{_DELIVERY}{target}"


def delivery_value(delivery: DeliveryState) -> Value:
    """Deliveries to one target as a map."""
    return encode(asdict(delivery) | {"end": delivery.end.value})


def _delivery(value: Value) -> DeliveryState:
    fields = decode(value)
    return DeliveryState(**fields | {"end": DeliveryEnd(fields["end"])})
