"""What became of a row, as an outcome.

Pure. Nothing that a row or a reply holds may keep its failure from being committed: what is too large even
for `large_outcomes` is cut, and the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.batch.reuse_records import CachedReply
from service.csvio import SURPLUS, row_data
from service.domain import exact_json
from service.domain.errors import RowfleetError
from service.domain.item_size import outcome_bytes
from service.domain.messages import RowMessage
from service.domain.model import Json, Outcome, RowError, Status
from service.domain.truncation import truncate
from service.mapping import Extraction

MAX_ERROR_CHARS = 2_000
"""An error text longer than this is cut: it is stored with every failed row."""

MAX_REPLY_CHARS = 32_000
"""A kept reply longer than this is cut: it is there for a person to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttempt:
    """The last attempt at a row: `elapsed_ms` is the agent's time, `timestamp` ISO 8601 in UTC."""

    row: RowMessage
    columns: Sequence[str]
    number: int
    elapsed_ms: int
    timestamp: str
    worker: str

    def succeeded(self, extraction: Extraction, *, provenance: bool = False) -> Outcome:
        """SUCCESS with the extracted fields."""
        return replace(
            self._outcome(Status.SUCCESS),
            output_data=extraction.values,
            input_tokens=extraction.input_tokens,
            output_tokens=extraction.output_tokens,
            provenance=extraction.provenance if provenance else {},
        )

    def reused(self, answer: CachedReply, asked: str) -> Outcome:
        """SUCCESS with another row's answer, for which nothing was paid; `asked` is this row.

        Where that is the row that was answered, and whose outcome was lost, the answer is its own.
        """
        outcome = replace(
            self._outcome(Status.SUCCESS), output_data=answer.values, provenance=answer.provenance
        )
        if answer.row != asked:
            return replace(outcome, execution_time_ms=0, reused_from=answer.row)
        return replace(
            outcome,
            execution_time_ms=answer.agent_ms,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )

    def failed(self, error: RowfleetError, reply: Json = None) -> Outcome:
        """FAILED with the error, the cells, and the reply that nothing could be made of, if there is one."""
        reason = RowError(error.kind, truncate(str(error), MAX_ERROR_CHARS), str(error.failure_class))
        return replace(self._outcome(Status.FAILED), error=reason, raw_reply=reply_text(reply))

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


def shorten(outcome: Outcome, most_bytes: int) -> Outcome:
    """A FAILED outcome that takes at most `most_bytes` as an item: without its reply, and with cells cut."""
    assert outcome.error is not None
    cells = outcome.input_data
    surplus = cells.get(SURPLUS, [])
    keep = most_bytes // 8 // max(1, len(cells) + len(surplus))
    note = f"{outcome.error.message} (cells longer than {keep} characters are cut in the results)"
    short = replace(
        outcome,
        raw_reply="",
        input_data={
            name: cell[:keep] if isinstance(cell, str) else [one[:keep] for one in cell]
            for name, cell in cells.items()
        },
        error=replace(outcome.error, message=note),
    )
    return short if outcome_bytes(short) <= most_bytes else replace(short, input_data={})


def reply_text(reply: Json) -> str:
    """A reply as it is kept: text as it came, JSON compact, cut to `MAX_REPLY_CHARS`; "" for none."""
    if reply is None:
        return ""
    try:
        text = reply if isinstance(reply, str) else exact_json.dumps(reply)
    except (ValueError, RecursionError):
        return "(a reply that cannot be written as JSON)"
    return truncate(text, MAX_REPLY_CHARS)
