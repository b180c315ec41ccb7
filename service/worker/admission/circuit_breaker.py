"""A circuit breaker (Nygard, Release It!): a target that is down gets no calls but an occasional trial call.

- closed: calls are free. `THRESHOLD` outages in a row, with no success between them, open the breaker.
- open: no call may begin until the pause is over.
- half-open: the pause is over and one trial call may begin. A success closes the breaker. Another failure
  opens it again for twice as long.

A failure of unclear scope, such as HTTP 500, counts as an outage here as long as an outage is suspected
(`outage_evidence`) and `THRESHOLD` different rows have met it. Otherwise a few rows that fail for themselves
would hold up each other.

A target that only throttles is reachable, so the breaker stays closed. It serves nobody all the same, which
is known after a while (`throttle_run`).

Pure. Times are monotonic seconds.
"""

from __future__ import annotations

from service.domain.errors import AgentOutageError, AgentRetryableError, AgentThrottledError, FailureScope
from service.worker.admission.outage_evidence import MAX_ROWS, OutageEvidence
from service.worker.admission.throttle_run import ThrottleRun

THRESHOLD = 5
"""Failures in a row that open the breaker."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LONGEST_SUSPECTED_PAUSE_S = 30.0
"""Longest pause after a 5xx: if the rows themselves are the cause, their attempts should end."""


class CircuitBreaker:
    """The breaker of one target in one process.

    `reason` is the outage that opened it, "" while closed. `last_success_at` is the time of the last success.
    `evidence` has the failures after it, `throttles` the throttles.
    """

    __slots__ = (
        "_failures",
        "_has_trial",
        "_open_until",
        "_pause_s",
        "_wait_s",
        "evidence",
        "last_success_at",
        "reason",
        "throttles",
    )

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until = 0.0
        self._has_trial = False
        self._wait_s = 0.0
        self.reason = ""
        self.last_success_at = float("-inf")
        self.evidence = OutageEvidence()
        self.throttles = ThrottleRun()

    @property
    def is_open(self) -> bool:
        """True if no calls may begin, except trial calls."""
        return bool(self.reason)

    @property
    def outage(self) -> str:
        """Why the target serves nobody, whether it is down or only throttles; "" if it serves."""
        return self.reason or self.throttles.reason

    @property
    def asked_wait_s(self) -> float:
        """The wait in seconds that the target asked for when it last refused to serve; 0 for none."""
        return self._wait_s if self.reason else self.throttles.wait_s

    def wait_s(self, now: float) -> float:
        """Seconds until a call may begin; 0 if one may begin now (if the breaker is open, the trial call)."""
        if not self.is_open:
            return 0.0
        return self._pause_s if self._has_trial else max(0.0, self._open_until - now)

    def before_call(self) -> bool:
        """Note that a call begins. Return True if it is the trial call."""
        is_trial = self.is_open and not self._has_trial
        self._has_trial = self._has_trial or is_trial
        return is_trial

    def record_success(self, now: float) -> bool:
        """Note that the target answered, well or badly. Return True if it served nobody until now."""
        self.evidence.clear()
        self.last_success_at = now
        was_open = self._close()
        return self.throttles.end() or was_open

    def record_throttle(self, error: AgentThrottledError, now: float) -> bool:
        """Note that the target asks for fewer calls. Return True if that is news of the target."""
        was_open = self.is_open
        if was_open:
            # The target is reachable but has served nobody: failures around the throttle stay in a row.
            self.evidence.restart(now)
            self._close()
        return self.throttles.add(error, now, is_outage=was_open)

    def record_failure(
        self, error: AgentRetryableError, now: float, *, row: str, is_trial: bool, call_s: float = 0.0
    ) -> bool:
        """Note that a call of `row`, which took `call_s` seconds, failed.

        Return True if that is news of the target: a pause begins, or the breaker closes.
        """
        self._failures += 1
        if error.scope is FailureScope.TARGET:
            self.evidence.add_outage(row)
        else:
            self.evidence.add(error, row, now, call_s)
        if not self._is_outage(error, now):
            return is_trial and self._close()
        if is_trial:
            longest_s = LONGEST_PAUSE_S if isinstance(error, AgentOutageError) else LONGEST_SUSPECTED_PAUSE_S
            self._pause_s = min(longest_s, self._pause_s * 2)
            self._has_trial = False
        elif self.is_open or self._failures < THRESHOLD:
            # Calls that began before the breaker opened do not lengthen its pause.
            return False
        self.reason = f"{error.kind}: {error}"
        self._wait_s = error.retry_after_s or 0.0
        self._open_until = now + self._pause_s
        return True

    def cancel_trial(self) -> None:
        """Note that the trial call ended without a result, so that another call may be the trial."""
        self._has_trial = False

    def _is_outage(self, error: AgentRetryableError, now: float) -> bool:
        """True if the failure may open the breaker or keep it open."""
        if error.scope is FailureScope.TARGET:
            return True
        rows = self.evidence.rows(error)
        # After so many rows, many more may come. With the breaker closed all of them would be tried at once.
        return rows >= MAX_ROWS or (rows >= THRESHOLD and self.evidence.is_suspected(error, now))

    def _close(self) -> bool:
        """Let calls begin freely. Return True if the breaker was open."""
        was_open = self.is_open
        self._failures, self._pause_s, self.reason, self._has_trial = 0, FIRST_PAUSE_S, "", False
        return was_open
