"""Outcomes: the committed results of rows, built from their last attempts.

Pure. A failure can always be committed, whatever the row or the reply holds: data that is too large even for
`large_outcomes` is cut, and the error says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from service.batch.reuse_records import CachedReply
from service.csvio import RECORD, SURPLUS, row_data
from service.domain.errors import RowfleetError
from service.domain.item_size import outcome_bytes
from service.domain.messages import RowMessage
from service.domain.model import CUT_NOTE, Json, Outcome, RowError, Status
from service.domain.truncation import truncate

if TYPE_CHECKING:
    # commands that only read a batch start without the mapping language
    from service.mapping import Extraction

MAX_ERROR_CHARS = 2_000
"""Longer error texts are cut, because one is stored with every failed row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttempt:
    """The end of a row's work: its last attempt, or a decision without a call of the agent.

    `number` counts attempts from 1. `elapsed_ms` is the agent's time, 0 without a call. `timestamp` is the
    time of the end, ISO 8601 in UTC.
    """

    row: RowMessage
    columns: Sequence[str]
    number: int
    elapsed_ms: int
    timestamp: str
    worker: str

    def succeeded(
        self, extraction: Extraction, *, cost: int = 0, provenance: bool = False, reply: str = ""
    ) -> Outcome:
        """SUCCESS with the extracted fields, and the JSON text of the reply if it is kept.

        `cost` is the price of the call, 0 if it is unknown.
        """
        return self._outcome(
            Status.SUCCESS,
            output_data=extraction.values,
            input_tokens=extraction.usage.input_tokens,
            output_tokens=extraction.usage.output_tokens,
            cost=cost,
            provenance=extraction.provenance if provenance else {},
            reply=reply,
        )

    def reused(self, reply: CachedReply, own_id: str) -> Outcome:
        """SUCCESS with a cached reply; `own_id` is batch_id/row_id of this row.

        A reply to another row costs nothing, and its price is saved. If the cached reply was paid for by this
        very row (its worker crashed before the commit), it counts as a call of its own, with its tokens and
        time.
        """
        outcome = self._outcome(
            Status.SUCCESS, output_data=reply.values, provenance=reply.provenance, cost=reply.cost
        )
        if reply.row != own_id:
            return replace(outcome, execution_time_ms=0, reused_from=reply.row)
        return replace(
            outcome,
            execution_time_ms=reply.agent_ms,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
        )

    def failed(self, error: RowfleetError, reply: str = "") -> Outcome:
        """FAILED with the error, the cells, and the JSON text of the reply if there is one and it is kept."""
        return self._outcome(Status.FAILED, output_data={}, error=row_error(error), reply=reply)

    def _outcome(self, status: Status, *, output_data: Mapping[str, Json], **more: Any) -> Outcome:
        return Outcome(
            number=self.row.number,
            round=self.row.round,
            status=status,
            input_data=row_data(self.columns, self.row.cells, self.row.record),
            output_data=output_data,
            execution_time_ms=self.elapsed_ms,
            timestamp=self.timestamp,
            attempts=self.number,
            worker=self.worker,
            history=self.row.history,
            **more,
        )


def row_error(error: RowfleetError) -> RowError:
    """The reason of a FAILED row, with the text of the error cut if it is long."""
    return RowError(error.kind, truncate(str(error), MAX_ERROR_CHARS), str(error.failure_class))


def shorten(outcome: Outcome, max_bytes: int) -> Outcome:
    """A FAILED outcome cut to at most `max_bytes` as an item: its cells are cut."""
    assert outcome.error is not None
    # Without the bytes of a refused record: cut, they would be other bytes.
    cells = {name: cell for name, cell in outcome.input_data.items() if name != RECORD}
    surplus = cells.get(SURPLUS, [])
    # A character takes up to 4 bytes in UTF-8, so an eighth for each cell leaves half of the bytes for
    # column names and the rest of the item.
    max_chars = max_bytes // 8 // max(1, len(cells) + len(surplus))
    note = f"{outcome.error.message} (cells longer than {max_chars} {CUT_NOTE})"
    short = replace(
        outcome,
        input_data={
            name: cell[:max_chars] if isinstance(cell, str) else [item[:max_chars] for item in cell]
            for name, cell in cells.items()
        },
        error=replace(outcome.error, message=note),
    )
    # The names of the columns alone may take too much.
    return short if outcome_bytes(short) <= max_bytes else replace(short, input_data={})
