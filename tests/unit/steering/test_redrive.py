"""Requests that open a round: what is selected, what is refused, and what the asker is told."""

import asyncio
from dataclasses import replace

import pytest

from service.adapters.aws.table.row_items import row_items
from service.domain.errors import PoisonMessageError, UsageError
from service.domain.messages import RowMessage
from service.domain.model import (
    BatchBudgets,
    Budget,
    Commit,
    Dialect,
    Hold,
    HoldReason,
    RowError,
    State,
    StoredPayload,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.recovery.kept import KeptSelections
from service.steering.operate import carry_out, operate
from service.steering.redrive import Redrive, preview

DAY_MS = 86_400_000


@pytest.fixture
async def batch(lab):
    """A batch of eight rows that has ended: 3 and 4 failed as transient, 5 as rejected."""
    source = await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 9)))
    batch = await lab.batch(
        8, state=State.COMPLETED_WITH_ERRORS, partitions=3, source=source, finished_at="then",
        incarnation="018bcfe5680a1b2c", dialect=Dialect("utf-8", ",", 0, first_byte=8, first_line=2),
        ttl=(lab.clock.now_ms() + 7 * DAY_MS) // 1000, deadline_at="2026-11-23T08:00:00.000Z",
    )  # fmt: skip
    outcomes = [
        lab.outcome(n, attempts=3, input_tokens=10, output_tokens=2)
        if n not in (3, 4, 5)
        else replace(
            lab.outcome(n, failed="no", attempts=3, input_tokens=10),
            error=RowError("AgentRejectedError", "no", "rejected" if n == 5 else "transient"),
        )
        for n in range(1, 9)
    ]
    await commit(lab, batch, *outcomes)
    return batch


async def commit(lab, batch, *outcomes):
    """Commit outcomes."""
    token = next(lab.tokens)
    await lab.table.commit(
        Commit(
            batch.batch_id, batch.round, batch.partitions, 0, outcomes, token, batch.ttl, batch.incarnation
        )
    )


def asked(request_id="r1", op="redrive", **args):
    """A request."""
    return OperationRequest(op, "demo#e1", request_id, "ada", args)


def redrive(lab):
    """The part that opens rounds."""
    return Redrive(lab.ports, lab.find)


async def change(lab, **changes):
    """Change the stored batch."""
    stored = lab.table._batches["demo#e1"]
    lab.table._batches["demo#e1"] = replace(stored, **changes)
    return lab.table._batches["demo#e1"]


async def test_a_round_opens_over_the_selected_rows(lab, batch):
    """The others keep their outcome; the batch runs anew, without its old deadline, error and messages."""
    answer = await redrive(lab).open_round(asked(**{"class": ["transient"]}))
    view = await lab.view()
    second = view.batch
    assert (second.round, second.state, second.due, second.generation) == (2, State.RUNNING, 2, 1)
    assert (second.carried.succeeded, second.carried.failed, second.carried.input_tokens) == (5, 1, 60)
    assert view.all_counts.done == 6
    assert (second.work.kind, second.work.control, second.control) == (WorkKind.SEND, 1, 1)
    assert (second.deadline_at, second.finished_at, second.error, second.sender) == ("", "", "", "")
    assert second.digests == (batch.mapping_digest,)
    kept = await KeptSelections(lab.objects).load(second)
    assert list(kept.due(0, 8)) == [3, 4]
    assert (answer.control, answer.answer["round"], answer.answer["carried"]) == (1, 2, 6)
    assert answer.answer["text"] == "demo#e1 is in round 2: 2 rows run again, 6 keep their outcome"


async def test_the_same_request_opens_one_round(lab, batch):
    """A message that comes again has the same answer."""
    first = await redrive(lab).open_round(asked())
    again = await redrive(lab).open_round(asked())
    assert first == again
    assert (await lab.view()).batch.round == 2


