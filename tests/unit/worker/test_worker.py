"""The worker: from a row message to a settled row."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryTable
from service.batch.large_outcomes import LargeOutcomeLimits
from service.batch.outcomes import MAX_ERROR_CHARS
from service.domain.errors import (
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
    UnreachableError,
)
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import Commit, Outcome, RowError, State, Status
from service.domain.ports import ITEM_BYTES

ONE_SLOT = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer, more: $.more}}]
execution: {max_concurrency: 1, timeout_seconds: 10, retry_policy: {max_attempts: 1}}
"""


async def handle(lab, *rows, receives=1, **options) -> None:
    """Deliver rows to one worker, all at once, and let time pass until they are handled."""
    async with lab.working(**options) as worker:
        await all_done(lab, [worker.handle(lab.delivery(row.encode(), receives=receives)) for row in rows])


async def all_done(lab, handlings) -> list[None]:
    tasks = [asyncio.create_task(handling) for handling in handlings]
    await lab.until(lambda: all(task.done() for task in tasks), step_s=0.25)
    return await asyncio.gather(*tasks)


async def outcome_of(lab, batch, number=1) -> Outcome:
    return (await lab.outcomes(batch))[number]


# -- outcomes ---------------------------------------------------------------------------------------------


async def test_a_row_becomes_an_outcome(lab):
    """The agent gets the mapped input. Its reply is committed with attempts, times and worker."""
    batch = await lab.batch(2)

    async def answer(invocation):
        await lab.clock.sleep(1.25)
        return {"answer": 42, "ignored": True}

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch), name="worker-7")
    (call,) = lab.agent.calls
    assert (call.id, call.body, call.attempt, call.timeout_s) == ("demo#e1/1/1", {"name": "name 1"}, 1, 10)
    assert await outcome_of(lab, batch) == Outcome(
        number=1,
        round=1,
        status=Status.SUCCESS,
        input_data={"id": "1", "name": "name 1"},
        output_data={"answer": 42},
        reply='{"answer":42,"ignored":true}',
        execution_time_ms=1250,
        timestamp="2023-11-14T22:13:21.250Z",
        attempts=1,
        worker="worker-7",
    )
    assert (await lab.view()).counts.succeeded == 1


async def test_tokens_are_counted(lab):
    """The usage that an agent reports is stored with the row and summed for the batch."""
    batch = await lab.batch(2)
    lab.agent.script = lambda _: {"answer": "x", "usage": {"input_tokens": 11, "output_tokens": 7}}
    await handle(lab, lab.row(1, batch), lab.row(2, batch))
    outcome = await outcome_of(lab, batch)
    assert (outcome.input_tokens, outcome.output_tokens) == (11, 7)
    counts = (await lab.view()).counts
    assert (counts.input_tokens, counts.output_tokens) == (22, 14)


async def test_the_consumer_slot_is_released_before_the_row_is_settled(lab, stub_consumer):
    """After the reply only the commit is left, so the next row may start."""
    batch = await lab.batch(2)
    async with lab.committer(linger_s=3600, max_rows=2) as committer:
        worker = lab.worker(committer)
        one = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(1, batch).encode(), consumer=stub_consumer))
        )
        await lab.until(lambda: stub_consumer.slots_released == 1)
        assert not one.done()
        await worker.handle(lab.delivery(lab.row(2, batch).encode(), consumer=stub_consumer))
        await one
    assert stub_consumer.slots_released == 2


@pytest.mark.parametrize(
    ("answer", "kind", "class_", "text"),
    [
        (AgentRejectedError("422: no such city"), "AgentRejectedError", "rejected", "422: no such city"),
        ({"other": 1}, "ExtractionError", "rejected", "answer"),
        ("no json", "ExtractionError", "rejected", "answer"),
        (AgentTimeoutError("no answer"), "AgentTimeoutError", "transient", "no answer"),
        (AgentUnavailableError("503"), "AgentUnavailableError", "transient", "503"),
    ],
)
async def test_every_failure_is_an_outcome_with_its_error(lab, answer, kind, class_, text):
    """A row that fails is committed FAILED with the error's name, class and text.

    Every failed attempt is counted by name and by class, and the row's log line has both.
    """
    batch = await lab.batch(2)
    lab.agent.script = lambda _: answer
    with capture_logs() as logs:
        await handle(lab, lab.row(1, batch), inline_wait_s=60)
    outcome = await outcome_of(lab, batch)
    (line,) = (line for line in logs if line["event"] == "row_settled")
    assert (line["error"], line["class"]) == (kind, class_)
    totals = lab.metrics.totals
    assert totals[f"agent_failures_{kind}"] == totals[f"agent_failures_{class_}"] == outcome.attempts
    assert outcome.status is Status.FAILED
    assert (outcome.error.type, outcome.error.failure_class) == (kind, class_)
    assert text in outcome.error.message
    assert outcome.output_data == {}
    assert outcome.input_data == {"id": "1", "name": "name 1"}
    assert (await lab.view()).counts.failed == 1


