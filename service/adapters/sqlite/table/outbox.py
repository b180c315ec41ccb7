"""The Outbox port on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import orjson

from service.adapters.aws.outbox.items import outbox_item, outbox_record
from service.adapters.sqlite.connection import StoreConnection
from service.domain.model import DeliveryState, Event, OutboxKind, OutboxRecord
from service.domain.ports import OutboxPage

_INSERT = "INSERT OR IGNORE INTO outbox (batch_id, kind, name, is_pending, item) VALUES (?, ?, ?, ?, ?)"
_OF_RECORD = "batch_id = ? AND kind = ? AND name = ?"


class SqliteOutbox:
    """Records of the outbox; `SqliteTable` is the rest of the table."""

    def __init__(self, connection: StoreConnection) -> None:
        self._connection = connection

    async def add(self, record: OutboxRecord) -> bool:
        """Store a record unless it is stored."""
        return await self._connection.run(lambda connection: _insert(connection, record), is_durable=True)

    async def pending(self, kind: OutboxKind, *, after: OutboxRecord | None, limit: int) -> OutboxPage:
        """A page of pending records in the order of their names."""

        def page(connection: sqlite3.Connection) -> OutboxPage:
            rows = connection.execute(
                "SELECT item FROM outbox WHERE is_pending = 1 AND kind = ? AND (name, batch_id) > (?, ?) "
                "ORDER BY name, batch_id LIMIT ?",
                (str(kind), after.name if after else "", after.batch_id if after else "", limit),
            )
            found = [_record_of(item) for (item,) in rows]
            return OutboxPage(found, found[-1] if len(found) == limit else None)

        return await self._connection.run(page)

    async def records(self, batch_id: str, kind: OutboxKind) -> Sequence[OutboxRecord]:
        """All records of one kind of a batch."""

        def records(connection: sqlite3.Connection) -> list[OutboxRecord]:
            rows = connection.execute(
                "SELECT item FROM outbox WHERE batch_id = ? AND kind = ?", (batch_id, str(kind))
            )
            return [_record_of(item) for (item,) in rows]

        return await self._connection.run(records)

    async def set_delivery(
        self, record: OutboxRecord, target: str, delivery: DeliveryState
    ) -> OutboxRecord | None:
        """Store the deliveries to one target; see `Outbox.set_delivery`."""

        def set_delivery(connection: sqlite3.Connection) -> OutboxRecord | None:
            stored = _stored(connection, record)
            if stored is None or stored.delivery(target).version != delivery.version - 1:
                return None
            changed = replace(stored, deliveries={**stored.deliveries, target: delivery})
            _update(connection, changed)
            return changed

        return await self._connection.run(set_delivery, is_durable=True)

    async def settle(self, record: OutboxRecord) -> None:
        """Take a record out of the pending ones."""

        def settle(connection: sqlite3.Connection) -> None:
            if (stored := _stored(connection, record)) is not None:
                _update(connection, replace(stored, is_pending=False))

        await self._connection.run(settle)


def records_of(events: Sequence[Event]) -> list[OutboxRecord]:
    """The records of events."""
    return [event.record() for event in events]


def announce(connection: sqlite3.Connection, records: Sequence[OutboxRecord]) -> None:
    """Store records of events at once with a change of their batch."""
    for record in records:
        _insert(connection, record)


def _insert(connection: sqlite3.Connection, record: OutboxRecord) -> bool:
    added = connection.execute(_INSERT, (*_key(record), record.is_pending, orjson.dumps(outbox_item(record))))
    return added.rowcount == 1


def _update(connection: sqlite3.Connection, record: OutboxRecord) -> None:
    connection.execute(
        f"UPDATE outbox SET is_pending = ?, item = ? WHERE {_OF_RECORD}",  # noqa: S608
        (record.is_pending, orjson.dumps(outbox_item(record)), *_key(record)),
    )


def _stored(connection: sqlite3.Connection, record: OutboxRecord) -> OutboxRecord | None:
    row = connection.execute(f"SELECT item FROM outbox WHERE {_OF_RECORD}", _key(record)).fetchone()  # noqa: S608
    return None if row is None else _record_of(row[0])


def _key(record: OutboxRecord) -> tuple[str, str, str]:
    return record.batch_id, str(record.kind), record.name


def _record_of(item: bytes) -> OutboxRecord:
    return outbox_record(orjson.loads(item))
