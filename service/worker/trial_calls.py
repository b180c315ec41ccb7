"""Trial calls of a worker: rows that are called although their batch is held, to try its target.

A trial that is not served costs its row nothing: its message is dropped, and the sweeper sends another one.
"""

from __future__ import annotations

import random

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import (
    AccessError,
    AgentRetryableError,
    AgentTimeoutError,
    FailureScope,
    RetryableError,
    RowDroppedError,
)
from service.domain.messages import RowMessage
from service.domain.model import Batch, Outcome
from service.steering.target_hold import lift_target_hold
from service.steering.trials import Trials
from service.worker.row_task import FailedCall, RowTask

log = structlog.get_logger(__name__)


class TrialCalls:
    """The trial calls of the process `worker`. `rng` makes the names of its changes."""

    def __init__(self, ports: Ports, *, worker: str, rng: random.Random) -> None:
        self._ports = ports
        self._trials = Trials(ports.table, ports.clock)
        self._worker = worker
        self._rng = rng

    async def begin(self, task: RowTask, longest_s: float) -> None:
        """Begin the call of a row, if it is a trial; the call lasts `longest_s` seconds at most.

        Raises RowDroppedError if the trial may not begin, RetryableError and AccessError.
        """
        number = task.message.trial
        if number and not await self._trials.begin(
            task.batch, number, longest_s=longest_s, by=self._new_name()
        ):
            raise RowDroppedError(f"trial {number} of its target is over, or another one is under way")

    async def end(self, task: RowTask, result: Outcome | FailedCall) -> None:
        """Note the result of a row's call, if it was a trial.

        Raises RowDroppedError for a trial that has no outcome.
        """
        number = task.message.trial
        if not number:
            return
        error = result.error if isinstance(result, FailedCall) else None
        is_served = error is None or _is_reply(error)
        wait_s = (error.retry_after_s or 0.0) if error is not None else 0.0
        try:
            await self._trials.end(
                task.batch, number, is_served=is_served, wait_s=wait_s, by=self._new_name()
            )
        except (RetryableError, AccessError) as failure:
            log.warning("trial_not_noted", number=number, reason=str(failure))
        log.info("trial_ended", number=number, served=is_served, reason=str(error or ""))
        if error is not None:
            if is_served:
                await self.committed(task.batch, task.message)
            raise RowDroppedError(f"its trial had no outcome: {error}")

    async def committed(self, batch: Batch, row: RowMessage) -> None:
        """Lift the hold of a batch if the row is a trial that was served. Its outcome, if any, is committed.

        If that fails, the sweeper does it.
        """
        if not row.trial:
            return
        try:
            if (await self._trials.read(batch)).served_ms:
                await lift_target_hold(self._ports, batch, "its target serves again")
        except (RetryableError, AccessError) as error:
            log.warning("target_hold_not_lifted", reason=str(error))

    def _new_name(self) -> str:
        return f"{self._worker}/{self._rng.getrandbits(64):016x}"


def _is_reply(error: AgentRetryableError) -> bool:
    """True if the target is up although the row has to be tried again: its reply says "not yet", say."""
    return error.scope is FailureScope.ROW and not isinstance(error, AgentTimeoutError)