async def test_a_defective_row_is_failed_without_the_agent(lab):
    """The defect that the splitter found is the row's error. The cells are kept."""
    batch = await lab.batch(2)
    row = replace(lab.row(1, batch, defect="3 cells, the header has 2"), cells=("a", "b", "c"))
    await handle(lab, row)
    outcome = await outcome_of(lab, batch)
    assert (outcome.error.type, outcome.error.message) == ("BadRecordError", "3 cells, the header has 2")
    assert outcome.input_data == {"id": "a", "name": "b", "_surplus": ["c"]}
    assert lab.agent.calls == []


async def test_a_row_that_cannot_be_mapped_is_failed_without_the_agent(lab, define):
    """An error in building the input is the row's outcome."""
    definition = define(
        ONE_SLOT.replace("output_mapping", "input_mapping: {transforms: {name: to_number}}\noutput_mapping")
    )
    batch = await lab.batch(2, definition=definition)
    await handle(lab, lab.row(1, batch))
    assert (await outcome_of(lab, batch)).error.type == "InputError"
    assert lab.agent.calls == []


async def test_a_reply_nested_too_deeply_for_an_item_succeeds(lab):
    """Its data is kept in S3."""
    batch = await lab.batch(3)
    deep: object = "leaf"
    for _ in range(40):
        deep = [deep]
    lab.agent.script = lambda call: {"answer": deep if call.id.endswith("/2") else "fine"}
    await handle(lab, *(lab.row(number, batch) for number in (1, 2, 3)))
    outcomes = await lab.outcomes(batch)
    assert [outcomes[n].status for n in (1, 2, 3)] == [Status.SUCCESS] * 3
    assert (await lab.large_outcomes.load(outcomes[2])).output_data == {"answer": deep}
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_reply_beyond_every_limit_fails_its_row_only(lab):
    """The row is FAILED with the name of the setting. The agent is not called again."""
    lab.large_outcome_limits = LargeOutcomeLimits("out", 20_000, 40_000)
    batch = await lab.batch(3)
    lab.agent.script = lambda call: {"answer": "x" * (50_000 if call.id.endswith("/2") else 10)}
    await handle(lab, *(lab.row(number, batch) for number in (1, 2, 3)))
    outcomes = await lab.outcomes(batch)
    assert [outcomes[n].status for n in (1, 2, 3)] == [Status.SUCCESS, Status.FAILED, Status.SUCCESS]
    assert outcomes[2].error.type == "RowTooLargeError"
    assert "ROWFLEET_COMMIT__MAX_OUTCOME_BYTES" in outcomes[2].error.message
    assert outcomes[2].input_data == {"id": "2", "name": "name 2"}
    assert len(lab.agent.calls) == 3


async def test_an_outcome_of_any_size_is_stored(lab):
    """No size around the limit of an item makes a row that cannot be committed."""
    batch = await lab.batch(300, execution_id="e" * 128)
    sizes = range(ITEM_BYTES - 1_500, ITEM_BYTES + 100, 50)
    lab.agent.script = lambda call: {"answer": "x" * sizes[int(call.id.rsplit("/", 1)[1]) - 1]}
    await handle(lab, *(lab.row(number, batch) for number in range(1, len(sizes) + 1)))
    outcomes = await lab.outcomes(batch)
    loaded = [await lab.large_outcomes.load(outcomes[n]) for n in range(1, len(sizes) + 1)]
    assert [len(outcome.output_data["answer"]) for outcome in loaded] == list(sizes)
    assert outcomes[1].stored is None
    assert outcomes[len(sizes)].stored is not None


async def test_a_defective_row_keeps_its_cells_whatever_their_size(lab):
    """A ragged row of a megabyte is committed FAILED with all of its cells."""
    batch = await lab.batch(2)
    row = replace(lab.row(1, batch, defect="ragged"), cells=("ab", "é" * 500_000))
    await handle(lab, row)
    outcome = await lab.large_outcomes.load(await outcome_of(lab, batch))
    assert outcome.input_data == {"id": "ab", "name": "é" * 500_000}
    assert outcome.error == RowError("BadRecordError", "ragged", "rejected")


