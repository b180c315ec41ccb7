"""Dead letters as the drain and operators understand them: whose each is, and the message that retries it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from service.batch.row_checks import check_round, highest_sendable_row, is_of_batch, is_superseded
from service.domain.errors import PoisonMessageError
from service.domain.events import IngestMessage, decode_ingest, unwrapped
from service.domain.message_format import encode
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import BatchView, batch_id
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage, ReceivedMessage, Table

KINDS = ("ingest", "rows", "aggregate")
"""The queues that have dead letters, in the order in which they are listed."""


async def row_letter(table: Table, body: str) -> tuple[RowMessage, BatchView]:
    """A dead row and its batch. Raises PoisonMessageError if its batch cannot have it.

    The row may be of an earlier batch with the same id (`is_of_batch`), which nothing is known of.
    """
    row = RowMessage.decode(body)
    view = await _view(table, row.batch_id)
    if not is_of_batch(row, view.batch):
        return row, view
    check_round(row, view.batch)
    most = highest_sendable_row(view.batch)
    if row.number > most and not is_superseded(row, view.batch):
        raise PoisonMessageError(f"row {row.number} of a batch that has sent {most} rows at most")
    return row, view


async def trigger_letter(table: Table, body: str) -> tuple[AggregateMessage, BatchView]:
    """A dead trigger and its batch. Raises PoisonMessageError if there is no such batch."""
    message = AggregateMessage.decode(body)
    return message, await _view(table, message.batch_id)


async def describe(
    kind: str, message: ReceivedMessage, table: Table, incoming_prefix: str
) -> tuple[str, str]:
    """Why a letter of the queue `kind` stays, and its batch id; the id is "" if the letter names none.

    The reason is "" for a letter that the sweeper is going to handle.
    """
    try:
        if kind == "ingest":
            ingest = decode_ingest(message.body, incoming_prefix=incoming_prefix)
            if ingest.operation is None:
                return "", _job_batch_id(ingest, message.id)
            batch = ingest.operation.batch_id
        else:
            decode = RowMessage.decode if kind == "rows" else AggregateMessage.decode
            batch = decode(message.body).batch_id
    except PoisonMessageError as error:
        return str(error), ""
    try:
        if kind == "ingest":
            await _view(table, batch)
        else:
            await (row_letter if kind == "rows" else trigger_letter)(table, message.body)
    except PoisonMessageError as error:
        return str(error), batch
    return "", batch


def retry_of(kind: str, message: ReceivedMessage, incoming_prefix: str = "incoming/") -> OutgoingMessage:
    """The message that does again what the letter asked for.

    A row is marked as a possible repetition. A job keeps the batch id, and an operation the request id, that
    it would have had: the id may be derived from the id of its message, and the new message has another. A
    body that cannot be decoded stays as it is.
    """
    with suppress(PoisonMessageError):
        if kind == "rows":
            row = RowMessage.decode(message.body)
            return OutgoingMessage(replace(row, replay=True).encode(), row.batch_id)
        if kind == "ingest":
            return OutgoingMessage(_with_its_id(message, incoming_prefix))
    return OutgoingMessage(message.body)


def _with_its_id(message: ReceivedMessage, incoming_prefix: str) -> str:
    """The body of an ingest message, with the execution or request id that it would have if it names none."""
    ingest = decode_ingest(message.body, incoming_prefix=incoming_prefix)
    operation, jobs = ingest.operation, ingest.jobs
    if isinstance(operation, OperationRequest):
        return replace(operation, request_id=operation.request_id or message.id).encode()
    if len(jobs) != 1 or jobs[0].dropped or jobs[0].execution_id:
        return message.body
    return encode(unwrapped(message.body) | {"execution_id": jobs[0].execution_id_for(message.id)})


def _job_batch_id(message: IngestMessage, message_id: str) -> str:
    """The batch id of the first job, "" if the message asks for no run."""
    for job in message.jobs:
        return batch_id(job.mapping, job.execution_id_for(message_id))
    return ""


async def _view(table: Table, id_: str) -> BatchView:
    view = await table.read(id_)
    if view is None:
        raise PoisonMessageError(
            f"there is no batch {id_!r} in the table: it may have expired, or be another installation's; "
            "`rowfleet dead-letters drop` deletes the message"
        )
    return view
