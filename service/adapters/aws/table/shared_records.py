"""Records that workers share, as DynamoDB items and back."""

from __future__ import annotations

from service.adapters.aws.table.keys import record_key
from service.adapters.aws.table.values import Item, item_bytes
from service.domain.errors import RowTooLargeError
from service.domain.ports import ITEM_BYTES, SharedRecord


def record_item(name: str, text: str, version: int, ttl: int) -> Item:
    """A shared record as an item."""
    return record_key(name) | {
        "text": {"S": text},
        "version": {"N": str(version)},
        "ttl": {"N": str(ttl)},
    }


def record_of(item: Item | None) -> SharedRecord:
    """The shared record in an item; version 0 if there is no item."""
    return SharedRecord() if item is None else SharedRecord(item["text"]["S"], int(item["version"]["N"]))


def check_record_size(name: str, text: str, ttl: int) -> None:
    """Raise RowTooLargeError if a record does not fit an item."""
    size = item_bytes(record_item(name, text, 1, ttl))
    if size > ITEM_BYTES:
        raise RowTooLargeError(f"a record of {size:,} bytes; the table holds {ITEM_BYTES:,} in one item")