async def test_a_long_error_text_is_cut(lab):
    """Error texts are stored with every failed row, so their length is bounded."""
    batch = await lab.batch(2)
    lab.agent.script = lambda _: AgentRejectedError("x" * 10_000)
    await handle(lab, lab.row(1, batch))
    message = (await outcome_of(lab, batch)).error.message
    assert len(message) == MAX_ERROR_CHARS
    assert message.endswith("x…")


async def test_a_reply_without_the_wanted_values_is_kept(lab):
    """So is that of a success. An error of the agent has none."""
    batch = await lab.batch(3)
    replies = {1: {"reply": "Sorry, ="}, 2: {"answer": 1}, 3: AgentRejectedError("422")}
    lab.agent.script = lambda invocation: replies[int(invocation.id.rsplit("/", 1)[1])]
    await handle(lab, *(lab.row(number, batch) for number in replies))
    outcomes = await lab.outcomes(batch)
    assert {number: outcome.reply for number, outcome in outcomes.items()} == {
        1: '{"reply":"Sorry, ="}', 2: '{"answer":1}', 3: "",
    }  # fmt: skip
    assert outcomes[1].error.type == "ExtractionError"


@pytest.mark.parametrize(("keep", "kept"), [("none", set()), ("failed", {1}), ("all", {1, 2})])
async def test_the_mapping_says_which_replies_are_kept(lab, define, demo_yaml, keep, kept):
    """With `none`, no word of a reply is in an error or a log line either."""
    batch = await lab.batch(3, definition=define(f"{demo_yaml}keep_replies: {keep}\n"))
    replies = {1: {"reply": "canary"}, 2: {"answer": 1, "more": "canary"}, 3: AgentRejectedError("canary")}
    lab.agent.script = lambda invocation: replies[int(invocation.id.rsplit("/", 1)[1])]
    with capture_logs() as lines:
        await handle(lab, *(lab.row(number, batch) for number in replies))
    outcomes = await lab.outcomes(batch)
    assert {number for number, outcome in outcomes.items() if outcome.reply} == kept
    assert ("canary" in str((outcomes, lines))) == (keep != "none")


async def test_a_pending_reply_is_a_failed_attempt(lab, define, demo_yaml):
    """With `pending_if` the row is tried again. The last pending reply is kept."""
    again = "extraction_methods: [{method: direct"
    definition = define(demo_yaml.replace(again, "pending_if: [^pending]\n  " + again))
    batch = await lab.batch(2, definition=definition)
    lab.agent.script = lambda _: {"state": "pending: 3 of 4"}
    await handle(lab, lab.row(1, batch))
    assert [call.attempt for call in lab.agent.calls] == [1, 2, 3]
    outcome = await outcome_of(lab, batch)
    assert (outcome.error.type, outcome.attempts) == ("ReplyPendingError", 3)
    assert outcome.reply == '{"state":"pending: 3 of 4"}'


async def test_provenance_is_stored_if_the_batch_asks_for_it(lab):
    """`csv.provenance` in the mapping does."""
    for wanted in (False, True):
        batch = await lab.batch(1, execution_id=f"e{wanted}", provenance=wanted)
        await handle(lab, lab.row(1, batch))
        found = await lab.table.outcome(batch, 1)
        assert bool(found.provenance) is wanted
        assert set(found.provenance) <= {"answer"}


async def test_no_agent_is_called_for_a_row_whose_lease_is_lost(lab):
    """Another worker has the row by now: the agent is not paid again, and no outcome is made."""
    batch = await lab.batch(2)
    delivery = lab.delivery(lab.row(1, batch).encode())
    delivery.lease.is_lost = True
    async with lab.working() as worker:
        with pytest.raises(LeaseLostError):
            await worker.handle(delivery)
    assert lab.agent.calls == []
    assert (await lab.outcomes(batch)) == {}


# -- attempts ---------------------------------------------------------------------------------------------


async def test_a_short_backoff_is_waited_for(lab):
    """The worker keeps the row and tries it again, with the number of the next attempt."""
    batch = await lab.batch(2)
    answers = iter([AgentUnavailableError("503"), AgentTimeoutError("slow"), {"answer": "at last"}])
    times = []

    def answer(_):
        times.append(lab.clock.monotonic())
        return next(answers)

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch))
    assert [call.attempt for call in lab.agent.calls] == [1, 2, 3]
    assert len({call.id for call in lab.agent.calls}) == 1
    outcome = await outcome_of(lab, batch)
    assert (outcome.status, outcome.attempts) == (Status.SUCCESS, 3)
    assert 1 <= times[1] - times[0] <= 2
    assert 2 <= times[2] - times[1] <= 4
    assert await lab.sent_rows() == []


