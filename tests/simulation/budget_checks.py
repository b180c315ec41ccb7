"""The calls of each batch, and of each mapping in a day, as its provider counts them against its budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from service.domain.model import Batch, iso_time

NEAR_MIDNIGHT_MS = 20_000
"""A call that begins so soon after midnight may have been reserved the day before."""

DAY_MS = 86_400_000


class BudgetChecks:
    """Counts calls. `violated` is called with an invariant and a text if a budget does not hold."""

    def __init__(self, violated: Callable[[str, str], None]) -> None:
        self._violated = violated
        self._calls: Counter[str] = Counter()
        self._days: Counter[tuple[str, str]] = Counter()
        # The largest budget that a batch has had: what was reserved under it may be used after it is lowered.
        self._most: dict[str, int] = {}

    def batch_changed(self, batch: Batch) -> None:
        """A batch was written."""
        if (calls := batch.budgets.own.calls) is not None:
            self._most[batch.identity] = max(calls, self._most.get(batch.identity, 0))

    def called(self, batch: Batch, now_ms: int) -> None:
        """A call is made for a batch, at `now_ms` by the clock of its worker. Checks budget_holds."""
        self._calls[batch.identity] += 1
        made, most = self._calls[batch.identity], self._most.get(batch.identity)
        if most is not None and made > most:
            self._violated("budget_holds", f"call {made} of {batch.batch_id}, which has {most}")
        per_day = batch.budgets.day.calls
        if per_day is None or now_ms % DAY_MS < NEAR_MIDNIGHT_MS:
            return
        day = (batch.tool_name, iso_time(now_ms)[:10])
        self._days[day] += 1
        if self._days[day] > per_day:
            self._violated("budget_holds", f"call {self._days[day]} of {day}, which has {per_day}")
