"""The work of a remap: outcomes from kept replies, without a call, once each, whatever operations come."""

from dataclasses import replace

import pytest

from service.batch.commits.commit_group import GroupCommitLimits
from service.domain.errors import UsageError
from service.domain.model import State, Status, WorkKind
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.recovery.ordered_rows import YIELD_ROWS
from service.steering import work as work_module
from service.steering.operate import operate
from service.steering.redrive import Redrive
from service.steering.remapping.remap import Remap
from service.steering.remapping.work import RemapWork
from tests.unit.steering.remapping.conftest import STRICT, TOWNS, asked, text_of


async def open_round(lab, request_id="r1", **args):
    """Open a remap; return the request for its work."""
    await Remap(lab.ports, lab.find).open_round(asked(request_id, allow_missing=True, **args))
    return await work_of(lab)


async def work_of(lab):
    """The request for the present work of the batch."""
    await lab.waiting(lab.ingest)
    batch = (await lab.view()).batch
    return WorkRequest(batch.batch_id, batch.incarnation, batch.control)


async def do(lab, op, **args):
    """Operate on the batch."""
    await operate(lab.ports, OperationRequest(op, "demo#e1", f"{op}-{len(args)}", "ada", args))


async def handle(lab, request):
    """Do the work."""
    async with lab.committer() as committer:
        await lab.fleet_work(committer).handle(request, lab.delivery(request.encode()))


async def finished(lab):
    """Have the results written; return the lines of the output and the batch."""
    batch = (await lab.view()).batch
    [body] = await lab.waiting(lab.aggregate)
    await lab.aggregator().handle(lab.delivery(body))
    key = f"{batch.results.prefix}output.csv"
    return lab.objects.stored["out", key].body.decode().splitlines(), (await lab.view()).batch


async def test_each_row_gets_the_values_of_the_new_mapping(lab, batch):
    """It keeps cells, tokens, attempts and its reply, and no agent is called."""
    before = await lab.outcomes(batch)
    await handle(lab, await open_round(lab, mapping=text_of(TOWNS)))
    view = await lab.view()
    assert (view.batch.state, view.counts.done, view.batch.work) == (State.AGGREGATING, 7, None)
    assert (view.all_counts.succeeded, view.all_counts.failed) == (6, 2)
    assert view.all_counts.input_tokens == 60
    after = await lab.outcomes(view.batch)
    assert after[1].output_data == {"answer": "re: name 1", "town": "T1"}
    for name in ("input_data", "attempts", "input_tokens", "output_tokens", "execution_time_ms", "reply"):
        assert getattr(after[1], name) == getattr(before[1], name), name
    assert (after[1].round, after[1].reply_round, after[1].values_round) == (2, 1, 0)
    assert [(past.round, past.status) for past in after[1].history] == [(1, Status.SUCCESS)]
    assert (after[5].status, after[5].error.type) == (Status.FAILED, "ExtractionError")
    assert "town" in after[5].error.message
    assert after[4] == before[4]
    assert lab.agent.calls == []
    assert await lab.sent_rows() == []


async def test_the_results_say_by_which_mapping_each_row_was_served(lab, batch):
    """The header has grown, and `_round` is the round whose mapping gave the values."""
    await handle(lab, await open_round(lab, mapping=text_of(TOWNS)))
    lines, batch = await finished(lab)
    assert lines[0].startswith("input_id,input_name,output_answer,output_town,")
    assert lines[1].startswith("1,name 1,re: name 1,T1,1,SUCCESS")
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == ["2", "2", "2", "1", "2", "2", "2", "2"]
    assert batch.state is State.COMPLETED_WITH_ERRORS


