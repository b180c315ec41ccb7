"""Group commit, completion check, trigger."""

import asyncio
import math
import random
from dataclasses import replace

import pytest
import stamina
from structlog.testing import capture_logs

from service.adapters.memory import MemoryObjects, MemoryTable
from service.batch.replies.pack import MAX_PACK_BYTES
from service.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    RetryableError,
    RowRejectedError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.messages import AggregateMessage
from service.domain.model import Counts, State
from tests.simulation.loop import Owner, VirtualLoop


class FaultyTable(MemoryTable):
    """Records commits.

    `before` and `after` map the number of a commit to the error that is raised before or after it. `always`
    maps a batch id to the error of all its commits. With `moves_fail` no state is moved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commits = []
        self.before: dict[int, Exception] = {}
        self.after: dict[int, Exception] = {}
        self.always: dict[str, Exception] = {}
        self.moves_fail = False

    async def commit(self, commit):
        """Commit, with faults."""
        self.commits.append(commit)
        number = len(self.commits)
        if error := self.before.get(number) or self.always.get(commit.batch_id):
            raise error
        taken = await super().commit(commit)
        if number in self.after:
            raise self.after[number]
        return taken

    async def move(self, batch, **change):
        """Move, unless moves fail."""
        if self.moves_fail:
            raise UnreachableError("killed before the move")
        return await super().move(batch, **change)


@pytest.fixture
def lab(make_lab):
    """A laboratory on a faulty table."""
    return make_lab(table=FaultyTable())


async def commit_all(lab, committer, batch, numbers, **outcome):
    return await asyncio.gather(
        *(committer.commit(batch, number, lab.outcome(number, **outcome)) for number in numbers),
        return_exceptions=True,
    )


async def triggers(lab):
    return [AggregateMessage.decode(body) for body in await lab.waiting(lab.aggregate)]


# -- group commit ------------------------------------------------------------------------------------------


async def test_outcomes_that_are_ready_within_the_linger_are_one_transaction(lab):
    """They are committed with one counter update, and every caller gets the batch as checked."""
    batch = await lab.batch(100)
    async with lab.committer(slot=7) as committer:
        views = await commit_all(lab, committer, batch, range(1, 31))
    (commit,) = lab.table.commits
    assert [outcome.number for outcome in commit.outcomes] == list(range(1, 31))
    assert (commit.slot, commit.ttl, commit.partitions) == (7, batch.ttl, batch.partitions)
    assert all(view.counts.succeeded == 30 for view in views)
    assert (await lab.view()).counts == Counts(succeeded=30, agent_ms=150)
    assert lab.metrics.totals["commits"] == 1
    assert lab.metrics.totals["rows_succeeded"] == 30


async def test_a_full_transaction_does_not_linger(lab):
    """99 rows are committed at once, however long the linger is. A transaction never holds more."""
    batch = await lab.batch(250)
    async with lab.committer(linger_s=3600) as committer:
        await commit_all(lab, committer, batch, range(1, 199))
    assert [len(commit.outcomes) for commit in lab.table.commits] == [99, 99]


async def test_outcomes_with_long_replies_wait_longer_for_each_other(lab):
    """Until the pack of their replies is full. A short reply, which stays in its item, does not wait."""
    batch = await lab.batch(6)
    async with lab.committer(reply_linger_s=3600) as committer:
        short = replace(lab.outcome(1), reply='"short"')
        await committer.commit(batch, 1, short)
        half = f'"{"x" * (MAX_PACK_BYTES // 2)}"'
        waiting = asyncio.create_task(committer.commit(batch, 2, replace(lab.outcome(2), reply=half)))
        await lab.pass_time(1)
        assert not waiting.done()
        await committer.commit(batch, 3, replace(lab.outcome(3), reply=half))
        await waiting
    assert [len(commit.outcomes) for commit in lab.table.commits] == [1, 2]


async def test_after_a_full_transaction_rows_wait_for_each_other_again(lab):
    """The row that a full transaction left behind lingers, so that the next one is full as well."""
    batch = await lab.batch(6)
    async with lab.committer(linger_s=3600, max_rows=3) as committer:
        first = [asyncio.create_task(committer.commit(batch, n, lab.outcome(n))) for n in range(1, 5)]
        await asyncio.gather(*first[:3])
        await lab.pass_time(1)
        assert not first[3].done()
        await asyncio.gather(first[3], *(committer.commit(batch, n, lab.outcome(n)) for n in (5, 6)))
    assert [len(commit.outcomes) for commit in lab.table.commits] == [3, 3]


async def test_a_transaction_takes_no_more_bytes_than_dynamodb(lab):
    """Large outcomes are spread over several transactions, each within DynamoDB's limit."""
    batch = await lab.batch(20)
    large = {"answer": "x" * 390_000}
    async with lab.committer() as committer:
        answers = await asyncio.gather(
            *(
                committer.commit(batch, n, lab.outcome(n) if n % 2 else _large(lab, n, large))
                for n in range(1, 31)
            )
        )
    assert None not in answers
    assert len(lab.table.commits) == 2
    assert (await lab.view()).counts.done == 30


