"""Tasks of Step Functions that wait for the end of a batch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from service.domain.model.outbox import OutboxKind, OutboxRecord

MAX_TOKEN_CHARS = 2_048
"""Longest task token (Step Functions)."""

_NAME_CHARS = 32


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that waits for a batch. `token` names it to Step Functions, and is never shown.

    `fail_on_errors`: failed rows fail the task. `problem`: the reason why its job was refused, "" if it waits
    for the batch to end.
    """

    batch_id: str
    token: str = field(repr=False)
    incarnation: str = ""
    at_ms: int = 0
    ttl: int = 0
    fail_on_errors: bool = False
    problem: str = ""

    def record(self) -> OutboxRecord:
        """The task as a record of the outbox; one for each token."""
        text = {"token": self.token, "fail_on_errors": self.fail_on_errors, "problem": self.problem}
        return OutboxRecord(
            OutboxKind.TASK,
            self.batch_id,
            hashlib.sha256(self.token.encode()).hexdigest()[:_NAME_CHARS],
            text=json.dumps(text),
            incarnation=self.incarnation,
            at_ms=self.at_ms,
            ttl=self.ttl,
        )

    @classmethod
    def from_record(cls, record: OutboxRecord) -> WaitingTask:
        """The task in a record of the outbox."""
        text = json.loads(record.text)
        return cls(
            batch_id=record.batch_id,
            token=text["token"],
            incarnation=record.incarnation,
            at_ms=record.at_ms,
            ttl=record.ttl,
            fail_on_errors=text["fail_on_errors"],
            problem=text["problem"],
        )
