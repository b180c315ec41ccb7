"""The worker's view of operations: no call begins for a batch that is paused, and cut calls end.

A view of a batch that is older than `VIEW_AGE_S` begins no call. While calls of a batch are under way, its
view is kept as fresh, so that a call that is to be cut ends soon, and a change of its settings holds. Calls
also end at the deadline of their batch, which an operation may have moved since they began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

import structlog

from service.batch.row_checks import is_of_batch, is_superseded
from service.domain.deadlines import deadline_of
from service.domain.errors import (
    AccessError,
    AgentTimeoutError,
    CallCutError,
    CancelledError,
    DeadlineError,
    RetryableError,
    RowDroppedError,
)
from service.domain.messages import RowMessage
from service.domain.model import Batch, HoldReason, State
from service.domain.ports import Clock
from service.steering.cancellation import cancelled_error, cut_due_ms
from service.steering.target_hold import is_tried

log = structlog.get_logger(__name__)

WATCH_S = 2.0
"""Pause between two looks at a batch with calls under way. It is read once its view is too old, so operations
are noticed within `VIEW_AGE_S` and this."""

TAKES_ROWS = frozenset({State.SPLITTING, State.RUNNING})


def takes(batch: Batch, row: RowMessage) -> bool:
    """True if the batch lets the row be called; while its target holds it, only for a trial."""
    if batch.is_remap:
        return False  # nobody sends such a row, and its reply is paid for
    return batch.state in TAKES_ROWS or (row.trial > 0 and is_tried(batch))


def check_row(row: RowMessage, batch: Batch) -> None:
    """Raise RowDroppedError or CancelledError if no call may begin for the row."""
    if not is_of_batch(row, batch) or is_superseded(row, batch):
        raise RowDroppedError("an operation has replaced this message")
    if not takes(batch, row):
        raise RowDroppedError(f"the batch is {batch.state}")
    if batch.cancelled_at:
        raise cancelled_error(batch)


@dataclass(slots=True)
class _Calls:
    """The calls of one batch that are under way, and the task that watches the batch meanwhile."""

    under_way: set[WatchedCall] = field(default_factory=set)
    watch: asyncio.Task[None] | None = None


class WatchedCall:
    """A call that is watched, as an async context (`CallWatch.watched`)."""

    __slots__ = ("_batch", "_is_cut", "_limit", "_missed", "_watch", "row")

    def __init__(self, watch: CallWatch, batch: Batch, row: RowMessage) -> None:
        self.row = row
        self._watch = watch
        self._batch = batch
        self._limit = asyncio.timeout(None)
        self._is_cut = False
        self._missed: DeadlineError | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._watch.begin(self._batch, self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.end(self._batch, self)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            raise self._missed or await self._watch.reason_of_cut(self._batch, self.row) from None

    def cut(self, missed: DeadlineError | None = None) -> None:
        """End the call now, because an operation asks for it, or because its batch's deadline is `missed`."""
        if not self._is_cut:  # an agent may take long to end its call
            self._is_cut, self._missed = True, missed
            self._limit.reschedule(0.0)  # a time in the past, so asyncio cancels the body now


class CallWatch:
    """Cuts the calls of batches as operations ask for it, and at their deadlines.

    `read` returns the present view of a batch that is at most `VIEW_AGE_S` old, None if there is no batch.
    """

    def __init__(self, read: Callable[[str], Awaitable[Batch | None]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._calls: dict[str, _Calls] = {}

    def watched(self, batch: Batch, row: RowMessage) -> WatchedCall:
        """The context of a call.

        Raises CallCutError or CancelledError if an operation cuts it, DeadlineError at its batch's deadline.
        """
        return WatchedCall(self, batch, row)

    def begin(self, batch: Batch, call: WatchedCall) -> None:
        """Watch a call of the batch."""
        calls = self._calls.setdefault(batch.batch_id, _Calls())
        if calls.watch is None:
            calls.watch = asyncio.create_task(self._watch(batch, calls))
        calls.under_way.add(call)

    def end(self, batch: Batch, call: WatchedCall) -> None:
        """Watch the call no more."""
        calls = self._calls[batch.batch_id]
        calls.under_way.discard(call)
        if not calls.under_way:
            del self._calls[batch.batch_id]
            if calls.watch is not None:
                calls.watch.cancel()

    async def reason_of_cut(self, batch: Batch, row: RowMessage) -> CallCutError | CancelledError:
        """The error of a call that was cut."""
        current = await self._read(batch.batch_id)
        if current is not None and current.cancelled_at and not is_superseded(row, current):
            return cancelled_error(current)
        return CallCutError("an operation has cut the call")

    async def _watch(self, batch: Batch, calls: _Calls) -> None:
        """Read the batch until it cuts its calls."""
        while True:
            left_s = deadline_of(batch, None).left_s(self._clock.now_ms())
            await self._clock.sleep(left_s if 0 < left_s < WATCH_S else WATCH_S)
            try:
                current = await self._read(batch.batch_id)
            except (RetryableError, AccessError) as error:
                log.info("batch_not_read", batch_id=batch.batch_id, reason=str(error))
                continue
            if current is not None:
                batch = current
                self._cut(batch, calls)

    def _cut(self, batch: Batch, calls: _Calls) -> None:
        """Cut the calls that are to end now."""
        now_ms, deadline = self._clock.now_ms(), deadline_of(batch, None)
        if _cuts_calls(batch, now_ms):
            log.info("calls_cut", batch_id=batch.batch_id, calls=len(calls.under_way))
            for call in calls.under_way:
                call.cut()
        elif deadline.left_s(now_ms) <= 0:
            for call in calls.under_way:
                if is_of_batch(call.row, batch) and not is_superseded(call.row, batch):
                    call.cut(deadline.missed(AgentTimeoutError("no answer until then")))


def _cuts_calls(batch: Batch, now_ms: int) -> bool:
    """True if calls under way are to end now."""
    held = batch.hold(HoldReason.USER)
    if held is not None and held.detail.get("now"):
        return True
    return bool(batch.cancelled_at) and now_ms >= cut_due_ms(batch)