async def test_of_two_redrives_at_once_one_wins(lab, batch):
    """The other is told who has opened the round."""
    results = await asyncio.gather(
        *(redrive(lab).open_round(asked(name)) for name in ("r1", "r2")), return_exceptions=True
    )
    [error] = [result for result in results if isinstance(result, UsageError)]
    assert "is RUNNING in round 2" in str(error)
    assert "round 2 was opened by ada at" in str(error)
    assert len(await lab.table.operations(batch)) == 1


@pytest.mark.parametrize("args", [{"class": ["unavailable"]}, {"error": ["Other"]}, {"rows": "1-2"}])
async def test_nothing_that_matches_is_no_round(lab, batch, args):
    """It is said, and nothing is changed."""
    answer = await redrive(lab).open_round(asked(**args))
    assert answer.control == 0
    assert str(answer.answer["text"]).startswith("no row of demo#e1 matches: nothing was changed")
    # a row that is named and has succeeded is not a mistake, but not what was meant either
    assert str(answer.answer["text"]).endswith("--succeeded") is ("rows" in args)
    assert (await lab.view()).batch == batch


async def test_rows_that_succeeded_run_again_if_they_are_named(lab, batch):
    """With their history, and without their tokens in what is carried."""
    answer = await redrive(lab).open_round(asked(rows="2-3", succeeded=True))
    assert answer.answer["due"] == 2
    assert (await lab.view()).batch.carried.output_tokens == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": State.RUNNING}, "is RUNNING in round 1: it has not ended"),
        ({"state": State.AGGREGATING}, "are being written: redrive it when"),
        ({"state": State.FAILED, "total": None}, "not read to its end: start a new run"),
        (
            {"state": State.PAUSED, "holds": (Hold(HoldReason.USER, "bob", "noon"),)},
            r"is paused: user \(by bob at noon\); `rowfleet resume demo#e1`",
        ),
        ({"ttl": 1}, "there is no batch"),
        ({"round": 999}, "has had 999 rounds"),
    ],
)
async def test_a_batch_in_another_state_is_refused(lab, batch, changes, reason):
    """In words that say what stands there and what can be done."""
    changed = await change(lab, **changes)
    lab.table._now_ms = lab.clock.now_ms
    with pytest.raises(UsageError, match=reason):
        await redrive(lab).open_round(asked())
    assert lab.table._batches["demo#e1"] == changed


async def test_a_batch_that_expires_within_a_day_is_refused(lab, batch):
    """Its outcomes would be gone before the round has ended."""
    now_s = lab.clock.now_ms() // 1000
    await change(lab, ttl=now_s + 86_399)
    with pytest.raises(UsageError, match=r"one could be opened until .*; submit its failures\.csv"):
        await redrive(lab).open_round(asked())
    await change(lab, state=State.PAUSED, holds=(Hold(HoldReason.USER, "bob", "noon"),))
    with pytest.raises(UsageError, match="`rowfleet resume demo#e1` goes on with its own mapping"):
        await redrive(lab).open_round(asked(op="resume", mapping_now=True))


async def test_rows_that_the_batch_does_not_have_are_refused(lab, batch):
    """The sentence says how many there are."""
    with pytest.raises(UsageError, match="there is no row 9: the batch has 8 rows"):
        await redrive(lab).open_round(asked(rows="3-9"))


async def test_rows_without_an_outcome_are_always_due(lab, batch):
    """A FAILED batch may have some; every row of the round has an outcome at its end."""
    await change(lab, state=State.FAILED, total=10)
    answer = await redrive(lab).open_round(asked(**{"class": ["rejected"]}))
    assert answer.answer["due"] == 3
    kept = await KeptSelections(lab.objects).load((await lab.view()).batch)
    assert list(kept.due(0, 10)) == [5, 9, 10]


