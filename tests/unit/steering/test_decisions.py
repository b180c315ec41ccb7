"""What each operation makes of a batch in each state, and the sentence where it makes nothing."""

from dataclasses import replace

import pytest

from service.domain.errors import UsageError
from service.domain.model import (
    Batch,
    BatchView,
    Counts,
    Hold,
    HoldReason,
    Limit,
    Location,
    OnExceeded,
    Source,
    State,
    Tolerance,
    Work,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.steering.decisions import DECISIONS, cancelled, hold_batch

NOW_MS = 1_700_000_000_000
NOW = iso_time(NOW_MS)
BATCH = Batch(
    "demo", "e1", State.RUNNING, Source("in", "k"), Location("out", ""), total=9, control=4, generation=2
)
SPLITTING = replace(BATCH, state=State.SPLITTING, total=None)
USER = Hold(HoldReason.USER, "ada", "then")
PAUSED = replace(BATCH, state=State.PAUSED, holds=(USER,))


def decide(op, batch, done=0, **args):
    """The decision on a request of bob."""
    view = BatchView(batch, Counts(succeeded=done))
    return DECISIONS[op](view, OperationRequest(op, batch.batch_id, "r1", "bob", args), NOW_MS)


# -- pause ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [BATCH, SPLITTING], ids=["running", "splitting"])
@pytest.mark.parametrize("now", [False, True])
def test_a_pause_holds_the_batch_for_its_user(batch, now):
    """Its rows stay as they are: only the state and the hold change."""
    detail = {"now": True} if now else {}
    after = decide("pause", batch, now=now).after
    assert after == replace(batch, state=State.PAUSED, holds=(Hold("user", "bob", NOW, detail),))


def test_a_pause_of_a_paused_batch_is_done_already():
    """The sentence says who did it, and when."""
    decision = decide("pause", PAUSED)
    assert (decision.after, decision.text) == (None, "demo#e1 was paused by ada at then")


def test_a_paused_batch_can_have_its_calls_cut():
    """The later `pause --now` replaces the hold of the same reason."""
    other = Hold(HoldReason.BUDGET, "rowfleet", "then")
    after = decide("pause", replace(PAUSED, holds=(USER, other)), now=True).after
    assert [hold.reason for hold in after.holds] == ["budget", "user"]
    assert after.hold("user").detail == {"now": True}
    assert decide("pause", after, now=True).after is None


def test_a_batch_that_something_else_holds_can_be_paused_too():
    """Then two holds have to go."""
    held = hold_batch(BATCH, Hold(HoldReason.BUDGET, "rowfleet", "then"))
    after = decide("pause", held).after
    assert {hold.reason for hold in after.holds} == {"budget", "user"}


# -- resume --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [None, 9])
def test_a_resume_sends_all_rows_without_an_outcome_again(total):
    """With a new generation, so that no message of before counts; the state depends on the seal."""
    decision = decide("resume", replace(PAUSED, total=total))
    state = State.SPLITTING if total is None else State.RUNNING
    assert decision.after == replace(
        BATCH, total=total, state=state, generation=3, work=Work(WorkKind.SEND, 5)
    )


@pytest.mark.parametrize("batch", [BATCH, SPLITTING], ids=["running", "splitting"])
def test_a_resume_of_a_batch_that_goes_on_is_done_already(batch):
    """Success, and nothing is sent."""
    decision = decide("resume", batch)
    assert decision.after is None
    assert "there is nothing to resume" in decision.text


def test_a_resume_leaves_holds_that_need_a_decision_of_their_own():
    """The batch stays held, and the sentence says by what."""
    approval = Hold(HoldReason.APPROVAL, "rowfleet", "then", {"reason": "10 USD"})
    decision = decide("resume", replace(PAUSED, holds=(USER, approval)))
    assert decision.after == replace(PAUSED, holds=(approval,))
    assert decision.text == "demo#e1 is still held: approval (by rowfleet at then: 10 USD)"
    with pytest.raises(UsageError, match="is held: approval"):
        decide("resume", replace(PAUSED, holds=(approval,)))


def test_a_batch_whose_rows_are_all_done_while_it_is_held_is_resumed():
    """Calls under way have ended meanwhile. The work of the resume finds no row, and completes the batch."""
    assert decide("resume", PAUSED, done=9).after.state is State.RUNNING


# -- cancel --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch", [BATCH, SPLITTING, PAUSED, replace(PAUSED, total=None)], ids=lambda batch: str(batch.state)
)
def test_a_cancel_ends_the_batch_without_a_resume(batch):
    """Holds end; rows that come are FAILED, and the fleet fails the others."""
    after = decide("cancel", batch).after
    state = State.SPLITTING if batch.total is None else State.RUNNING
    assert after == replace(
        batch, state=state, holds=(), cancelled_at=NOW, grace_s=30, work=Work(WorkKind.CANCEL, 5)
    )