async def test_a_long_backoff_requeues_the_row(lab):
    """The row waits in the queue; its present message is deleted."""
    batch = await lab.batch(2)
    lab.agent.script = lambda _: AgentThrottledError("429", retry_after_s=100)
    await handle(lab, lab.row(1, batch))
    assert (await lab.outcomes(batch)) == {}
    assert lab.clock.monotonic() < 5
    await lab.clock.advance(90)
    assert await lab.sent_rows() == []
    await lab.clock.advance(20)
    again = lab.row(1, batch, first_attempt_ms=1_700_000_000_000, replay=True)
    assert await lab.sent_rows() == [replace(again, last_failure="AgentThrottledError: 429")]
    assert len(lab.agent.calls) == 1


async def test_a_requeued_row_does_not_come_before_retry_after(lab, define, demo_yaml):
    """The delay is rounded up to whole seconds."""
    definition = define(demo_yaml.replace("base_seconds: 2", "base_seconds: 0.01"))
    batch = await lab.batch(2, definition=definition)
    lab.agent.script = lambda _: AgentThrottledError("429", retry_after_s=100.2)
    await handle(lab, lab.row(1, batch))
    (entry,) = lab.rows._entries.values()
    assert entry.outgoing.delay_s == 101


async def test_a_requeue_delay_is_at_most_15_minutes(lab):
    """SQS allows no longer delay, whatever Retry-After says."""
    batch = await lab.batch(2)
    lab.agent.script = lambda _: AgentThrottledError("429", retry_after_s=86_400)
    await handle(lab, lab.row(1, batch))
    (entry,) = lab.rows._entries.values()
    assert entry.outgoing.delay_s == 900
    assert entry.outgoing.group == batch.batch_id


async def test_a_short_retry_after_is_waited_for(lab):
    """It replaces the backoff of the retry policy."""
    batch = await lab.batch(2)
    times = []

    def answer(call):
        times.append(lab.clock.monotonic())
        return AgentThrottledError("429", retry_after_s=4) if len(times) == 1 else {"answer": "x"}

    lab.agent.script = answer
    await handle(lab, lab.row(1, batch), inline_wait_s=10)
    assert 4 <= times[1] - times[0] <= 6.5


async def test_the_last_attempt_decides(lab):
    """When all attempts are used up, the row is FAILED with the last error."""
    batch = await lab.batch(2)
    lab.agent.script = lambda call: AgentUnavailableError(f"503 at {call.attempt}")
    await handle(lab, lab.row(1, batch, attempt=3))
    outcome = await outcome_of(lab, batch)
    assert (outcome.error.message, outcome.attempts) == ("503 at 3", 3)
    assert await lab.sent_rows() == []


async def test_a_row_that_cannot_be_requeued_keeps_its_message(lab):
    """The handler raises, so the message is not deleted."""
    batch = await lab.batch(2)
    lab.agent.script = lambda _: AgentThrottledError("429", retry_after_s=100)

    class Broken(type(lab.rows)):
        async def send(self, messages):
            raise UnreachableError("no route")

    lab.rows = Broken("rows", lab.clock)
    with pytest.raises(UnreachableError):
        await handle(lab, lab.row(1, batch))


