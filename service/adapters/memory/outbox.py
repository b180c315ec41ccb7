"""The Outbox port in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from service.domain.model import DeliveryState, Event, OutboxKind, OutboxRecord
from service.domain.ports import OutboxPage

_Key = tuple[OutboxKind, str, str]


class MemoryOutbox:
    """Records in a dictionary; `MemoryTable` is the rest of the table."""

    def __init__(self) -> None:
        self._outbox: dict[_Key, OutboxRecord] = {}

    async def add(self, record: OutboxRecord) -> bool:
        """Store a record unless it is stored."""
        await asyncio.sleep(0)
        return self._outbox.setdefault(_key(record), record) is record

    async def pending(self, kind: OutboxKind, *, after: OutboxRecord | None, limit: int) -> OutboxPage:
        """A page of pending records in the order of their names, as in the index."""
        await asyncio.sleep(0)
        start = ("", "") if after is None else (after.name, after.batch_id)
        found = [
            record
            for record in sorted(self._outbox.values(), key=lambda one: (one.name, one.batch_id))
            if record.kind is kind and record.is_pending and (record.name, record.batch_id) > start
        ]
        return OutboxPage(found[:limit], found[limit - 1] if len(found) >= limit else None)

    async def records(self, batch_id: str, kind: OutboxKind) -> Sequence[OutboxRecord]:
        """All records of one kind of a batch."""
        await asyncio.sleep(0)
        return [
            record for record in self._outbox.values() if record.batch_id == batch_id and record.kind is kind
        ]

    async def set_delivery(
        self, record: OutboxRecord, target: str, delivery: DeliveryState
    ) -> OutboxRecord | None:
        """Store the deliveries to one target; see `Outbox.set_delivery`."""
        await asyncio.sleep(0)
        stored = self._outbox.get(_key(record))
        if stored is None or stored.delivery(target).version != delivery.version - 1:
            return None
        changed = replace(stored, deliveries={**stored.deliveries, target: delivery})
        self._outbox[_key(record)] = changed
        return changed

    async def settle(self, record: OutboxRecord) -> None:
        """Take a record out of the pending ones."""
        await asyncio.sleep(0)
        if (stored := self._outbox.get(_key(record))) is not None:
            self._outbox[_key(record)] = replace(stored, is_pending=False)

    def _announce(self, events: Sequence[Event]) -> None:
        """Store events at once with a change of their batch."""
        for event in events:
            self._outbox.setdefault(_key(event.record()), event.record())


def _key(record: OutboxRecord) -> _Key:
    return record.kind, record.batch_id, record.name
