"""Tolerated failures: the batch is held or cancelled as its tolerance says."""

from dataclasses import replace

import pytest

from service.domain.errors import RetryableError
from service.domain.model import Commit, HoldReason, RowError, State
from service.domain.operation_requests import OperationRequest
from service.domain.tolerance import parse_tolerance
from service.steering.operate import operate

NO_FIELD = "found no field; the reply is JSON with the keys value, id"


async def fill(lab, batch, outcomes):
    """Commit outcomes as one worker does, and check the batch once."""
    for number, start in enumerate(range(0, len(outcomes), 99)):
        part = tuple(outcomes[start : start + 99])
        token = f"{batch.round}-{part[0].number}-{number}".ljust(36, "0")
        ttl = batch.ttl
        commit = Commit(batch.batch_id, batch.round, batch.partitions, 0, part, token, ttl, batch.incarnation)
        assert await lab.table.commit(commit) == ()
    return await lab.completion.check(batch.batch_id)


def failed(lab, number, message=NO_FIELD, class_="rejected", round_=1, **more):
    """A failed outcome."""
    outcome = lab.outcome(number, failed="x", round_=round_, **more)
    return replace(outcome, error=RowError("ExtractionError", message, class_))


@pytest.fixture
def tolerant(lab):
    """Make a batch with tolerated failures."""

    async def make(text="first=20", total=1000, **changes):
        return await lab.batch(total, tolerate=parse_tolerance(text), **changes)

    return make


@pytest.mark.parametrize("partitions", [1, 64])
async def test_first_rows_that_fail_for_one_cause_hold_the_batch(lab, tolerant, partitions):
    """The hold names the cause, five rows, and the paths of a reply that the mapping could not use."""
    batch = await tolerant(partitions=partitions)
    reply = '{"value": {"text": "a"}, "id": "7"}'
    rows = [failed(lab, n, f"{NO_FIELD} (row {n} '{n}a')", reply=reply) for n in range(1, 20)]
    assert (await fill(lab, batch, rows)).batch.state is State.RUNNING
    view = await fill(lab, batch, [failed(lab, 20, reply=reply, message=f"{NO_FIELD} (row 20 'x')")])
    assert view.batch.state is State.PAUSED
    hold = view.batch.hold(HoldReason.FAILURES)
    assert hold.by == "rowfleet"
    assert hold.detail["reason"].startswith(
        "the first 20 rows all failed for the same cause: ExtractionError (rejected): found no field"
    )
    assert hold.detail["rows"] == [1, 2, 3, 4, 5]
    assert hold.detail["reply_keys"] == ["$.value.text", "$.id"]
    assert hold.detail["failed"] == {"rejected": 20}
    (operation,) = await lab.table.operations(view.batch)
    assert (operation.op, operation.by, operation.control) == ("hold", "rowfleet", 1)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("first=0", [(NO_FIELD, "rejected")] * 40),
        ("first=20", [(NO_FIELD, "rejected")] * 19),
        ("first=20", [(NO_FIELD, "rejected")] * 30 + [("another cause", "rejected")]),
        ("first=20", [("the target is down", "unavailable")] * 40),
        ("first=20", [("too fast", "rate_limit")] * 40),
        ("first=20", [("it was cancelled", "cancelled")] * 40),
        ("first=20,on_exceeded=finish", [(NO_FIELD, "rejected")] * 40),
    ],
)
async def test_other_first_rows_hold_nothing(lab, tolerant, text, rows):
    """Different causes, too few rows, and failures that are the target's doing hold nothing."""
    batch = await tolerant(text)
    view = await fill(
        lab, batch, [failed(lab, 40 - number, *error) for number, error in enumerate(rows)][::-1]
    )
    assert view.batch.state is State.RUNNING
    assert view.batch.holds == ()


async def test_a_round_with_a_success_began_well(lab, tolerant):
    """One row that succeeds shows that the mapping fits."""
    batch = await tolerant()
    rows = [failed(lab, number) for number in range(2, 60)]
    view = await fill(lab, batch, [lab.outcome(1), *rows])
    assert view.batch.state is State.RUNNING


