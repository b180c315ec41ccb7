"""Rows are turned away while the first outcomes of their round wait to be judged."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from service.domain.errors import AgentRejectedError, RetryableError, RoundInDoubtError
from service.domain.model import BatchView, Counts, HoldReason, RowError, State
from service.domain.tolerance import parse_tolerance
from service.worker.first_outcomes import FirstOutcomes


@pytest.fixture
async def batch(lab):
    """A batch of which the first three outcomes are judged."""
    return await lab.batch(1000, tolerate=parse_tolerance("first=3"))


def failed(lab, number, message="no field", class_="rejected"):
    """A failed outcome."""
    outcome = lab.outcome(number, failed="x")
    return replace(outcome, error=RowError("ExtractionError", message, class_))


def test_calls_wait_for_the_judgement_of_the_first_failures(lab, batch):
    """In doubt no call begins; once the outcomes are judged, and the batch goes on, calls begin again."""
    first = FirstOutcomes()
    with first.pending(batch, failed(lab, 1)), first.pending(batch, failed(lab, 2)):
        first.check(batch)
        with first.pending(batch, failed(lab, 3)) as pending:
            with pytest.raises(RoundInDoubtError) as caught:
                first.check(batch)
            assert caught.value.retry_after_s == 1.0
            pending.committed(BatchView(batch, Counts(failed=2, rejected=2)))
            with pytest.raises(RoundInDoubtError):
                first.check(batch)
            pending.committed(BatchView(batch, Counts(failed=3, rejected=3)))
            first.check(batch)
            with first.pending(batch, failed(lab, 4)):
                first.check(batch)


def test_doubt_ends_with_the_commits(lab, batch):
    """Also if they fail: their rows come again, and nothing is left to wait for."""
    first = FirstOutcomes()
    for number in (1, 2, 3):
        with pytest.raises(RetryableError), first.pending(batch, failed(lab, number)):
            raise RetryableError("no")
    first.check(batch)


@pytest.mark.parametrize(
    "outcomes",
    [
        [("no field", "rejected"), ("no field", "rejected"), ("another cause", "rejected")],
        [("down", "unavailable")] * 3,
        [None, ("no field", "rejected"), ("no field", "rejected"), ("no field", "rejected")],
    ],
)
def test_other_first_outcomes_raise_no_doubt(lab, batch, outcomes):
    """Different causes, a target that is down, and a row that succeeded."""
    first = FirstOutcomes()
    with ExitStack() as stack:
        for number, error in enumerate(outcomes, 1):
            outcome = failed(lab, number, *error) if error else lab.outcome(number)
            stack.enter_context(first.pending(batch, outcome))
        first.check(batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerate": parse_tolerance("first=0")},
        {"tolerate": parse_tolerance("first=3,on_exceeded=finish")},
        {"judged_round": 1},
        {"round": 2},
    ],
)
def test_rounds_that_are_not_judged_raise_no_doubt(lab, batch, changes):
    """Because the mapping says so, or a user has gone on; other rounds have outcomes of their own."""
    first = FirstOutcomes()
    with ExitStack() as stack:
        for number in (1, 2, 3):
            stack.enter_context(first.pending(batch, failed(lab, number)))
        with pytest.raises(RoundInDoubtError):
            first.check(batch)
        first.check(replace(batch, **changes))


async def test_a_wrong_mapping_costs_the_first_rows_and_those_under_way(lab, scripted):
    """Of a thousand rows that the agent rejects at once, no more are called than are judged."""
    batch = await lab.batch(1000, tolerate=parse_tolerance("first=20"))
    lab.agent = scripted(lambda _: AgentRejectedError("422"))
    await lab.send(lab.rows, *(lab.row(number, batch).encode() for number in range(1, 201)))
    async with lab.committer(linger_s=0.2) as committer:
        worker = lab.worker(committer, lab.batch_cache(max_in_flight=4))
        async with lab.consuming(lab.consumer(lab.rows, worker.handle, max_running=200, max_held=200)):
            await lab.until(lambda: len(lab.agent.calls) >= 20)
            for _ in range(40):
                await lab.pass_time(1.0)
    view = await lab.view()
    assert view.batch.state is State.PAUSED
    assert view.batch.hold(HoldReason.FAILURES) is not None
    assert 20 <= len(lab.agent.calls) <= 20 + 4
