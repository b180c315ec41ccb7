"""Events in the simulation: their targets, and the events that the changes of the batches ask for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.domain.model import (
    ENDINGS,
    Batch,
    BatchView,
    Event,
    EventKind,
    Operation,
    OutboxKind,
    State,
)
from service.domain.model.event_composer import EventComposer
from service.steering.budgets.marks import TOLD
from tests.simulation.samples import waits_for_approval

if TYPE_CHECKING:
    from tests.simulation.network import Network
    from tests.simulation.observed_ports import ObservedObjects, ObservedTable

TARGETS = ("first", "second")
"""Names of the targets that have to get each event."""


def composer() -> EventComposer:
    """The composer of a process: every kind, with a short status."""
    return EventComposer(frozenset(EventKind), _status)


def _status(view: BatchView) -> dict[str, Any]:
    return {"state": str(view.batch.state), "done": view.all_counts.done, "total": view.batch.total}


@dataclass(slots=True)
class ToldEvents:
    """The events of a world: those that the changes of its batches ask for, and those that arrived.

    `violated` reports a broken invariant.
    """

    violated: Callable[[str, str], None]
    expected: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def batch_changed(self, before: Batch | None, batch: Batch) -> None:
        """A batch item was written: note the events that it asks for."""
        kinds = [_kind_of_change(before, batch)]
        if waits_for_approval(batch) and not (before and waits_for_approval(before)):
            kinds.append(EventKind.SAMPLE_READY)
        for kind in kinds:
            if kind is None or kind not in batch.event_kinds:
                continue
            made = Event.of(batch, kind, at="", status={})
            self.expected[made.id] = f"{kind} of {batch.identity}, round {batch.round}"

    def operated(self, batch: Batch, operation: Operation) -> None:
        """An operation was made: note the event of one that only tells of something."""
        if operation.op == TOLD and EventKind.BUDGET in batch.event_kinds:
            made = Event.of(batch, EventKind.BUDGET, at="", status={}, detail=operation.request_id)
            self.expected[made.id] = f"{operation.request_id} of {batch.identity}"

    def delivered(self, target: str, event: Event, table: ObservedTable, objects: ObservedObjects) -> None:
        """An event has arrived. Checks told_as_stored and told_after_manifest."""
        self.arrived[target].add(event.id)
        stored = table.outbox(OutboxKind.EVENT).get(event.id)
        if stored is None or stored.text != event.body or event.id not in self.expected:
            self.violated("told_as_stored", f"{target} got {event.kind} of {event.batch_id}: {event.body}")
        body = json.loads(event.body)
        place = body["manifest"]
        if event.kind is not EventKind.COMPLETED:
            return
        bucket, _, key = place.removeprefix("s3://").partition("/")
        status = body["status"]
        has_ended = status["state"] in (State.SUCCEEDED, State.COMPLETED_WITH_ERRORS)
        if not has_ended or status["done"] != status["total"] or (bucket, key) not in objects.stored:
            self.violated("told_after_manifest", f"{target} got {event.body} without {place}")

    def missing(self, table: ObservedTable, *, is_sent: bool) -> Iterator[tuple[str, str]]:
        """The broken invariants at the end. `is_sent`: a process sends events in this world."""
        stored = table.outbox(OutboxKind.EVENT)
        for id_, what in self.expected.items():
            if id_ not in stored:
                yield "stored_with_its_change", f"there is no event {what}"
        for id_ in stored:
            if id_ not in self.expected:
                yield "stored_with_its_change", f"the event {stored[id_].text} tells of no change"
            for target in TARGETS if is_sent else ():
                if id_ not in self.arrived[target]:
                    yield "told_to_everybody", f"{target} never got the event {stored[id_].text}"


def _kind_of_change(before: Batch | None, batch: Batch) -> EventKind | None:
    """The kind of event that a change of a batch item asks for, if any."""
    if before is None or before.identity != batch.identity:
        return ENDINGS.get(batch.state, EventKind.STARTED)
    if before.state is batch.state:
        return None
    if batch.state is State.PAUSED:
        return EventKind.PAUSED
    if before.state is State.PAUSED and not batch.cancelled_at:
        return EventKind.RESUMED
    return ENDINGS.get(batch.state)


class SimulatedTarget:
    """A target of events behind the simulated network."""

    def __init__(
        self, name: str, network: Network, told: ToldEvents, table: ObservedTable, objects: ObservedObjects
    ) -> None:
        self.name = name
        self._network = network
        self._told = told
        self._table = table
        self._objects = objects

    async def deliver(self, event: Event) -> None:
        """Deliver an event, with the faults of a call that changes something."""

        async def effect() -> None:
            self._told.delivered(self.name, event, self._table, self._objects)

        await self._network.call("tell", f"target.{self.name}", (event.id,), effect)
