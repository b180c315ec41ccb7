"""Batches that are held for their targets, and the trials that lift these holds."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service.batch.outages import OutageBoard
from service.domain.errors import AgentOutageError, AgentThrottledError, ReplyPendingError
from service.domain.model import (
    Checkpoint,
    Commit,
    Dialect,
    EventKind,
    HoldReason,
    OutboxKind,
    RowError,
    State,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from service.steering.operate import operate

ROWS = 6
TEXT = "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, ROWS + 1))
PAUSE_S = 600.0
TOUR_S = 60.0


async def running(lab, total=ROWS, *, text=TEXT, **changes):
    source = await lab.put(text)
    now_ms = lab.clock.now_ms()
    return await lab.batch(
        total, source=source, dialect=Dialect("utf-8", ","), created_at=iso_time(now_ms),
        ttl=now_ms // 1000 + 14 * 86_400, **changes,
    )  # fmt: skip


async def stored(lab):
    return (await lab.view()).batch


async def report(lab, batch, reason="AgentOutageError: connection refused", worker="w1"):
    await OutageBoard(lab.table, lab.clock, worker).report(batch, reason)


async def commit(lab, batch, *numbers, failed=""):
    outcomes = tuple(lab.outcome(number, failed=failed) for number in numbers)
    if failed:
        error = RowError("AgentRejectedError", failed, failure_class="rejected")
        outcomes = tuple(replace(outcome, error=error) for outcome in outcomes)
    commit = Commit(
        batch.batch_id, batch.round, batch.partitions, 0, outcomes, f"test-{numbers[0]:031}", batch.ttl
    )
    assert await lab.table.commit(commit) == ()


@asynccontextmanager
async def sweeping(lab, **limits):
    async with lab.committer() as committer:
        yield lab.sweeper(committer, **{"trouble_pause_s": PAUSE_S, "stuck_after_s": 1e9} | limits)


async def tours(lab, sweeper, seconds, *, down=True):
    """Sweep for so long; a worker reports the target meanwhile."""
    for _ in range(round(seconds / TOUR_S)):
        if down:
            await report(lab, await stored(lab))
        await sweeper.sweep()
        await lab.clock.advance(TOUR_S)


async def held(lab, sweeper, **changes):
    """A batch that its target holds now, and the time since when."""
    batch = await running(lab, **changes)
    await tours(lab, sweeper, PAUSE_S + TOUR_S)
    found = await stored(lab)
    assert [hold.reason for hold in found.holds] == [HoldReason.TARGET]
    assert found.generation == batch.generation
    return found


async def serve(lab, *, script=None):
    """A worker takes all row messages that are visible."""
    lab.agent.script = script or (lambda call: {"answer": call.body["name"]})
    async with lab.working() as worker:
        for body in await lab.waiting(lab.rows):
            await worker.handle(lab.delivery(body))


# -- the hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [None, ROWS])
async def test_a_batch_whose_target_serves_nobody_is_held(lab, total):
    """After `trouble_pause_s`; the hold has the reason and since when, and the log of operations too."""
    batch = await running(lab, total)
    began = iso_time(lab.clock.now_ms())
    async with sweeping(lab) as sweeper:
        await tours(lab, sweeper, PAUSE_S)
        assert (await stored(lab)).state is not State.PAUSED
        await tours(lab, sweeper, TOUR_S)
    now = await stored(lab)
    hold = now.hold(HoldReason.TARGET)
    assert (now.state, hold.by, hold.detail["since"]) == (State.PAUSED, "rowfleet", began)
    assert hold.detail["reason"].startswith("its target serves nobody: AgentOutageError: connection refused")
    (operation,) = await lab.table.operations(batch)
    assert (operation.op, operation.by) == ("hold", "rowfleet")


@pytest.mark.parametrize(
    ("setting", "own", "is_held"), [(0.0, None, False), (0.0, 600, True), (9e9, 600, True)]
)
async def test_off_by_default_and_a_batch_may_have_its_own_time(lab, setting, own, is_held):
    """The job option goes first."""
    await running(lab, trouble_pause_s=own)
    async with sweeping(lab, trouble_pause_s=setting) as sweeper:
        await tours(lab, sweeper, PAUSE_S + 5 * TOUR_S)
    assert ((await stored(lab)).state is State.PAUSED) == is_held


@pytest.mark.parametrize("failed", ["", "the agent refused this input"])
async def test_a_batch_with_an_answered_row_is_not_held(lab, failed):
    """One worker may be cut off from a target that serves the others; the counters of the batch tell."""
    batch = await running(lab)
    async with sweeping(lab) as sweeper:
        for number in range(1, ROWS):
            await commit(lab, batch, number, failed=failed)
            await tours(lab, sweeper, PAUSE_S - TOUR_S)
            assert (await stored(lab)).state is State.RUNNING
        await tours(lab, sweeper, 3 * TOUR_S)
        assert (await stored(lab)).state is State.PAUSED


async def test_an_outage_that_has_ended_holds_nothing(lab):
    """Nor one whose reports have expired, or that has not lasted long enough."""
    await running(lab)
    async with sweeping(lab) as sweeper:
        await tours(lab, sweeper, PAUSE_S)
        await report(lab, await stored(lab), "")
        await tours(lab, sweeper, 2 * PAUSE_S, down=False)
        await tours(lab, sweeper, PAUSE_S - TOUR_S)
        assert (await stored(lab)).state is State.RUNNING


async def test_a_worker_that_is_too_old_holds_no_batch(lab):
    """Its trouble is not the target's."""
    batch = await running(lab)
    async with sweeping(lab) as sweeper:
        for _ in range(30):
            await OutageBoard(lab.table, lab.clock, "w1").post(batch, "too old")
            await tours(lab, sweeper, TOUR_S, down=False)
    assert (await stored(lab)).state is State.RUNNING