def _large(lab, number, output):
    return replace(lab.outcome(number), output_data=output)


@pytest.mark.parametrize("most", [1, 3])
async def test_transactions_share_the_wait_for_a_slow_disk(lab, most):
    """So many are under way at a time, and rows that come meanwhile are committed as well."""

    class Slow(MemoryTable):
        under_way = highest = 0
        go = asyncio.Event()

        async def commit(self, commit):
            self.under_way += 1
            self.highest = max(self.highest, self.under_way)
            await self.go.wait()
            self.under_way -= 1
            return await super().commit(commit)

    lab.table = Slow()
    batch = await lab.batch(8)
    async with lab.committer(max_rows=2, max_transactions=most) as committer:
        rows = [
            asyncio.ensure_future(committer.commit(batch, number, lab.outcome(number)))
            for number in range(1, 9)
        ]
        await lab.until(lambda: lab.table.under_way == most)
        lab.table.go.set()
        await asyncio.gather(*rows)
    assert lab.table.highest == most
    view = await lab.table.read(batch.batch_id)
    assert (view.counts.succeeded, view.batch.state) == (8, State.AGGREGATING)


async def test_batches_are_committed_apart(lab):
    """A transaction has one counter, so each batch has transactions of its own."""
    first, second = await lab.batch(10), await lab.batch(10, execution_id="e2")
    async with lab.committer() as committer:
        await asyncio.gather(
            commit_all(lab, committer, first, [1, 2]), commit_all(lab, committer, second, [1, 2, 3])
        )
    assert sorted((c.batch_id, len(c.outcomes)) for c in lab.table.commits) == [
        ("demo#e1", 2),
        ("demo#e2", 3),
    ]
    assert (await lab.view("demo#e2")).counts.done == 3


async def test_rounds_are_committed_apart(lab):
    """A late row of the earlier round does not share a transaction with a row of the present one."""
    old = await lab.batch(2)
    new = lab.table._batches[old.batch_id] = _next_round(old)
    async with lab.committer() as committer:
        await asyncio.gather(
            committer.commit(old, 1, lab.outcome(1)), committer.commit(new, 2, lab.outcome(2, round_=2))
        )
    assert [(commit.round, len(commit.outcomes)) for commit in lab.table.commits] == [(1, 1), (2, 1)]
    assert (await lab.view()).counts.done == 1


async def test_the_same_row_twice_in_a_group_is_counted_once(lab):
    """Two deliveries of one row wait for the same commit, and both get its result."""
    batch = await lab.batch(2)
    async with lab.committer() as committer:
        views = await asyncio.gather(
            committer.commit(batch, 1, lab.outcome(1)),
            committer.commit(batch, 1, lab.outcome(1, failed="no")),
            committer.commit(batch, 1, None),
        )
    assert [view.counts for view in views] == [Counts(succeeded=1, agent_ms=5)] * 3
    assert (await lab.view()).counts == Counts(succeeded=1, agent_ms=5)


async def test_an_outcome_joins_a_check_of_the_same_row(lab):
    """A row that waits for a check only is committed when a second delivery brings its outcome."""
    batch = await lab.batch(2)
    async with lab.committer() as committer:
        await asyncio.gather(committer.commit(batch, 1, None), committer.commit(batch, 1, lab.outcome(1)))
    assert (await lab.view()).counts.done == 1


