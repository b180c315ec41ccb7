"""The ports that a process gives to each of its roles."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.batch.large_outcomes import LargeOutcomes
from service.domain.model.event_composer import EventComposer
from service.domain.ports import Clock, Objects, Queue, Table
from service.runtime.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Queues:
    """The three queues of a deployment, and the dead-letter queue of each.

    Jobs to split wait in `ingest`, rows to process in `rows`, batches to finish in `aggregate`.
    """

    ingest: Queue
    rows: Queue
    aggregate: Queue
    dead_ingest: Queue
    dead_rows: Queue
    dead_aggregate: Queue


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside the process that a role works on: AWS, or memory in tests.

    `events` makes the events that are stored with a change of a batch.
    """

    table: Table
    objects: Objects
    queues: Queues
    large_outcomes: LargeOutcomes
    clock: Clock
    metrics: Metrics
    events: EventComposer = field(default_factory=EventComposer)
