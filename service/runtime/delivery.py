"""A received message on its way through a handler, and what handlers and their consumer say to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from service.domain.errors import LeaseLostError
from service.domain.ports import ReceivedMessage
from service.runtime.leases import Lease


class ConsumerHandle(Protocol):
    """The consumer, as a delivery knows it."""

    is_draining: bool

    def slot_released(self) -> None:
        """A delivery's work has ended, or only waits."""
        ...

    def report_bytes(self, lease: Lease, size: int) -> None:
        """A delivery holds `size` bytes beside its message."""
        ...


class Delivery:
    """One received message on its way through a handler."""

    __slots__ = ("_consumer", "_has_released", "lease")

    def __init__(self, lease: Lease, consumer: ConsumerHandle) -> None:
        self.lease = lease
        self._consumer = consumer
        self._has_released = False

    @property
    def message(self) -> ReceivedMessage:
        """The message."""
        return self.lease.message

    def release_slot(self) -> None:
        """Only bookkeeping or waiting is left: its place may be filled again. Idempotent."""
        if not self._has_released:
            self._has_released = True
            self._consumer.slot_released()

    def report_bytes(self, size: int) -> None:
        """The handler holds `size` bytes beside the message now: its source, a reply not stored yet."""
        self._consumer.report_bytes(self.lease, size)

    @property
    def is_draining(self) -> bool:
        """Whether the process stops: what would only wait is better given back."""
        return self._consumer.is_draining

    def check_lease(self) -> None:
        """Raises LeaseLostError once a heartbeat was told that the message is somebody else's."""
        if self.lease.is_lost:
            raise LeaseLostError(f"the lease of message {self.message.id} ran out")


Handler = Callable[[Delivery], Awaitable[None]]


class Capacity(Protocol):
    """Places that handlers have for themselves."""

    def free_slots(self, most: int) -> int:
        """How many more deliveries could start; `most` where nothing is known against it."""
        ...

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever there may be more room."""
        ...

    def close(self) -> None:
        """Let nothing begin any more that waits for a place."""
        ...