async def test_an_agent_that_ignores_its_timeout_is_cancelled(lab, define):
    """After `timeout_seconds` and a grace the call is cancelled and counts as timed out."""
    batch = await lab.batch(2, definition=define(ONE_SLOT))
    cancelled = []

    async def hang(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    lab.agent.script = hang
    await handle(lab, lab.row(1, batch), grace_s=0.5)
    assert cancelled == [True]
    outcome = await outcome_of(lab, batch)
    assert (outcome.error.type, outcome.error.message) == ("AgentTimeoutError", "no answer within 10 s")
    assert outcome.execution_time_ms == 10_500


async def test_waiting_for_a_slot_is_not_the_agents_time(lab, define):
    """`execution_time_ms` is the time of the call only, for failed rows too."""
    one_slot = define(ONE_SLOT.replace("max_concurrency: 1", "max_concurrency: 2"))
    batch = await lab.batch(4, definition=one_slot)

    async def answer(call):
        await lab.clock.sleep(2)
        number = int(call.id.rsplit("/", 1)[1])
        return [{"answer": 1}, {"answer": 2}, AgentRejectedError("no"), AgentUnavailableError("503")][
            number - 1
        ]

    lab.agent.script = answer
    await handle(lab, *(lab.row(number, batch) for number in (1, 2, 3, 4)))
    outcomes = await lab.outcomes(batch)
    assert [outcomes[n].execution_time_ms for n in (1, 2, 3, 4)] == [2000] * 4


# -- duplicates and poison ------------------------------------------------------------------------------


@pytest.mark.parametrize(("receives", "replay"), [(2, False), (1, True)])
async def test_a_committed_row_is_not_invoked_again(lab, receives, replay):
    """A row that was received before, or has the replay mark, is looked up before the call."""
    batch = await lab.batch(2)
    await handle(lab, lab.row(1, batch))
    lab.agent.calls.clear()
    await handle(lab, lab.row(1, batch, replay=replay), receives=receives)
    assert lab.agent.calls == []
    assert (await lab.view()).counts.done == 1
    assert lab.metrics.totals["rows_skipped"] == 1


async def test_a_redelivered_row_without_an_outcome_is_processed(lab):
    """Its first worker crashed before the commit."""
    batch = await lab.batch(2)
    await handle(lab, lab.row(1, batch, replay=True), receives=2)
    assert (await outcome_of(lab, batch)).status is Status.SUCCESS


async def test_a_duplicate_that_is_processed_at_once_is_counted_once(lab):
    """Two workers may both call the agent. There is one outcome and one count."""
    batch = await lab.batch(2)
    async with lab.working(name="one") as one, lab.working(name="two") as two:
        body = lab.row(1, batch).encode()
        await all_done(lab, [worker.handle(lab.delivery(body)) for worker in (one, two)])
    assert (await lab.view()).counts.done == 1


async def test_a_skipped_duplicate_is_followed_by_a_check(lab):
    """A worker that crashed after the commit of the last row has sent no trigger; the redelivery sends it."""
    batch = await lab.batch(1)
    async with lab.committer() as committer:
        await lab.table.commit(_commit(lab, batch))
        await lab.worker(committer).handle(lab.delivery(lab.row(1, batch).encode(), receives=2))
    assert [AggregateMessage.decode(body) for body in await lab.waiting(lab.aggregate)] == [
        AggregateMessage(batch.batch_id, 1)
    ]


def _commit(lab, batch):
    return Commit(batch.batch_id, batch.round, batch.partitions, 0, (lab.outcome(1),), "t" * 36, batch.ttl)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.SUCCEEDED, State.AGGREGATING])
async def test_rows_of_a_batch_that_takes_no_rows_are_dropped(lab, state):
    """Their messages are deleted. No agent is called and nothing is committed."""
    batch = await lab.batch(2, state=state)
    await handle(lab, lab.row(1, batch))
    assert lab.agent.calls == []
    assert await lab.outcomes(batch) == {}


async def test_rows_of_an_earlier_round_are_dropped(lab):
    """A redrive has opened a later round."""
    batch = await lab.batch(2, round=2)
    await handle(lab, replace(lab.row(1, batch), round=1))
    assert lab.agent.calls == []


async def test_rows_are_processed_while_the_batch_is_still_being_split(lab):
    """Work starts before the total is known."""
    batch = await lab.batch(None)
    await handle(lab, lab.row(1, batch))
    assert (await outcome_of(lab, batch)).status is Status.SUCCESS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number": 3}, "row 3 of a batch of 2"),
        ({"batch_id": "demo#none"}, "no batch 'demo#none'"),
        ({"round": 2}, "round 2 of a batch whose round is 1"),
    ],
)
async def test_an_impossible_row_is_poison(lab, change, reason):
    """No batch has this row. It is not processed and becomes a dead letter."""
    batch = await lab.batch(2)
    with pytest.raises(PoisonMessageError, match=reason):
        await handle(lab, replace(lab.row(1, batch), **change))
    assert lab.agent.calls == []


async def test_a_body_that_is_no_row_is_poison(lab):
    """It cannot be decoded."""
    async with lab.working() as worker:
        with pytest.raises(PoisonMessageError, match="not JSON"):
            await worker.handle(lab.delivery("junk"))


