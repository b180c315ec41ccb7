"""Composition of events: which changes of a batch others are told of, and with which status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.domain.model.batch import Batch, BatchView, State
from service.domain.model.event import ENDINGS, Event, EventKind
from service.domain.model.values import Json

StatusOf = Callable[[BatchView], dict[str, Any]]
"""Returns the status JSON of a batch."""


def _no_status(_view: BatchView) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class EventComposer:
    """Makes the events of batches.

    New batches tell of the `kinds` that the settings name, none without a target. A batch keeps its kinds, so
    that whoever changes it, a command on another machine as well, makes the same events.
    """

    kinds: frozenset[EventKind] = frozenset()
    status: StatusOf = _no_status

    def events(
        self,
        view: BatchView,
        kind: EventKind,
        now: str,
        *,
        detail: str = "",
        facts: Mapping[str, Json] | None = None,
    ) -> Sequence[Event]:
        """The event of a change after which the batch is `view`; () if nobody is told of this kind.

        `now` is the time of the change, ISO 8601 in UTC. `detail` tells events of one kind apart that belong
        to one `control` of the batch. `facts` replace keys of the status.
        """
        if kind not in view.batch.event_kinds:
            return ()
        status = self.status(view) | dict(facts or {})
        return (Event.of(view.batch, kind, at=now, status=status, detail=detail),)

    def opening(self, view: BatchView, now: str) -> Sequence[Event]:
        """The events of a batch that is opened: it has started, or has failed at once."""
        return self.events(view, ENDINGS.get(view.batch.state, EventKind.STARTED), now)

    @staticmethod
    def tells_of(batch: Batch, to: State) -> bool:
        """True if others are told when the batch ends in this state."""
        return ENDINGS[to] in batch.event_kinds

    def ending(self, view: BatchView, to: State, now: str, error: str = "") -> Sequence[Event]:
        """The events of a batch, now in `view`, that ends in the state `to` with this error."""
        ended = replace(view.batch, state=to, finished_at=now, updated_at=now, error=error, trouble=None)
        return self.events(replace(view, batch=ended), ENDINGS[to], now)