@pytest.mark.parametrize("is_source_gone", [False, True])
async def test_a_row_that_cannot_be_read_keeps_its_outcome(lab, batch, is_source_gone):
    """Its cells are not in its outcome: it runs again if the source is there, and is skipped if not."""
    lab.table._rows["demo#e1"][3]["input_data"] = {"M": {}}
    stored = StoredPayload("out", "work/gone.json", 10, "0" * 64)
    large = replace(lab.outcome(4, failed="no", round_=1), stored=stored, input_data={})
    [item] = row_items(Commit(batch.batch_id, 1, 3, 0, (large,), "t" * 36, batch.ttl, batch.incarnation))
    lab.table._rows["demo#e1#1"][4] = item
    if is_source_gone:
        del lab.objects.stored["in", "files/rows.csv"]
    answer = await redrive(lab).open_round(asked())
    second = (await lab.view()).batch
    if not is_source_gone:
        assert "skipped" not in answer.answer
        assert second.due == 3
        return
    assert (answer.answer["skipped"], answer.answer["skipped_rows"]) == ([3, 4], 2)
    assert answer.answer["text"].endswith("2 of those cannot be read any more")
    assert (second.due, second.carried.failed) == (1, 2)


async def test_unread_rows_need_their_source(lab, batch):
    """A cancelled batch is read on from its checkpoint only if the object is the same."""
    await change(lab, state=State.CANCELLED, unread_from=9, cancelled_at="then", grace_s=30)
    source, lab.objects.stored = lab.objects.stored, {}
    with pytest.raises(UsageError, match=r"rows.csv is gone or was changed"):
        await redrive(lab).open_round(asked(unread=True))
    lab.objects.stored = source
    await redrive(lab).open_round(asked(unread=True))
    second = (await lab.view()).batch
    assert (second.state, second.total, second.due) == (State.SPLITTING, None, None)
    assert (second.unread_from, second.cancelled_at, second.grace_s) == (0, "", 0)


async def test_a_preview_changes_nothing(lab, batch):
    """It counts by class and error, what the rows took last time, and says until when it can be done."""
    facts = await preview(lab.ports, asked())
    assert facts == {
        "batch_id": "demo#e1",
        "due": 3,
        "unread_from": None,
        "by_class": {"rejected": 1, "transient": 2},
        "by_error": {"AgentRejectedError": 3},
        "cost": {"calls": 9, "input_tokens": 30, "output_tokens": 0},
        "skipped": [],
        "redrivable_until": iso_time((batch.ttl - 86_400) * 1000),
    }
    answer = await redrive(lab).open_round(asked(dry_run=True))
    assert (answer.control, answer.answer["due"]) == (0, 3)
    assert (await lab.view()).batch == batch
    assert not [key for _, key in lab.objects.stored if key.startswith("work/")]


# -- with another mapping ------------------------------------------------------------------------------------


@pytest.fixture
def corrected(lab, define, demo_yaml):
    """The present mapping, which has another field than the one of the batch."""
    lab.definitions["demo"] = define(demo_yaml.replace("{answer: $.answer}", "{size: $.size}"))
    return lab.definitions["demo"]


async def test_the_present_mapping_is_taken_if_it_is_asked_for(lab, batch, corrected):
    """Its fields follow those that the results have; the batch keeps both definitions."""
    await redrive(lab).open_round(asked(mapping_now=True))
    second = (await lab.view()).batch
    assert second.mapping_digest == corrected.digest != batch.mapping_digest
    assert second.output_fields == ("answer", "size")
    assert (second.digest_of(1), second.digest_of(2)) == (batch.mapping_digest, corrected.digest)
    assert await lab.table.definition("demo#e1", corrected.digest) == corrected.text


async def test_a_mapping_that_does_not_fit_is_refused(lab, batch, define, demo_yaml):
    """Before the pass, with the columns that there are."""
    lab.definitions["demo"] = define(demo_yaml.replace("name: name", "name: other"))
    with pytest.raises(UsageError, match=r"does not fit demo#e1: .*'other'"):
        await redrive(lab).open_round(asked(mapping_now=True))
    lab.definitions.clear()
    with pytest.raises(UsageError, match="there is no present mapping"):
        await redrive(lab).open_round(asked(mapping_now=True))


