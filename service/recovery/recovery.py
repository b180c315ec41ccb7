"""Rows without an outcome: their messages are lost, so they are sent again or committed as FAILED.

Sweeper and dead-letter drain share this. Rows are finished only by committing an outcome. The commit is
conditional, so a slow worker's outcome and ours cannot both be counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from service.batch.commits.group_commit import GroupCommitter
from service.batch.large_rows import ClaimCheck, row_body, row_message
from service.batch.outcomes import LastAttempt
from service.batch.role_ports import Ports
from service.batch.row_checks import REPEAT_DELAY_S
from service.domain.errors import (
    BatchRejectedError,
    PoisonMessageError,
    RowfleetError,
    RowRejectedError,
    SourceError,
)
from service.domain.messages import RowMessage
from service.domain.model import Batch, iso_time, row_id
from service.domain.ports import OutgoingMessage
from service.recovery.lost_rows import LostRows, LostRowsFinder, RecoveryLimits
from service.runtime.byte_budget import ByteBudget
from service.runtime.sender import send_all
from service.runtime.tasks import task_group

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Recovered:
    """The rows of one pass over a batch: their number, the first and the last of them (0 for none)."""

    rows: int = 0
    first: int = 0
    last: int = 0

    def add(self, numbers: Sequence[int]) -> None:
        """Count rows, whose numbers ascend within a call."""
        if not numbers:
            return
        self.rows += len(numbers)
        self.first = min(self.first or numbers[0], numbers[0])
        self.last = max(self.last, numbers[-1])


Done = Callable[[int], Awaitable[None]]
"""Is called with the number up to which all rows are done."""


async def _nothing(_number: int) -> None:
    return None


class Recovery:
    """Finds rows without an outcome and makes sure that they get one."""

    def __init__(
        self,
        ports: Ports,
        committer: GroupCommitter,
        limits: RecoveryLimits,
    ) -> None:
        self._ports = ports
        self._claim_check = ClaimCheck(ports.objects, max_record_bytes=limits.max_record_bytes)
        self._committer = committer
        self._limits = limits
        self._finder = LostRowsFinder(ports, limits)
        self._send_budget = ByteBudget(limits.send_bytes)

    async def resend(
        self,
        batch: Batch,
        check_lease: Callable[[], None],
        *,
        after: int = 0,
        done: Done = _nothing,
        delay_s: int = REPEAT_DELAY_S,
    ) -> Recovered:
        """Send every row that has no outcome of the round again, marked as a replay.

        Those that cannot be read any more are committed as FAILED. Table and source are read once, side by
        side, whatever the number of rows. `done` is called with the number up to which all rows are sent. The
        caller has become the batch's sender. Rows whose earlier messages may still be served wait for
        `delay_s`. Raises RetryableError, AccessError, BatchRejectedError if the selection of the round is
        gone, and the LeaseLostError of `check_lease`, which is called before rows are sent or failed.
        """
        recovered = Recovered()
        async with aclosing(self._finder.find(batch, after)) as lost_rows:
            async for lost in lost_rows:
                check_lease()
                await self._send(batch, lost, check_lease, delay_s)
                error = SourceError(
                    f"the row's message was lost, and it cannot be read again: {lost.problem}"
                )
                await self._fail_rows(batch, lost.gone, error)
                recovered.add(lost.numbers)
                if lost.done:
                    await done(lost.done)
        return recovered

    async def send_trial(self, batch: Batch, number: int, check_lease: Callable[[], None]) -> int:
        """Send one row that has no outcome of the round, for the trial with that number; return its number.

        It is one of the first, and another one for each trial: a row that always fails tells nothing of its
        target. 0 if there is no row that can be read. Raises as `resend` does.
        """
        async with aclosing(self._finder.find(batch, 0)) as lost_rows:
            async for lost in lost_rows:
                bodies = list(self._bodies(batch, lost))
                if not bodies:
                    continue
                row = RowMessage.decode(bodies[(number - 1) % len(bodies)])
                check_lease()
                await self.resend_row(replace(row, trial=number), 0)
                return row.number
        return 0

    async def fail(
        self,
        batch: Batch,
        error: RowRejectedError,
        check_lease: Callable[[], None],
        *,
        after: int = 0,
        done: Done = _nothing,
    ) -> Recovered:
        """Commit every row of a sealed batch that has no outcome as FAILED, with its cells if it can be read.

        Reads and raises as `resend` does.
        """
        recovered = Recovered()
        async with aclosing(self._finder.find(batch, after)) as lost_rows:
            async for lost in lost_rows:
                check_lease()
                read = [
                    replace(row_message(batch, record), history=lost.histories.get(record.number, ()))
                    for record in lost.records
                ]
                await self._fail_rows(batch, [*read, *lost.rows, *lost.gone], error)
                recovered.add(lost.numbers)
                if lost.done:
                    await done(lost.done)
        return recovered

    async def resend_row(self, row: RowMessage, delay_s: float) -> None:
        """Send one row message as it is. Raises RetryableError and AccessError."""
        await send_all(self._ports.queues.rows, [OutgoingMessage(row.encode(), row.batch_id, round(delay_s))])
        self._ports.metrics.count("rows_resent")

    async def fail_row(self, batch: Batch, row: RowMessage, error: RowfleetError) -> None:
        """Commit one row as FAILED and check its batch. Raises RetryableError and AccessError."""
        row = await self._with_cells_if_possible(batch, row)
        attempt = LastAttempt(
            row=row,
            columns=batch.columns,
            number=row.attempt,
            elapsed_ms=0,
            timestamp=iso_time(self._ports.clock.now_ms()),
            worker=self._limits.worker,
        )
        bare = replace(attempt, row=replace(row, cells=()))
        # If the cells cannot be stored, the outcome counts without them as well.
        await self._committer.commit_first(batch, [attempt.failed(error), bare.failed(error)])
        log.info(
            "row_settled", batch_id=batch.batch_id, row_id=row_id(row.number), status="FAILED",
            **{"error": error.kind, "class": error.failure_class}, reason=str(error),
        )  # fmt: skip

    async def _with_cells_if_possible(self, batch: Batch, row: RowMessage) -> RowMessage:
        """The row with its cells, or without any if its source cannot be read."""
        try:
            return await self._claim_check.redeem(batch, row)
        except (BatchRejectedError, RowRejectedError, PoisonMessageError) as error:
            log.info("row_without_cells", reason=str(error))
            return replace(row, cells=(), span=None)

    async def _send(
        self, batch: Batch, lost: LostRows, check_lease: Callable[[], None], delay_s: int
    ) -> None:
        messages = (OutgoingMessage(body, batch.batch_id, delay_s) for body in self._bodies(batch, lost))
        await send_all(
            self._ports.queues.rows,
            messages,
            concurrency=self._limits.send_concurrency,
            before_call=check_lease,
            budget=self._send_budget,
        )
        if sent := len(lost.records) + len(lost.rows):
            self._ports.metrics.count("rows_resent", sent)

    def _bodies(self, batch: Batch, lost: LostRows) -> Iterator[str]:
        """The messages of the rows that can be read."""
        for record in lost.records:
            yield row_body(
                batch,
                record,
                replay=True,
                history=lost.histories.get(record.number, ()),
                max_message_bytes=self._limits.max_message_bytes,
            )
        for row in lost.rows:
            yield replace(row, replay=True).encode()

    async def _fail_rows(self, batch: Batch, rows: Iterable[RowMessage], error: RowfleetError) -> None:
        async with task_group() as group:
            for row in rows:
                group.create_task(self.fail_row(batch, row, error))
