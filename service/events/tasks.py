"""Answers to Step Functions tasks that wait for batches, and their heartbeats.

The record of a task is stored when its job opens the batch, and says nothing of the batch's end. So whoever
ends the batch, and in whichever way, the task is answered; each token once.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from service.batch.ending import write_failed_manifest
from service.batch.role_ports import Ports
from service.domain.model import (
    BatchView,
    DeliveryEnd,
    DeliveryState,
    OutboxKind,
    OutboxRecord,
    State,
    WaitingTask,
    fitting_json,
    ms_of,
)
from service.domain.ports import TaskService
from service.domain.truncation import truncate
from service.events.poller import FAILURES, OutboxPoller, SendLimits
from service.runtime.tasks import timeout

log = structlog.get_logger(__name__)

TARGET = "task"
"""The name under which the deliveries of answers are stored."""

MAX_OUTPUT_BYTES = 262_144
MAX_ERROR_CHARS = 256
MAX_CAUSE_CHARS = 32_768
"""Limits of SendTaskSuccess and SendTaskFailure (Step Functions)."""

SUCCESSES = (State.SUCCEEDED, State.COMPLETED_WITH_ERRORS)


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """The end of a task: `output` as JSON if it succeeds, else `error` and `cause`.

    It holds since `since_ms`, in milliseconds since 1970.
    """

    since_ms: int
    output: str = ""
    error: str = ""
    cause: str = ""


class TaskAnswering(OutboxPoller):
    """Answers the tasks whose batch has ended, and sends every `heartbeat_s` a heartbeat for the others."""

    def __init__(self, ports: Ports, service: TaskService, heartbeat_s: float, limits: SendLimits) -> None:
        super().__init__(ports, OutboxKind.TASK, limits, name="tasks")
        self._service = service
        self._heartbeat_s = heartbeat_s

    async def _handle(self, record: OutboxRecord) -> None:
        state = record.delivery(TARGET)
        task = WaitingTask.from_record(record)
        if state.end:
            await self._ports.table.settle(record)
        elif (answer := await self._answer(task)) is not None:
            await self._answer_task(record, task, state, answer)
        else:
            await self._keep_alive(record, task, state)

    async def _answer(self, task: WaitingTask) -> TaskAnswer | None:
        """The answer to a task; None while its batch has not ended."""
        if task.problem:
            return _failure(task.at_ms, "REFUSED", task.problem)
        view = await self._ports.table.read(task.batch_id)
        if view is None or view.batch.incarnation != task.incarnation:
            gone = f"batch {task.batch_id} has expired, or its id was opened anew"
            return _failure(task.at_ms, "EXPIRED", gone)
        batch = view.batch
        if not batch.state.is_final:
            return None
        since_ms = ms_of(batch.finished_at) if batch.finished_at else task.at_ms
        if batch.state in SUCCESSES and not (task.fail_on_errors and view.counts.failed):
            output = fitting_json(self._ports.events.status(view), MAX_OUTPUT_BYTES)
            return TaskAnswer(since_ms, output=output)
        return _failure(since_ms, str(batch.state), _cause(view))

    async def _answer_task(
        self, record: OutboxRecord, task: WaitingTask, state: DeliveryState, answer: TaskAnswer
    ) -> None:
        """Answer the task unless another process does, or the pause after a failed try is not over."""
        clock, limits = self._ports.clock, self._limits
        # Heartbeats set the time as well: an answer waits for none of them.
        if state.tries and state.due_ms > clock.now_ms():
            return
        taken = state.tried(clock.now_ms() + round(limits.lease_s * 1000))
        stored = await self._ports.table.set_delivery(record, TARGET, taken)
        if stored is None:
            return
        try:
            async with timeout(clock, limits.attempt_s):
                await self._write_manifest(task, answer)
                if answer.output:
                    is_answered = await self._service.succeed(task.token, answer.output)
                else:
                    is_answered = await self._service.fail(task.token, answer.error, answer.cause)
        except FAILURES as error:
            await self._failed(stored, taken, answer, str(error) or "no answer of Step Functions")
        else:
            log.info("task_answered", error=answer.error, is_over=not is_answered, **_known(record))
            self._ports.metrics.count("tasks_answered")
            await self._end(stored, taken, DeliveryEnd.DELIVERED if is_answered else DeliveryEnd.REFUSED)

    async def _keep_alive(self, record: OutboxRecord, task: WaitingTask, state: DeliveryState) -> None:
        """Send a heartbeat if one is due; a task that is over gets no answer later."""
        now_ms = self._ports.clock.now_ms()
        if state.due_ms > now_ms:
            return
        taken = state.due(now_ms + round(self._heartbeat_s * 1000))
        stored = await self._ports.table.set_delivery(record, TARGET, taken)
        if stored is None:
            return
        try:
            async with timeout(self._ports.clock, self._limits.attempt_s):
                is_alive = await self._service.heartbeat(task.token)
        except FAILURES as error:
            # The next one is sent at its time: a task has to be set to bear a lost heartbeat.
            log.warning("task_heartbeat_failed", reason=str(error), **_known(record))
            return
        if not is_alive:
            log.warning("task_over", reason="Step Functions waits for it no more", **_known(record))
            await self._end(stored, taken, DeliveryEnd.REFUSED)

    async def _write_manifest(self, task: WaitingTask, answer: TaskAnswer) -> None:
        """Write the manifest of a FAILED batch: the process that failed it may have died before."""
        if answer.error != State.FAILED:
            return
        view = await self._ports.table.read(task.batch_id)
        if view is not None and view.batch.state is State.FAILED:
            await write_failed_manifest(self._ports, view.batch)

    async def _failed(
        self, record: OutboxRecord, state: DeliveryState, answer: TaskAnswer, reason: str
    ) -> None:
        now_ms = self._ports.clock.now_ms()
        if now_ms - answer.since_ms >= self._limits.give_up_after_s * 1000:
            self._ports.metrics.count("events_given_up")
            log.error("task_given_up", reason=reason, tries=state.tries, **_known(record))
            await self._end(record, state, DeliveryEnd.GIVEN_UP)
            return
        pause_s = self._limits.pause_s(state.tries, self._limits.longest_pause_s)
        log.warning("task_not_answered", reason=reason, again_in_s=pause_s, **_known(record))
        later = state.due(now_ms + round(pause_s * 1000))
        await self._ports.table.set_delivery(record, TARGET, later)

    async def _end(self, record: OutboxRecord, state: DeliveryState, end: DeliveryEnd) -> None:
        if await self._ports.table.set_delivery(record, TARGET, state.ended(end)) is not None:
            await self._ports.table.settle(record)


def _failure(since_ms: int, error: str, cause: str) -> TaskAnswer:
    return TaskAnswer(
        since_ms, error=truncate(error, MAX_ERROR_CHARS), cause=truncate(cause, MAX_CAUSE_CHARS)
    )


def _cause(view: BatchView) -> str:
    """Why the task fails although its batch has ended."""
    batch, counts = view.batch, view.counts
    manifest = f"manifest: {batch.results.url('manifest.json')}"
    if batch.error:
        # The address first, as a long reason is cut.
        return f"{manifest}; {batch.error}"
    return f"{manifest}; {counts.failed:,} of {batch.total or 0:,} rows failed"


def _known(record: OutboxRecord) -> dict[str, str]:
    return {"batch_id": record.batch_id, "task": record.name}