async def test_a_wrong_mapping_is_mended_without_a_call(lab, batch):
    """Rows that it made fail have their reply still, so the right one makes them succeed again."""
    await handle(lab, await open_round(lab, mapping=text_of(STRICT)))
    view = await lab.view()
    assert (view.all_counts.succeeded, view.all_counts.failed) == (0, 8)
    await finished(lab)
    await handle(lab, await open_round(lab, "r2", mapping=text_of(TOWNS)))
    view = await lab.view()
    assert (view.batch.round, view.all_counts.succeeded, view.all_counts.input_tokens) == (3, 6, 60)
    outcome = (await lab.outcomes(view.batch))[2]
    assert (outcome.reply_round, [past.round for past in outcome.history]) == (1, [1, 2])


async def test_better_values_are_kept_if_that_is_asked_for(lab, batch):
    """Their outcome says by which mapping they came."""
    before = await lab.outcomes(batch)
    await handle(lab, await open_round(lab, mapping=text_of(STRICT), keep_better=True))
    view = await lab.view()
    assert view.all_counts.succeeded == 6
    kept = (await lab.outcomes(view.batch))[1]
    assert (kept.output_data, kept.timestamp) == (before[1].output_data, before[1].timestamp)
    assert (kept.round, kept.values_round, kept.history) == (2, 1, ())
    lines, _ = await finished(lab)
    assert lines[1].endswith(",1")


async def test_a_row_whose_reply_is_gone_keeps_its_outcome(lab, batch):
    """What was paid for is not lost."""
    request = await open_round(lab, mapping=text_of(TOWNS))
    item = lab.table._rows["demo#e1#1"][1]
    item["reply"] = {"S": "no JSON"}
    await handle(lab, request)
    outcome = (await lab.outcomes(batch))[1]
    assert (outcome.status, outcome.output_data) == (Status.SUCCESS, {"answer": "re: name 1"})
    assert (outcome.round, outcome.values_round) == (2, 1)
    assert lab.metrics.totals["replies_missing"] == 1


async def test_a_pause_ends_the_work_and_a_resume_goes_on_with_it(lab, batch):
    """No message of a row is sent by either."""
    await open_round(lab, mapping=text_of(TOWNS))
    await do(lab, "pause")
    request = await work_of(lab)
    await handle(lab, request)
    assert (await lab.view()).counts.done == 0
    await do(lab, "resume")
    assert (await lab.view()).batch.work.kind is WorkKind.REMAP
    await handle(lab, await work_of(lab))
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert await lab.sent_rows() == []


async def test_the_work_notices_a_pause_with_its_next_transaction(lab, batch, monkeypatch):
    """It does not go on to the end of a large batch."""
    monkeypatch.setattr("service.recovery.ordered_rows.YIELD_ROWS", 2)
    request = await open_round(lab, mapping=text_of(TOWNS))
    commits = 0
    original = lab.table.commit

    async def commit(commit_):
        nonlocal commits
        commits += 1
        if commits == 2:
            await do(lab, "pause")
        return await original(commit_)

    monkeypatch.setattr(lab.table, "commit", commit)
    await handle(lab, request)
    view = await lab.view()
    assert (view.batch.state, view.counts.done) == (State.PAUSED, 4)


async def test_work_goes_on_at_its_checkpoint(lab, batch, monkeypatch):
    """A process that dies loses little of it, and no row gets two outcomes."""
    monkeypatch.setattr("service.recovery.ordered_rows.YIELD_ROWS", 3)
    monkeypatch.setattr(work_module, "SAVE_ROWS", 3)
    request = await open_round(lab, mapping=text_of(TOWNS))
    made = RemapWork._commit

    async def die_later(self, batch, earlier, new):
        if new[0].number > 3:
            raise RuntimeError("the process has died")
        return await made(self, batch, earlier, new)

    with monkeypatch.context() as patch:
        patch.setattr(RemapWork, "_commit", die_later)
        with pytest.raises(RuntimeError):
            await handle(lab, request)
    view = await lab.view()
    assert (view.batch.work.after, view.counts.done) == (3, 3)
    await lab.table.release("demo#e1", owner=view.batch.lease_owner)
    await handle(lab, request)
    view = await lab.view()
    assert (view.batch.state, view.counts.done) == (State.AGGREGATING, 7)


