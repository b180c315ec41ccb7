"""The server errors that rows meet while their target suffers from them, and which may cost an attempt.

This states the rule of the documents on its own, by what the agents see, to judge the real one by.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.observed_ports import RowKey

FREE_PER_ROW_S = 30.0
"""Server errors cost nothing for so long, for each row after the first that has met one."""

LAST_FREE_ATTEMPT = 2
"""Later attempts of a row may cost one in any case, unless the circuit breaker is open."""

CLOCKS_DIFFER_S = 2.0
"""In worlds with faults of targets the clocks differ by less."""


@dataclass(slots=True)
class _Run:
    """The server errors of a target in one process since its last answer, at `answered_at`."""

    answered_at: float = -math.inf
    since: float = 0.0
    rows: set[RowKey] = field(default_factory=set)


class ServerErrors:
    """Counts for each row the server errors that may have cost it an attempt, in `costs`.

    `met_by` has the processes in which the row met any.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.costs: Counter[RowKey] = Counter()
        self.met_by: dict[RowKey, set[str]] = defaultdict(set)
        self._now = now
        self._runs: dict[tuple[str, str], _Run] = defaultdict(_Run)
        self._last_free_at: dict[RowKey, float] = {}

    def answered(self, who: str, target: str) -> None:
        """Process `who` got an answer of the target, of whatever kind."""
        self._runs[who, target] = _Run(self._now())

    def met(self, who: str, target: str, row: RowKey, *, attempt: int, began: float) -> None:
        """Process `who` got a server error in this attempt of a row, by a call that began at `began`."""
        self.met_by[row].add(who)
        run, now = self._runs[who, target], self._now()
        if attempt <= LAST_FREE_ATTEMPT:
            run.since = run.since if run.rows else now
            run.rows.add(row)
        # No period of a world lasts as long as a suspicion may.
        is_suspected = now - run.since < FREE_PER_ROW_S * (len(run.rows) - 1)
        earliest = min(began, self._last_free_at.get(row, math.inf) - CLOCKS_DIFFER_S)
        if attempt <= LAST_FREE_ATTEMPT and is_suspected and run.answered_at < earliest:
            self._last_free_at[row] = now
        else:
            self.costs[row] += 1
