"""The one loop that consumes a queue: receive when there is room, keep the lease, delete in tens, drain.

Every stage is a handler called with a `Delivery`. What the handler does decides what becomes of the message:

    returns              settled: deleted
    RetryableError       given back, to come again after a back-off
    AccessError          given back likewise; after both, nothing is received for a back-off of its own
    PoisonMessageError   logged and left to the dead-letter queue
    LeaseLostError       forgotten: somebody else has it
    any other exception  a bug: logged with its traceback, given back, in the end a dead letter

Two limits bound what is held. `max_running` counts deliveries whose work occupies a place; a handler calls
`delivery.free()` when only bookkeeping is left, and the place is filled again. `max_held` counts everything
that is not deleted yet. A handler that has to wait for a place of its own (a target at its own limit) waits
inside `delivery.blocked()`, and nothing more is received meanwhile: what cannot be started is not held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from service.errors import (
    AccessError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
    RowfleetError,
)
from service.ports import SEND_LIMIT, Clock, Message, Queue
from service.telemetry import Metrics

T = TypeVar("T")
log = structlog.get_logger(__name__)

MAX_BACKOFF_S = 30.0
"""Longest pause of a poller whose calls fail, and longest delay of a message that is given back."""


@dataclass(frozen=True, slots=True)
class ConsumeLimits:
    """Limits of one consumer. The lingers trade a little latency for full batches of ten."""

    visibility_s: float = 60.0
    poll_wait_s: float = 20.0
    pollers: int = 1
    max_running: int = 64
    max_held: int = 1_000
    drain_s: float = 100.0
    receive_linger_s: float = 0.1
    delete_linger_s: float = 0.1


class Delivery:
    """One received message on its way through a handler."""

    __slots__ = ("_consumer", "_freed", "lost", "message", "renewed_at")

    def __init__(self, message: Message, consumer: Consumer, now: float) -> None:
        self.message = message
        self.renewed_at = now
        self.lost = False
        self._consumer = consumer
        self._freed = False

    def free(self) -> None:
        """The work is done and only bookkeeping is left: its place may be filled again. Idempotent."""
        if not self._freed:
            self._freed = True
            self._consumer._free_place()  # noqa: SLF001 -- one noun in two classes

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Waiting for something else than this consumer's places: receive nothing meanwhile."""
        self._consumer._block(1)  # noqa: SLF001
        try:
            yield
        finally:
            self._consumer._block(-1)  # noqa: SLF001

    def check_lease(self) -> None:
        """Raises LeaseLostError once a heartbeat was told that the message is somebody else's."""
        if self.lost:
            raise LeaseLostError(f"the lease of message {self.message.id} ran out")


class Trouble:
    """Calls that fail one after the other: how long to hold back, and what to say of it."""

    __slots__ = ("_failures", "text", "until")

    def __init__(self) -> None:
        self._failures = 0
        self.text = ""
        self.until = 0.0

    def add(self, error: RowfleetError, now: float) -> None:
        """Another failure: hold back for 0.5 s, doubling to `MAX_BACKOFF_S`; a burst counts as one."""
        self.text = str(error)
        if now >= self.until:
            self._failures += 1
            self.until = now + min(MAX_BACKOFF_S, 0.25 * 2.0 ** min(self._failures, 8))

    def clear(self) -> bool:
        """A call succeeded; returns whether that is news."""
        news = bool(self.text)
        self._failures, self.text, self.until = 0, "", 0.0
        return news


Handler = Callable[[Delivery], Awaitable[None]]


