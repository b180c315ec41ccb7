"""No batch is held for ever."""

from dataclasses import replace

import pytest

from service.domain.model import (
    Batch,
    BatchView,
    Counts,
    Hold,
    HoldReason,
    Location,
    Source,
    State,
    Work,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.steering.expiry import end_of_hold, expired_hold

DAY_MS = 86_400_000
OPENED_MS = 1_700_000_000_000
HOLD_S = 3 * 86_400.0
AT = iso_time(OPENED_MS)
FAILURES = Hold(HoldReason.FAILURES, "rowfleet", AT, {"reason": "20 rows failed"})
USER = Hold(HoldReason.USER, "ada", AT)
BATCH = Batch(
    "demo", "e1", State.PAUSED, Source("in", "k"), Location("out", ""), total=9, control=4, generation=2,
    created_at=AT, ttl=(OPENED_MS + 14 * DAY_MS) // 1000,
)  # fmt: skip


def held(*holds, **changes):
    return replace(BATCH, holds=holds, **changes)


def decide(batch, now_ms):
    request = OperationRequest("cancel", batch.batch_id, "r1", "rowfleet")
    return end_of_hold(HOLD_S)(BatchView(batch, Counts()), request, now_ms)


@pytest.mark.parametrize(
    ("batch", "ends_ms"),
    [
        (held(FAILURES), OPENED_MS + 3 * DAY_MS),
        (held(FAILURES, hold_s=60), OPENED_MS + 60_000),
        (held(USER), OPENED_MS + 13 * DAY_MS),
        (held(USER, hold_s=60), OPENED_MS + 13 * DAY_MS),
        (held(FAILURES, hold_s=30 * 86_400), OPENED_MS + 13 * DAY_MS),
        (held(USER, FAILURES), OPENED_MS + 3 * DAY_MS),
        (held(USER, ttl=(OPENED_MS + 7_000) // 1000), OPENED_MS + 6_000),
    ],
    ids=["set", "of the job", "user", "not for users", "expiry", "the first", "short life"],
)
def test_a_hold_ends(batch, ends_ms):
    """After `hold_s`, that of the job first; a user's a day before the rows expire, and none later."""
    assert expired_hold(batch, HOLD_S, ends_ms - 1) is None
    assert expired_hold(batch, HOLD_S, ends_ms) is not None
    assert decide(batch, ends_ms - 1).after is None
    assert decide(batch, ends_ms).after.cancelled_at == iso_time(ends_ms)


def test_a_user_may_hold_a_batch_that_never_expires():
    """Nothing of it gets lost."""
    assert expired_hold(held(USER, ttl=0), HOLD_S, OPENED_MS + 10_000 * DAY_MS) is None


def test_a_hold_whose_time_is_over_cancels_the_batch():
    """The reason names the hold: rows, status and manifest show it."""
    batch = held(FAILURES)
    after = decide(batch, OPENED_MS + 3 * DAY_MS).after
    assert (after.state, after.holds, after.work) == (State.RUNNING, (), Work(WorkKind.CANCEL, 5))
    reason = f"it was held and nobody went on with it: failures (by rowfleet at {AT}: 20 rows failed)"
    assert after.cancel_reason.startswith(reason)


@pytest.mark.parametrize("total", [None, 9])
def test_a_deadline_goes_on_while_a_batch_is_held(total):
    """The batch goes on, and nothing is sent again: its rows fail by the deadline."""
    deadline_ms = OPENED_MS + 60_000
    batch = held(USER, deadline_at=iso_time(deadline_ms), total=total, work=Work(WorkKind.SEND, 3))
    assert decide(batch, deadline_ms - 1).after is None
    state = State.SPLITTING if total is None else State.RUNNING
    assert decide(batch, deadline_ms).after == replace(batch, state=state, holds=(), work=None, generation=3)


def test_a_batch_that_was_resumed_meanwhile_is_left_alone():
    """The sweeper may have read it before."""
    assert decide(replace(BATCH, state=State.RUNNING), OPENED_MS + 20 * DAY_MS).after is None
