"""The one loop that consumes a queue: receive when there is room, keep the lease, delete in tens, drain.

Every stage is a handler called with a `Delivery`. What the handler does decides what becomes of the message:

    returns              settled: deleted
    RetryableError       given back, to come again after a back-off
    AccessError          given back likewise; after both, nothing is received for a back-off of its own
    PoisonMessageError   logged and left to the dead-letter queue
    LeaseLostError       forgotten: somebody else has it
    any other exception  a bug: logged with its traceback, given back, in the end a dead letter

Three limits bound the messages that are held. `max_running` counts deliveries that occupy a slot; a handler
calls `delivery.release_slot()` once only bookkeeping or waiting is left. `max_held` counts all messages that
are not deleted yet. `max_held_bytes` bounds the bytes of these messages and the bytes that their handlers
report with `delivery.report_bytes()`. Polls and handlers that run when this bound is reached may still exceed
it: by ten messages for each poller, and by the bytes that the running handlers add.

Where handlers have places of their own (a worker's targets), `Capacity` says how many more they could take,
and `max_running` counts only those that have not got so far yet. What has no place is not fetched; but since
nobody knows whose message the next one is, some are looked at after `probe_s` all the same (`probing`). A
handler sends back what it cannot start: so messages for one full target do not hide those for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import structlog

from service.domain.errors import (
    AccessError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
    RowfleetError,
)
from service.domain.ports import SEND_LIMIT, Clock, Queue, ReceivedMessage
from service.runtime.backoff import MAX_BACKOFF_S, Backoff
from service.runtime.delivery import Capacity, Delivery, Handler
from service.runtime.leases import Lease, Leases
from service.runtime.metrics import Metrics
from service.runtime.probe_budget import ProbeBudget
from service.runtime.timeouts import timeout

log = structlog.get_logger(__name__)


MAX_REASON_CHARS = 1_000
"""A reason may quote a message, and a message may be a megabyte."""


@dataclass(frozen=True, slots=True)
class ConsumeLimits:
    """Limits of one consumer. The lingers trade a little latency for full batches of ten.

    A message that nobody can act on comes again after `poison_delay_s`.
    """

    visibility_s: float = 60.0
    poll_wait_s: float = 20.0
    pollers: int = 1
    max_running: int = 64
    max_held: int = 1_000
    max_held_bytes: int = 64 * 2**20
    drain_s: float = 100.0
    receive_linger_s: float = 0.1
    delete_linger_s: float = 0.1
    poison_delay_s: float = 1.0
    probe_s: float = 2.0


class Consumer:
    """Consumes `queue` with `handle` until told to stop."""

    def __init__(
        self,
        queue: Queue,
        handle: Handler,
        limits: ConsumeLimits,
        clock: Clock,
        metrics: Metrics,
        *,
        capacity: Capacity | None = None,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._leases = Leases(
            queue, clock, metrics, self._changed.set,
            visibility_s=limits.visibility_s, delete_linger_s=limits.delete_linger_s,
        )  # fmt: skip
        self._tasks: set[asyncio.Task[None]] = set()
        self._capacity = capacity
        if capacity is not None:
            capacity.subscribe(self._changed.set)
        self._probes = ProbeBudget(limits.probe_s, limits.max_held)
        self._running = self._reserved = 0
        self._receive_backoff = Backoff()
        self._handler_backoff = Backoff()
        self.is_draining = False
        self.last_success: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then finish or give back what is held within `drain_s`.

        A poll that is in flight then is not cancelled: SQS would hide what it was about to deliver for a
        whole visibility time-out. Its messages are given back at once; the wait for it is part of
        `drain_s`.
        """
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._leases.keep_renewing()),
                group.create_task(self._leases.keep_deleting()),
            ]
            pollers = [group.create_task(self._poll(stop, group)) for _ in range(self._limits.pollers)]
            await stop.wait()
            self.is_draining = True
            if self._capacity is not None:
                self._capacity.close()
            self._changed.set()
            give_up_at = asyncio.get_running_loop().time() + self._limits.drain_s
            await asyncio.wait(pollers)
            await self._drain(give_up_at)
            for helper in helpers:
                helper.cancel()

    @property
    def problem(self) -> str:
        """What keeps this consumer from working, in words; empty when nothing does."""
        return self._receive_backoff.reason or self._handler_backoff.reason

    @property
    def held_bytes(self) -> int:
        """What `max_held_bytes` bounds: messages, and what their handlers hold beside them."""
        return self._leases.held_bytes

    @property
    def held(self) -> int:
        """Messages that are received and not settled yet."""
        return len(self._leases)

    def slot_released(self) -> None:
        """A delivery's work has ended."""
        self._running -= 1
        self._changed.set()

    def report_bytes(self, lease: Lease, size: int) -> None:
        """A delivery holds `size` bytes beside its message."""
        self._leases.report_bytes(lease, size)

    # -- receiving -------------------------------------------------------------------------------------

    async def _poll(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        while True:
            room, is_probe = await self._room(stop)
            if not room:
                return
            if not is_probe:
                self._probes.postpone(self._clock.monotonic())
            self._reserved += room
            try:
                messages = await self._receive(room)
            finally:
                self._reserved -= room
            if is_probe:
                self._probes.record(len(messages), self._clock.monotonic())
            if stop.is_set():
                await self._leases.make_visible([m.receipt for m in messages], 0)
                return
            for message in messages:
                self._start(message, group)

    async def _room(self, stop: asyncio.Event) -> tuple[int, bool]:
        """How many to receive now, and whether that is a probe; 0 to stop.

        Waits for a full batch of places, or a short while for fewer.
        """
        full = min(SEND_LIMIT, self._limits.max_running)
        linger_until: float | None = None
        while not stop.is_set():
            now = self._clock.monotonic()
            held_back_until = max(self._receive_backoff.until, self._handler_backoff.until)
            wake_at: float | None = held_back_until
            if now >= held_back_until:
                free = self._places()
                if free >= full:
                    return full, False
                if free > 0:
                    wake_at = linger_until = linger_until or now + self._limits.receive_linger_s
                    if now >= linger_until:
                        return free, False
                else:
                    if probe := self._probe(now):
                        return probe, True
                    linger_until = None
                    due_at = self._probes.due_at
                    wake_at = due_at if self._capacity and now < due_at else None
            self._changed.clear()
            with suppress(TimeoutError):
                async with nullcontext() if wake_at is None else timeout(self._clock, wake_at - now):
                    await self._changed.wait()
        return 0, False

    def _places(self) -> int:
        most = self._limits.max_running
        room = most if self._capacity is None else self._capacity.free_slots(most)
        return min(room - self._running, self._spare()) - self._reserved

    def _probe(self, now: float) -> int:
        """How many to fetch although nothing has room for them: some, where none came for a while."""
        if self._capacity is None or now < self._probes.due_at:
            return 0
        return max(0, min(SEND_LIMIT, self._spare() - self._reserved))

    def _spare(self) -> int:
        """How many more may be held."""
        if self._leases.held_bytes >= self._limits.max_held_bytes:
            return 0
        return self._limits.max_held - len(self._leases)

    async def _receive(self, room: int) -> Sequence[ReceivedMessage]:
        limits = self._limits
        try:
            messages = await self._queue.receive(
                room, wait_s=limits.poll_wait_s, visibility_s=limits.visibility_s
            )
        except (RetryableError, AccessError) as error:
            self._back_off(self._receive_backoff, error)
            return ()
        self._recovered(self._receive_backoff)
        self.last_success = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        for message in messages:
            if message.receives == 1 and message.sent_at_ms:
                self._metrics.observe("queue_wait_ms", max(0, now_ms - message.sent_at_ms))
        self._metrics.count("messages_received", len(messages))
        return messages

    def _back_off(self, backoff: Backoff, error: RowfleetError) -> None:
        """Receive nothing for a while, so that an outage burns no receive counts and no invocations."""
        if backoff.reason != str(error):
            log.error("queue_trouble", queue=self._queue.name, reason=str(error), kind=error.kind)
        backoff.failed(error, self._clock.monotonic())

    def _recovered(self, backoff: Backoff) -> None:
        if backoff.succeeded():
            log.info("queue_recovered", queue=self._queue.name)
            self._changed.set()

    # -- working ---------------------------------------------------------------------------------------

    def _start(self, message: ReceivedMessage, group: asyncio.TaskGroup) -> None:
        delivery = Delivery(self._leases.hold(message), self)
        self._running += 1
        task = group.create_task(self._work(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, delivery: Delivery) -> None:
        """Run the handler and carry out what its end means for the message."""
        try:
            await self._handle(delivery)
        except LeaseLostError as error:
            log.warning("lease_lost", queue=self._queue.name, reason=str(error))
            delivery.release_slot()
            self._leases.forget(delivery.lease)
        except Exception as error:  # noqa: BLE001 -- see the module: every error has its consequence
            delay_s = self._consequence(error, delivery.message)
            delivery.release_slot()
            await self._leases.release(delivery.lease, delay_s)
        else:
            self._recovered(self._handler_backoff)
            self._leases.acknowledge(delivery.lease)
        finally:
            delivery.report_bytes(0)
            delivery.release_slot()

    def _consequence(self, error: Exception, message: ReceivedMessage) -> float:
        """Log why a message is given back, and say after how many seconds it may come again."""
        delay_s = min(MAX_BACKOFF_S, 2.0 ** min(message.receives, 10))
        known = {"queue": self._queue.name, "message_id": message.id, "receives": message.receives}
        if isinstance(error, PoisonMessageError):
            log.error(
                "message_poisoned", reason=str(error)[:MAX_REASON_CHARS], body=message.body[:200],
                remedy="left to the dead-letter queue", **known,
            )  # fmt: skip
            self._metrics.count("messages_poisoned")
            return self._limits.poison_delay_s
        if isinstance(error, RetryableError | AccessError):
            if isinstance(error, RetryableError) and error.retry_after_s is not None:
                delay_s = min(MAX_BACKOFF_S, error.retry_after_s)
            log.warning("message_given_back", reason=str(error), kind=error.kind, again_in_s=delay_s, **known)
            self._back_off(self._handler_backoff, error)
            return delay_s
        # A bug of ours must not take the other rows down with it: the traceback is logged, the message comes
        # again elsewhere, and in the end is a dead letter.
        log.error("handler_crashed", exc_info=error, **known)
        self._metrics.count("handler_crashes")
        return delay_s

    # -- stopping --------------------------------------------------------------------------------------

    async def _drain(self, give_up_at: float) -> None:
        """Wait for what is held until `give_up_at` (by the event loop's time); then give the rest back."""
        try:
            async with asyncio.timeout_at(give_up_at):
                while len(self._leases):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            given_back = await self._leases.release_rest()
            log.warning("drain_gave_up", queue=self._queue.name, given_back=given_back)
