"""Operations are carried out once, and whatever follows from them is sent."""

import asyncio
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryTable
from service.batch.ending import fail_batch
from service.domain.errors import PoisonMessageError, RetryableError, UnknownResultError, UsageError
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.messages import AggregateMessage
from service.domain.model import Commit, EventKind, OutboxKind, State
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.steering.operate import CHANGES, operate


class Raced(MemoryTable):
    """Runs `first` once before an operation is written; loses the answer to the first one if told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = None
        self.loses_answer = False
        self.always_changed = False

    async def operate(self, before, *args, **named):
        """Write."""
        action, self.first = self.first, None
        if action is not None:
            await action()
        if self.always_changed:
            return False
        made = await super().operate(before, *args, **named)
        if self.loses_answer:
            self.loses_answer = False
            raise UnknownResultError("no answer")
        return made


@pytest.fixture
def lab(make_lab):
    """A laboratory whose operations may race."""
    return make_lab(table=Raced())


def request(op, batch, request_id="r1", by="ada", **args):
    return OperationRequest(op, batch.batch_id, request_id, by, args)


async def stored(lab):
    return (await lab.view()).batch


async def asked(lab):
    """The jobs and requests that wait on the ingest queue, delayed ones after their time."""
    await lab.clock.advance(100)
    messages = [decode_ingest(body) for body in await lab.waiting(lab.ingest)]
    return [message.operation or message.jobs[0] for message in messages]


def again(batch):
    """The job that has a batch split on, as it arrives."""
    return decode_ingest(Job.again_for(batch).encode()).jobs[0]


# -- one request ---------------------------------------------------------------------------------------------


async def test_an_operation_is_logged_with_who_and_when(lab):
    """The log has what was asked for and the answer; the batch counts its operations."""
    batch = await lab.batch(3)
    done = await operate(lab.ports, request("pause", batch, now=True))
    assert (done.op, done.by, done.control, done.args) == ("pause", "ada", 1, {"now": True})
    assert await lab.table.operations(batch) == [done]
    after = await stored(lab)
    assert (after.state, after.control, after.updated_at) == (State.PAUSED, 1, done.at)


async def test_a_request_that_changes_nothing_is_not_logged(lab):
    """Its answer says what stands there."""
    batch = await lab.batch(3)
    done = await operate(lab.ports, request("resume", batch))
    assert (done.control, await lab.table.operations(batch)) == (0, [])


async def test_the_same_request_twice_has_one_answer(lab):
    """Also when the batch has moved on since."""
    batch = await lab.batch(3)
    first = await operate(lab.ports, request("pause", batch))
    await operate(lab.ports, request("resume", batch, "r2"))
    assert await operate(lab.ports, request("pause", batch)) == first
    assert (await stored(lab)).state is State.RUNNING


async def test_a_request_whose_answer_was_lost_is_made_once(lab):
    """The log of operations says that it was made."""
    batch = await lab.batch(3)
    lab.table.loses_answer = True
    done = await operate(lab.ports, request("pause", batch))
    assert done.control == (await stored(lab)).control == 1


async def test_two_operators_at_once_pause_once(lab):
    """The second one reads that the first was faster."""
    batch = await lab.batch(3)
    answers = await asyncio.gather(
        *(operate(lab.ports, request("pause", batch, f"r{n}", f"user {n}")) for n in range(5))
    )
    assert sorted(answer.control for answer in answers) == [0, 0, 0, 0, 1]
    assert len(await lab.table.operations(batch)) == 1


async def test_an_operation_follows_the_changes_of_others(lab):
    """The batch is sealed just before the pause is written: the pause is decided anew."""
    batch = await lab.batch(None)
    await lab.table.lease(batch, state=batch.state, owner="s", now_ms=1, until_ms=9)

    async def seal():
        await lab.table.seal(batch, 3, "now", owner="s")

    lab.table.first = seal
    await operate(lab.ports, request("pause", batch))
    after = await stored(lab)
    assert (after.state, after.total) == (State.PAUSED, 3)


@pytest.mark.parametrize("to", [State.AGGREGATING, State.SUCCEEDED])
@pytest.mark.parametrize("op", ["pause", "cancel"])
async def test_the_last_row_is_faster_than_an_operation(lab, op, to):
    """The batch completes just before: nothing of it is changed any more."""
    batch = await lab.batch(3)

    async def complete():
        await lab.table.move(batch, expected=State.RUNNING, to=State.AGGREGATING, now="now")
        if to is not State.AGGREGATING:
            await lab.table.move(batch, expected=State.AGGREGATING, to=to, now="now")

    lab.table.first = complete
    if op == "cancel" and to.is_final:
        assert (
            (await operate(lab.ports, request(op, batch))).answer["text"].startswith("demo#e1 had finished")
        )
    else:
        with pytest.raises(UsageError):
            await operate(lab.ports, request(op, batch))
    assert ((await stored(lab)).state, (await stored(lab)).control) == (to, 0)


async def test_a_request_gives_up_on_a_batch_that_others_change_all_the_time(lab):
    """It says so, and can be made again."""
    batch = await lab.batch(3)
    lab.table.always_changed = True
    with pytest.raises(RetryableError, match="is changed by others"):
        await operate(lab.ports, request("pause", batch))
    assert CHANGES < 100


# -- messages that follow ------------------------------------------------------------------------------------


async def test_a_resume_asks_for_its_rows(lab):
    """The fleet sends the rows without an outcome again."""
    batch = await lab.batch(3)
    await operate(lab.ports, request("pause", batch))
    assert await asked(lab) == []
    await operate(lab.ports, request("resume", batch, "r2"))
    assert await asked(lab) == [WorkRequest(batch.batch_id, batch.incarnation, 2)]


async def test_a_resume_has_a_batch_split_on(lab):
    """The job is sent anew; the splitter sends the rows before its checkpoint again."""
    batch = await lab.batch(None)
    await operate(lab.ports, request("pause", batch))
    await operate(lab.ports, request("resume", batch, "r2"))
    assert await asked(lab) == [again(batch)]


async def test_a_cancel_asks_for_its_rows_once_no_call_is_under_way(lab):
    """After the grace, and the time in which every worker notices it."""
    batch = await lab.batch(3)
    await operate(lab.ports, request("cancel", batch, grace=20))
    await lab.clock.advance(29)
    assert await lab.ingest.depth() == 1
    assert await lab.waiting(lab.ingest) == []
    await lab.clock.advance(1)
    assert await asked(lab) == [WorkRequest(batch.batch_id, batch.incarnation, 1)]


async def test_a_cancel_leaves_a_split_under_way_alone(lab):
    """The splitter notices it. A batch that was held has no splitter, so its job is sent anew."""
    batch = await lab.batch(None)
    await lab.table.lease(batch, state=batch.state, owner="s", now_ms=1, until_ms=10**15)
    await operate(lab.ports, request("cancel", batch))
    assert await asked(lab) == []
    other = await lab.batch(None, execution_id="e2")
    await operate(lab.ports, request("pause", other))
    await operate(lab.ports, request("cancel", other, "r2"))
    assert await asked(lab) == [again(other)]


async def test_messages_that_were_never_sent_are_sent_by_the_next_request(lab):
    """The process died after the transaction: the same request, made again, sends them."""
    batch = await lab.batch(3)
    await operate(lab.ports, request("pause", batch))
    await operate(lab.ports, request("resume", batch, "r2"))
    await asked(lab)
    await operate(lab.ports, request("resume", batch, "r2"))
    assert await asked(lab) == [WorkRequest(batch.batch_id, batch.incarnation, 2)]


# -- as messages ---------------------------------------------------------------------------------------------


async def test_a_message_is_an_operation(lab):
    """Its id is the request's, so a redelivery does nothing twice; a null sets a limit back."""
    batch = await lab.batch(3, max_concurrency=5, priority=2)
    args = {"max_concurrency": None, "priority": None, "weight": 7}
    body = json.dumps({"v": 1, "op": "set", "batch_id": batch.batch_id, "args": args})
    delivery = lab.delivery(body)
    for _ in range(2):
        await lab.splitter().handle(delivery)
    assert await stored(lab) == replace(
        batch, max_concurrency=None, weight=7, control=1, updated_at=(await stored(lab)).updated_at
    )


async def test_a_message_that_is_refused_is_logged(lab):
    """Nobody waits for an answer. One for an unknown batch is poison."""
    batch = await lab.batch(3, state=State.SUCCEEDED)
    with capture_logs() as logs:
        await lab.splitter().handle(lab.delivery(request("pause", batch).encode()))
    assert [line["reason"] for line in logs if line["event"] == "operation_refused"] == [
        "batch demo#e1 has ended, it is SUCCEEDED: it cannot be paused"
    ]
    with pytest.raises(PoisonMessageError, match="no batch 'demo#none'"):
        await lab.splitter().handle(lab.delivery(OperationRequest("pause", "demo#none").encode()))


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
