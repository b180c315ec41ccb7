"""Outcomes of a batch in the order of its rows, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from service.domain.model import Batch, Outcome
from service.domain.ports import Table
from service.recovery.earlier_outcomes import outcomes_of
from service.recovery.kept import NONE_KEPT, KeptRows
from service.recovery.missing_rows import chunks_of, due_rows

READ_ROWS = 1_980
"""Rows that are read at a time, from all partitions together."""

YIELD_ROWS = 99
"""Rows that are given at a time: as many as a transaction takes."""


async def outcomes_in_row_order(
    table: Table, batch: Batch, kept: KeptRows = NONE_KEPT, *, after: int = 0
) -> AsyncGenerator[Sequence[Outcome], None]:
    """The outcomes of the rows above `after` that are due, ascending; rows without one are left out.

    Raises RetryableError and AccessError.
    """
    chunks: AsyncIterator[Sequence[int]] = chunks_of(due_rows(kept, batch, after=after), READ_ROWS)
    async for numbers in chunks:
        found: list[Outcome] = []
        async with aclosing(outcomes_of(table, batch, numbers)) as pages:
            async for outcomes in pages:
                found += outcomes
        found.sort(key=lambda outcome: outcome.number)
        for first in range(0, len(found), YIELD_ROWS):
            yield found[first : first + YIELD_ROWS]
            # Other tasks get their turn: each part may take its reader a few milliseconds.
            await asyncio.sleep(0)
