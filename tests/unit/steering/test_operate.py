"""Operations are carried out once, and whatever follows from them is sent."""

import json

import pytest

from service.batch.ending import fail_batch
from service.domain.errors import UsageError
from service.domain.messages import AggregateMessage
from service.domain.model import Commit, EventKind, OutboxKind, State
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate

# -- results once more ---------------------------------------------------------------------------------------


async def ended(lab, state=State.FAILED, *, rows=3, total=3, **changes):
    """A batch that has ended with `rows` outcomes."""
    batch = await lab.batch(total, state=state, error="why", finished_at="then", **changes)
    outcomes = tuple(lab.outcome(number) for number in range(1, rows + 1))
    if outcomes:
        await lab.table.commit(Commit(batch.batch_id, 1, 1, 0, outcomes, next(lab.tokens), batch.ttl))
    return batch


async def finish(lab, batch, request_id):
    """Have the results written again; return the batch as it stands then."""
    await operate(lab.ports, OperationRequest("finish", batch.batch_id, request_id, "ada"))
    return await lab.view(batch.batch_id)


@pytest.mark.parametrize("state", [State.FAILED, State.SUCCEEDED, State.COMPLETED_WITH_ERRORS])
async def test_results_of_a_batch_that_has_ended_are_written_again(lab, state):
    """The batch becomes AGGREGATING without its error, is triggered, and ends as its outcomes say."""
    batch = await ended(lab, state)
    view = await finish(lab, batch, "r1")
    assert (view.batch.state, view.batch.error, view.batch.finished_at) == (State.AGGREGATING, "", "")
    [body] = await lab.waiting(lab.aggregate)
    assert body == AggregateMessage(batch.batch_id, 1).encode()
    await lab.aggregator().handle(lab.delivery(body))
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded, view.counts.failed) == (State.SUCCEEDED, 3, 0)
    assert ("out", "results/demo/e1/output.csv") in lab.objects.stored


async def test_a_request_that_was_made_before_changes_nothing(lab):
    """The same request id does nothing twice; another one writes the results once more."""
    batch = await ended(lab)
    await finish(lab, batch, "r1")
    [body] = await lab.waiting(lab.aggregate)
    await lab.aggregator().handle(lab.delivery(body))
    view = await finish(lab, batch, "r1")
    assert view.batch.state is State.SUCCEEDED
    assert await lab.waiting(lab.aggregate) == []
    assert (await finish(lab, batch, "r2")).batch.state is State.AGGREGATING


async def test_results_that_wait_are_tried_at_once(lab):
    """After the operator has mended the bucket nobody waits for the next try."""
    batch = await ended(lab, State.AGGREGATING)
    lab.objects.refused.add("out/results/")
    body = AggregateMessage(batch.batch_id, 1).encode()
    for _ in range(3):
        await lab.aggregator().handle(lab.delivery(body))
    lab.objects.refused.clear()
    await finish(lab, batch, "r1")
    await lab.aggregator().handle(lab.delivery((await lab.waiting(lab.aggregate))[0]))
    assert (await lab.view()).batch.state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": State.RUNNING}, "is RUNNING: its results are written once every row has an outcome"),
        ({"rows": 2}, "is FAILED, and 1 of its 3 rows have no outcome"),
        ({"rows": 0, "total": None, "state": State.SPLITTING}, "is SPLITTING"),
    ],
)
async def test_a_batch_without_complete_outcomes_is_not_finished(lab, changes, reason):
    """One sentence says what stands in the way, and nothing changes."""
    batch = await ended(lab, **changes)
    with pytest.raises(UsageError, match=reason):
        await finish(lab, batch, "r1")
    assert (await lab.view()).batch == batch
    assert await lab.waiting(lab.aggregate) == []


async def test_a_source_that_was_not_read_to_its_end_has_no_results(lab):
    """A batch that failed while it was split is named as such."""
    batch = await lab.batch(None)
    await fail_batch(lab.ports, batch, "no table", expected=[State.SPLITTING])
    with pytest.raises(UsageError, match="was not read to its end"):
        await finish(lab, batch, "r1")


async def test_an_unknown_batch_is_not_finished(lab):
    """The sentence names the batch."""
    with pytest.raises(UsageError, match="no batch 'demo#none'"):
        await operate(lab.ports, OperationRequest("finish", "demo#none", "r1", "ada"))


async def test_a_finish_job_is_carried_out_by_the_splitter(lab):
    """A message with an op needs no client; its own id makes a redelivery harmless."""
    batch = await ended(lab)
    body = json.dumps({"v": 1, "op": "finish", "batch_id": batch.batch_id})
    delivery = lab.delivery(body)
    await lab.splitter().handle(delivery)
    [trigger] = await lab.waiting(lab.aggregate)
    await lab.aggregator().handle(lab.delivery(trigger))
    await lab.splitter().handle(delivery)
    assert (await lab.view()).batch.state is State.SUCCEEDED
    [operation] = await lab.table.operations(batch)
    assert (operation.request_id, operation.by) == (delivery.message.id, f"message {delivery.message.id}")


async def test_others_are_told_once_of_a_pause_and_of_what_ends_it(lab):
    """Each event is stored with the change. A cancel of a paused batch is told by its end."""
    batch = await lab.batch(3, event_kinds=tuple(EventKind))

    async def kinds():
        records = await lab.table.records(batch.batch_id, OutboxKind.EVENT)
        return sorted(json.loads(record.text)["kind"] for record in records)

    for number, (op, told) in enumerate(
        [
            ("pause", ["paused"]),
            ("pause", ["paused"]),
            ("resume", ["paused", "resumed"]),
            ("pause", ["paused", "paused", "resumed"]),
            ("cancel", ["paused", "paused", "resumed"]),
        ]
    ):
        await operate(lab.ports, OperationRequest(op, batch.batch_id, f"r{number}", "me"))
        assert await kinds() == told