async def test_complete_wins(lab, tolerant):
    """A batch whose rows are all done is not held."""
    batch = await tolerant(total=20)
    view = await fill(lab, batch, [failed(lab, number) for number in range(1, 21)])
    assert view.batch.state is State.AGGREGATING


async def test_rows_of_a_deadline_hold_nothing(lab, tolerant):
    """After its deadline all rows of a batch fail for one cause, as its user has asked for."""
    batch = await tolerant(deadline_at="2020-01-01T00:00:00.000Z")
    view = await fill(lab, batch, [failed(lab, n, "deadline", "transient") for n in range(1, 40)])
    assert view.batch.state is State.RUNNING


async def test_after_a_resume_the_first_rows_do_not_hold_the_round_again(lab, tolerant):
    """The user has seen the failures; the next ones of the round are not looked at for their cause."""
    batch = await tolerant()
    await fill(lab, batch, [failed(lab, number) for number in range(1, 21)])
    await operate(lab.ports, OperationRequest("resume", batch.batch_id, "r1", "ann"))
    view = await fill(lab, batch, [failed(lab, number) for number in range(21, 60)])
    assert view.batch.state is State.RUNNING


async def test_limits_count_anew_after_a_resume(lab, tolerant):
    """Going on forgives the failures so far; as many again hold the batch again."""
    batch = await tolerant("first=0,any=10")
    view = await fill(lab, batch, [failed(lab, number) for number in range(1, 11)])
    assert view.batch.state is State.RUNNING
    view = await fill(lab, batch, [failed(lab, 11)])
    assert view.batch.hold(HoldReason.FAILURES).detail["reason"] == (
        "11 of 11 rows failed, and 10 are tolerated"
    )
    await operate(lab.ports, OperationRequest("resume", batch.batch_id, "r1", "ann"))
    view = await fill(lab, batch, [failed(lab, number) for number in range(12, 22)])
    assert view.batch.state is State.RUNNING
    assert (await fill(lab, batch, [failed(lab, 22)])).batch.state is State.PAUSED


async def test_limits_of_classes(lab, tolerant):
    """A limit of a class counts the failures of that class only."""
    batch = await tolerant("first=0,transient=3")
    rows = [lab.outcome(1), *(failed(lab, n) for n in range(2, 9))]
    rows += [failed(lab, n, class_="transient") for n in range(9, 12)]
    assert (await fill(lab, batch, rows)).batch.state is State.RUNNING
    view = await fill(lab, batch, [failed(lab, 12, "late", class_="transient")])
    detail = view.batch.hold(HoldReason.FAILURES).detail
    assert detail["reason"] == "4 of 12 rows failed as transient, and 3 are tolerated"
    assert detail["rows"] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("total", "bad", "good", "state"),
    [
        (10_000, 10, 0, State.RUNNING),
        (10_000, 11, 189, State.PAUSED),
        (10_000, 10, 190, State.RUNNING),
        (10_000, 11, 100, State.RUNNING),
        (100, 5, 10, State.RUNNING),
        (100, 6, 4, State.PAUSED),
        (30, 1, 2, State.RUNNING),
        (30, 2, 1, State.PAUSED),
        (None, 11, 189, State.PAUSED),
    ],
)
async def test_a_share_is_looked_at_from_200_rows_or_a_tenth_on(lab, tolerant, total, bad, good, state):
    """A share is one of at least 200 rows, or of all if fewer are due."""
    batch = await tolerant("first=0,rejected=5%", total)
    rows = [failed(lab, n) for n in range(1, bad + 1)]
    rows += [lab.outcome(n) for n in range(bad + 1, bad + good + 1)]
    found = (await fill(lab, batch, rows)).batch.state
    assert found is (State.SPLITTING if total is None and state is State.RUNNING else state)


async def test_a_batch_can_be_cancelled_instead(lab, tolerant):
    """With `on_exceeded=cancel` the batch ends, and its log says why."""
    batch = await tolerant("first=0,any=2,on_exceeded=cancel")
    view = await fill(lab, batch, [failed(lab, n) for n in range(1, 4)])
    assert view.batch.state is State.RUNNING
    assert view.batch.cancelled_at
    assert view.batch.cancel_reason == "3 of 3 rows failed, and 2 are tolerated"
    (operation,) = await lab.table.operations(view.batch)
    assert (operation.op, operation.by) == ("cancel", "rowfleet")
    assert operation.answer["text"] == "3 of 3 rows failed, and 2 are tolerated"


