"""Deliveries: received messages on their way through a handler, and the interfaces around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from service.domain.errors import LeaseLostError
from service.domain.ports import ReceivedMessage
from service.runtime.leases import Lease


class ConsumerHandle(Protocol):
    """The part of a consumer that deliveries use. `is_draining` is true once the process stops."""

    is_draining: bool

    def slot_released(self) -> None:
        """A delivery does not occupy its slot any more."""
        ...

    def report_bytes(self, lease: Lease, size: int) -> None:
        """A delivery's handler holds `size` bytes beside its message."""
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
        """The received message."""
        return self.lease.message

    def release_slot(self) -> None:
        """Let the consumer start another message; this one needs only bookkeeping or waiting. Idempotent."""
        if not self._has_released:
            self._has_released = True
            self._consumer.slot_released()

    def report_bytes(self, size: int) -> None:
        """Set the bytes that the handler holds beside the message: its source, a reply not stored yet."""
        self._consumer.report_bytes(self.lease, size)

    @property
    def is_draining(self) -> bool:
        """True once the process stops: a handler that would only wait should release its message."""
        return self._consumer.is_draining

    def check_lease(self) -> None:
        """Raises LeaseLostError once a renewal of the lease was refused."""
        if self.lease.is_lost:
            raise LeaseLostError(f"the lease of message {self.message.id} ran out")


Handler = Callable[[Delivery], Awaitable[None]]


class Capacity(Protocol):
    """Source of the number of deliveries that handlers can take, if they limit themselves."""

    @property
    def problem(self) -> str:
        """The reason why handlers take none although they should, "" if there is none."""
        ...

    def free_slots(self, most: int) -> int:
        """Number of further deliveries that could start; `most` if no limit is known."""
        ...

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever more deliveries may be able to start."""
        ...

    def close(self) -> None:
        """Refuse deliveries that wait for their start; the process stops."""
        ...