async def test_duplicates_are_dropped_and_the_rest_committed(lab):
    """If some rows are committed already, the transaction is repeated without them, under another token."""
    batch = await lab.batch(100)
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [3, 5, 7])
        views = await commit_all(lab, committer, batch, range(1, 11), failed="second time")
    assert all(view.counts.done == 10 for view in views)
    assert (await lab.view()).counts == Counts(succeeded=3, failed=7, agent_ms=50)
    assert [len(commit.outcomes) for commit in lab.table.commits] == [3, 10, 7]
    assert len({commit.token for commit in lab.table.commits}) == 3
    assert (await lab.outcomes(batch))[5].error is None
    assert lab.metrics.totals["duplicate_outcomes"] == 3


async def test_a_transaction_of_duplicates_is_followed_by_a_check(lab):
    """If every row is committed already, nothing is written, and the batch is checked all the same."""
    batch = await lab.batch(3)
    lab.table.moves_fail = True
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1, 2, 3])
        lab.table.moves_fail = False
        views = await commit_all(lab, committer, batch, [1, 2, 3])
    assert [view.batch.state for view in views] == [State.AGGREGATING] * 3
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert (await lab.view()).counts.done == 3


# -- faults -----------------------------------------------------------------------------------------------


async def test_an_unknown_result_is_repeated_under_the_same_token(lab):
    """A commit that was applied, and whose response was lost, counts once."""
    batch = await lab.batch(5)
    lab.table.after = {1: UnknownResultError("no answer"), 2: UnknownResultError("no answer")}
    async with lab.committer() as committer:
        views = await commit_all(lab, committer, batch, [1, 2, 3])
    assert all(view.counts.succeeded == 3 for view in views)
    assert len({commit.token for commit in lab.table.commits}) == 1
    assert len(lab.table.commits) == 3
    assert lab.metrics.totals["rows_succeeded"] == 3


@pytest.mark.parametrize(
    "error",
    [ConflictError("conflict"), ThrottledError("slow"), UnknownResultError("?"), UnreachableError("-")],
)
async def test_a_commit_that_was_not_applied_is_repeated(lab, error):
    """Conflicts, throttles and lost requests are retried until the commit succeeds. It is counted once."""
    batch = await lab.batch(5)
    lab.table.before = dict.fromkeys(range(1, 8), error)
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1, 2])
    assert len(lab.table.commits) == 8
    assert (await lab.view()).counts.done == 2


async def test_exhausted_retries_fail_the_rows_of_their_group_only(lab):
    """After `timeout_s` every row of the group fails. The rows of another batch are settled."""
    bad, good = await lab.batch(5), await lab.batch(5, execution_id="e2")
    lab.table.always = {bad.batch_id: ConflictError("hot item")}
    with stamina.set_testing(False):
        async with lab.committer(timeout_s=0.1) as committer:
            failed, settled = await asyncio.gather(
                commit_all(lab, committer, bad, [1, 2, 3]), commit_all(lab, committer, good, [1, 2])
            )
    assert [type(error) for error in failed] == [ConflictError] * 3
    assert [view.counts.done for view in settled] == [2, 2]


async def test_the_rows_of_a_failed_group_can_be_committed_later(lab):
    """Their messages are redelivered, and they are committed then."""
    batch = await lab.batch(2)
    lab.table.always = {batch.batch_id: AccessError("dynamodb:TransactWriteItems")}
    async with lab.committer() as committer:
        assert [type(e) for e in await commit_all(lab, committer, batch, [1, 2])] == [AccessError] * 2
        lab.table.always = {}
        await commit_all(lab, committer, batch, [1, 2])
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert len(await triggers(lab)) == 1


async def test_a_row_whose_check_fails_is_not_settled(lab):
    """Its message must not be deleted."""
    batch = await lab.batch(1)
    lab.table.moves_fail = True
    async with lab.committer() as committer:
        (error,) = await commit_all(lab, committer, batch, [1])
    assert isinstance(error, UnreachableError)


async def test_a_missing_permission_to_trigger_is_raised(lab):
    """AccessError from the aggregate queue reaches the rows, so that the consumer pauses."""
    batch = await lab.batch(1)

    class Forbidden(type(lab.aggregate)):
        async def send(self, messages):
            raise AccessError("sqs:SendMessage")

    lab.aggregate = Forbidden("aggregate", lab.clock)
    async with lab.committer() as committer:
        (error,) = await commit_all(lab, committer, batch, [1])
    assert isinstance(error, AccessError)


