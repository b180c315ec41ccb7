"""The messages that a process holds: kept invisible to others, given back, or deleted in tens.

A lease is a message's visibility time-out on SQS. It is extended while the message is held, so a slow agent
keeps its row; when an extension is refused, the lease is lost and somebody else has the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from service.domain.errors import AccessError, RetryableError
from service.domain.ports import SEND_LIMIT, Clock, Queue, ReceivedMessage
from service.runtime.metrics import Metrics

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Lease:
    """A held message. `is_lost` is set once an extension was refused.

    From its deletion on it `is_being_deleted`: an extension that is refused then is no loss.
    `handler_bytes` is what its handler holds for it beside the message, in bytes.
    """

    message: ReceivedMessage
    renewed_at: float
    is_lost: bool = False
    is_being_deleted: bool = False
    handler_bytes: int = 0


class Leases:
    """All leases of one consumer. `on_change` is called whenever one ends or gets lighter.

    `held_bytes` is the sum of their messages and weights.
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
        self._acknowledged: list[Lease] = []
        self._has_acknowledged = asyncio.Event()
        self._changing = asyncio.Lock()  # an extension that came after a release would hide the message again

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, message: ReceivedMessage) -> Lease:
        """Hold a message that was just received."""
        lease = Lease(message, self._clock.monotonic())
        self._held[message.receipt] = lease
        self.held_bytes += len(message.body)
        return lease

    def report_bytes(self, lease: Lease, size: int) -> None:
        """From now on the message's handler holds `weight` bytes beside it."""
        if lease.message.receipt in self._held:
            self.held_bytes += size - lease.handler_bytes
            lease.handler_bytes = size
            self._on_change()

    def acknowledge(self, lease: Lease) -> None:
        """The message is done with: it is deleted together with others, shortly."""
        self._acknowledged.append(lease)
        self._has_acknowledged.set()

    def forget(self, lease: Lease) -> None:
        """The message is not ours any more."""
        if self._held.pop(lease.message.receipt, None) is not None:
            self.held_bytes -= len(lease.message.body) + lease.handler_bytes
        self._on_change()

    async def release(self, lease: Lease, delay_s: float) -> None:
        """Let others have the message after `delay_s`."""
        await self.make_visible([lease.message.receipt], delay_s)
        self.forget(lease)

    async def release_rest(self) -> int:
        """Let others have all that is held and not acknowledged, at once; how many that are."""
        acknowledged = {lease.message.receipt for lease in self._acknowledged}
        rest = [receipt for receipt in self._held if receipt not in acknowledged]
        await self.make_visible(rest, 0)
        self._held.clear()
        self.held_bytes = 0
        return len(rest)

    async def make_visible(self, receipts: Sequence[str], delay_s: float) -> None:
        """Make messages visible after `delay_s`; where that fails, their time-out does it later."""
        async with self._changing:
            await asyncio.gather(*(self._make_visible(batch, delay_s) for batch in tens(receipts)))

    async def keep_renewing(self) -> None:
        """Extend every lease that is a sixth of its time old, for ever: each has several chances."""
        interval = self._visibility_s / 6
        while True:
            await self._clock.sleep(interval)
            async with self._changing:
                now = self._clock.monotonic()
                due = [x for x in self._held.values() if not x.is_lost and now - x.renewed_at >= interval]
                await asyncio.gather(*(self._extend(batch, now) for batch in tens(due)))

    async def keep_deleting(self) -> None:
        """Delete what is acknowledged, for ever, in full tens where more is about to come."""
        while True:
            await self._has_acknowledged.wait()
            if len(self._acknowledged) % SEND_LIMIT:
                await self._clock.sleep(self._delete_linger_s)
            self._has_acknowledged.clear()
            acknowledged, self._acknowledged = self._acknowledged, []
            await asyncio.gather(*(self._delete(batch) for batch in tens(acknowledged)))

    async def _make_visible(self, batch: Sequence[str], delay_s: float) -> None:
        try:
            await self._queue.extend(batch, delay_s)
        except (RetryableError, AccessError) as error:
            log.warning("give_back_failed", queue=self._queue.name, reason=str(error), messages=len(batch))

    async def _extend(self, batch: Sequence[Lease], now: float) -> None:
        try:
            refused = await self._queue.extend([x.message.receipt for x in batch], self._visibility_s)
        except (RetryableError, AccessError) as error:
            log.warning("heartbeat_failed", queue=self._queue.name, reason=str(error), messages=len(batch))
            return
        for index, lease in enumerate(batch):
            if index not in refused:
                lease.renewed_at = now
            elif lease.message.receipt in self._held and not lease.is_being_deleted:
                lease.is_lost = True
                self._metrics.count("leases_lost")

    async def _delete(self, batch: Sequence[Lease]) -> None:
        """One attempt is enough: a message that comes again is recognised as acknowledged."""
        for lease in batch:
            lease.is_being_deleted = True
        try:
            refused = await self._queue.delete([lease.message.receipt for lease in batch])
        except (RetryableError, AccessError) as error:
            log.warning("delete_failed", queue=self._queue.name, reason=str(error), messages=len(batch))
        else:
            self._metrics.count("messages_deleted", len(batch) - len(refused))
        for lease in batch:
            self.forget(lease)


def tens(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices of at most ten, as SQS takes them."""
    for start in range(0, len(items), SEND_LIMIT):
        yield items[start : start + SEND_LIMIT]
