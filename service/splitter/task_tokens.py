"""Step Functions tasks that wait for a batch: a job's token is stored, for the sender of answers."""

from __future__ import annotations

import structlog

from service.batch.role_ports import Ports
from service.domain.jobs import Job
from service.domain.model import Batch, OutboxKind, WaitingTask, batch_id

log = structlog.get_logger(__name__)


async def store_task(ports: Ports, job: Job, batch: Batch) -> None:
    """Store that the job's task waits for the batch; safe to repeat. A final batch is answered at once.

    The task replaces earlier ones of this batch that are not answered yet. A job that comes again does not
    replace the tasks of later jobs. Raises RetryableError and AccessError.
    """
    if not job.task_token:
        return
    task = WaitingTask(
        batch.batch_id,
        job.task_token,
        incarnation=batch.incarnation,
        at_ms=ports.clock.now_ms(),
        ttl=batch.ttl,
        fail_on_errors=bool(job.fail_on_errors),
    ).record()
    if await ports.table.add(task):
        log.info("task_waits", batch_id=batch.batch_id, task=task.name)
    stored = await ports.table.records(batch.batch_id, OutboxKind.TASK)
    own = next((record for record in stored if record.name == task.name), task)
    for record in stored:
        is_earlier = record.at_ms < own.at_ms and record.incarnation == own.incarnation
        if record.is_pending and is_earlier and not WaitingTask.from_record(record).problem:
            await ports.table.settle(record)
            log.info("task_replaced", batch_id=batch.batch_id, task=record.name, by=own.name)


async def refuse_task(ports: Ports, job: Job, message_id: str, problem: str, ttl_s: int) -> None:
    """Store that the job's task is to be answered with `problem`, as no batch is run for it; repeatable."""
    if not job.task_token:
        return
    now_ms = ports.clock.now_ms()
    task = WaitingTask(
        batch_id(job.mapping, job.execution_id_for(message_id)),
        job.task_token,
        at_ms=now_ms,
        ttl=now_ms // 1000 + ttl_s,
        problem=problem,
    )
    await ports.table.add(task.record())