async def test_many_sweepers_hold_a_batch_once(lab):
    """They make the same request."""
    batch = await running(lab)
    async with sweeping(lab) as first, sweeping(lab) as second:
        for _ in range(12):
            await tours(lab, first, TOUR_S)
            await second.sweep()
    assert [made.op for made in await lab.table.operations(batch)] == ["hold"]


async def test_a_splitter_that_waits_with_its_lease_does_not_keep_the_batch_from_being_held(lab):
    """It waits for its rows to be served, and they are not."""
    batch = await running(lab, None)
    async with sweeping(lab) as sweeper:
        for _ in range(11):
            now_ms = lab.clock.now_ms()
            await lab.table.lease(
                batch, state=State.SPLITTING, owner="splitter", now_ms=now_ms, until_ms=now_ms + 50_000
            )
            await tours(lab, sweeper, TOUR_S)
    assert (await stored(lab)).state is State.PAUSED


async def test_a_user_who_goes_on_is_not_overruled_at_once(lab):
    """After a resume the target has its whole time again."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await operate(lab.ports, OperationRequest("resume", batch.batch_id, "r1", "ada"))
        await tours(lab, sweeper, PAUSE_S)
        assert (await stored(lab)).state is State.RUNNING
        await tours(lab, sweeper, 2 * TOUR_S)
        assert (await stored(lab)).state is State.PAUSED


# -- trials --------------------------------------------------------------------------------------------------


async def test_a_held_batch_gets_one_row_at_a_time_for_a_trial(lab):
    """A different one each time, marked, and of the batch's generation. A row that has an outcome is none."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await commit(lab, batch, 1, failed="late")
        rows = []
        for _ in range(40):
            await tours(lab, sweeper, TOUR_S)
            rows += await lab.sent_rows()
    assert [row.trial for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.number for row in rows] == [2, 3, 4, 5, 6, 2]
    assert all(row.replay and row.generation == batch.generation for row in rows)


