"""The outbox: what is to be told of a batch, stored in the transaction of the change that it tells of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class OutboxKind(StrEnum):
    """Kinds of records: an event, or a Step Functions task that waits for its answer."""

    EVENT = "event"
    TASK = "task"


class DeliveryEnd(StrEnum):
    """End of the deliveries of a record to one target; PENDING while there is none."""

    PENDING = ""
    DELIVERED = "delivered"
    REFUSED = "refused"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """The deliveries of a record to one target.

    `version` counts the changes of this state, 0 before the first. The next try is due at `due_ms`, in
    milliseconds since 1970: a try sets it to the time by which it has ended, so that no other process tries
    at the same time.
    """

    version: int = 0
    tries: int = 0
    due_ms: int = 0
    end: DeliveryEnd = DeliveryEnd.PENDING

    def tried(self, until_ms: int) -> DeliveryState:
        """The state while a try is under way, which has ended by `until_ms`."""
        return replace(self, version=self.version + 1, tries=self.tries + 1, due_ms=until_ms)

    def due(self, at_ms: int) -> DeliveryState:
        """The state after a try that failed: the next one is due at `at_ms`."""
        return replace(self, version=self.version + 1, due_ms=at_ms)

    def ended(self, end: DeliveryEnd) -> DeliveryState:
        """The state after the last try."""
        return replace(self, version=self.version + 1, due_ms=0, end=end)


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """A record of the outbox, under the key of its batch.

    `name` is unique among the records of one kind of the batch. `text` is not shown, as it may hold a token.
    `is_pending`: some target has not got it yet. It is deleted after `ttl`, in seconds since 1970.
    """

    kind: OutboxKind
    batch_id: str
    name: str
    text: str = field(repr=False)
    incarnation: str = ""
    at_ms: int = 0
    ttl: int = 0
    deliveries: Mapping[str, DeliveryState] = field(default_factory=dict)
    is_pending: bool = True

    def delivery(self, target: str) -> DeliveryState:
        """The deliveries to one target."""
        return self.deliveries.get(target, DeliveryState())

    def is_settled(self, targets: Collection[str]) -> bool:
        """True if the deliveries to each of the targets have ended."""
        return all(self.delivery(target).end for target in targets)
