"""The worker's view of operations: no call begins for a batch that is paused, and cut calls end.

A view of a batch that is older than `VIEW_AGE_S` begins no call. While calls of a batch are under way, its
view is kept as fresh, so that a call that is to be cut ends soon, and a change of its settings holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

import structlog

from service.batch.row_checks import is_of_batch, is_superseded
from service.domain.errors import (
    AccessError,
    CallCutError,
    CancelledError,
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

    limits: set[asyncio.Timeout] = field(default_factory=set)
    watch: asyncio.Task[None] | None = None


class WatchedCall:
    """A call that is watched, as an async context (`CallWatch.watched`)."""

    __slots__ = ("_batch", "_limit", "_row", "_watch")

    def __init__(self, watch: CallWatch, batch: Batch, row: RowMessage) -> None:
        self._watch = watch
        self._batch = batch
        self._row = row
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._watch.begin(self._batch, self._limit)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.end(self._batch, self._limit)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            raise await self._watch.reason_of_cut(self._batch, self._row) from None


class CallWatch:
    """Cuts the calls of batches as operations ask for it.

    `read` returns the present view of a batch that is at most `VIEW_AGE_S` old, None if there is no batch.
    """

    def __init__(self, read: Callable[[str], Awaitable[Batch | None]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._calls: dict[str, _Calls] = {}

    def watched(self, batch: Batch, row: RowMessage) -> WatchedCall:
        """The context of a call; raises CallCutError or CancelledError if an operation cuts it."""
        return WatchedCall(self, batch, row)

    def begin(self, batch: Batch, limit: asyncio.Timeout) -> None:
        """Watch a call of the batch, which `limit` can cut."""
        calls = self._calls.setdefault(batch.batch_id, _Calls())
        if calls.watch is None:
            calls.watch = asyncio.create_task(self._watch(batch, calls))
        calls.limits.add(limit)

    def end(self, batch: Batch, limit: asyncio.Timeout) -> None:
        """Watch the call no more."""
        calls = self._calls[batch.batch_id]
        calls.limits.discard(limit)
        if not calls.limits:
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
            await self._clock.sleep(WATCH_S)
            try:
                current = await self._read(batch.batch_id)
            except (RetryableError, AccessError) as error:
                log.info("batch_not_read", batch_id=batch.batch_id, reason=str(error))
                continue
            if current is not None and _cuts_calls(current, self._clock.now_ms()):
                log.info("calls_cut", batch_id=batch.batch_id, calls=len(calls.limits))
                for limit in list(calls.limits):
                    limit.reschedule(0.0)  # a time in the past, so asyncio cancels the body now


def _cuts_calls(batch: Batch, now_ms: int) -> bool:
    """True if calls under way are to end now."""
    held = batch.hold(HoldReason.USER)
    if held is not None and held.detail.get("now"):
        return True
    return bool(batch.cancelled_at) and now_ms >= cut_due_ms(batch)
