"""Events: changes of a batch that others are told of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.domain.model.batch import Batch, State
from service.domain.model.outbox import OutboxKind, OutboxRecord
from service.domain.model.values import ms_of

SCHEMA = 1
"""Version of the body of an event."""

MAX_BODY_BYTES = 200_000
"""Largest body. EventBridge and SNS take 256 KiB with everything around it."""


class EventKind(StrEnum):
    """Kinds of events."""

    STARTED = "started"
    SAMPLE_READY = "sample_ready"
    PAUSED = "paused"
    RESUMED = "resumed"
    BUDGET = "budget"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDINGS = {
    State.SUCCEEDED: EventKind.COMPLETED,
    State.COMPLETED_WITH_ERRORS: EventKind.COMPLETED,
    State.CANCELLED: EventKind.CANCELLED,
    State.FAILED: EventKind.FAILED,
}
"""The event that tells of each final state."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `body` is its JSON text, the same at each delivery; `at` is ISO 8601 in UTC.

    `id` follows from the batch, its round, its `control` and the kind: a change that is made once has one id.
    """

    id: str
    kind: EventKind
    batch_id: str
    body: str
    at: str
    incarnation: str = ""
    ttl: int = 0

    @classmethod
    def of(cls, batch: Batch, kind: EventKind, *, at: str, status: dict[str, Any], detail: str = "") -> Event:
        """The event of a change after which the batch is `batch` and its status JSON `status`.

        `detail` tells events of one kind at one `control` apart, such as the parts of a budget.
        """
        facts = [batch.identity, batch.round, batch.control, kind.value, *([detail] if detail else [])]
        id_ = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        body = {
            "schema": SCHEMA,
            "id": id_,
            "kind": kind.value,
            "at": at,
            "batch_id": batch.batch_id,
            "status": status,
            "manifest": batch.results.url("manifest.json") if batch.state.is_final else None,
        }
        return cls(id_, kind, batch.batch_id, _text(body), at, batch.incarnation, batch.ttl)

    def record(self) -> OutboxRecord:
        """The event as a record of the outbox."""
        return OutboxRecord(
            OutboxKind.EVENT,
            self.batch_id,
            self.id,
            text=self.body,
            incarnation=self.incarnation,
            at_ms=ms_of(self.at),
            ttl=self.ttl,
        )

    @classmethod
    def from_record(cls, record: OutboxRecord) -> Event:
        """The event in a record of the outbox."""
        body = json.loads(record.text)
        return cls(
            id=record.name,
            kind=EventKind(body["kind"]),
            batch_id=record.batch_id,
            body=record.text,
            at=body["at"],
            incarnation=record.incarnation,
            ttl=record.ttl,
        )


def fitting_json(data: dict[str, Any], most_bytes: int) -> str:
    """`data` as ASCII JSON of at most `most_bytes`: its longest lists are emptied if it would be longer."""
    text = _dumped(data)
    by_size = sorted(data, key=lambda key: len(_dumped(data[key])), reverse=True)
    for key in by_size:
        if len(text) <= most_bytes:
            break
        data = data | {key: type(data[key])() if isinstance(data[key], str | list | dict) else data[key]}
        text = _dumped(data)
    return text


def _text(body: dict[str, Any]) -> str:
    text = _dumped(body)
    if len(text) <= MAX_BODY_BYTES:
        return text
    room = MAX_BODY_BYTES - (len(text) - len(_dumped(body["status"])))
    return _dumped(body | {"status": json.loads(fitting_json(body["status"], room))})


def _dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
