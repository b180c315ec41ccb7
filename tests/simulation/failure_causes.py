"""The invariant failed_for_a_cause: a row is FAILED only for a cause of its own or for lack of time."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from service.adapters.aws.table.values import Item
from service.batch.row_checks import VIEW_AGE_S
from service.domain.model import Batch, ms_of
from tests.simulation.mappings import BUDGET_S
from tests.simulation.scenario import Behaviour, TargetFault

if TYPE_CHECKING:
    from tests.simulation.monitor import Monitor
    from tests.simulation.observed_ports import RowKey

_ERRORS = {
    Behaviour.REJECTS: "AgentRejectedError",
    Behaviour.REPLIES_NONSENSE: "ExtractionError",
    Behaviour.FAILS: "AgentUnavailableError",
    Behaviour.FAILS_FIRST: "AgentUnavailableError",
    Behaviour.HANGS: "AgentTimeoutError",
    Behaviour.DENIES_ACCESS: "AgentCredentialsError",
}
"""The error to which an agent's own behaviour leads."""

_PERMANENT = {"AgentRejectedError", "ExtractionError"}
"""Errors that are not retried."""

_LAST_WAIT_S = 70.0
"""A row fails at most this long before its deadline or budget ends: its next wait would be longer."""


class FailureCauses:
    """Judges the failures of rows by what `monitor` knows of the world."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        # The earliest deadline of each batch that had passed when it was changed.
        self._passed_ms: defaultdict[str, float] = defaultdict(lambda: math.inf)

    def is_known(self, key: RowKey, row: Item) -> bool:
        """True if the FAILED item `row` has a cause that may fail a row."""
        error, attempts = row["error"]["M"]["type"]["S"], int(row["attempts"]["N"])
        if "values_round" in row:
            return True  # an earlier outcome, which was judged then
        if error in (
            decided := {
                "CancelledError": self._is_cancelled,
                "NotApprovedError": self._is_cancelled,
                "DeadlineError": self._is_late,
                "WorkerLostError": self._has_lost_workers,
            }
        ):
            return decided[error](key)
        behaviour_error = _ERRORS.get(self._monitor.behaviour(key))
        if error in _PERMANENT:
            is_strict = error == "ExtractionError" and self._monitor.remaps.is_strict(key)
            return error == behaviour_error or is_strict
        if not (self._is_used_up(key, attempts) or self._is_over_budget(key)):
            return False
        # A paused process may take its own pause for a time-out of the agent.
        is_pause = error == "AgentTimeoutError" and self._monitor.pauses > 0
        if error == "AgentUnavailableError" and self._past_periods(key, TargetFault.SERVER_ERRORS):
            return True
        return is_pause or error in {behaviour_error, "AgentOutageError", "AgentThrottledError"}

    def deadline_ms(self, identity: str) -> float:
        """The batch's deadline in ms since 1970, infinite if it has none."""
        batch = self._monitor.batches.get(identity)
        return ms_of(batch.deadline_at) if batch is not None and batch.deadline_at else math.inf

    def _is_cancelled(self, key: RowKey) -> bool:
        return bool(self._monitor.batches[key[0]].cancelled_at)

    def _has_lost_workers(self, key: RowKey) -> bool:
        monitor = self._monitor
        return key in monitor.dead_lettered_rows or monitor.redeliveries[key] >= monitor.max_lost

    def _is_used_up(self, key: RowKey, attempts: int) -> bool:
        """True if the row has used all its attempts, and as many calls failed by its agent's own behaviour.

        A pause may count as a time-out, and server errors that too few other rows meet count. Of an outage
        only the beginning may cost an attempt. But if other rows were answered since the row met an outage,
        or server errors that were taken for one, the next outage may cost them all: by that rule a row ends
        whose calls fail because of the row itself.
        """
        monitor = self._monitor
        mapping = monitor.files[key[0]].mapping
        outages = self._past_periods(key, TargetFault.OUTAGE)
        costs = monitor.agent_failures[key] + monitor.server_errors.costs[key] + outages + monitor.pauses
        # At each worker, one error more than our own account may have cost an attempt: a row that changes its
        # worker meets a gate that knows nothing of the run of errors at the other.
        slack = len(monitor.server_errors.met_by[key])
        met_before = outages > 1 or (outages and self._past_periods(key, TargetFault.SERVER_ERRORS))
        return attempts == mapping.pace.max_attempts and (costs + slack >= attempts or bool(met_before))

    def _past_periods(self, key: RowKey, fault: TargetFault) -> int:
        """The number of periods with this fault of the row's target that have begun."""
        target, now = self._monitor.files[key[0]].mapping.name, self._monitor.now()
        return sum(
            period.target == target and period.fault is fault and period.from_s <= now
            for period in self._monitor.target_faults
        )

    def changed(self, before: Batch, after: Batch) -> None:
        """An operation has changed a batch. Outcomes by the deadline of before may be on their way."""
        now_ms = self._monitor.start_ms + self._monitor.now() * 1000
        if before.deadline_at not in ("", after.deadline_at):
            former_ms = ms_of(before.deadline_at)
            if former_ms <= now_ms + VIEW_AGE_S * 1000:
                self._passed_ms[before.identity] = min(former_ms, self._passed_ms[before.identity])

    def _is_late(self, key: RowKey) -> bool:
        """True if a deadline of the row is near or over, by the clock of any process."""
        monitor = self._monitor
        row_deadline_s = monitor.files[key[0]].mapping.row_deadline_s
        deadline_ms = min(self.deadline_ms(key[0]), self._passed_ms[key[0]])
        deadlines_s = [(deadline_ms - monitor.start_ms) / 1000]
        if row_deadline_s is not None and key in monitor.first_received:
            deadlines_s.append(monitor.first_received[key] + row_deadline_s)
        margin_s = _LAST_WAIT_S + monitor.clocks_differ_s
        return any(monitor.now() >= deadline_s - margin_s for deadline_s in deadlines_s)

    def _is_over_budget(self, key: RowKey) -> bool:
        """True if the row's budget is used up, by the clock of any process."""
        monitor = self._monitor
        least_s = BUDGET_S - _LAST_WAIT_S - monitor.clocks_differ_s
        return monitor.now() - monitor.first_received.get(key, monitor.now()) >= least_s
