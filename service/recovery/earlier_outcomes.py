"""Outcomes of earlier rounds, from which rows run again: their cells and their history.

A row can run again although its source is gone. Cells that were cut or not stored are read from the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace

from service.csvio import RECORD, SURPLUS
from service.domain.messages import RowMessage
from service.domain.model import (
    CUT_NOTE,
    MAX_HISTORY,
    REFUSED,
    Batch,
    Outcome,
    PastOutcome,
    partition_of,
)
from service.domain.ports import OutcomePage, Table
from service.domain.truncation import truncate
from service.runtime.tasks import task_group

CONCURRENT_READS = 16
"""Reads of outcomes at a time, each of one page (DynamoDB: 1 MB)."""

GAP_ROWS = 4
"""Rows of a partition that are read in vain rather than by a read of their own for the next one."""

MAX_PAST_CHARS = 300
"""Longest text of an error in a row's history, which each message of the row carries."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Rows of one partition above `after`, up to `last`."""

    partition: int
    after: int
    last: int


async def outcomes_of(
    table: Table, batch: Batch, numbers: Sequence[int]
) -> AsyncGenerator[Sequence[Outcome], None]:
    """The outcomes of the rows with these ascending numbers, in no order; rows without one are left out.

    Raises RetryableError and AccessError.
    """
    wanted = set(numbers)
    waiting = deque(_ranges(batch, numbers))
    while waiting:
        ranges = [waiting.popleft() for _ in range(min(CONCURRENT_READS, len(waiting)))]
        for range_, page in zip(ranges, await _pages(table, batch, ranges), strict=True):
            # Where few rows have an outcome, a page reaches beyond its range.
            inside = (outcome for outcome in page.outcomes if outcome.number <= range_.last)
            if found := [outcome for outcome in inside if outcome.number in wanted]:
                yield found
            if page.after is not None and page.after < range_.last:
                waiting.append(replace(range_, after=page.after))


def _ranges(batch: Batch, numbers: Sequence[int]) -> Iterator[_Range]:
    """The reads that find these rows: one for each stretch of a partition without a large gap."""
    # By partition, the first and the last row of the open stretch.
    open_: dict[int, tuple[int, int]] = {}
    for number in numbers:
        partition = partition_of(number, batch.partitions)
        first, last = open_.get(partition, (number, number))
        if number - last > (GAP_ROWS + 1) * batch.partitions:
            yield _Range(partition, first - 1, last)
            first = number
        open_[partition] = first, number
    for partition, (first, last) in open_.items():
        yield _Range(partition, first - 1, last)


async def _pages(table: Table, batch: Batch, ranges: Sequence[_Range]) -> list[OutcomePage]:
    async with task_group() as group:
        reads = [
            group.create_task(
                table.outcomes(batch, range_.partition, after=range_.after, limit=_rows(batch, range_))
            )
            for range_ in ranges
        ]
    return [read.result() for read in reads]


def _rows(batch: Batch, range_: _Range) -> int:
    return -(-(range_.last - range_.after) // batch.partitions)


def has_all_cells(outcome: Outcome) -> bool:
    """True if the row can run again from its outcome, whose data is loaded."""
    is_cut = outcome.error is not None and CUT_NOTE in outcome.error.message
    return bool(outcome.input_data) and not is_cut


def row_again(batch: Batch, outcome: Outcome) -> RowMessage:
    """The message by which a row runs again, with the cells that its outcome has. A refused record stays one.

    Attempts, deadlines and lost deliveries begin anew.
    """
    data, error = outcome.input_data, outcome.error
    cells = [str(data[column]) for column in batch.columns if column in data]
    is_refused = error is not None and error.type == REFUSED
    return RowMessage(
        batch.batch_id,
        batch.round,
        outcome.number,
        (*cells, *data.get(SURPLUS, ())),
        defect=error.message if error is not None and is_refused else "",
        record=data.get(RECORD, ""),
        incarnation=batch.incarnation,
        sender=batch.sender,
        generation=batch.generation,
        history=history_of(outcome),
    )


def history_of(outcome: Outcome) -> tuple[PastOutcome, ...]:
    """The history of a row after this outcome."""
    error = outcome.error
    if error is not None:
        error = replace(error, message=truncate(error.message, MAX_PAST_CHARS))
    past = PastOutcome(outcome.round, outcome.status, outcome.timestamp, outcome.attempts, error)
    return (*outcome.history, past)[-MAX_HISTORY:]
