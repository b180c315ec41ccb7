"""Carrying out a request: one transaction on the batch, its log, and the messages that follow from it.

The transaction is conditional on the state, round and `control` of the batch that the decision was made on.
If somebody was faster, the batch is read and decided on again. The messages are sent afterwards. If they are
lost, the sweeper finds the work that the batch still has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from service.batch.ending import send_trigger
from service.batch.role_ports import Ports
from service.domain.errors import PoisonMessageError, RetryableError, UnknownResultError, UsageError
from service.domain.jobs import Job
from service.domain.model import (
    Batch,
    BatchView,
    Event,
    EventKind,
    HoldReason,
    Operation,
    State,
    Work,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.domain.ports import MAX_DELAY_S, OutgoingMessage, Table
from service.runtime.sender import send_all
from service.steering.approval.decisions import DECISIONS_ON_SAMPLES
from service.steering.cancellation import work_due_ms
from service.steering.decisions import DECISIONS, Decide, Decision, News

log = structlog.get_logger(__name__)

ROWFLEET = "rowfleet"
"""The `by` of operations that the service makes itself."""

_DECISIONS = DECISIONS | DECISIONS_ON_SAMPLES

CHANGES = 10
"""Changes by others that a request follows."""


async def operate(ports: Ports, request: OperationRequest) -> Operation:
    """Carry out a request and return what was done; `control` is 0 if nothing had to be changed.

    A request id that was seen before changes nothing, and gets the same answer. Raises UsageError with a
    sentence on what stands there if the request is refused, RetryableError and AccessError.
    """
    return await decide_and_apply(ports, request, _DECISIONS[request.op])


async def decide_and_apply(
    ports: Ports, request: OperationRequest, decide: Decide, *, definition: str | None = None
) -> Operation:
    """Apply a decision to the batch as it stands. Raises as `operate` does."""
    for _ in range(CHANGES):
        view = await read_existing(ports.table, request.batch_id)
        batch = view.batch
        if (earlier := await ports.table.operation(batch, request.request_id)) is not None:
            # The process that made it may have died before its messages were sent.
            await follow_up(ports, (await read_existing(ports.table, request.batch_id)).batch)
            return earlier
        now_ms = ports.clock.now_ms()
        decision = decide(view, request, now_ms)
        operation = _operation(request, decision, iso_time(now_ms), batch.control)
        if decision.after is None:
            return operation
        after = _changed(decision.after, batch, now_ms)
        events = [*_events(ports, view, after), *_news(ports, view, after, decision.news)]
        try:
            is_made = await ports.table.operate(batch, after, operation, definition=definition, events=events)
        except UnknownResultError:
            continue  # it may have been made: the log of operations says so
        if is_made:
            log.info(
                "operation", op=request.op, batch_id=batch.batch_id, by=request.by, control=after.control,
                state=after.state,
            )  # fmt: skip
            ports.metrics.count(f"operations_{request.op}")
            await follow_up(ports, after)
            return operation
    raise RetryableError(f"batch {request.batch_id} is changed by others at this moment; try again")


async def read_existing(table: Table, batch_id: str) -> BatchView:
    """The batch. Raises UsageError if there is none."""
    view = await table.read(batch_id)
    if view is None:
        raise UsageError(f"there is no batch {batch_id!r}; `rowfleet list` shows the latest")
    return view


Operate = Callable[[OperationRequest], Awaitable[Operation]]
"""Carries out a request; see `operate`."""


async def carry_out(
    ports: Ports, request: OperationRequest, message_id: str, *, by: Operate | None = None
) -> None:
    """Carry out a request that came in the message `message_id`, with `by` in place of `operate`.

    An answer that changed nothing, or a refusal, is kept for whoever has asked. Raises PoisonMessageError if
    there is no such batch, RetryableError and AccessError.
    """
    named = OperationRequest(
        request.op,
        request.batch_id,
        request.request_id or message_id,
        request.by or f"message {message_id}",
        request.args,
    )
    view = await ports.table.read(request.batch_id)
    if view is None:
        raise PoisonMessageError(f"there is no batch {request.batch_id!r} to {request.op}")
    try:
        answer = await (operate(ports, named) if by is None else by(named))
    except UsageError as error:
        answer = _operation(named, Decision(str(error)), iso_time(ports.clock.now_ms()), 0)
        answer = replace(answer, answer={"text": str(error), "refused": True})
        log.warning("operation_refused", op=request.op, batch_id=request.batch_id, reason=str(error))
    if not answer.control:
        await ports.table.keep_answer(view.batch, answer)


async def follow_up(ports: Ports, batch: Batch) -> None:
    """Send what the state of the batch asks for. Safe to repeat. Raises RetryableError and AccessError."""
    if batch.state is State.AGGREGATING and batch.trouble is None:
        await send_trigger(ports, batch)
    elif batch.state is State.SPLITTING and not batch.lease_owner:
        # The splitter does the work that can be done before the seal, and asks for the rest.
        await send_all(ports.queues.ingest, [OutgoingMessage(Job.again_for(batch).encode())])
    elif batch.state is State.RUNNING and batch.work is not None:
        await send_work(ports, batch, batch.work)


async def send_work(ports: Ports, batch: Batch, work: Work) -> None:
    """Send the message for the batch's work, for the time when it can begin."""
    delay_s = 0
    if work.kind is WorkKind.CANCEL:
        delay_s = min(MAX_DELAY_S, max(0, work_due_ms(batch) - ports.clock.now_ms()) // 1000)
    message = WorkRequest(batch.batch_id, batch.incarnation, work.control)
    await send_all(ports.queues.ingest, [OutgoingMessage(message.encode(), delay_s=delay_s)])


def _changed(after: Batch, before: Batch, now_ms: int) -> Batch:
    return replace(after, control=before.control + 1, updated_at=iso_time(now_ms))


def _events(ports: Ports, before: BatchView, after: Batch) -> Sequence[Event]:
    """The events of a batch that is held now, or held no more, or whose sample waits for approval."""
    was_held, is_held = before.batch.state is State.PAUSED, after.state is State.PAUSED
    kinds: list[EventKind] = []
    if was_held != is_held and not after.cancelled_at:
        kinds.append(EventKind.PAUSED if is_held else EventKind.RESUMED)
    if after.hold(HoldReason.APPROVAL) and not before.batch.hold(HoldReason.APPROVAL):
        kinds.append(EventKind.SAMPLE_READY)
    view = replace(before, batch=after)
    return [event for kind in kinds for event in ports.events.events(view, kind, after.updated_at)]


def _news(ports: Ports, before: BatchView, after: Batch, news: News | None) -> Sequence[Event]:
    if news is None:
        return ()
    view = replace(before, batch=after)
    return ports.events.events(view, news.kind, after.updated_at, detail=news.detail, facts=news.status)


def _operation(request: OperationRequest, decision: Decision, at: str, control: int) -> Operation:
    return Operation(
        op=request.op,
        request_id=request.request_id,
        by=request.by,
        at=at,
        control=0 if decision.after is None else control + 1,
        args=dict(request.args),
        answer={"text": decision.text, **decision.facts},
    )
