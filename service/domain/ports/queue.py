"""Queue: messages that are delivered at least once, hidden from others while one receiver works on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

BATCH_CALL_ENTRIES = 10
"""Most entries in one SendMessageBatch, ChangeMessageVisibilityBatch or DeleteMessageBatch (SQS quota)."""

MESSAGE_BYTES = 1_048_576
"""Largest message, and largest sum of the messages in one batch call (SQS quota since August 2025: 1 MiB)."""

MAX_DELAY_S = 900
"""Longest delay of a message (SQS quota: 15 minutes)."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to send. `body` is ASCII; `group` is the batch id if fair queueing is wanted, else ""."""

    body: str
    group: str = ""
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A received message. `receipt` names this delivery; `receives` counts deliveries, including this one.

    `sent_at_ms` and `first_received_ms` are in milliseconds since 1970, 0 if unknown. A dead letter keeps the
    times of the queue that it comes from.
    """

    id: str
    body: str
    receipt: str
    receives: int = 1
    sent_at_ms: int = 0
    first_received_ms: int = 0


class Queue(Protocol):
    """At-least-once messages with a visibility time-out.

    All sequences take at most `BATCH_CALL_ENTRIES` entries.
    """

    @property
    def name(self) -> str:
        """The queue's name, for logs."""
        ...

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send messages. Return the indices of the refused ones, which the caller has to send again."""
        ...

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Receive up to `limit` messages; wait up to `wait_s` for the first one.

        The messages stay hidden from other receivers for `visibility_s`.
        """
        ...

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Hide messages for `visibility_s` from now; 0 makes them visible at once.

        Return the indices of the messages whose lease is lost.
        """
        ...

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete messages. Return the refused indices; an expired receipt is refused or ignored."""
        ...

    async def depth(self) -> int:
        """Approximate number of messages that wait, are in flight or are delayed."""
        ...

    async def in_flight(self) -> int:
        """Approximate number of messages that receivers hold."""
        ...
