"""Evidence for an outage: the failures that different rows have met in turn, with no row served between them.

A failure of unclear scope, such as HTTP 500 or 401, may be about the target or about the row. One row alone
is no evidence of an outage. The more rows meet the same failure, the less likely it is that each of them is
to blame, so each further row makes it longer that an outage is suspected. While a target is down, new rows
keep coming as trial calls, so that the evidence grows as fast as time passes. At the end of a batch only a
few rows may be left that fail in any case, and the suspicion ends soon.

Pure. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain.errors import AgentOutageError, AgentRetryableError

SUSPICION_PER_ROW_S = 30.0
"""Time for which an outage is suspected, for each row after the first.

As long as the longest pause between two trial calls, each of which may add a row. The time that the row's
call took comes on top, since no other trial call can begin meanwhile.
"""

MAX_SUSPICION_S = 600.0
"""Longest time for which a run of server errors is suspected to be an outage."""

MANY_ROWS = 5
"""So many rows whose credentials are refused in turn, or whose model is missing, prove an outage."""

MAX_ROWS = 1 + round(MAX_SUSPICION_S / SUSPICION_PER_ROW_S)
"""Rows that make the suspicion as long as it can be. Further ones are not kept."""


IDLE_S = 60.0
"""After so long without a failure the next one begins a new run. Nothing was tried in between, and a
suspicion that counts from the old failure would have ended before it begins."""


@dataclass(slots=True)
class _Failures:
    """The failures of one kind: the times of the first and the last one, and the rows that met them.

    `calls_s` is the time that the calls of the rows after the first one took, together.
    """

    since: float
    last: float
    rows: set[str] = field(default_factory=set)
    calls_s: float = 0.0

    def are_over(self, now: float) -> bool:
        """True if a failure at `now` begins a new run. Those of many rows stay: the breaker is open."""
        return now - self.last > IDLE_S and len(self.rows) < MANY_ROWS

    def add(self, row: str, now: float, call_s: float) -> None:
        """Note that `row` met such a failure, after a call that took `call_s` seconds."""
        self.last = now
        if self.rows and row not in self.rows:
            self.calls_s += call_s
        _add(self.rows, row)


class OutageEvidence:
    """The failures of one target since it last served a row.

    Failures of one class of errors support each other, and outages support all of them.
    """

    __slots__ = ("_failures", "_outage_rows")

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}
        self._outage_rows: set[str] = set()

    def add_outage(self, row: str) -> None:
        """Note that `row` met an outage for which it cannot be the cause."""
        _add(self._outage_rows, row)

    def add(self, error: AgentRetryableError, row: str, now: float, call_s: float = 0.0) -> None:
        """Note that `row` met a failure of unclear scope, after a call that took `call_s` seconds."""
        failures = self._failures.get(error.kind)
        if failures is None or (not isinstance(error, AgentOutageError) and failures.are_over(now - call_s)):
            failures = self._failures[error.kind] = _Failures(now, now)
        failures.add(row, now, call_s)

    def rows(self, error: AgentRetryableError) -> int:
        """The number of different rows, up to `MAX_ROWS`, that met such a failure or an outage."""
        failures = self._failures.get(error.kind)
        return 0 if failures is None else min(MAX_ROWS, len(failures.rows | self._outage_rows))

    def is_suspected(self, error: AgentRetryableError, now: float) -> bool:
        """True if such a failure is taken for an outage now, because several rows have met it."""
        failures, rows = self._failures.get(error.kind), self.rows(error)
        if failures is None:
            return False
        # Refused credentials are repaired by people, which takes longer than a server's restart.
        if isinstance(error, AgentOutageError) and rows >= MANY_ROWS:
            return True
        suspected_s = SUSPICION_PER_ROW_S * (rows - 1) + failures.calls_s
        return now - failures.since < min(MAX_SUSPICION_S, suspected_s)

    def restart(self, now: float) -> None:
        """Measure the time of every suspicion from now. The rows stay."""
        for failures in self._failures.values():
            failures.since = now

    def clear(self) -> None:
        """Forget all failures, because the target has served a row."""
        self._failures.clear()
        self._outage_rows.clear()


def _add(rows: set[str], row: str) -> None:
    if len(rows) < MAX_ROWS:
        rows.add(row)