async def test_a_bug_fails_its_rows_only(lab):
    """An unexpected error fails the rows of its group and is logged. Other groups go on."""
    bad, good = await lab.batch(5), await lab.batch(5, execution_id="e2")
    lab.table.always = {bad.batch_id: ZeroDivisionError("oops")}
    with capture_logs() as logs:
        async with lab.committer() as committer:
            (error,) = await commit_all(lab, committer, bad, [1])
            (view,) = await commit_all(lab, committer, good, [1])
    assert isinstance(error, RetryableError)
    assert view.counts.done == 1
    assert [line["event"] for line in logs].count("settle_crashed") == 1


async def test_a_row_that_cannot_be_stored_fails_alone(lab):
    """The other rows of its transaction are committed."""
    batch = await lab.batch(4)
    async with lab.committer() as committer:
        answers = await asyncio.gather(
            *(
                committer.commit(
                    batch,
                    n,
                    replace(lab.outcome(n), output_data={"answer": math.inf}) if n == 2 else lab.outcome(n),
                )
                for n in (1, 2, 3)
            ),
            return_exceptions=True,
        )
    assert isinstance(answers[1], RowRejectedError)
    assert answers[2].counts.done == 2
    assert (await lab.outcomes(batch)).keys() == {1, 3}


async def test_a_cancelled_waiter_does_not_disturb_the_others(lab):
    """The row of a delivery that was cancelled is committed with the others."""
    batch = await lab.batch(5)
    async with lab.committer(linger_s=0.02) as committer:
        waiters = [asyncio.create_task(committer.commit(batch, n, lab.outcome(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        view = await waiters[1]
    assert view.counts.done == 2
    assert waiters[0].cancelled()


async def test_leaving_the_context_commits_the_waiting_rows(lab):
    """The context ends when no row waits."""
    batch = await lab.batch(5)
    async with lab.committer(linger_s=0.05) as committer:
        waiters = [asyncio.create_task(committer.commit(batch, n, lab.outcome(n))) for n in (1, 2)]
        await asyncio.sleep(0)
    assert (await lab.view()).counts.done == 2
    assert [(await waiter).counts.done for waiter in waiters] == [2, 2]


async def test_cancelling_the_context_fails_the_waiting_rows(lab):
    """A process that stops leaves no row waiting for ever."""
    batch = await lab.batch(5)
    waiters = []

    async def work():
        async with lab.committer(linger_s=3600) as committer:
            waiters.append(asyncio.create_task(committer.commit(batch, 1, lab.outcome(1))))
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await lab.until(lambda: waiters != [])
    working.cancel()
    with pytest.raises(RetryableError, match="stopping"):
        await waiters[0]
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_cancelling_the_context_fails_the_rows_of_a_transaction(make_lab):
    """Rows whose transaction is in progress fail as well."""
    reached = asyncio.Event()

    class Hanging(MemoryTable):
        async def commit(self, commit):
            reached.set()
            await asyncio.Event().wait()

    lab = make_lab(table=Hanging())
    batch = await lab.batch(5)
    waiters = []

    async def work():
        async with lab.committer() as committer:
            waiters.append(asyncio.create_task(committer.commit(batch, 1, lab.outcome(1))))
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await reached.wait()
    working.cancel()
    with pytest.raises(RetryableError, match="stopping"):
        await waiters[0]
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_an_error_in_the_context_is_raised_as_it_is(lab):
    """It is not wrapped in a group, and the waiting rows are committed first."""
    batch = await lab.batch(5)

    async def work():
        async with lab.committer() as committer:
            waiters.append(asyncio.create_task(committer.commit(batch, 1, lab.outcome(1))))
            await asyncio.sleep(0)
            raise ConfigError("the port is taken")

    waiters = []
    with pytest.raises(ConfigError, match="the port is taken"):
        await work()
    assert (await waiters[0]).counts.done == 1


# -- completion ---------------------------------------------------------------------------------------------


async def test_the_last_row_triggers_the_aggregation(lab):
    """When a sealed batch is complete, the trigger is sent and the batch moved on, and not a row earlier."""
    batch = await lab.batch(3)
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1, 3])
        assert (await lab.view()).batch.state is State.RUNNING
        assert await triggers(lab) == []
        await commit_all(lab, committer, batch, [2], failed="no")
    assert await triggers(lab) == [AggregateMessage(batch.batch_id, 1)]
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_batch_that_is_not_sealed_is_not_complete(lab):
    """While rows are still being split the total is unknown. Sealing checks, and triggers."""
    batch = await lab.batch(None)
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1, 2])
        assert await triggers(lab) == []
    await lab.table.seal(batch, 2, "now", owner="")
    await lab.completion.check(batch.batch_id)
    assert len(await triggers(lab)) == 1


