"""Messages on the rows and aggregate queues. Decoding raises PoisonMessageError with the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.domain.errors import PoisonMessageError, RowfleetError
from service.domain.message_format import (
    VERSION,
    encode,
    encode_texts,
    field,
    incarnation_field,
    optional_whole_number,
    read_versioned,
    whole_number,
)
from service.domain.model import MAX_CONTROL, MAX_MS, MAX_ROUND, MAX_ROWS, Batch, PastOutcome, is_name
from service.domain.truncation import truncate

MAX_OBJECT_BYTES = 50 * 2**40
"""Largest object, and so the largest offset in one (S3 quota: 50 TB since December 2025)."""

MAX_LOST = 10_000
"""Deliveries of one row: more than any queue allows (SQS: maxReceiveCount is at most 1,000)."""

MAX_ATTEMPTS = 10**6

MAX_TRIALS = 10**6


MAX_FAILURE_BYTES = 400
"""Longest note of a row's last failure in its message, as JSON."""


def failure_note(error: RowfleetError) -> str:
    """Kind and text of an error, short enough for a row's message."""
    note = truncate(f"{error.kind}: {error}", MAX_FAILURE_BYTES - 2)
    # A character that is not ASCII takes 6 or 12 bytes in a message.
    while len(json.dumps(note)) > MAX_FAILURE_BYTES:
        note = truncate(note, len(note) * 3 // 4)
    return note


@dataclass(frozen=True, slots=True)
class Span:
    """The place of a record in its source: byte `offset`, `length` in bytes, physical `line`."""

    offset: int
    length: int
    line: int


@dataclass(frozen=True, slots=True)
class RowMessage:
    """One row to process. Times are in milliseconds since 1970; None if there is none yet.

    `defect`: the reason why the row fails without a call of the agent. `record`: the bytes of a defective row
    in Base64, or "". `replay`: the row may have been sent
    before, so its worker looks for an outcome first. `span`: a row too large for a message has this place in
    the source instead of cells and defect; its worker reads it there.

    `deadline_ms`: the row's own deadline, set at its first attempt. `first_attempt_ms`: the beginning of its
    first attempt, from which `retry_policy.budget_seconds` counts. `last_outage_ms`: the time when an attempt
    last met an outage of the target. `lost_deliveries`: deliveries of the row's earlier messages that ended
    without an outcome and without a new message, probably because the worker crashed. `last_failure`: the
    reason why the row has no outcome yet, "" if it was not tried; named if its deadline passes.

    `incarnation` is the batch's. A message of another incarnation is of another batch, which had the same id.
    `sender` is the lease owner that split the batch when it sent this message; messages marked as `replay` do
    not need it.

    `generation` is that of the batch when the message was made; a batch drops the messages of an earlier one.
    `history`: the outcomes of earlier rounds that the row's next outcome replaces, the latest last. `trial`:
    the number of the trial that the row is for while its target holds the batch (`trials`), else 0.
    """

    batch_id: str
    round: int
    number: int
    cells: tuple[str, ...]
    attempt: int = 1
    replay: bool = False
    defect: str = ""
    span: Span | None = None
    deadline_ms: int | None = None
    lost_deliveries: int = 0
    first_attempt_ms: int | None = None
    last_outage_ms: int | None = None
    record: str = ""
    last_failure: str = ""
    incarnation: str = ""
    sender: str = ""
    generation: int = 0
    history: tuple[PastOutcome, ...] = ()
    trial: int = 0

    def encode(self) -> str:
        """The body. Keys with a default value are left out, which keeps messages small."""
        body: dict[str, Any] = {
            "v": VERSION,
            "batch": self.batch_id,
            "round": self.round,
            "row": self.number,
        }
        if self.span is None:
            body["cells"] = self.cells
        else:
            body["span"] = {"offset": self.span.offset, "length": self.span.length, "line": self.span.line}
        if self.attempt > 1:
            body["attempt"] = self.attempt
        if self.replay:
            body["replay"] = True
        elif self.sender:
            body["by"] = self.sender
        rest = {
            "incarnation": self.incarnation,
            "generation": self.generation,
            "defect": self.defect,
            "record": self.record,
            "failure": self.last_failure,
            "lost": self.lost_deliveries,
            "history": [past.as_json() for past in self.history],
            "trial": self.trial,
        }
        body |= {name: value for name, value in rest.items() if value}
        times = {
            "until_ms": self.deadline_ms,
            "since_ms": self.first_attempt_ms,
            "excused_ms": self.last_outage_ms,
        }
        body |= {name: time for name, time in times.items() if time is not None}
        return encode(body)

    @classmethod
    def decode(cls, body: str) -> RowMessage:
        """Raises PoisonMessageError."""
        data = read_versioned(body)
        span = _span(data) if "span" in data else None
        cells = field(data, "cells", list) if span is None else []
        if not all(isinstance(cell, str) for cell in cells):
            raise PoisonMessageError("'cells' holds something that is not a string")
        return cls(
            batch_id=_batch_id(data),
            round=whole_number(data, "round", MAX_ROUND),
            number=whole_number(data, "row", MAX_ROWS),
            cells=tuple(cells),
            attempt=optional_whole_number(data, "attempt", MAX_ATTEMPTS) or 1,
            replay=field(data, "replay", bool) if "replay" in data else False,
            defect=field(data, "defect", str, may_be_empty=True) if "defect" in data else "",
            span=span,
            deadline_ms=optional_whole_number(data, "until_ms", MAX_MS),
            lost_deliveries=optional_whole_number(data, "lost", MAX_LOST) or 0,
            first_attempt_ms=optional_whole_number(data, "since_ms", MAX_MS),
            last_outage_ms=optional_whole_number(data, "excused_ms", MAX_MS),
            last_failure=field(data, "failure", str, may_be_empty=True) if "failure" in data else "",
            record=field(data, "record", str, may_be_empty=True) if "record" in data else "",
            incarnation=incarnation_field(data),
            sender=field(data, "by", str) if "by" in data else "",
            generation=optional_whole_number(data, "generation", MAX_CONTROL) or 0,
            history=_history(field(data, "history", list)) if "history" in data else (),
            trial=optional_whole_number(data, "trial", MAX_TRIALS) or 0,
        )


class RowFrame:
    """The text of row messages that differ in number and cells only, so that the rest is encoded once."""

    def __init__(self, row: RowMessage) -> None:
        """`row`: any of these messages."""
        numbered = '"row":1,"cells":[]'
        head, _, self._tail = replace(row, number=1, cells=(), span=None).encode().partition(numbered)
        self._head = f'{head}"row":'

    def encode(self, number: int, cells: Sequence[str]) -> str:
        """The body that `RowMessage.encode` makes of the same message."""
        return f'{self._head}{number},"cells":{encode_texts(cells)}{self._tail}'


@dataclass(frozen=True, slots=True)
class AggregateMessage:
    """Trigger of the aggregation: every row of this round has an outcome, so the result can be written."""

    batch_id: str
    round: int
    incarnation: str = ""

    @classmethod
    def of(cls, batch: Batch) -> AggregateMessage:
        """The trigger of the batch's present round."""
        return cls(batch.batch_id, batch.round, batch.incarnation)

    def encode(self) -> str:
        """The body."""
        body: dict[str, Any] = {"v": VERSION, "batch": self.batch_id, "round": self.round}
        if self.incarnation:
            body["incarnation"] = self.incarnation
        return encode(body)

    def is_for(self, batch: Batch) -> bool:
        """True if the batch is in this round, and no later batch with the same id."""
        return batch.is_round(self.incarnation, self.round)

    @classmethod
    def decode(cls, body: str) -> AggregateMessage:
        """Raises PoisonMessageError."""
        data = read_versioned(body)
        return cls(_batch_id(data), whole_number(data, "round", MAX_ROUND), incarnation_field(data))


def _history(entries: list[Any]) -> tuple[PastOutcome, ...]:
    try:
        return tuple(map(PastOutcome.of_json, entries))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PoisonMessageError(f"'history' is no list of outcomes: {error!r}") from None


def _span(data: dict[str, Any]) -> Span:
    span = field(data, "span", dict)
    # A file without a header has its first record at offset 0.
    return Span(
        offset=0 if span.get("offset") == 0 else whole_number(span, "offset", MAX_OBJECT_BYTES),
        length=whole_number(span, "length", MAX_OBJECT_BYTES),
        line=whole_number(span, "line", MAX_OBJECT_BYTES),
    )


def _batch_id(data: dict[str, Any]) -> str:
    value: str = field(data, "batch", str)
    tool_name, _, execution_id = value.partition("#")
    if not is_name(tool_name) or not is_name(execution_id):
        raise PoisonMessageError(f"'batch' {value[:300]!r} is not of the form tool_name#execution_id")
    return value