async def test_a_row_whose_commit_fails_is_not_settled(make_lab):
    """The handler raises, so the message is redelivered."""

    class Down(MemoryTable):
        async def commit(self, commit):
            raise UnreachableError("no table")

    lab = make_lab(table=Down())
    batch = await lab.batch(2)
    with pytest.raises(RetryableError, match="no table"):
        await handle(lab, lab.row(1, batch))


# -- batches ----------------------------------------------------------------------------------------------


async def test_the_mappings_concurrency_is_respected(lab, define):
    """At most `max_concurrency` calls run, as many rows wait, and the other rows are requeued."""
    from_yaml = define(ONE_SLOT.replace("max_concurrency: 1", "max_concurrency: 3"))
    batch = await lab.batch(20, definition=from_yaml)

    async def answer(_):
        await lab.clock.sleep(1)
        return {"answer": 1}

    lab.agent.script = answer
    async with lab.working() as worker:
        deliveries = [lab.delivery(lab.row(number, batch).encode()) for number in range(1, 21)]
        await all_done(lab, map(worker.handle, deliveries))
        assert (await lab.view()).counts.done == 6
        await lab.clock.advance(60)
        again = await lab.sent_rows()
        assert {row.attempt for row in again} == {1}
        for row in again:
            await all_done(lab, [worker.handle(lab.delivery(row.encode()))])
    assert lab.agent.most_running == 3
    assert (await lab.view()).counts.done == 20


async def test_a_target_slot_is_released_after_every_kind_of_end(lab, define):
    """Rejected calls, time-outs, bad replies and cancellations release it."""
    batch = await lab.batch(9, definition=define(ONE_SLOT))
    endings = [AgentRejectedError("no"), AgentTimeoutError("slow"), {"other": 1}, {"answer": 1}]
    lab.agent.script = lambda call: endings[int(call.id.rsplit("/", 1)[1]) - 1]
    batches = lab.batch_cache()
    await handle(lab, *(lab.row(number, batch) for number in (1, 2, 3, 4)), batches=batches)

    async def hang(_):
        await asyncio.Event().wait()

    lab.agent.script = hang
    async with lab.working(batches) as worker:
        hanging = asyncio.create_task(worker.handle(lab.delivery(lab.row(5, batch).encode())))
        waiting = asyncio.create_task(worker.handle(lab.delivery(lab.row(6, batch).encode())))
        await lab.until(lambda: lab.agent.running == 1)
        waiting.cancel()
        hanging.cancel()
        await asyncio.gather(hanging, waiting, return_exceptions=True)
        lab.agent.script = lambda _: {"answer": 1}
        await worker.handle(lab.delivery(lab.row(7, batch).encode()))
    assert (await lab.outcomes(batch)).keys() == {1, 2, 3, 4, 7}


async def test_many_batches_interleave(lab):
    """One worker processes rows of many batches, each for its own batch."""
    batches = [await lab.batch(7, execution_id=f"e{n}") for n in range(30)]
    rows = [lab.row(number, batch) for number in range(1, 8) for batch in batches]
    await handle(lab, *rows)
    for batch in batches:
        view = await lab.view(batch.batch_id)
        assert view.counts.succeeded == 7
        assert view.batch.state is State.AGGREGATING
    sent = [AggregateMessage.decode(body).batch_id for body in await lab.waiting(lab.aggregate)]
    assert sorted(sent) == sorted(batch.batch_id for batch in batches)


async def test_a_batch_that_ended_stops_costing_calls(lab):
    """The check after a commit sees that the batch has ended, and its further rows are dropped."""
    batch = await lab.batch(3)
    batches = lab.batch_cache()
    await handle(lab, lab.row(1, batch), batches=batches)
    await lab.table.move(batch, expected=State.RUNNING, to=State.CANCELLED, now="now")
    await handle(lab, lab.row(2, batch), batches=batches)
    await handle(lab, lab.row(3, batch), batches=batches)
    assert [call.id for call in lab.agent.calls] == ["demo#e1/1/1", "demo#e1/1/2"]


async def test_a_requeued_row_keeps_its_cells(lab):
    """Replay mark and cells are those of the received message."""
    batch = await lab.batch(2)
    lab.agent.script = lambda _: AgentThrottledError("429", retry_after_s=20)
    row = RowMessage(batch.batch_id, 1, 2, ("Ü", "\n"), replay=True)
    await handle(lab, row)
    await lab.clock.advance(60)
    failure = "AgentThrottledError: 429"
    again = replace(row, first_attempt_ms=1_700_000_000_000, last_failure=failure)
    assert await lab.sent_rows() == [again]