async def test_a_batch_without_rows_is_complete_when_it_is_sealed(lab):
    """Zero of zero rows have an outcome."""
    batch = await lab.batch(0)
    await lab.completion.check(batch.batch_id)
    assert len(await triggers(lab)) == 1
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_crash_between_trigger_and_move_is_repaired(lab):
    """The trigger is sent before the move, so the check of a redelivered row sends it once more."""
    batch = await lab.batch(1)
    lab.table.moves_fail = True
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1])
        assert len(await triggers(lab)) == 1
        lab.table.moves_fail = False
        await committer.commit(batch, 1, None)
    assert len(await triggers(lab)) == 1
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_crash_between_commit_and_trigger_is_repaired(lab):
    """The trigger is sent by the check of the redelivered row."""
    batch = await lab.batch(1)
    lab.table.after = {1: AccessError("killed after the commit")}
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1])
        assert (await lab.view()).counts.done == 1
        assert await triggers(lab) == []
        await committer.commit(batch, 1, None)
    assert len(await triggers(lab)) == 1


async def test_a_batch_that_was_moved_on_is_not_triggered_again(lab):
    """Late duplicates of a batch that is being aggregated, or has ended, send nothing."""
    batch = await lab.batch(1)
    async with lab.committer() as committer:
        await commit_all(lab, committer, batch, [1])
        assert len(await triggers(lab)) == 1
        view = await committer.commit(batch, 1, None)
    assert view.batch.state is State.AGGREGATING
    assert await triggers(lab) == []


async def test_the_counters_of_an_earlier_round_do_not_count(lab):
    """A round is complete by its own counters. The outcomes of an earlier round do not add to them."""
    old = await lab.batch(2, round=1)
    async with lab.committer() as committer:
        await commit_all(lab, committer, old, [1])
        lab.table._batches[old.batch_id] = new = _next_round(old)
        await commit_all(lab, committer, old, [2])
        assert (await lab.view()).counts.done == 0
        assert await triggers(lab) == []
        await commit_all(lab, committer, new, [1, 2], round_=2)
    assert (await lab.view()).counts.done == 2
    assert await triggers(lab) == [AggregateMessage(old.batch_id, 2)]


def _next_round(batch):
    return replace(batch, round=batch.round + 1)


async def test_a_row_of_a_later_round_is_not_overwritten(lab):
    """An outcome of an earlier round does not replace one of a later round."""
    old = await lab.batch(1)
    new = lab.table._batches[old.batch_id] = _next_round(old)
    async with lab.committer() as committer:
        await commit_all(lab, committer, new, [1], round_=2)
        await commit_all(lab, committer, old, [1], failed="late")
    assert (await lab.outcomes(new))[1].round == 2
    assert (await lab.view()).counts == Counts(succeeded=1, agent_ms=5)


async def test_counters_beyond_the_total_still_complete_the_batch(lab):
    """More outcomes than rows is a bug. It is logged, and the batch ends all the same."""
    batch = await lab.batch(1)
    with capture_logs() as logs:
        async with lab.committer() as committer:
            await commit_all(lab, committer, batch, [1, 2])
    assert "counters_exceed_due" in [line["event"] for line in logs]
    assert len(await triggers(lab)) == 1


async def test_checking_a_batch_that_does_not_exist_does_nothing(lab):
    """No trigger is sent."""
    assert await lab.completion.check("demo#none") is None
    assert await triggers(lab) == []


