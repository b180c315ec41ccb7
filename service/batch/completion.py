"""Step 6 of the protocol: the completion check, which triggers the aggregation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import structlog

from service.batch.role_ports import Ports
from service.domain.messages import AggregateMessage
from service.domain.model import BatchView, State, iso_time
from service.domain.ports import OutgoingMessage
from service.runtime.sender import send_all

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Repeat(Protocol):
    """Makes a call of a port, and may repeat it if it fails."""

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`, or raise its last error."""
        ...


async def once(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call without repeating it."""
    return await call()


class Completion:
    """Checks whether every row of a sealed batch has an outcome.

    Splitter, worker, sweeper and dead-letter drain check after each step that may have been the last. The
    read is consistent, so the process that commits the last outcome sees every count: one of them triggers.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def check(self, batch_id: str, repeat: Repeat = once) -> BatchView | None:
        """The batch and its counts; triggers the aggregation if the batch is complete. Safe to repeat.

        `repeat` makes each of its calls, so that a check which is interrupted sends no further trigger.
        """
        table, queues = self._ports.table, self._ports.queues
        view = await repeat(partial(table.read, batch_id))
        if view is None or view.batch.state is not State.RUNNING or not view.is_complete:
            return view
        batch = view.batch
        if view.counts.done != batch.total:
            log.error("counters_exceed_total", batch_id=batch_id, total=batch.total, counted=view.counts.done)
        # Sent before the move: a crash in between sends the trigger twice rather than never.
        trigger = OutgoingMessage(AggregateMessage.of(batch).encode())
        await repeat(partial(send_all, queues.aggregate, [trigger]))
        moved = await repeat(
            partial(
                table.move,
                batch,
                expected=State.RUNNING,
                to=State.AGGREGATING,
                now=iso_time(self._ports.clock.now_ms()),
            )
        )
        log.info("batch_complete", batch_id=batch_id, round=batch.round, total=batch.total, claimed=moved)
        return replace(view, batch=replace(batch, state=State.AGGREGATING)) if moved else view
