"""Leases: messages that a process holds are kept invisible to others, released, or deleted in batch calls.

A lease is a message's visibility time-out on SQS. It is renewed while the message is held, so a slow agent
keeps its row. If a renewal is refused, the lease is lost: another consumer may have the message.

Renewing (the heartbeat) means to extend the visibility time-out. Releasing, which log events call "give
back", means to end it early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from service.domain.errors import AccessError, RetryableError
from service.domain.ports import BATCH_CALL_ENTRIES, Clock, Queue, ReceivedMessage
from service.runtime.metrics import Metrics

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Lease:
    """A held message. `renewed_at` is in monotonic seconds; `is_lost` is set once a renewal was refused.

    `handler_bytes` are held by its handler beside the message. `held_at` is when it was received.
    """

    message: ReceivedMessage
    renewed_at: float
    is_lost: bool = False
    is_being_deleted: bool = False
    handler_bytes: int = 0
    held_at: float = 0.0


class Leases:
    """All leases of one consumer. `on_change` is called whenever one ends or its `handler_bytes` change.

    `held_bytes` is the sum of the messages and of the bytes that their handlers hold.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        metrics: Metrics,
        on_change: Callable[[], None],
        *,
        visibility_s: float,
        delete_linger_s: float,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._on_change = on_change
        self._visibility_s = visibility_s
        self._delete_linger_s = delete_linger_s
        self.held_bytes = 0
        self._held: dict[str, Lease] = {}
        self._holds_any = asyncio.Event()
        self._acknowledged: list[Lease] = []
        self._has_acknowledged = asyncio.Event()
        # Excludes renewals during a release: one that arrived later would hide the message again.
        self._changing_visibility = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held_since(self) -> float | None:
        """When the message was received that is held for the longest time; None if none is held."""
        return next((lease.held_at for lease in self._held.values()), None)

    def hold(self, message: ReceivedMessage) -> Lease:
        """Begin the lease of a message that was just received."""
        now = self._clock.monotonic()
        lease = Lease(message, now, held_at=now)
        self._held[message.receipt] = lease
        self._holds_any.set()
        self.held_bytes += len(message.body)
        return lease

    def report_bytes(self, lease: Lease, size: int) -> None:
        """Set the bytes that the message's handler holds beside it."""
        if lease.message.receipt in self._held:
            self.held_bytes += size - lease.handler_bytes
            lease.handler_bytes = size
            self._on_change()

    def acknowledge(self, lease: Lease) -> None:
        """Delete the message with the next batch call; `keep_deleting` does it."""
        self._acknowledged.append(lease)
        self._has_acknowledged.set()

    def forget(self, lease: Lease) -> None:
        """End the lease without a call, because the message is deleted, released or another consumer's."""
        if self._held.pop(lease.message.receipt, None) is not None:
            self.held_bytes -= len(lease.message.body) + lease.handler_bytes
        self._on_change()

    async def release(self, lease: Lease, delay_s: float) -> None:
        """Let the message be redelivered after `delay_s`."""
        await self.make_visible([lease.message.receipt], delay_s)
        self.forget(lease)

    async def release_rest(self) -> int:
        """Release at once all messages that are held and not acknowledged. Return their number."""
        rest = [
            lease
            for lease in self._held.values()
            if not lease.is_being_deleted and lease not in self._acknowledged
        ]
        await self.make_visible([lease.message.receipt for lease in rest], 0)
        for lease in rest:
            self.forget(lease)
        return len(rest)

    async def make_visible(self, receipts: Sequence[str], delay_s: float) -> None:
        """Make messages visible after `delay_s`. If a call fails, their visibility time-out does it later."""
        async with self._changing_visibility:
            await asyncio.gather(*(self._make_visible(group, delay_s) for group in batch_calls(receipts)))

    async def keep_renewing(self) -> None:
        """Renew leases for ever, each after a sixth of its time. Without leases it does nothing."""
        # A lease thus survives several failed calls.
        interval_s = self._visibility_s / 6
        while True:
            if not self._held:
                self._holds_any.clear()
                await self._holds_any.wait()
            await self._clock.sleep(interval_s)
            async with self._changing_visibility:
                now = self._clock.monotonic()
                due = [
                    lease
                    for lease in self._held.values()
                    if not lease.is_lost and now - lease.renewed_at >= interval_s
                ]
                if due:
                    await asyncio.gather(*(self._renew(group, now) for group in batch_calls(due)))

    async def keep_deleting(self) -> None:
        """Delete acknowledged messages for ever; wait a little for more if a call would not be full."""
        while True:
            await self._has_acknowledged.wait()
            if len(self._acknowledged) % BATCH_CALL_ENTRIES:
                await self._clock.sleep(self._delete_linger_s)
            await self.delete_acknowledged()

    async def delete_acknowledged(self) -> None:
        """Delete the acknowledged messages now."""
        self._has_acknowledged.clear()
        acknowledged, self._acknowledged = self._acknowledged, []
        await asyncio.gather(*(self._delete(group) for group in batch_calls(acknowledged)))

    async def _make_visible(self, group: Sequence[str], delay_s: float) -> None:
        try:
            await self._queue.extend(group, delay_s)
        except (RetryableError, AccessError) as error:
            log.warning("give_back_failed", queue=self._queue.name, reason=str(error), messages=len(group))

    async def _renew(self, group: Sequence[Lease], now: float) -> None:
        try:
            refused = await self._queue.extend([x.message.receipt for x in group], self._visibility_s)
        except (RetryableError, AccessError) as error:
            log.warning("heartbeat_failed", queue=self._queue.name, reason=str(error), messages=len(group))
            return
        for index, lease in enumerate(group):
            if index not in refused:
                lease.renewed_at = now
            # A refused renewal of a message that was deleted or released meanwhile is no loss.
            elif lease.message.receipt in self._held and not lease.is_being_deleted:
                lease.is_lost = True
                self._metrics.count("leases_lost")

    async def _delete(self, group: Sequence[Lease]) -> None:
        for lease in group:
            lease.is_being_deleted = True
        # One attempt is enough: if the message is redelivered, its handler finds the work done.
        try:
            refused = await self._queue.delete([lease.message.receipt for lease in group])
        except (RetryableError, AccessError) as error:
            log.warning("delete_failed", queue=self._queue.name, reason=str(error), messages=len(group))
        else:
            self._metrics.count("messages_deleted", len(group) - len(refused))
        for lease in group:
            self.forget(lease)


def batch_calls(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices that fit one batch call of the queue."""
    for start in range(0, len(items), BATCH_CALL_ENTRIES):
        yield items[start : start + BATCH_CALL_ENTRIES]