@pytest.mark.parametrize("seed", range(20))
async def test_committers_that_race_for_the_last_rows_count_exactly(lab, seed):
    """Two processes commit overlapping rows, with faults: counters are exact, and the trigger is sent."""
    rng = random.Random(seed)
    batch = await lab.batch(40)
    lab.table.before = {n: ConflictError("conflict") for n in range(1, 200) if rng.random() < 0.2}
    lab.table.after = {n: UnknownResultError("lost") for n in range(1, 200) if rng.random() < 0.2}
    async with lab.committer(slot=1) as one, lab.committer(slot=2, max_rows=3) as two:
        orders = [(committer, n) for committer in (one, two) for n in rng.sample(range(1, 41), 40)]
        await asyncio.gather(*(committer.commit(batch, n, lab.outcome(n)) for committer, n in orders))
    assert (await lab.view()).counts == Counts(succeeded=40, agent_ms=200)
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert len(await triggers(lab)) >= 1


async def test_incarnations_are_committed_apart(lab):
    """A late row of an expired batch does not share a transaction with a row of the batch that has its id."""
    old = await lab.batch(2, incarnation="018bcfe5680a1b2c")
    new = lab.table._batches[old.batch_id] = replace(old, incarnation="018bcfe5680b1b2c")
    async with lab.committer() as committer:
        await asyncio.gather(
            committer.commit(old, 1, lab.outcome(1)), committer.commit(new, 2, lab.outcome(2))
        )
    found = [(commit.incarnation, len(commit.outcomes)) for commit in lab.table.commits]
    assert found == [(old.incarnation, 1), (new.incarnation, 1)]
    assert (await lab.view()).counts.done == 1


# -- patience -----------------------------------------------------------------------------------------------


class Patient:
    """Waits for ever, or until `final` is set. Records the failures that it is told of."""

    def __init__(self) -> None:
        self.failures = []
        self.final = None

    def after_failure(self, error):
        """Record."""
        self.failures.append(error)
        return self.final


@pytest.fixture
def many_attempts():
    """Retries that do not wait, and whose number only patience bounds."""
    with stamina.set_testing(True, attempts=100_000):
        yield


@pytest.mark.usefixtures("many_attempts")
async def test_a_patient_row_outlives_any_number_of_failures(lab):
    """A commit that is throttled and denied for long is repeated under one token until it is applied."""
    batch = await lab.batch(2)
    errors = [ThrottledError("no units"), AccessError("no role"), UnknownResultError("no answer")]
    lab.table.before = {number: errors[number % 3] for number in range(1, 900)}
    patient = Patient()
    async with lab.committer(timeout_s=0.0) as committer:
        view = await committer.commit(batch, 1, lab.outcome(1), patient)
    assert view.counts.succeeded == 1
    assert len(patient.failures) == 899
    assert len({commit.token for commit in lab.table.commits}) == 1
    assert lab.metrics.totals["rows_succeeded"] == 1


@pytest.mark.usefixtures("many_attempts")
async def test_rows_of_one_transaction_have_their_own_patience(lab):
    """A row that gives up gets its error at once. The transaction, with its outcome, is repeated."""
    batch = await lab.batch(5)
    lab.table.before = dict.fromkeys(range(1, 50), AccessError("no role"))
    lost = Patient()
    lost.final = RetryableError("the lease is lost")
    async with lab.committer() as committer:
        answers = await asyncio.gather(
            committer.commit(batch, 1, lab.outcome(1), Patient()),
            committer.commit(batch, 2, lab.outcome(2), lost),
            committer.commit(batch, 3, lab.outcome(3)),
            return_exceptions=True,
        )
    assert answers[0].counts.done == 3
    assert answers[1] is lost.final
    assert isinstance(answers[2], AccessError)
    assert len(lost.failures) == 1


@pytest.mark.usefixtures("many_attempts")
async def test_rows_that_wait_for_the_next_transaction_may_give_up_too(lab):
    """They are told of each failure, since the transaction before theirs may last for hours."""
    batch = await lab.batch(5)
    lab.table.always = {batch.batch_id: ThrottledError("no units")}
    first, second = Patient(), Patient()
    async with lab.committer(max_rows=1) as committer:
        one = asyncio.create_task(committer.commit(batch, 1, lab.outcome(1), first))
        two = asyncio.create_task(committer.commit(batch, 2, lab.outcome(2), second))
        await lab.until(lambda: len(second.failures) > 3)
        assert {outcome.number for commit in lab.table.commits for outcome in commit.outcomes} == {1}
        second.final = RetryableError("the lease is lost")
        with pytest.raises(RetryableError, match="lease is lost"):
            await two
        lab.table.always = {}
        await one