def test_a_grace_of_zero_is_no_default():
    """Calls under way are cut at once."""
    assert decide("cancel", BATCH, grace=0).after.grace_s == 0


@pytest.mark.parametrize(
    "state", [State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.FAILED, State.CANCELLED]
)
def test_a_cancel_of_a_finished_batch_says_how_it_ended(state):
    """Success: what was asked for holds."""
    decision = decide("cancel", replace(BATCH, state=state), done=9)
    assert (decision.after, decision.text) == (None, f"demo#e1 had finished: it is {state}")


@pytest.mark.parametrize("state", [State.RUNNING, State.AGGREGATING])
def test_a_cancel_of_a_cancelled_batch_is_done_already(state):
    """Also while its results are written."""
    batch = replace(cancelled(BATCH, NOW_MS, grace_s=5), state=state)
    assert decide("cancel", batch, done=9).text == f"demo#e1 was cancelled at {NOW}"


# -- set -----------------------------------------------------------------------------------------------------


def test_set_changes_what_is_named():
    """The deadline counts from now on."""
    decision = decide("set", BATCH, max_concurrency=3, priority=9, weight=20, deadline=60)
    assert decision.after == replace(
        BATCH, max_concurrency=3, priority=9, weight=20, deadline_at=iso_time(NOW_MS + 60_000)
    )
    assert decision.text.startswith("demo#e1 has priority 9, weight 20, max-concurrency 3, the deadline 20")


@pytest.mark.parametrize("value", [0, None])
def test_the_limit_of_the_mapping_is_set_back(value):
    """By 0 in a command, or null in a message."""
    decision = decide("set", replace(BATCH, max_concurrency=3), max_concurrency=value)
    assert decision.after == BATCH
    assert "the max-concurrency of its mapping" in decision.text


def test_set_changes_the_parts_of_the_tolerance_that_it_names():
    """The others stay."""
    batch = replace(BATCH, tolerate=Tolerance(first=20, limits={"any": Limit(rows=5)}))
    after = decide("set", batch, tolerate="rejected=5%,on_exceeded=cancel").after
    assert after.tolerate == Tolerance(
        20, {"any": Limit(rows=5), "rejected": Limit(share=500)}, OnExceeded.CANCEL
    )
    with pytest.raises(UsageError, match="--tolerate: "):
        decide("set", batch, tolerate="rejected=lots")


def test_set_without_a_change():
    """Nothing named is refused; a value that holds already is success."""
    with pytest.raises(UsageError, match="nothing to set: give --max-concurrency, --priority"):
        decide("set", BATCH)
    decision = decide("set", replace(BATCH, priority=7), priority=7)
    assert (decision.after, decision.text) == (None, "demo#e1 has priority 7 already")


def test_a_batch_that_is_held_can_be_changed():
    """It goes on with that when it is resumed."""
    assert decide("set", PAUSED, priority=7).after == replace(PAUSED, priority=7)


# -- wrong states --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "done"), [("pause", "paused"), ("resume", "resumed"), ("set", "changed")])
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_a_batch_that_has_ended_is_refused(op, done, state):
    """The sentence says what stands there."""
    remedy = "; `rowfleet redrive .*` runs its failed rows again" if state is State.CANCELLED else "$"
    with pytest.raises(UsageError, match=f"has ended, it is {state}: it cannot be {done}{remedy}"):
        decide(op, replace(BATCH, state=state), priority=1)


@pytest.mark.parametrize("op", ["pause", "resume", "set", "cancel"])
@pytest.mark.parametrize("state", [State.RUNNING, State.AGGREGATING])
def test_a_batch_whose_rows_are_all_done_is_refused(op, state):
    """Its results are being written, or are about to be: there is nothing to hold or to cancel."""
    with pytest.raises(UsageError, match="every row of demo#e1 has an outcome"):
        decide(op, replace(BATCH, state=state), done=9, priority=1)


@pytest.mark.parametrize("op", ["pause", "set"])
def test_a_batch_that_was_cancelled_is_ending(op):
    """It cannot be held any more."""
    with pytest.raises(UsageError, match="it is ending"):
        decide(op, cancelled(BATCH, NOW_MS, grace_s=5), priority=1)


def test_a_batch_has_one_hold_of_each_reason():
    """The first one stays; a batch that was cancelled gets none."""
    second = Hold(HoldReason.USER, "eve", "later")
    assert hold_batch(PAUSED, second) == PAUSED
    ending = cancelled(BATCH, NOW_MS, grace_s=5)
    assert hold_batch(ending, second) == ending
