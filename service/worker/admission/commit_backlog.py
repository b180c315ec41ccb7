"""Commit backlog: outcomes of one target that wait for their commit in this process.

While the table or the bucket refuses writes, outcomes that were paid for are kept and their commits repeated.
More calls would only make more of them. So the gate admits no call while an outcome waits for long, and an
outage of the table slows the fleet instead of costing it the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from service.domain.ports import Clock

MAX_COMMIT_WAIT_S = 5.0
"""No call begins while an outcome has waited longer than this."""


NO_FAILURE = "no answer yet"
"""Reason of a backlog in which no commit has failed."""


class WaitingOutcome:
    """An outcome, in the backlog while the body of this context runs: since the monotonic time `since`."""

    __slots__ = ("_backlog", "since")

    def __init__(self, backlog: CommitBacklog, since: float) -> None:
        self._backlog = backlog
        self.since = since

    def __enter__(self) -> Self:
        self._backlog.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._backlog.remove(self)

    @property
    def waited_ms(self) -> int:
        """Milliseconds for which it has waited until now."""
        return round(self._backlog.age_s(self) * 1000)

    def record_failure(self, reason: str) -> None:
        """Note that its commit was tried in vain."""
        self._backlog.record_failure(reason)


class CommitBacklog:
    """The backlog of one target. `on_change` is called when a try fails, and when none is late any more.

    `reason` is the last failure of a commit since the backlog was last empty.
    """

    def __init__(self, clock: Clock, on_change: Callable[[], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        # In the order of arrival, so that the first is the oldest.
        self._waiting: dict[WaitingOutcome, None] = {}
        self.reason = NO_FAILURE

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest_s(self) -> float:
        """Seconds for which the oldest outcome has waited; 0 without outcomes."""
        oldest = next(iter(self._waiting), None)
        return 0.0 if oldest is None else self.age_s(oldest)

    @property
    def is_late(self) -> bool:
        """True if an outcome has waited for longer than `MAX_COMMIT_WAIT_S`."""
        return self.oldest_s >= MAX_COMMIT_WAIT_S

    def age_s(self, outcome: WaitingOutcome) -> float:
        """Seconds for which an outcome has waited."""
        return self._clock.monotonic() - outcome.since

    def hold(self) -> WaitingOutcome:
        """An outcome that is in the backlog while a body runs."""
        return WaitingOutcome(self, self._clock.monotonic())

    def add(self, outcome: WaitingOutcome) -> None:
        """Let an outcome wait."""
        self._waiting[outcome] = None

    def remove(self, outcome: WaitingOutcome) -> None:
        """End the wait of an outcome."""
        was_late = self.is_late
        del self._waiting[outcome]
        if not self._waiting:
            self.reason = NO_FAILURE
        if was_late and not self.is_late:
            self._on_change()

    def record_failure(self, reason: str) -> None:
        """Note that a commit was tried in vain."""
        self.reason = reason
        self._on_change()
