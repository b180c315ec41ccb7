"""The ends of a batch: it fails, its results are tried again or given up, or written once more.

A batch fails in one way: its state, its metric, its log line and its manifest. Once every row is paid for,
nothing that an operator can mend fails it at once: a batch whose results cannot be written stays AGGREGATING
and says why. Its trigger waits in the queue and holds nothing of an aggregator, so it keeps no other batch
waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import structlog

from service.batch.manifest import manifest_etag, manifest_of, replace_manifest
from service.batch.role_ports import Ports
from service.domain.errors import RowfleetError
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, State, Trouble, iso_time, ms_of
from service.domain.ports import MAX_DELAY_S, OutgoingMessage
from service.domain.truncation import truncate
from service.runtime.sender import send_all

log = structlog.get_logger(__name__)

MAX_REASON_CHARS = 1_000

GIVE_UP_AFTER_S = 14 * 86_400.0
"""Longest time that results are tried, unless set otherwise: as long as SQS keeps a message."""

_DAY_MS = 86_400_000
_MOST_DOUBLINGS = 10
_CHANGES = 5
"""Changes of a manifest by others that the manifest of a failure follows."""


async def fail_batch(ports: Ports, batch: Batch, problem: str, *, expected: Sequence[State]) -> Batch:
    """Move the batch from one of the `expected` states to FAILED; return the batch as it stands afterwards.

    The states are tried in the order given, which is the order in which a batch goes through them: one that
    is moved on in between is caught in its next state. A batch in another state or round is left alone and
    not counted. Raises RetryableError and AccessError.
    """
    now = iso_time(ports.clock.now_ms())
    read = await ports.table.read(batch.batch_id)
    if read is not None and read.batch.is_round_of(batch):
        batch = replace(batch, settled=read.batch.settled or read.spending)
    for state in expected:
        if await end_batch(ports, batch, expected=state, to=State.FAILED, now=now, error=problem):
            await report_failed_batch(ports, batch, problem)
            return replace(batch, state=State.FAILED, error=problem, updated_at=now, finished_at=now)
    view = await ports.table.read(batch.batch_id)
    stands = batch if view is None else view.batch
    # The table's reply to a successful move may have been lost; botocore then repeats the call in vain.
    is_ours = (stands.identity, stands.state, stands.error, stands.finished_at) == (
        batch.identity, State.FAILED, problem, now,
    )  # fmt: skip
    await report_failed_batch(ports, batch, problem, moved=is_ours)
    if not is_ours and stands.identity == batch.identity and stands.state is State.FAILED:
        # The process that moved it may have died before it wrote the manifest.
        await write_failed_manifest(ports, stands)
    return stands


async def end_batch(
    ports: Ports, batch: Batch, *, expected: State, to: State, now: str, error: str = ""
) -> bool:
    """Move the batch to its end, with the event that tells of it. False if state or round differ.

    The event has the counts of the table, and an id that follows from the operations so far: if one comes
    meanwhile, the event is made anew.
    """
    change = partial(ports.table.move, expected=expected, to=to, now=now, error=error)
    if not ports.events.tells_of(batch, to):
        return await change(batch)
    control = -1
    while True:
        view = await ports.table.read(batch.batch_id)
        if view is None or not view.batch.is_round_of(batch) or view.batch.control == control:
            return False
        control = view.batch.control
        changed = replace(view.batch, settled=batch.settled)
        if await change(changed, events=ports.events.ending(view, to, now, error)):
            return True


async def report_failed_batch(ports: Ports, batch: Batch, problem: str, *, moved: bool = True) -> None:
    """Log that a batch fails; unless another process has `moved` it to its state, count it and write why.

    The alarm `batches-failed` watches the metric `batches_failed`.
    """
    if moved:
        ports.metrics.count("batches_failed")
    log.warning("batch_failed", batch_id=batch.batch_id, reason=problem, moved=moved)
    if moved:
        await write_failed_manifest(ports, batch)


async def write_failed_manifest(ports: Ports, batch: Batch) -> None:
    """Tell readers of the bucket why the batch has failed. An error is only logged: the state stands.

    Repetitions write the same manifest. However late it is written, it replaces none that was written after
    the batch was FAILED no more: results that were written again, or those of another batch with its id.
    """
    try:
        for _ in range(_CHANGES):
            # In this order: what replaces the manifest after the batch was read changes its ETag.
            etag = await manifest_etag(ports.objects, batch)
            view = await ports.table.read(batch.batch_id)
            # A later round has files of its own.
            if view is None or not view.batch.is_round_of(batch) or view.batch.state is not State.FAILED:
                return
            log_ = await ports.table.operations(view.batch)
            facts = manifest_of(view.batch, State.FAILED, view.all_counts, operations=log_)
            if await replace_manifest(ports.objects, view.batch, facts, etag=etag):
                return
        log.warning("manifest_not_written", batch_id=batch.batch_id, reason="others change it")
    except RowfleetError as error:
        log.warning("manifest_not_written", batch_id=batch.batch_id, reason=str(error))


def give_up_at_ms(batch: Batch, after_s: float) -> int:
    """The time (ms since 1970) at which results that cannot be written are given up.

    That is `after_s` after the last row, but a day before the outcomes expire (a seventh of their time if
    that is shorter), so that somebody can still have them written.
    """
    begun_ms = ms_of(batch.updated_at or batch.created_at) if batch.updated_at or batch.created_at else 0
    return min(begun_ms + round(after_s * 1000), spare_until_ms(batch))


def spare_until_ms(batch: Batch) -> int:
    """The time (ms since 1970) until which a batch may wait: a day before its outcomes expire.

    If they live for less than a week, it is a seventh of that time before.
    """
    begun = batch.created_at or batch.updated_at
    expiry_ms = batch.ttl * 1000
    life_ms = max(0, expiry_ms - (ms_of(begun) if begun else 0))
    return expiry_ms - min(_DAY_MS, life_ms // 7)


def given_up(batch: Batch, reason: str) -> str:
    """The error of a batch whose results are given up."""
    return (
        f"the results could not be written: {reason}; the outcomes are in the table until "
        f"{iso_time(batch.ttl * 1000)}: remove the cause and run `rowfleet finish {batch.batch_id}`"
    )


async def postpone_results(ports: Ports, batch: Batch, reason: str, *, least_s: float = 0.0) -> None:
    """Store why the results cannot be written, and send the trigger for the next try.

    The pause doubles from two seconds to SQS's 15 minutes; it is at least `least_s`. Nothing is sent for a
    batch that is AGGREGATING no more. Raises RetryableError and AccessError.
    """
    now_ms = ports.clock.now_ms()
    earlier = batch.trouble
    tries = 1 if earlier is None else earlier.tries + 1
    pause_s = round(min(MAX_DELAY_S, max(least_s, 2.0 ** min(tries, _MOST_DOUBLINGS))))
    trouble = Trouble(
        reason=truncate(reason, MAX_REASON_CHARS),
        since_ms=now_ms if earlier is None else earlier.since_ms,
        tries=tries,
        again_at_ms=now_ms + pause_s * 1000,
    )
    # Stored before it is sent: an aggregator that finds the trigger too early sends it for this time again.
    if not await ports.table.set_trouble(batch, trouble):
        log.info("aggregation_not_due", reason="the batch has moved on", message_round=batch.round)
        return
    await send_trigger(ports, batch, delay_s=pause_s)
    ports.metrics.count("aggregations_postponed")
    log.warning("results_wait", reason=trouble.reason, tries=tries, again_in_s=pause_s)


async def send_trigger(ports: Ports, batch: Batch, *, delay_s: int = 0) -> None:
    """Send the trigger of the batch's round. Raises RetryableError and AccessError."""
    message = AggregateMessage.of(batch)
    await send_all(ports.queues.aggregate, [OutgoingMessage(message.encode(), delay_s=delay_s)])