@pytest.mark.usefixtures("many_attempts")
async def test_a_check_that_fails_is_repeated_and_triggers_once(lab):
    """A committed row keeps its message until the batch was checked. The trigger is not sent again."""
    batch = await lab.batch(1)
    lab.table.moves_fail = True
    patient = Patient()
    async with lab.committer() as committer:
        waiting = asyncio.create_task(committer.commit(batch, 1, lab.outcome(1), patient))
        await lab.until(lambda: len(patient.failures) > 10)
        lab.table.moves_fail = False
        assert (await waiting).batch.state is State.AGGREGATING
    assert len(lab.table.commits) == 1
    assert len(await triggers(lab)) == 1


class ClosedBucket(MemoryObjects):
    """Refuses the first `refusals` objects."""

    refusals = 0

    async def put(self, bucket, key, body, *, content_type):
        """Put or refuse."""
        self.refusals -= 1
        if self.refusals >= 0:
            raise AccessError("s3:PutObject")
        return await super().put(bucket, key, body, content_type=content_type)


@pytest.mark.usefixtures("many_attempts")
async def test_a_patient_row_waits_for_the_bucket_as_well(lab):
    """An outcome too large for an item is kept until its data is in S3."""
    lab.objects = ClosedBucket()
    lab.objects.refusals = 300
    batch = await lab.batch(2)
    large, patient = replace(lab.outcome(1), output_data={"answer": "x" * 500_000}), Patient()
    async with lab.committer() as committer:
        await committer.commit(batch, 1, large, patient)
        lab.objects.refusals = 1
        with pytest.raises(AccessError, match="PutObject"):
            await committer.commit(batch, 2, replace(large, number=2))
        lab.objects.refusals = 1
        patient.final = RetryableError("the lease is lost")
        with pytest.raises(RetryableError, match="lease is lost"):
            await committer.commit(batch, 2, replace(large, number=2), patient)
    assert len(patient.failures) == 301
    assert (await lab.view()).counts.done == 1


@pytest.mark.usefixtures("many_attempts")
async def test_a_transaction_ends_when_all_its_callers_are_cancelled(lab):
    """A process that must end does not wait for a table that refuses every commit."""
    batch = await lab.batch(5)
    lab.table.always = {batch.batch_id: ThrottledError("no units")}
    patient = Patient()
    async with lab.committer() as committer:
        waiting = asyncio.create_task(committer.commit(batch, 1, lab.outcome(1), patient))
        await lab.until(lambda: len(patient.failures) > 3)
        waiting.cancel()
    assert waiting.cancelled()
    assert (await lab.view()).counts.done == 0


# -- load


class BusyTable(MemoryTable):
    """Refuses every second try of a commit while there is an error; `sizes` are of those applied."""

    def __init__(self, error) -> None:
        super().__init__()
        self.error = error
        self.tries = 0
        self.sizes: list[int] = []

    async def commit(self, commit):
        """Commit or refuse."""
        self.tries += 1
        if self.error is not None and self.tries % 2:
            raise self.error
        self.sizes.append(len(commit.outcomes))
        return await super().commit(commit)


@pytest.mark.parametrize("error", [ThrottledError("no write units"), ConflictError("another commit")])
def test_transactions_grow_while_others_are_in_the_way(make_lab, error) -> None:
    """A row each 0.1 s: few in a transaction at first, many while every commit fails once."""
    lab = make_lab(table=BusyTable(None))
    loop = VirtualLoop(random.Random(1))

    async def commit_rows() -> None:
        batch = await lab.batch(1_200)
        async with lab.committer(linger_s=0.2) as committer, asyncio.TaskGroup() as rows:
            for number in range(1, 1_201):
                lab.table.error = error if 200 < number < 400 else None
                rows.create_task(committer.commit(batch, number, lab.outcome(number)))
                await asyncio.sleep(0.1)
        loop.stop()

    loop.spawn(Owner("worker"), commit_rows())
    loop.run()
    assert loop.errors == []
    sizes = lab.table.sizes
    assert sum(sizes) == 1_200
    assert max(sizes[:50]) <= 4
    assert 25 <= max(sizes) <= 35
    assert max(sizes[-20:]) <= 4