async def test_a_cancel_gives_the_rows_that_are_left_their_outcome_again(lab, batch):
    """None of them fails as cancelled: they were paid for. The batch ends as its rows say."""
    before = await lab.outcomes(batch)
    await open_round(lab, mapping=text_of(STRICT))
    await do(lab, "cancel")
    await handle(lab, await work_of(lab))
    view = await lab.view()
    assert (view.all_counts.succeeded, view.all_counts.cancelled) == (6, 0)
    after = await lab.outcomes(view.batch)
    assert {n: one.output_data for n, one in after.items()} == {
        n: one.output_data for n, one in before.items()
    }
    _, batch = await finished(lab)
    assert batch.state is State.COMPLETED_WITH_ERRORS


async def test_the_work_of_a_cancel_begins_at_once(lab, batch):
    """No call is under way that could need a grace."""
    await open_round(lab)
    await do(lab, "cancel")
    assert len(await lab.waiting(lab.ingest)) == 1


async def test_a_redrive_follows_a_remap(lab, batch):
    """Its failed rows are called again; the others keep the values of the remap."""
    await handle(lab, await open_round(lab, mapping=text_of(TOWNS)))
    await finished(lab)
    redrive = replace(asked("r2"), op="redrive", args={})
    await Redrive(lab.ports, lab.find).open_round(redrive)
    batch = (await lab.view()).batch
    assert (batch.round, batch.is_remap, batch.due, batch.work.kind) == (3, False, 2, WorkKind.SEND)


async def test_a_paused_remap_gets_no_other_mapping(lab, batch):
    """A resume with the present one would call the agent for rows that have their reply."""
    await open_round(lab)
    await do(lab, "pause")
    resume = replace(asked("r2"), op="resume", args={"mapping_now": True})
    with pytest.raises(UsageError, match="is being remapped"):
        await Redrive(lab.ports, lab.find).open_round(resume)


async def test_a_row_message_of_a_remap_is_dropped(lab, batch):
    """Nobody sends one; a process of an earlier version might."""
    await open_round(lab)
    second = (await lab.view()).batch
    async with lab.working() as worker:
        await worker.handle(lab.delivery(lab.row(1, second, generation=second.generation).encode()))
    assert lab.agent.calls == []
    assert (await lab.view()).counts.done == 0


async def test_a_dead_row_message_of_a_remap_is_dropped(lab, batch):
    """It is neither sent again nor FAILED."""
    await open_round(lab)
    second = (await lab.view()).batch
    body = lab.row(1, second, generation=second.generation, lost_deliveries=9).encode()
    async with lab.committer() as committer:
        await lab.dead_letters(committer).row(lab.delivery(body))
    assert (await lab.view()).counts.done == 0
    assert await lab.sent_rows() == []


async def test_the_sweeper_does_the_work_of_a_remap_that_stands_still(lab, batch):
    """Its message is lost; no row is sent to an agent."""
    await open_round(lab, mapping=text_of(TOWNS))
    async with lab.committer() as committer:
        sweeper = lab.sweeper(committer)
        await sweeper.sweep()
        await lab.pass_time(400)
        await sweeper.sweep()
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert await lab.sent_rows() == []


async def test_the_sweeper_remaps_rows_that_were_left_out(lab, batch):
    """The work is done and gone, and rows lack an outcome all the same."""
    await open_round(lab, mapping=text_of(TOWNS))
    stored = lab.table._batches["demo#e1"]
    lab.table._batches["demo#e1"] = replace(stored, work=None)
    async with lab.committer() as committer:
        sweeper = lab.sweeper(committer)
        await sweeper.sweep()
        await lab.pass_time(400)
        await sweeper.sweep()
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert await lab.sent_rows() == []


def test_a_part_fills_a_transaction():
    """Otherwise each commit would wait for more rows."""
    assert GroupCommitLimits().max_rows == YIELD_ROWS