@pytest.mark.parametrize("op", ["resume", "redrive"])
async def test_a_held_batch_goes_on_with_the_present_mapping(lab, batch, corrected, op):
    """Every row that has not succeeded runs by it, and its deadline stays."""
    await change(lab, state=State.PAUSED, holds=(Hold(HoldReason.FAILURES, "rowfleet", "noon"),))
    await redrive(lab).open_round(asked(op=op, mapping_now=True))
    second = (await lab.view()).batch
    assert (second.state, second.round, second.holds, second.due) == (State.RUNNING, 2, (), 3)
    assert second.deadline_at == batch.deadline_at


async def test_a_hold_that_needs_a_decision_stays(lab, batch, corrected):
    """A new mapping does not raise a budget."""
    used_up = {"budget": "batch", "kind": "calls", "cap": 3, "spent": 3, "least": 4}
    held = Hold(HoldReason.BUDGET, "rowfleet", "noon", used_up)
    await change(lab, state=State.PAUSED, holds=(held,), budgets=BatchBudgets(Budget(calls=3)))
    with pytest.raises(UsageError, match=r"is held: budget"):
        await redrive(lab).open_round(asked(op="resume", mapping_now=True))


@pytest.mark.parametrize(
    ("state", "reason"),
    [(State.SUCCEEDED, "redrive demo#e1 --mapping-now"), (State.RUNNING, "rowfleet pause demo#e1")],
)
async def test_a_batch_that_is_not_held_is_not_resumed(lab, batch, corrected, state, reason):
    """The sentence names the command that helps."""
    await change(lab, state=state)
    with pytest.raises(UsageError, match=reason):
        await redrive(lab).open_round(asked(op="resume", mapping_now=True))


async def test_outcomes_that_come_during_the_pass_are_kept(lab, batch, corrected):
    """The last calls of a paused batch still end; their rows do not run again."""
    await change(lab, state=State.PAUSED, total=9, holds=(Hold(HoldReason.USER, "ada", "noon"),))
    read = lab.table.outcomes
    is_late = True

    async def outcomes(batch, partition, *, after, limit):
        nonlocal is_late
        page = await read(batch, partition, after=after, limit=limit)
        if is_late and partition == 0:
            is_late = False
            await commit(lab, batch, lab.outcome(9))
        return page

    lab.table.outcomes = outcomes
    await redrive(lab).open_round(asked(op="resume", mapping_now=True))
    assert (await lab.view()).batch.due == 3


@pytest.mark.parametrize("op", ["resume", "redrive"])
async def test_a_held_batch_without_rows_to_run_again_goes_on(lab, batch, corrected, op):
    """Its last rows have succeeded since it was held: no round opens, and it does not stay held."""
    succeeded = await lab.batch(
        2, state=State.PAUSED, holds=(Hold(HoldReason.USER, "ada", "noon"),), execution_id="e2",
        source=batch.source, dialect=batch.dialect, incarnation=batch.incarnation, ttl=batch.ttl,
    )  # fmt: skip
    await commit(lab, succeeded, lab.outcome(1), lab.outcome(2))
    request = OperationRequest(op, "demo#e2", "r1", "ada", {"mapping_now": True})
    answer = await redrive(lab).open_round(request)
    stored = lab.table._batches["demo#e2"]
    assert (stored.state, stored.round, stored.holds) == (State.RUNNING, 1, ())
    assert answer.answer == {"text": "demo#e2 goes on; no row is left to run again", "due": 0}


async def test_rows_that_were_still_due_stay_due(lab, batch, corrected):
    """A second round that is paused: its rows without an outcome of it run in the third, failed or not."""
    await redrive(lab).open_round(asked(rows="2-4", succeeded=True))
    second = await change(lab, state=State.PAUSED, holds=(Hold(HoldReason.USER, "ada", "noon"),))
    await commit(lab, second, lab.outcome(3, round_=2))
    await redrive(lab).open_round(asked("r2", "resume", mapping_now=True))
    third = (await lab.view()).batch
    kept = await KeptSelections(lab.objects).load(third)
    assert list(kept.due(0, 8)) == [2, 4, 5]
    assert third.carried.done == 5


