"""Consumer loop of a queue: receive while slots are free, renew leases, delete in batch calls, drain.

Each role is a handler that the consumer calls with a `Delivery`. The way in which the handler ends decides
about the message:

    returns              acknowledged: deleted
    RetryableError       released: redelivered after a back-off
    AccessError          the same
    PoisonMessageError   logged and left to the dead-letter queue
    LeaseLostError       forgotten: another consumer has the message
    any other exception  a bug: logged with its traceback, released, in the end a dead letter

A CancelledError that a library raises, although nobody cancelled the handler, is such a bug as well.

After a RetryableError or AccessError nothing is received until a back-off is over.

Three limits bound the messages that are held. `max_running` counts deliveries that occupy a slot; a handler
calls `delivery.release_slot()` once only bookkeeping or waiting is left. `max_held` counts all messages that
are not deleted yet. `max_held_bytes` bounds the bytes of these messages and the bytes that their handlers
report with `delivery.report_bytes()`. Polls and handlers that run when this bound is reached may still exceed
it: by ten messages for each poller, and by the bytes that the running handlers add.

The worker also limits calls by target. Its `Capacity` then tells how many messages its targets can take, and
`max_running` bounds only deliveries that do not wait for their target yet. Without capacity nothing is
received, except probes (`fetching`): a message's target is known only after it was received, so messages
for a full target would hide those for the others. The handler requeues a message that it cannot start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from service.domain.errors import (
    AccessError,
    RetryableError,
    RowfleetError,
)
from service.domain.ports import Clock, Queue, ReceivedMessage
from service.runtime.backoff import MAX_BACKOFF_S, Backoff
from service.runtime.delivery import Capacity, Delivery, Handler, HandlerResult, run_handler
from service.runtime.fetching import Fetch, FetchState, PollsInFlight, ProbeBudget, next_fetch
from service.runtime.leases import Lease, Leases
from service.runtime.metrics import Metrics
from service.runtime.releases import Releases
from service.runtime.tasks import timeout

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConsumeLimits:
    """Limits of one consumer; times in seconds.

    `receive_linger_s` and `delete_linger_s` are waits for more free slots or messages, so that batch calls
    are full. A poison message is redelivered after `poison_delay_s`. A message that was given back is
    redelivered after `release_growth` to the power of its deliveries, and after `longest_release_s` at most.
    `drain_s` bounds the time between the stop and the end of `run`.

    `can_resume`: the work can be resumed by the next delivery of its message, so a stop cancels the handlers
    and releases their messages at once. Otherwise handlers have `drain_s` to end.
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
    release_growth: float = 2.0
    longest_release_s: float = MAX_BACKOFF_S
    probe_s: float = 2.0
    can_resume: bool = False