async def test_the_first_trial_that_is_served_lifts_the_hold(lab):
    """Its outcome counts, and every other row is sent again in a new generation."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await tours(lab, sweeper, TOUR_S)
        await serve(lab)
    view = await lab.view()
    assert (view.batch.state, view.batch.generation) == (State.RUNNING, batch.generation + 1)
    assert (view.counts.succeeded, len(lab.agent.calls)) == (1, 1)
    assert view.batch.work is not None
    *_, lifted = await lab.table.operations(batch)
    assert (lifted.op, lifted.by, lifted.args) == (
        "resume",
        "rowfleet",
        {"reason": "its target serves again"},
    )


@pytest.mark.parametrize(
    "error", [AgentOutageError("down", retry_after_s=200), AgentThrottledError("HTTP 429", retry_after_s=200)]
)
async def test_a_trial_that_is_not_served_costs_its_row_nothing(lab, error):
    """Its message is dropped; the next comes after the wait that the target asked for."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await tours(lab, sweeper, TOUR_S)
        await serve(lab, script=lambda _: error)
        assert (await lab.outcomes(batch), await lab.waiting(lab.rows)) == ({}, [])
        assert (await stored(lab)).state is State.PAUSED
        await tours(lab, sweeper, 180)
        assert await lab.waiting(lab.rows) == []
        await tours(lab, sweeper, 2 * TOUR_S)
        await serve(lab)
    assert (await stored(lab)).state is State.RUNNING
    (outcome,) = (await lab.outcomes(batch)).values()
    assert (outcome.attempts, len(lab.agent.calls)) == (1, 2)


async def test_a_reply_that_says_not_yet_shows_that_the_target_is_up(lab):
    """The row is called again with all others; no outcome is needed."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await tours(lab, sweeper, TOUR_S)
        await serve(lab, script=lambda _: ReplyPendingError("not yet"))
    assert (await stored(lab)).state is State.RUNNING
    assert await lab.outcomes(batch) == {}


async def test_a_rejected_input_is_served(lab):
    """The target has answered; the row is FAILED as any other."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await tours(lab, sweeper, TOUR_S)
        await serve(lab, script=lambda _: {"something": "else"})
    assert (await stored(lab)).state is State.RUNNING
    (outcome,) = (await lab.outcomes(batch)).values()
    assert outcome.error.type == "ExtractionError"


async def test_a_trial_of_a_row_that_needs_no_call_tells_nothing(lab):
    """Its outcome counts, and the hold stays."""
    async with sweeping(lab) as sweeper:
        await running(lab, 2, text="id,name\n1,one,surplus\n2,two\n")
        await tours(lab, sweeper, PAUSE_S + 2 * TOUR_S)
        await serve(lab)
    view = await lab.view()
    assert (view.batch.state, view.counts.failed, lab.agent.calls) == (State.PAUSED, 1, [])


async def test_the_sweeper_lifts_a_hold_whose_worker_died_before(lab):
    """The outcome of the trial, or the call that was under way when the batch was held, is enough."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await commit(lab, batch, 3)
        await tours(lab, sweeper, TOUR_S)
    assert (await stored(lab)).state is State.RUNNING


async def test_a_batch_whose_rows_are_all_done_is_completed(lab):
    """The last calls ended while it was held; they need not have been served."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await commit(lab, batch, *range(1, ROWS + 1), failed="late")
        await tours(lab, sweeper, TOUR_S)
        assert (await stored(lab)).state is State.AGGREGATING


async def test_a_batch_without_a_row_to_try_goes_on(lab):
    """The splitter had not finished its first window."""
    async with sweeping(lab) as sweeper:
        await held(lab, sweeper, total=None)
        await tours(lab, sweeper, 2 * TOUR_S)
    now = await stored(lab)
    assert (now.state, now.holds) == (State.SPLITTING, ())


async def test_a_batch_whose_rows_cannot_be_read_goes_on(lab):
    """They fail for that as soon as they are sent again."""
    async with sweeping(lab) as sweeper:
        await held(lab, sweeper)
        del lab.objects.stored["in", "files/rows.csv"]
        await tours(lab, sweeper, TOUR_S)
    assert (await stored(lab)).state is State.RUNNING
    assert await lab.waiting(lab.rows) == []


