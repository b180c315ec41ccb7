"""Outbox: the part of the table that holds what is to be told of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.model import DeliveryState, OutboxKind, OutboxRecord


@dataclass(frozen=True, slots=True)
class OutboxPage:
    """Pending records. `after` is the one to continue after, None on the last page."""

    records: Sequence[OutboxRecord]
    after: OutboxRecord | None


class Outbox(Protocol):
    """Records that are to be delivered. `Table.open` and `Table.move` add events in their transactions."""

    async def add(self, record: OutboxRecord) -> bool:
        """Store a record. False if the batch has one of this kind and name already, which stays as it is."""
        ...

    async def pending(self, kind: OutboxKind, *, after: OutboxRecord | None, limit: int) -> OutboxPage:
        """Pending records of all batches, from the index `by_status`: eventually consistent."""
        ...

    async def records(self, batch_id: str, kind: OutboxKind) -> Sequence[OutboxRecord]:
        """All records of one kind of a batch, delivered ones included; strongly consistent."""
        ...

    async def set_delivery(
        self, record: OutboxRecord, target: str, delivery: DeliveryState
    ) -> OutboxRecord | None:
        """Store the deliveries to one target if the stored ones are one version older.

        Return the record as it stands then, with its deliveries to all targets. None if another process has
        changed the deliveries to this target, or if the record is gone.
        """
        ...

    async def settle(self, record: OutboxRecord) -> None:
        """Take a record out of the pending ones. It stays until its batch expires, so none is added twice."""
        ...