class Consumer:
    """Consumes `queue` with `handle` until it is stopped."""

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
        self._releases = Releases(
            queue.name, metrics, growth=limits.release_growth, longest_s=limits.longest_release_s,
            poison_delay_s=limits.poison_delay_s,
        )  # fmt: skip
        self._tasks: set[asyncio.Task[None]] = set()
        self._capacity = capacity
        if capacity is not None:
            capacity.subscribe(self._changed.set)
        self._probes = ProbeBudget(limits.probe_s, limits.max_held)
        self._running = 0
        self._polls = PollsInFlight()
        self._receive_backoff = Backoff()
        self._handler_backoff = Backoff()
        self.is_draining = False
        self.last_success: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then finish or release the held messages within `drain_s`."""
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
            if self._limits.can_resume:
                await self._stop_handlers("handlers_stopped")
            # A poll in flight is not cancelled: SQS would hide the messages that it was about to deliver for
            # a whole visibility time-out. The poller releases them at once.
            await asyncio.wait(pollers)
            await self._drain(give_up_at)
            for helper in helpers:
                helper.cancel()

    @property
    def problem(self) -> str:
        """The reason why this consumer cannot work now, or ""."""
        reason = self._receive_backoff.reason or self._handler_backoff.reason
        reason = reason or self._polls.problem(
            self._queue.name, self._limits.poll_wait_s, self._clock.monotonic()
        )
        return reason or ("" if self._capacity is None else self._capacity.problem)

    @property
    def held_bytes(self) -> int:
        """Bytes bounded by `max_held_bytes`: held messages, and the bytes that their handlers reported."""
        return self._leases.held_bytes

    @property
    def held(self) -> int:
        """Messages that are received and not deleted or released yet."""
        return len(self._leases)

    @property
    def held_since(self) -> float | None:
        """Since when it holds its oldest message, in monotonic seconds; None if it holds none."""
        return self._leases.held_since

    def slot_released(self) -> None:
        """A delivery does not occupy its slot any more."""
        self._running -= 1
        self._changed.set()

    def report_bytes(self, lease: Lease, size: int) -> None:
        """A delivery's handler holds `size` bytes beside its message."""
        self._leases.report_bytes(lease, size)

    # -- receiving -------------------------------------------------------------------------------------

    async def _poll(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        while (fetch := await self._next_fetch(stop)) is not None:
            if not fetch.is_probe:
                self._probes.postpone(self._clock.monotonic())
            with self._polls.one(fetch.limit, self._clock.monotonic()):
                messages = await self._receive(fetch.limit)
            if fetch.is_probe:
                self._probes.record(len(messages), self._clock.monotonic())
            if stop.is_set():
                await self._leases.make_visible([m.receipt for m in messages], 0)
                return
            for message in messages:
                self._start(message, group)

    async def _next_fetch(self, stop: asyncio.Event) -> Fetch | None:
        """Wait until messages should be received; None once `stop` is set."""
        limits = self._limits
        lingering_since: float | None = None
        while not stop.is_set():
            now = self._clock.monotonic()
            step = next_fetch(
                now, self._fetch_state(), lingering_since,
                max_running=limits.max_running, linger_s=limits.receive_linger_s,
            )  # fmt: skip
            if isinstance(step, Fetch):
                return step
            lingering_since = step.lingering_since
            # Nothing was awaited since the state was read, so no change is missed.
            self._changed.clear()
            await self._wait_for_change(step.at)
        return None

    async def _wait_for_change(self, until: float | None) -> None:
        """Wait until the state changes, or until the monotonic time `until` if it is given."""
        if until is None:
            await self._changed.wait()
            return
        with suppress(TimeoutError):
            async with timeout(self._clock, until - self._clock.monotonic()):
                await self._changed.wait()

    def _fetch_state(self) -> FetchState:
        limits = self._limits
        slots = (
            limits.max_running if self._capacity is None else self._capacity.free_slots(limits.max_running)
        )
        holdable = limits.max_held - len(self._leases)
        if self._leases.held_bytes >= limits.max_held_bytes:
            holdable = 0
        return FetchState(
            paused_until=max(self._receive_backoff.until, self._handler_backoff.until),
            # Polls in flight may fill slots as well as memory, so their messages count against both.
            free_slots=min(slots - self._running, holdable) - self._polls.requested,
            holdable=holdable - self._polls.requested,
            probe_due_at=None if self._capacity is None else self._probes.due_at,
        )

    async def _receive(self, limit: int) -> Sequence[ReceivedMessage]:
        limits = self._limits
        try:
            messages = await self._queue.receive(
                limit, wait_s=limits.poll_wait_s, visibility_s=limits.visibility_s
            )
        except (RetryableError, AccessError) as error:
            self._pause(self._receive_backoff, error)
            return ()
        self._resume(self._receive_backoff)
        self.last_success = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        for message in messages:
            # Later deliveries have waited for their release or time-out as well.
            if message.receives == 1 and message.sent_at_ms:
                self._metrics.observe("queue_wait_ms", max(0, now_ms - message.sent_at_ms))
        self._metrics.count("messages_received", len(messages))
        return messages

    def _pause(self, backoff: Backoff, error: RowfleetError) -> None:
        """Receive nothing for a while, so that an outage uses up neither deliveries nor agent calls."""
        if backoff.reason != str(error):
            log.error("queue_trouble", queue=self._queue.name, reason=str(error), kind=error.kind)
        backoff.failed(error, self._clock.monotonic())

    def _resume(self, backoff: Backoff) -> None:
        if backoff.succeeded():
            log.info("queue_recovered", queue=self._queue.name)
            self._changed.set()

    # -- handling --------------------------------------------------------------------------------------

    def _start(self, message: ReceivedMessage, group: asyncio.TaskGroup) -> None:
        delivery = Delivery(self._leases.hold(message), self)
        self._running += 1
        task = group.create_task(self._work(delivery))
        # Kept apart, because `_drain` cancels these tasks of the group and no others.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, delivery: Delivery) -> None:
        """Run the handler; then acknowledge, release or forget the message, as the module describes."""
        try:
            result, error = await run_handler(self._handle, delivery)
            if error is None:
                self._resume(self._handler_backoff)
                self._leases.acknowledge(delivery.lease)
            elif result is HandlerResult.LOST:
                log.warning("lease_lost", queue=self._queue.name, reason=str(error))
                delivery.release_slot()
                self._leases.forget(delivery.lease)
            else:
                delay_s = self._releases.delay_s(error, delivery.message)
                if isinstance(error, RetryableError | AccessError):
                    self._pause(self._handler_backoff, error)
                delivery.release_slot()
                await self._leases.release(delivery.lease, delay_s)
        finally:
            delivery.report_bytes(0)
            delivery.release_slot()

    # -- stopping --------------------------------------------------------------------------------------

    async def _drain(self, give_up_at: float) -> None:
        """Wait for the held messages until `give_up_at` (event loop time); then release the rest."""
        try:
            async with asyncio.timeout_at(give_up_at):
                while len(self._leases):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            await self._stop_handlers("drain_gave_up")

    async def _stop_handlers(self, event: str) -> None:
        """Cancel all handlers and release their messages; log `event` if there were any."""
        # Before the release: a handler that went on would work on a message that others receive.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if given_back := await self._leases.release_rest():
            log.warning(event, queue=self._queue.name, given_back=given_back)
