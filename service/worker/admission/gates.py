"""All gates of a process: how many rows its consumer may fetch."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.ports import Clock
from service.runtime.incidents import IncidentLog
from service.worker.admission.gate import Gate
from service.worker.rate_limit.limiter import Limiter


class Gates:
    """All gates of a process; the consumer asks them how many rows to fetch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: list[Gate] = []
        self._listener: Callable[[], None] = lambda: None
        self._incident = IncidentLog(clock, "commits_wait")

    @property
    def problem(self) -> str:
        """The reason why no call begins although rows may wait: late outcomes. Otherwise ""."""
        late = [gate.backlog for gate in self._gates if gate.backlog.is_late]
        if not late:
            return ""
        worst = max(late, key=lambda backlog: backlog.oldest_s)
        return (
            f"{sum(map(len, late))} outcomes wait for their commit, the oldest for {worst.oldest_s:.0f} s, "
            f"and no call of their targets begins: {worst.reason}"
        )

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever there may be more free slots."""
        self._listener = listener

    def open(self, most: int, limiter: Limiter | None) -> Gate:
        """A gate for a target with at most `most` calls in flight."""
        gate = Gate(most, limiter, self._clock, self._changed)
        self._gates.append(gate)
        return gate

    def remove(self, gate: Gate) -> None:
        """Forget the gate of a target that is closed. No call may be in flight."""
        self._gates.remove(gate)

    def close(self) -> None:
        """Stop: calls in flight may end, and no other begins."""
        for gate in self._gates:
            gate.close()

    def free_slots(self, most: int) -> int:
        """The number of rows to fetch: how many could start or wait; `most` if no target is busy.

        The queue does not tell for which target a message is, so this is the largest capacity of any target.
        While a target is full, only targets whose rows came a moment ago count: rows of the full one would
        only be requeued.
        """
        busy = [gate for gate in self._gates if gate.is_busy]
        if not busy:
            return most
        if all(gate.capacity for gate in busy):
            counted = busy
        else:
            # Messages of the full target would fill the fetch, only to be requeued.
            counted = [gate for gate in self._gates if gate.is_recent]
        return max((gate.capacity for gate in counted), default=0)

    def _changed(self) -> None:
        late = next((gate.backlog.reason for gate in self._gates if gate.backlog.is_late), None)
        if late is not None or self._incident.reason:
            # Without numbers, which would make a new incident of each change.
            self._incident.update("" if late is None else f"no call begins meanwhile: {late}")
        self._listener()
