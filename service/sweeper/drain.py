"""The drain of one dead-letter queue: passes over its messages, with pauses between them.

A pass receives until the queue has no more messages, and calls a handler for each. What the handler cannot
act on is *left*: held until the end of the pass, so that the pass does not meet it again, and visible to
everybody afterwards. Between passes an alarm on the queue counts what was left, an operator can look at it,
and a message move task of SQS finds it. A pass that leaves nothing is followed by the next one at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from service.domain.errors import AccessError, RetryableError
from service.domain.message_format import shown_body
from service.domain.ports import BATCH_CALL_ENTRIES, Clock, Queue, ReceivedMessage
from service.domain.truncation import truncate
from service.runtime.delivery import Delivery, Handler, HandlerResult, run_handler
from service.runtime.leases import Lease, Leases
from service.runtime.metrics import Metrics
from service.runtime.releases import MAX_REASON_CHARS
from service.runtime.tasks import until_stopped

log = structlog.get_logger(__name__)

REPORT_EVERY_S = 900.0
"""A message that is left again and again is logged this often."""

LAST_WAIT_S = 1.0
"""Wait for one more message before a pass ends that has left some: they should not stay hidden for long."""

MAX_PASS_S = 60.0
"""Longest time of a pass that leaves messages, although more messages arrive."""

REMEDY = "it stays in the queue: `rowfleet dead-letters` lists, retries and drops it"

MAX_LEFT = 1_000
"""Messages that one pass leaves; the next pass may begin with others."""


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """Times in seconds. After a pass that left messages, nothing is received for `pause_s`."""

    visibility_s: float = 60.0
    poll_wait_s: float = 20.0
    pause_s: float = 60.0
    delete_linger_s: float = 0.1


def left_in(drains: Iterable[Drain], queue: Queue) -> int:
    """The number of messages that the last pass of the queue's drain has left; 0 without such a pass."""
    return sum(drain.left or 0 for drain in drains if drain.name == queue.name)


class Drain:
    """Drains `queue` with `handle` until it is stopped.

    `left` is the number of messages that the last pass left, None before the first pass has ended.
    """

    is_draining = False  # the process's shutdown cancels a pass: every step of a handler is safe to repeat

    def __init__(
        self, queue: Queue, handle: Handler, limits: DrainLimits, clock: Clock, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._leases = Leases(
            queue, clock, metrics, lambda: None,
            visibility_s=limits.visibility_s, delete_linger_s=limits.delete_linger_s,
        )  # fmt: skip
        self._reported_at: OrderedDict[str, float] = OrderedDict()
        self.left: int | None = None
        self.problem = ""
        self.last_success: float | None = None

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    @property
    def held_since(self) -> float | None:
        """Since when it holds its oldest message, in monotonic seconds; None if it holds none."""
        return self._leases.held_since

    @property
    def held(self) -> int:
        """Messages that are received and not deleted or made visible again."""
        return len(self._leases)

    def slot_released(self) -> None:
        """Nothing: a pass handles the messages of one receive together, and has no slots."""

    def report_bytes(self, lease: Lease, size: int) -> None:
        """The handler of a message holds `size` bytes beside it."""
        self._leases.report_bytes(lease, size)

    async def run(self, stop: asyncio.Event) -> None:
        """Drain until `stop` is set; then make visible what is held."""
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._leases.keep_renewing()),
                group.create_task(self._leases.keep_deleting()),
            ]
            await until_stopped(stop, self._drain_forever())
            await self._leases.delete_acknowledged()
            await self._leases.release_rest()
            for helper in helpers:
                helper.cancel()

    async def _drain_forever(self) -> None:
        while True:
            left = await self._pass()
            if left or self.problem:
                await self._clock.sleep(self._limits.pause_s)

    async def _pass(self) -> int:
        """Go through the queue once. Return the number of messages that were left."""
        began = self._clock.monotonic()
        problem = ""
        left: list[Lease] = []
        try:
            while len(left) < MAX_LEFT and not problem:
                if left and self._clock.monotonic() - began > MAX_PASS_S:
                    break
                messages = await self._receive(LAST_WAIT_S if left else self._limits.poll_wait_s)
                if not messages:
                    break
                leases = [self._leases.hold(message) for message in messages]
                problems = await asyncio.gather(*(self._work(lease) for lease in leases))
                left += [lease for lease, why in zip(leases, problems, strict=True) if why is not None]
                problem = next((why for why in problems if why), "")
        except (RetryableError, AccessError) as error:
            problem = str(error)
        finally:
            await self._make_visible(left)
        self._report(len(left), problem)
        return len(left)

    async def _receive(self, wait_s: float) -> Sequence[ReceivedMessage]:
        limits = self._limits
        messages = await self._queue.receive(
            BATCH_CALL_ENTRIES, wait_s=min(wait_s, limits.poll_wait_s), visibility_s=limits.visibility_s
        )
        self.last_success = self._clock.monotonic()
        return messages

    async def _work(self, lease: Lease) -> str | None:
        """Handle one message; acknowledge it, or return why it is left.

        "" means that no handler can act on it; any other reason concerns the whole queue and ends the pass.
        """
        message = lease.message
        result, error = await run_handler(self._handle, Delivery(lease, self))
        if error is None:
            self._leases.acknowledge(lease)
            return None
        known = {"queue": self._queue.name, "message_id": message.id}
        match result:
            case HandlerResult.LOST:
                log.warning("lease_lost", reason=str(error), **known)
                self._leases.forget(lease)
                return None
            case HandlerResult.TROUBLE:
                log.warning("message_given_back", reason=str(error), kind=type(error).__name__, **known)
                return str(error)
            case HandlerResult.POISON if self._should_report(message.id):
                log.error(
                    "message_poisoned", reason=truncate(str(error), MAX_REASON_CHARS),
                    body=shown_body(message.body, 200), remedy=REMEDY, **known,
                )  # fmt: skip
                self._metrics.count("messages_poisoned")
            case HandlerResult.BUG if self._should_report(message.id):
                # A bug of one message must not keep the others waiting.
                log.error("handler_crashed", exc_info=error, **known)
                self._metrics.count("handler_crashes")
        return ""

    def _should_report(self, message_id: str) -> bool:
        """True if the message was not reported lately."""
        now = self._clock.monotonic()
        reported_at = self._reported_at.get(message_id)
        if reported_at is not None and now - reported_at < REPORT_EVERY_S:
            return False
        self._reported_at[message_id] = now
        self._reported_at.move_to_end(message_id)
        while len(self._reported_at) > 2 * MAX_LEFT:
            self._reported_at.popitem(last=False)
        return True

    async def _make_visible(self, left: Sequence[Lease]) -> None:
        await self._leases.make_visible([lease.message.receipt for lease in left], 0)
        for lease in left:
            self._leases.forget(lease)

    def _report(self, left: int, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("queue_trouble", queue=self._queue.name, reason=problem)
        if self.problem and not problem:
            log.info("queue_recovered", queue=self._queue.name)
        self.problem, self.left = problem, left
        self._metrics.observe("dead_messages_left", left)
