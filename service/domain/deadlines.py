"""Deadlines: a row fails instead of being attempted once its batch's deadline or its own has passed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.domain.errors import DeadlineError, RowfleetError
from service.domain.model import Batch, iso_time, ms_of


@dataclass(frozen=True, slots=True)
class Deadline:
    """A deadline at `at_ms` (milliseconds since 1970; infinite: none) of an `owner`, `batch` or `row`."""

    at_ms: float = math.inf
    owner: str = "row"

    def left_s(self, now_ms: int) -> float:
        """Seconds until the deadline; 0 or less once it has passed."""
        return (self.at_ms - now_ms) / 1000

    def missed(self, failure: RowfleetError | None = None, *, earlier: str = "") -> DeadlineError:
        """The error with which the row fails. `failure`: error of its last attempt, None without one.

        `earlier`: the reason why the row got no outcome before, "" if nobody knows one.
        """
        text = f"the {self.owner}'s deadline, {iso_time(round(self.at_ms))}, "
        if failure is None:
            return DeadlineError(text + "has passed" + (f"; the last: {earlier}" if earlier else ""))
        return DeadlineError(
            text + f"leaves no time for another attempt; the last: {failure.kind}: {failure}"
        )


_NONE = Deadline()


def deadline_of(batch: Batch, deadline_ms: int | None) -> Deadline:
    """The batch's deadline or the row's (`deadline_ms`), whichever is earlier."""
    if not batch.deadline_at:
        return _NONE if deadline_ms is None else Deadline(deadline_ms)
    of_batch = Deadline(ms_of(batch.deadline_at), "batch")
    return of_batch if deadline_ms is None or of_batch.at_ms < deadline_ms else Deadline(deadline_ms)
