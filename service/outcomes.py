"""What became of a row, as an outcome that fits an item of the table.

Pure. Nothing that a row or a reply holds may keep its outcome from being committed: what is too large is cut,
and the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service import jsontext
from service.csvio import row_data
from service.errors import RowTooLargeError
from service.mapping import Extraction
from service.messages import RowMessage
from service.model import Json, Outcome, RowError, Status
from service.ports import ITEM_BYTES
from service.sizes import outcome_bytes

MAX_ERROR_CHARS = 2_000
"""An error text longer than this is cut: it is stored with every failed row."""

MAX_REPLY_CHARS = 32_000
"""A kept reply longer than this is cut: it is there for a person to look at."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt at a row: `elapsed_ms` is the agent's time, `timestamp` ISO 8601 in UTC."""

    row: RowMessage
    columns: Sequence[str]
    number: int
    elapsed_ms: int
    timestamp: str
    worker: str

    def succeeded(self, extraction: Extraction, *, provenance: bool = False) -> Outcome:
        """SUCCESS with the extracted fields, or FAILED where they do not fit."""
        outcome = replace(
            self._outcome(Status.SUCCESS),
            output_data=extraction.values,
            input_tokens=extraction.input_tokens,
            output_tokens=extraction.output_tokens,
            provenance=extraction.provenance if provenance else {},
        )
        size = outcome_bytes(outcome)
        if size <= ITEM_BYTES:
            return outcome
        what = f"the outcome takes {size} bytes, an item in the table holds {ITEM_BYTES}"
        return self.failed(RowTooLargeError(what))

    def failed(self, error: Exception, reply: Json = None) -> Outcome:
        """FAILED with the error, the cells, and the reply that nothing could be made of, if there is one."""
        kind, message = type(error).__name__, _cut(str(error), MAX_ERROR_CHARS)
        outcome = replace(
            self._outcome(Status.FAILED), error=RowError(kind, message), raw_reply=reply_text(reply)
        )
        if outcome_bytes(outcome) > ITEM_BYTES:
            outcome = replace(outcome, raw_reply="")
        if outcome_bytes(outcome) <= ITEM_BYTES:
            return outcome
        keep = ITEM_BYTES // 8 // max(1, len(self.row.cells))
        cells = tuple(cell[:keep] for cell in self.row.cells)
        note = f"{message} (cells longer than {keep} characters are cut in the results)"
        outcome = replace(outcome, input_data=row_data(self.columns, cells), error=RowError(kind, note))
        return outcome if outcome_bytes(outcome) <= ITEM_BYTES else replace(outcome, input_data={})

    def _outcome(self, status: Status) -> Outcome:
        return Outcome(
            number=self.row.number,
            round=self.row.round,
            status=status,
            input_data=row_data(self.columns, self.row.cells),
            output_data={},
            execution_time_ms=self.elapsed_ms,
            timestamp=self.timestamp,
            attempts=self.number,
            worker=self.worker,
        )


def reply_text(reply: Json) -> str:
    """A reply as it is kept: text as it came, JSON compact, cut to `MAX_REPLY_CHARS`; "" for none."""
    if reply is None:
        return ""
    try:
        text = reply if isinstance(reply, str) else jsontext.dumps(reply)
    except (ValueError, RecursionError):
        return "(a reply that cannot be written as JSON)"
    return _cut(text, MAX_REPLY_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