# -- answers and late messages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [({"rows": "3-9"}, "there is no row 9"), ({"class": ["unavailable"]}, "no row of demo#e1 matches")],
)
async def test_answers_are_kept_for_whoever_has_asked(lab, batch, args, text):
    """A refusal, or that nothing matches; the log of operations has neither."""
    await lab.splitter().handle(lab.delivery(asked(**args).encode()))
    answer = await lab.table.operation(batch, "r1")
    assert text in answer.answer["text"]
    assert answer.control == 0
    assert await lab.table.operations(batch) == []


async def test_a_request_for_no_batch_is_poison(lab):
    """There is nothing under which its answer could be kept."""
    with pytest.raises(PoisonMessageError, match="there is no batch 'demo#e1' to redrive"):
        await carry_out(lab.ports, asked(), "m1")


async def test_a_dead_request_is_sent_again(lab, batch):
    """It is carried out once, under the id of its first message."""
    body = OperationRequest("redrive", "demo#e1").encode()
    async with lab.committer() as committer:
        await lab.dead_letters(committer).job(lab.delivery(body, message_id="m7"))
    await lab.pass_time(600)
    [again] = await lab.waiting(lab.ingest)
    assert '"request_id":"m7"' in again
    await lab.splitter().handle(lab.delivery(again))
    assert (await lab.view()).batch.round == 2


async def test_messages_of_an_earlier_round_are_dropped(lab, batch, scripted):
    """Neither a late message nor a late call of the first round counts in the second."""
    agent = lab.agent = scripted()
    await redrive(lab).open_round(asked())
    await commit(lab, batch, replace(lab.outcome(4), round=1, attempts=9))
    async with lab.working() as worker:
        late = RowMessage(batch.batch_id, 1, 3, ("3", "x"), incarnation=batch.incarnation)
        await worker.handle(lab.delivery(late.encode()))
    assert agent.calls == []
    view = await lab.view()
    assert view.counts.done == 0
    assert not view.is_complete


@pytest.mark.parametrize(("is_same", "round_"), [(False, 2), (True, 1)])
async def test_the_idempotency_key_is_that_of_the_round(lab, batch, scripted, is_same, round_):
    """Or of the first one, for agents that remember keys."""
    agent = lab.agent = scripted()
    await redrive(lab).open_round(asked(rows="3", same_id=is_same))
    second = (await lab.view()).batch
    row = lab.row(3, second, generation=second.generation)
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode()))
    assert [call.id for call in agent.calls] == [f"{batch.identity}/{round_}/3"]


async def test_a_round_can_be_cancelled(lab, batch):
    """Its rows are FAILED as cancelled, and the others keep their outcome."""
    await redrive(lab).open_round(asked())
    await operate(lab.ports, OperationRequest("cancel", "demo#e1", "c1", "ada", {"grace": 0}))
    await lab.pass_time(60)
    bodies = await lab.waiting(lab.ingest)
    async with lab.committer() as committer:
        splitter = lab.splitter(committer)
        for body in bodies:
            await splitter.handle(lab.delivery(body))
    view = await lab.view()
    assert (view.batch.state, view.counts.cancelled, view.all_counts.done) == (State.AGGREGATING, 3, 8)


async def test_a_round_whose_selection_is_gone_fails(lab, batch):
    """Nobody knows any more which rows are due; it can be redriven, as its outcomes are there."""
    await redrive(lab).open_round(asked())
    for place in [place for place in lab.objects.stored if place[1].startswith("work/")]:
        del lab.objects.stored[place]
    [body] = await lab.waiting(lab.ingest)
    await lab.splitter().handle(lab.delivery(body))
    failed = (await lab.view()).batch
    assert failed.state is State.FAILED
    assert "the rows of this round are listed in" in failed.error
    await redrive(lab).open_round(asked("r2"))
    third = (await lab.view()).batch
    assert (third.round, third.due) == (3, 3)
