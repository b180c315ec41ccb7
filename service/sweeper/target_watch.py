"""Targets that serve nobody: the holds of their batches, and the trials that show that they serve again.

A batch is held once its target has served nobody for `trouble_pause_s`: by the reports of workers for so
long, and no row of the batch was answered in that time, as far as this sweeper has seen.
"""

from __future__ import annotations

from collections import OrderedDict

import structlog

from service.batch.lease import BatchLease
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.domain.errors import BatchRejectedError
from service.domain.model import BatchView, HoldReason, ms_of
from service.recovery.missing_rows import sent_rows
from service.recovery.recovery import Recovery
from service.steering.expiry import is_overdue
from service.steering.target_hold import (
    answered,
    can_be_held,
    has_served,
    hold_for_target,
    is_tried,
    lift_target_hold,
)
from service.steering.trials import Trials, TrialState
from service.sweeper.sweep_limits import SweepLimits

log = structlog.get_logger(__name__)

MAX_BATCHES = 10_000
"""Batches that are remembered; the one that was looked at least recently is forgotten first."""

COMMIT_S = 60.0
"""Time that a worker has to commit the answer of a trial and to lift the hold, before the sweeper does."""


TRIALS_PER_ROW, LEAST_TRIALS = 3, 20
"""Trials for each row that is left, and in all, after which these rows may be what the target cannot serve.

So many trials take more than three hours.
"""

TRIED_OUT = (
    "each row that is left was tried: whether it is the target or these rows is for their attempts to show"
)


class TargetWatch:
    """Holds batches whose targets serve nobody, and tries these targets until they serve."""

    def __init__(self, ports: Ports, recovery: Recovery, limits: SweepLimits) -> None:
        self._ports = ports
        self._recovery = recovery
        self._limits = limits
        self._outages = OutageBoard(ports.table, ports.clock)
        self._trials = Trials(ports.table, ports.clock)
        # By batch id: the progress of the batch, and the monotonic time since when it has not changed.
        self._unanswered: OrderedDict[str, tuple[tuple[object, ...], float]] = OrderedDict()

    async def hold_if_down(self, view: BatchView) -> bool:
        """Hold the batch if its target has served nobody for too long. True if that was done.

        Raises RetryableError and AccessError.
        """
        batch, clock = view.batch, self._ports.clock
        pause_s = batch.trouble_pause_s or self._limits.trouble_pause_s
        if not pause_s or not can_be_held(view) or is_overdue(batch, clock.now_ms()):
            self._unanswered.pop(batch.batch_id, None)
            return False
        if self._unanswered_s(view) < pause_s:
            return False
        outage = await self._outages.outage(batch)
        if outage is None or clock.now_ms() - outage.since_ms < pause_s * 1000:
            return False
        return await hold_for_target(self._ports, view, outage)

    def _unanswered_s(self, view: BatchView) -> float:
        """Seconds for which no row of the batch was answered, as seen so far."""
        batch, now = view.batch, self._ports.clock.monotonic()
        # After an operation the time begins anew: a user may have gone on in spite of the outage.
        progress = (batch.identity, batch.round, batch.control, answered(view.counts))
        known = self._unanswered.get(batch.batch_id)
        if known is None or known[0] != progress:
            self._unanswered[batch.batch_id] = known = (progress, now)
        self._unanswered.move_to_end(batch.batch_id)
        if len(self._unanswered) > MAX_BATCHES:
            self._unanswered.popitem(last=False)
        return now - known[1]

    async def is_trial_due(self, view: BatchView) -> bool:
        """True if the target of a held batch is to be tried now. Lifts the hold if there is no need.

        Raises RetryableError and AccessError.
        """
        batch, now_ms = view.batch, self._ports.clock.now_ms()
        if (hold := batch.hold(HoldReason.TARGET)) is None:
            return False
        state = await self._trials.read(batch)
        if reason := _reason_to_lift(view, state, now_ms):
            await lift_target_hold(self._ports, batch, reason)
            return False
        if _is_tried_out(view, state):
            await lift_target_hold(self._ports, batch, TRIED_OUT, for_good=True)
            return False
        return is_tried(batch) and state.is_due(ms_of(hold.at), now_ms)

    async def try_target(self, lease: BatchLease, view: BatchView) -> None:
        """Send a row for a trial, if one is due. Raises RetryableError and AccessError."""
        batch = view.batch
        number = await self._trials.send(batch, by=lease.owner) if is_tried(batch) else 0
        if not number:
            return
        try:
            row = await self._recovery.send_trial(batch, number, lease.check)
        except BatchRejectedError as error:
            # As soon as it goes on, it fails for that.
            await lift_target_hold(self._ports, batch, str(error))
            return
        if row:
            log.info("trial_sent", batch_id=batch.batch_id, number=number, row=row)
        else:
            await lift_target_hold(self._ports, batch, "no row is left by which its target can be tried")


def _is_tried_out(view: BatchView, state: TrialState) -> bool:
    """True if every row that is left has had its trials, and none was served.

    The last rows that were sent may be ones that the target never serves: it would hold the batch for them
    for ever, and the rows that are still to be read would never be tried.
    """
    left = sent_rows(view.batch) - view.all_counts.done
    return state.sent >= max(LEAST_TRIALS, TRIALS_PER_ROW * left)


def _reason_to_lift(view: BatchView, state: TrialState, now_ms: int) -> str:
    """The reason why the target is not to hold the batch any longer; "" if it is."""
    if view.is_complete:
        return "every row has an outcome"
    if has_served(view) or (state.served_ms and now_ms >= state.served_ms + COMMIT_S * 1000):
        return "its target serves again"
    return ""
