"""Kept outcomes: an outcome waits for its commit for as long as its message is held.

A message is held until its lease is lost, or until the process has to end. Then another worker gets the row,
so waiting is over; until then a commit that fails is repeated and nothing that was paid for is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.domain.errors import AccessError, LeaseLostError, RetryableError, RowfleetError
from service.runtime.delivery import Delivery
from service.runtime.metrics import Metrics
from service.worker.admission.commit_backlog import CommitBacklog, WaitingOutcome

log = structlog.get_logger(__name__)


class HeldMessage:
    """The patience of a row (`group_commit.Patience`): it waits until the lease of its message is lost."""

    def __init__(self, delivery: Delivery, outcome: WaitingOutcome | None = None) -> None:
        self._delivery = delivery
        self._outcome = outcome

    def after_failure(self, error: RetryableError | AccessError) -> RowfleetError | None:
        """LeaseLostError if another consumer may have the message; otherwise None, to try again."""
        try:
            self._delivery.check_lease()
        except LeaseLostError as lost:
            return lost
        if self._outcome is not None:
            self._outcome.record_failure(str(error))
        return None


@contextmanager
def keep_outcome(backlog: CommitBacklog, delivery: Delivery, metrics: Metrics) -> Iterator[HeldMessage]:
    """Have an outcome in the backlog of its target while the body commits it.

    Counts the time that it took, and an outcome that was given up.
    """
    with backlog.hold() as outcome:
        try:
            yield HeldMessage(delivery, outcome)
        except BaseException as error:
            metrics.count("outcomes_given_up")
            log.warning("outcome_given_up", reason=str(error) or type(error).__name__)
            raise
        metrics.observe("commit_wait_ms", outcome.waited_ms)
