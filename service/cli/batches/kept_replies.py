"""The kept reply of a row, for commands that show it or make a sample of it."""

from __future__ import annotations

from dataclasses import dataclass

from service.app.status import read_batch
from service.batch.replies.kept_replies import KeptReplies, KeptReply
from service.cli.batches.places import Place
from service.domain.errors import UsageError
from service.domain.model import Batch, Outcome


@dataclass(frozen=True, slots=True)
class RowReply:
    """A row of a batch: its outcome with its data, and its kept reply."""

    batch: Batch
    outcome: Outcome
    reply: KeptReply


async def read_row_replies(place: Place, batch_id: str, rows: list[int]) -> list[RowReply]:
    """The kept replies of rows, in their order.

    Raises UsageError if there is no such batch or row, or if no reply is kept for one of them, and
    BatchRejectedError if one is gone.
    """
    batch = (await read_batch(place.ports.table, batch_id)).batch
    replies = KeptReplies(place.ports)
    found = []
    for row in rows:
        if batch.total is not None and row > batch.total:
            raise UsageError(f"there is no row {row:,}: {batch_id} has {batch.total:,} rows")
        outcome = await place.ports.table.outcome(batch, row)
        if outcome is None:
            raise UsageError(f"row {row:,} of {batch_id} has no outcome yet")
        outcome = await place.ports.large_outcomes.load(outcome)
        reply = await replies.load(batch, outcome)
        if reply is None:
            raise UsageError(f"no reply is kept for row {row:,} of {batch_id}")
        found.append(RowReply(batch, outcome, reply))
    return found
