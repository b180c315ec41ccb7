"""The receivers of what the outbox holds: targets of events, and Step Functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.ports import EventTarget, TaskService


@dataclass(frozen=True, slots=True)
class Receivers:
    """The targets that have to get each event, and the service whose tasks wait for batches, if any can."""

    targets: Sequence[EventTarget]
    tasks: TaskService | None = None
