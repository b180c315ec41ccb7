"""The cost of a failure for its row: one of the row's attempts, or none.

The scope of the failure decides. A failure that may be the row's own counts. A throttle does not: the fleet
calls too fast, and the row is not to blame. An outage does not either, unless the target served other rows in
the meantime. A failure of unclear scope, such as HTTP 500 or 403, counts unless other rows meet the same and
none is served, which is taken for an outage for as long as `OutageEvidence` says. So neither an outage nor a
storm of throttles uses up the attempts of rows.
"""

from __future__ import annotations

from service.domain.errors import AgentRetryableError, AgentThrottledError, FailureScope
from service.domain.messages import RowMessage
from service.domain.ports import Clock
from service.worker.admission.circuit_breaker import CircuitBreaker
from service.worker.admission.gate import MAX_SUSPECTED_ATTEMPT

OVERLOAD_S = 60.0
"""Time after a row's first attempt in which HTTP 503 costs it no attempt, although others are served."""


def is_uncounted(
    error: AgentRetryableError, message: RowMessage, breaker: CircuitBreaker, started: float, clock: Clock
) -> bool:
    """True if the failure of a row's call that began at `started` must not count as an attempt."""
    if error.scope is FailureScope.ROW:
        return False
    if isinstance(error, AgentThrottledError):
        return True
    if error.scope is FailureScope.OVERLOAD and _is_young(message, clock):
        return True
    if error.scope is not FailureScope.TARGET and not _may_be_outage(error, message, breaker, clock):
        return False
    # It counts if the target has served another row since the call began, or since this row's last outage. A
    # row whose input crashes the target, say, is the only one that it does not serve.
    since = started
    if message.last_outage_ms is not None:
        since = clock.monotonic() - (clock.now_ms() - message.last_outage_ms) / 1000
    return breaker.last_success_at <= since


def _is_young(message: RowMessage, clock: Clock) -> bool:
    """True in the time after a row's first attempt in which overloads do not count."""
    first_ms = message.first_attempt_ms
    return first_ms is not None and clock.now_ms() - first_ms < OVERLOAD_S * 1000


def _may_be_outage(
    error: AgentRetryableError, message: RowMessage, breaker: CircuitBreaker, clock: Clock
) -> bool:
    """True if a failure of unclear scope may be one of an outage."""
    if message.attempt > MAX_SUSPECTED_ATTEMPT and not breaker.is_open:
        return False
    return breaker.evidence.is_suspected(error, clock.monotonic())
