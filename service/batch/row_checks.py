"""Checks of a row message against its batch, for the worker and for the dead letters.

Both use the same limits. If a row's number is too high, each raises an error with a text of its own.
"""

from __future__ import annotations

from service.domain.errors import PoisonMessageError
from service.domain.messages import RowMessage
from service.domain.model import Batch
from service.domain.ports import Table

VIEW_AGE_S = 5.0
"""Longest age of a view of a batch by which a worker begins calls. So it notices an operation in time."""

REPEAT_DELAY_S = 15
"""Delay of a row that may be sent for the second time, by a process that is the batch's `sender` by now.

Longer than `VIEW_AGE_S`: when such a message can be delivered, no worker trusts a view any more that names
the former sender. So the first message of the row is known as a possible repeat as well, however late it is.
"""


def is_of_batch(row: RowMessage, batch: Batch) -> bool:
    """True if the row is of this batch, and not of an earlier one that had its id."""
    return row.incarnation == batch.incarnation


def is_superseded(row: RowMessage, batch: Batch) -> bool:
    """True if a newer message of the row has been sent, or will be: an operation sends all rows again."""
    return row.round < batch.round or row.generation < batch.generation


def check_round(row: RowMessage, batch: Batch) -> None:
    """Raise PoisonMessageError for a row of a round or generation that its batch has not reached."""
    if row.round > batch.round:
        raise PoisonMessageError(f"round {row.round} of a batch whose round is {batch.round}")
    if row.generation > batch.generation:
        raise PoisonMessageError(
            f"generation {row.generation} of a batch whose generation is {batch.generation}"
        )


def highest_sendable_row(batch: Batch) -> int:
    """The highest number of a row that can have been sent: the total, or else the end of the open window."""
    if batch.total is not None:
        return batch.total
    return batch.checkpoint.rows + batch.window


async def has_outcome(table: Table, batch: Batch, row: RowMessage) -> bool:
    """True if the row has an outcome of its round or of a later one."""
    outcome = await table.outcome(batch, row.number)
    return outcome is not None and outcome.round >= row.round