class Consumer:
    """Consumes `queue` with `handle` until told to stop."""

    def __init__(
        self, queue: Queue, handle: Handler, limits: ConsumeLimits, clock: Clock, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._held: dict[str, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: list[Delivery] = []
        self._changed = asyncio.Event()
        self._work_done = asyncio.Event()
        self._running = self._reserved = self._blocked = 0
        self._receiving = Trouble()
        self._handling = Trouble()
        self.last_success: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then finish or give back what is held within `drain_s`.

        A poll that is in flight then is not cancelled: SQS would hide what it was about to deliver for a
        whole visibility time-out. Its messages are given back at once.
        """
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._heartbeat()),
                group.create_task(self._delete_settled()),
                group.create_task(self._wake_on(stop)),
            ]
            pollers = [group.create_task(self._poll(stop, group)) for _ in range(self._limits.pollers)]
            await asyncio.wait(pollers)
            await self._drain()
            for helper in helpers:
                helper.cancel()

    @property
    def trouble(self) -> str:
        """What keeps this consumer from working, in words; empty when nothing does."""
        return self._receiving.text or self._handling.text

    @property
    def held(self) -> int:
        """Messages received and not deleted yet."""
        return len(self._held)

    # -- receiving -------------------------------------------------------------------------------------

    async def _poll(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        while room := await self._room(stop):
            self._reserved += room
            try:
                messages = await self._receive(room)
            finally:
                self._reserved -= room
            if stop.is_set():
                await self._give_back([m.receipt for m in messages], 0)
                return
            for message in messages:
                self._start(message, group)

    async def _room(self, stop: asyncio.Event) -> int:
        """How many to receive now; waits for a full batch of places, or a short while for fewer. 0: stop."""
        full = min(SEND_LIMIT, self._limits.max_running)
        linger_until: float | None = None
        while not stop.is_set():
            now = self._clock.monotonic()
            wake_at = max(self._receiving.until, self._handling.until)
            if now >= wake_at:
                free = self._places()
                if free <= 0:
                    linger_until = None
                elif free >= full:
                    return full
                else:
                    linger_until = linger_until or now + self._limits.receive_linger_s
                    if now >= linger_until:
                        return free
                wake_at = linger_until or 0.0
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wake_at - now if wake_at else None):
                    await self._changed.wait()
        return 0

    def _places(self) -> int:
        if self._blocked:
            return 0
        limits = self._limits
        return min(limits.max_running - self._running, limits.max_held - len(self._held)) - self._reserved

    async def _receive(self, room: int) -> Sequence[Message]:
        limits = self._limits
        try:
            messages = await self._queue.receive(
                room, wait_s=limits.poll_wait_s, visibility_s=limits.visibility_s
            )
        except (RetryableError, AccessError) as error:
            self._hold_back(self._receiving, error)
            return ()
        self._recover(self._receiving)
        self.last_success = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        for message in messages:
            if message.receives == 1 and message.sent_at_ms:
                self._metrics.observe("queue_wait_ms", max(0, now_ms - message.sent_at_ms))
        self._metrics.count("messages_received", len(messages))
        return messages

    def _start(self, message: Message, group: asyncio.TaskGroup) -> None:
        delivery = Delivery(message, self, self._clock.monotonic())
        self._held[message.receipt] = delivery
        self._running += 1
        task = group.create_task(self._work(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- working ---------------------------------------------------------------------------------------

    async def _work(self, delivery: Delivery) -> None:
        """Run the handler and carry out what its end means for the message."""
        message = delivery.message
        try:
            await self._handle(delivery)
        except asyncio.CancelledError:
            delivery.free()
            raise
        except PoisonMessageError as error:
            log.error(
                "message_poisoned", queue=self._queue.name, message_id=message.id, receives=message.receives,
                reason=str(error), body=message.body[:200], remedy="left to the dead-letter queue",
            )  # fmt: skip
            self._metrics.count("messages_poisoned")
            await self._return(delivery, 1.0)
        except LeaseLostError as error:
            log.warning("lease_lost", queue=self._queue.name, message_id=message.id, reason=str(error))
            self._forget(delivery)
        except AccessError as error:
            self._hold_back(self._handling, error)
            await self._return(delivery, MAX_BACKOFF_S)
        except RetryableError as error:
            wait = min(MAX_BACKOFF_S, error.retry_after_s or 2.0 ** min(message.receives, 10))
            log.warning(
                "message_given_back", queue=self._queue.name, message_id=message.id, reason=str(error),
                kind=error.kind, again_in_s=wait,
            )  # fmt: skip
            self._hold_back(self._handling, error)
            await self._return(delivery, wait)
        except Exception:
            # A bug of ours must not take the other rows down with it: the traceback is logged, the message
            # comes again elsewhere, and in the end is a dead letter.
            log.exception("handler_crashed", queue=self._queue.name, message_id=message.id)
            self._metrics.count("handler_crashes")
            await self._return(delivery, min(MAX_BACKOFF_S, 2.0 ** min(message.receives, 10)))
        else:
            self._recover(self._handling)
            delivery.free()
            self._done.append(delivery)
            self._work_done.set()

    async def _return(self, delivery: Delivery, delay_s: float) -> None:
        delivery.free()
        await self._give_back([delivery.message.receipt], delay_s)
        self._forget(delivery)

    def _forget(self, delivery: Delivery) -> None:
        delivery.free()
        self._held.pop(delivery.message.receipt, None)
        self._changed.set()

    def _free_place(self) -> None:
        self._running -= 1
        self._changed.set()

    def _block(self, change: int) -> None:
        self._blocked += change
        self._changed.set()

    def _hold_back(self, trouble: Trouble, error: RowfleetError) -> None:
        """Receive nothing for a while, so that an outage burns no receive counts and no invocations."""
        if trouble.text != str(error):
            log.error("queue_trouble", queue=self._queue.name, reason=str(error), kind=error.kind)
        trouble.add(error, self._clock.monotonic())

    def _recover(self, trouble: Trouble) -> None:
        if trouble.clear():
            log.info("queue_recovered", queue=self._queue.name)
            self._changed.set()

    # -- leases ----------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        """Extend every held lease that is a third old, so that a slow agent keeps its row."""
        interval = self._limits.visibility_s / 3
        while True:
            await self._clock.sleep(interval / 2)
            now = self._clock.monotonic()
            due = [d for d in self._held.values() if not d.lost and now - d.renewed_at >= interval / 2]
            await asyncio.gather(*(self._extend(batch, now) for batch in _tens(due)))

    async def _extend(self, batch: Sequence[Delivery], now: float) -> None:
        try:
            lost = await self._queue.extend([d.message.receipt for d in batch], self._limits.visibility_s)
        except (RetryableError, AccessError) as error:
            log.warning("heartbeat_failed", queue=self._queue.name, reason=str(error), messages=len(batch))
            return
        gone = set(lost)
        for index, delivery in enumerate(batch):
            if index in gone and delivery.message.receipt in self._held:
                delivery.lost = True
                self._metrics.count("leases_lost")
            else:
                delivery.renewed_at = now

    async def _give_back(self, receipts: Sequence[str], delay_s: float) -> None:
        """Let others have the messages after `delay_s`; where that fails, visibility does it later."""
        for batch in _tens(receipts):
            try:
                await self._queue.extend(batch, delay_s)
            except (RetryableError, AccessError) as error:
                log.warning(
                    "give_back_failed", queue=self._queue.name, reason=str(error), messages=len(batch)
                )

    # -- deleting --------------------------------------------------------------------------------------

    async def _delete_settled(self) -> None:
        """Delete what is settled, in full tens where more is about to come."""
        while True:
            await self._work_done.wait()
            if len(self._done) % SEND_LIMIT:
                await self._clock.sleep(self._limits.delete_linger_s)
            self._work_done.clear()
            done, self._done = self._done, []
            await asyncio.gather(*(self._delete(batch) for batch in _tens(done)))

    async def _delete(self, batch: Sequence[Delivery]) -> None:
        """One attempt is enough: a message that comes again is recognised as settled."""
        try:
            refused = await self._queue.delete([d.message.receipt for d in batch])
        except (RetryableError, AccessError) as error:
            log.warning("delete_failed", queue=self._queue.name, reason=str(error), messages=len(batch))
        else:
            self._metrics.count("messages_deleted", len(batch) - len(refused))
        for delivery in batch:
            self._forget(delivery)

    # -- stopping --------------------------------------------------------------------------------------

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()

    async def _drain(self) -> None:
        """Wait for what is held, for `drain_s` at most; then give the rest back."""
        try:
            async with asyncio.timeout(self._limits.drain_s):
                while self._held:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            rest = list(self._held.values())
            log.warning("drain_gave_up", queue=self._queue.name, given_back=len(rest))
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            settled = {delivery.message.receipt for delivery in self._done}
            await self._give_back([r for r in self._held if r not in settled], 0)
            self._held.clear()


def _tens(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), SEND_LIMIT):
        yield items[start : start + SEND_LIMIT]
