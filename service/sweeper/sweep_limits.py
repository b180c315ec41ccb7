"""Limits of a sweeper."""

from __future__ import annotations

from dataclasses import dataclass

HOLD_S = 72 * 3_600.0
"""Longest hold of a batch by anybody but its user, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Every `interval_s` the sweeper looks for batches that stood still for `stuck_after_s` (seconds).

    Messages that may be lost are sent again once their queue is empty. If the queue does not get empty, they
    are sent again after `resend_after_s`, then after twice that time, and so on up to 32 times that time.
    `concurrent_batches` are looked at, and as many recovered, at the same time. A batch that is recovered is
    leased for `lease_s` at a time. A hold other than the user's lasts `hold_s` at most. A batch whose target
    has served nobody for `trouble_pause_s` is held, never if that is 0. A batch may have its own of both.
    With `only_batch` no other batch is swept: on a laptop nobody has asked for the others.
    """

    interval_s: float = 60.0
    stuck_after_s: float = 300.0
    resend_after_s: float = 3_600.0
    concurrent_batches: int = 8
    lease_s: float = 40.0
    hold_s: float = HOLD_S
    trouble_pause_s: float = 0.0
    only_batch: str = ""
