"""Deliveries: received messages on their way through a handler, and the interfaces around them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

from service.domain.errors import (
    AccessError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
)
from service.domain.ports import ReceivedMessage
from service.runtime.leases import Lease
from service.runtime.tasks import is_cancelled


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


class HandlerResult(Enum):
    """The way in which a handler has ended, which decides about its message."""

    DONE = auto()  # it returned
    LOST = auto()  # another consumer has the message
    POISON = auto()  # no handler can act on the message
    TROUBLE = auto()  # the queue's other messages would meet it too
    BUG = auto()


_RESULTS: tuple[tuple[type[Exception], HandlerResult], ...] = (
    (LeaseLostError, HandlerResult.LOST),
    (PoisonMessageError, HandlerResult.POISON),
    (RetryableError, HandlerResult.TROUBLE),
    (AccessError, HandlerResult.TROUBLE),
)


async def run_handler(handle: Handler, delivery: Delivery) -> tuple[HandlerResult, BaseException | None]:
    """Run a handler; return how it ended, and the error that it raised, if any.

    A CancelledError that a library raises, although nobody cancelled the handler, is a bug.
    """
    try:
        await handle(delivery)
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        return HandlerResult.BUG, error
    except Exception as error:  # noqa: BLE001 -- every error has its consequence
        known = (result for kind, result in _RESULTS if isinstance(error, kind))
        return next(known, HandlerResult.BUG), error
    return HandlerResult.DONE, None


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
