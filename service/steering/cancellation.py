"""A cancelled batch: the error of its rows, and the times at which calls are cut and the others fail."""

from __future__ import annotations

from service.domain.errors import CancelledError, NotApprovedError
from service.domain.model import Batch, ms_of

NOTICE_S = 10
"""Time in which every worker notices an operation."""


def cancelled_error(batch: Batch) -> CancelledError:
    """The error of a row that got no outcome before its batch was cancelled."""
    reason = f": {batch.cancel_reason}" if batch.cancel_reason else ""
    if batch.gate is not None and batch.gate.has_lapsed:
        return NotApprovedError(f"the row was not called{reason}")
    return CancelledError(f"the batch was cancelled at {batch.cancelled_at}{reason}")


def cut_due_ms(batch: Batch) -> int:
    """The time (ms since 1970) at which calls under way in a cancelled batch are cut."""
    return ms_of(batch.cancelled_at) + batch.grace_s * 1000


def work_due_ms(batch: Batch) -> int:
    """The time (ms since 1970) at which rows without an outcome get one: no call is under way then."""
    if batch.is_remap:
        return ms_of(batch.cancelled_at)
    return cut_due_ms(batch) + NOTICE_S * 1000
