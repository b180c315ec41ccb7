"""The states of all batches over time, as somebody sees them who reads the table beside the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.acceptance.support import Deployment

PAUSE_S = 0.25
"""Pause between two looks."""

FINAL = frozenset({"SUCCEEDED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Sighting:
    """A batch item. It stood so at some moment between the monotonic times `asked` and `seen`."""

    asked: float
    seen: float
    state: str
    round: int
    generation: int
    control: int
    is_cancelled: bool

    def is_like(self, other: Sighting) -> bool:
        """True if the batch serves, or does not serve, the same rows."""
        return (self.is_quiet, self.round, self.generation) == (other.is_quiet, other.round, other.generation)

    @property
    def is_quiet(self) -> bool:
        """True if no call may begin."""
        return self.state == "PAUSED" or self.is_cancelled


@dataclass(frozen=True, slots=True)
class Quiet:
    """A time in which no call of a batch may begin, from when it was first seen to when it was last."""

    batch_id: str
    since: float
    until: float
    why: str


class Sightings:
    """Looks at all batches at intervals, directly at the endpoint."""

    def __init__(self, deployment: Deployment, batches: list[str]) -> None:
        self._deployment = deployment
        self._seen: dict[str, list[Sighting]] = {batch: [] for batch in batches}
        self._next = 0.0

    def look(self) -> None:
        """Read the items of all batches, unless it is too early."""
        if time.monotonic() < self._next:
            return
        table, asked = self._deployment.names.table, time.monotonic()
        keys = [{"batch_id": {"S": batch}, "row_id": {"S": "#batch"}} for batch in self._seen]
        answer = self._deployment.dynamodb.batch_get_item(
            RequestItems={table: {"Keys": keys, "ConsistentRead": True}}
        )
        now = time.monotonic()
        for item in answer["Responses"][table]:
            number = {
                name: int(item.get(name, {"N": "0"})["N"]) for name in ("round", "generation", "control")
            }
            is_cancelled = bool(item.get("cancelled_at", {}).get("S"))
            sighting = Sighting(asked, now, item["state"]["S"], is_cancelled=is_cancelled, **number)
            self._seen[item["batch_id"]["S"]].append(sighting)
        self._next = now + PAUSE_S

    def last(self, batch: str) -> Sighting | None:
        """The last sighting of a batch, None if it was never seen."""
        return self._seen[batch][-1] if self._seen[batch] else None

    def state(self, batch: str) -> str:
        """The state of a batch when it was last seen; "" before it was opened."""
        last = self.last(batch)
        return last.state if last is not None else ""

    def quiets(self) -> Iterator[Quiet]:
        """The times in which no call may begin."""
        for batch, sightings in self._seen.items():
            first: Sighting | None = None
            for index, sighting in enumerate(sightings):
                if first is None or not first.is_like(sighting):
                    first = sighting
                is_last = index + 1 == len(sightings) or not sighting.is_like(sightings[index + 1])
                if sighting.is_quiet and is_last:
                    why = "cancelled" if sighting.is_cancelled else "paused"
                    yield Quiet(batch, first.seen, sighting.asked, why)

    def changes(self, batch: str) -> list[float]:
        """When operations on a batch were seen."""
        return [
            after.seen for before, after in pairwise(self._seen[batch]) if before.control != after.control
        ]