async def test_a_batch_of_an_earlier_version_tolerates_everything(lab):
    """A batch without a tolerance is never held."""
    batch = await lab.batch(1000)
    view = await fill(lab, batch, [failed(lab, n) for n in range(1, 100)])
    assert view.batch.state is State.RUNNING


async def test_a_change_since_the_count_wins(lab, tolerant):
    """A batch that an operation has changed since its failures were counted is judged anew."""
    batch = await tolerant()
    await fill(lab, batch, [failed(lab, n) for n in range(1, 20)])
    judge = lab.completion._judge
    await operate(lab.ports, OperationRequest("set", batch.batch_id, "r1", "ann", {"priority": 9}))
    rows = tuple(failed(lab, n) for n in range(20, 22))
    await lab.table.commit(Commit(batch.batch_id, 1, 1, 0, rows, "t".ljust(36, "0"), batch.ttl))
    stale = await lab.view()
    await operate(lab.ports, OperationRequest("set", batch.batch_id, "r2", "ann", {"priority": 8}))
    assert not await judge.judge(stale)
    assert await judge.judge(await lab.view())


@pytest.mark.parametrize("to", [State.FAILED, State.AGGREGATING])
async def test_a_batch_that_has_ended_since_the_count_stays_ended(lab, tolerant, to):
    """Its failure and its completion are no operations, and still win."""
    batch = await tolerant()
    await fill(lab, batch, [failed(lab, n) for n in range(1, 20)])
    await lab.table.commit(Commit(batch.batch_id, 1, 1, 0, (failed(lab, 20),), "t".ljust(36, "0"), batch.ttl))
    stale = await lab.view()
    await lab.table.move(batch, expected=State.RUNNING, to=to, now="now")
    assert not await lab.completion._judge.judge(stale)
    assert (await lab.view()).batch.state is to


async def test_the_first_outcomes_are_read_once(lab, tolerant):
    """A round whose first rows fail for different causes is not read again by this process."""
    batch = await tolerant()
    reads = []
    read = lab.table.outcomes

    async def counted(*args, **more):
        reads.append(args)
        return await read(*args, **more)

    lab.table.outcomes = counted
    completion = lab.completion
    for number in range(1, 40, 2):
        rows = tuple(failed(lab, n, f"cause {'ab'[n % 2]}") for n in (number, number + 1))
        token = str(number).ljust(36, "0")
        await lab.table.commit(Commit(batch.batch_id, 1, 1, 0, rows, token, batch.ttl))
        await completion.check(batch.batch_id)
    assert len(reads) == 1


async def test_an_error_of_the_table_holds_up_no_commit(lab, tolerant):
    """The judge's errors are logged only; the next check judges again."""
    batch = await tolerant()
    read = lab.table.outcomes

    async def refused(*_args, **_more):
        raise RetryableError("no")

    lab.table.outcomes = refused
    view = await fill(lab, batch, [failed(lab, n) for n in range(1, 21)])
    assert view.batch.state is State.RUNNING
    lab.table.outcomes = read
    assert (await fill(lab, batch, [failed(lab, 21)])).batch.state is State.PAUSED


async def test_a_later_round_is_judged_by_its_own_rows(lab, tolerant):
    """Outcomes of an earlier round are no evidence, neither for nor against a hold."""
    batch = await tolerant("first=5", total=1000, round=2)
    old = tuple(failed(lab, n, round_=1) for n in range(1, 60))
    await lab.table.commit(Commit(batch.batch_id, 1, 1, 0, old, "o".ljust(36, "0"), batch.ttl))
    view = await fill(lab, batch, [failed(lab, n, round_=2) for n in range(50, 54)])
    assert view.batch.state is State.RUNNING
    view = await fill(lab, batch, [failed(lab, 54, round_=2)])
    assert view.batch.hold(HoldReason.FAILURES).detail["rows"] == [50, 51, 52, 53, 54]