async def test_in_a_later_round_a_row_that_is_due_is_tried(lab):
    """With the cells of its earlier outcome, and its history."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await commit(lab, batch, *range(1, ROWS + 1), failed="no")
        lab.table._batches[batch.batch_id] = replace(batch, round=2)
        await tours(lab, sweeper, TOUR_S)
        (row,) = await lab.sent_rows()
    assert (row.round, row.cells, row.trial) == (2, ("1", "name 1"), 1)
    assert [past.error.message for past in row.history] == ["no"]


async def test_a_batch_that_is_being_split_is_tried_by_the_rows_up_to_its_checkpoint(lab):
    """They are those that were sent for certain."""
    async with sweeping(lab) as sweeper:
        await held(lab, sweeper, total=None, checkpoint=Checkpoint(2, 26, 4))
        rows = []
        for _ in range(10):
            await tours(lab, sweeper, TOUR_S)
            rows += await lab.sent_rows()
    assert {row.number for row in rows} == {1, 2}


# -- beside other operations ---------------------------------------------------------------------------------


async def test_while_its_user_holds_the_batch_too_no_trial_is_sent_or_served(lab):
    """A resume lifts both."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await tours(lab, sweeper, TOUR_S)
        await operate(lab.ports, OperationRequest("pause", batch.batch_id, "p1", "ada"))
        await serve(lab)
        assert lab.agent.calls == []
        await tours(lab, sweeper, 2_000)
        assert await lab.waiting(lab.rows) == []
        await operate(lab.ports, OperationRequest("resume", batch.batch_id, "r1", "ada"))
    now = await stored(lab)
    assert (now.state, now.holds) == (State.RUNNING, ())


async def test_a_trial_of_an_earlier_hold_is_dropped(lab):
    """The resume has sent its row again."""
    async with sweeping(lab) as sweeper:
        batch = await held(lab, sweeper)
        await tours(lab, sweeper, TOUR_S)
        (trial,) = await lab.waiting(lab.rows)
        await operate(lab.ports, OperationRequest("resume", batch.batch_id, "r1", "ada"))
        await lab.rows.send([OutgoingMessage(trial)])
        await serve(lab)
    assert lab.agent.calls == []


async def test_the_hold_expires_as_any_other(lab):
    """After `hold_s` the batch is cancelled, and the reason names the target."""
    async with sweeping(lab, hold_s=3_600) as sweeper:
        await held(lab, sweeper)
        await tours(lab, sweeper, 3_600 + 2 * TOUR_S)
    now = await stored(lab)
    assert "its target serves nobody" in now.cancel_reason


async def test_paused_and_resumed_are_told(lab):
    """As for every hold."""
    kinds = tuple(EventKind)
    async with sweeping(lab) as sweeper:
        await held(lab, sweeper, event_kinds=kinds)
        await tours(lab, sweeper, TOUR_S)
        await serve(lab)
    records = await lab.table.records("demo#e1", OutboxKind.EVENT)
    assert sorted(json.loads(record.text)["kind"] for record in records) == ["paused", "resumed"]


@pytest.mark.parametrize(
    ("state", "total", "sent"), [(State.RUNNING, ROWS, ROWS), (State.SPLITTING, None, ROWS - 2)]
)
async def test_rows_that_the_target_never_serves_do_not_hold_their_batch_for_ever(lab, state, total, sent):
    """After many trials of the last row that was sent it goes on; its target does not hold it again."""
    batch = await running(lab, total, checkpoint=Checkpoint(sent, 66, sent + 2))
    for number in range(1, sent):
        await commit(lab, batch, number)
    async with sweeping(lab) as sweeper:
        await tours(lab, sweeper, PAUSE_S + TOUR_S)
        held_at = lab.clock.monotonic()
        while (await stored(lab)).state is State.PAUSED:
            await serve(lab, script=lambda _: AgentOutageError("connection refused"))
            await tours(lab, sweeper, TOUR_S)
        assert lab.clock.monotonic() - held_at > 3 * 3600
        await tours(lab, sweeper, 3 * PAUSE_S)
    now = await stored(lab)
    assert (now.state, now.generation) == (state, 1)
    assert (await lab.view()).counts.done == sent - 1
