"""A reading of the fleet: all that one decision of the scaler is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.model import BatchView
from service.domain.ports import TaskCounts
from service.scaler.target_limits import TargetLimits


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """Messages that wait, are in flight or are delayed: of each queue, and of all dead-letter queues."""

    ingest: int = 0
    rows: int = 0
    aggregate: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch that is not final, and the limits of its target."""

    view: BatchView
    target: TargetLimits


@dataclass(frozen=True, slots=True)
class FleetReading:
    """Everything at one time, in milliseconds since 1970.

    `pending`: events that are to be delivered, and tasks of state machines that wait. `tasks`: those of each
    service, by its name. A reading is complete: where a value is missing, there is no reading.
    """

    now_ms: int
    backlog: QueueBacklog
    tasks: Mapping[str, TaskCounts]
    batches: Sequence[UnderWay] = ()
    pending: int = 0
