"""Attempts: what a failure costs a row, and what the gate of its target does."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service.app.status import status_json
from service.batch.outages import REPORT_TTL_S, OutageBoard
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentThrottledError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.model import Status, iso_time
from service.worker.admission.circuit_breaker import THRESHOLD
from service.worker.admission.outage_evidence import MANY_ROWS

MAPPING = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]
execution: {max_concurrency: 20, retry_policy: {max_attempts: 2, base_seconds: 1, budget_seconds: 600}}
"""


@asynccontextmanager
async def working(lab, batch, **options):
    """A worker and a consumer with all rows of the batch in the queue. At the end the consumer drains."""
    for number in range(1, batch.total + 1):
        await lab.send(lab.rows, lab.row(number, batch).encode())
    async with lab.committer() as committer:
        worker = lab.worker(committer)
        consumer = lab.consumer(lab.rows, worker.handle, capacity=lab.gates, **{"drain_s": 1.0} | options)
        async with lab.consuming(consumer):
            yield lambda: len(lab.table._rows[batch.batch_id])


async def process_all(lab, batch, **options):
    """Process all rows of a batch. Return their outcomes, and the seconds that it took."""
    began = lab.clock.monotonic()
    async with working(lab, batch, **options) as done:
        await lab.until(lambda: done() == batch.total, step_s=1.0)
        took_s = lab.clock.monotonic() - began
    return await lab.outcomes(batch), took_s


async def test_throttles_use_up_no_attempts(lab, define):
    """A row that is throttled many times (HTTP 429) is tried again without a count."""
    batch = await lab.batch(10, definition=define(MAPPING))
    calls = 0

    def throttle(call):
        nonlocal calls
        calls += 1
        return AgentThrottledError("429") if calls <= 60 else {"answer": call.attempt}

    lab.agent.script = throttle
    outcomes, _ = await process_all(lab, batch)
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}
    assert {outcome.attempts for outcome in outcomes.values()} == {1}
    assert len(outcomes) == 10


ACCEPTING = MAPPING.replace("  type: tool\n  extraction", "  accept_errors: true\n  type: tool\n  extraction")


@pytest.mark.parametrize(
    ("mapping", "path", "status"),
    [
        (ACCEPTING, "$[-1].error.message", Status.SUCCESS),
        (ACCEPTING, "$.answer", Status.FAILED),
        (MAPPING, "$[-1].error.message", Status.FAILED),
    ],
)
async def test_a_mapping_may_accept_an_error_that_a_stream_states(lab, define, mapping, path, status):
    """Its events are the reply, if it finds a value in them; the error counts otherwise."""

    def state(call):
        error = AgentUnavailableError("the stream ended with an error: boom")
        error.stated_in = [{"text": "Hi"}, {"error": {"message": "boom"}}]
        return error

    lab.agent.script = state
    batch = await lab.batch(1, definition=define(mapping.replace("$.answer", f"'{path}'")))
    outcomes, _ = await process_all(lab, batch)
    (outcome,) = outcomes.values()
    assert outcome.status is status
    if status is Status.SUCCESS:
        assert outcome.output_data == {"answer": "boom"}
    else:
        assert outcome.error.type == "AgentUnavailableError"


async def test_an_outage_opens_the_breaker_and_uses_up_no_attempts(lab, define):
    """Few calls are made while the target is down, and all rows succeed afterwards."""
    batch = await lab.batch(40, definition=define(MAPPING))
    up_at = lab.clock.monotonic() + 300

    def answer(call):
        up = lab.clock.monotonic() >= up_at
        return {"answer": call.attempt} if up else AgentOutageError("connection refused")

    lab.agent.script = answer
    outcomes, _ = await process_all(lab, batch)
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}
    assert {outcome.attempts for outcome in outcomes.values()} == {1}
    trial_calls = 10
    assert len(lab.agent.calls) <= 40 + 20 + THRESHOLD + trial_calls, (
        "one call a pause, and the pauses double"
    )


async def test_rows_of_a_target_that_stays_down_fail_after_their_budget(lab, define):
    """The batch ends: after `budget_seconds` its rows are FAILED with the error of the target."""
    batch = await lab.batch(30, definition=define(MAPPING))
    lab.agent.script = lambda _: AgentCredentialsError("HTTP 401")
    outcomes, took_s = await process_all(lab, batch)
    assert 590 < took_s < 800
    assert len(outcomes) == 30
    assert {outcome.error.failure_class for outcome in outcomes.values()} == {"unavailable"}
    assert all("HTTP 401" in outcome.error.message for outcome in outcomes.values())


async def test_a_row_that_is_the_only_one_refused_uses_up_its_attempts(lab, define):
    """If the target answers other rows in the meantime, HTTP 403 counts as an attempt of the row."""
    batch = await lab.batch(
        30, definition=define(MAPPING.replace("max_concurrency: 20", "max_concurrency: 2"))
    )

    async def answer(call):
        await lab.clock.sleep(0.1)
        return AgentCredentialsError("HTTP 403") if call.id.endswith("/7") else {"answer": 1}

    lab.agent.script = answer
    outcomes, _ = await process_all(lab, batch)
    assert [n for n, outcome in outcomes.items() if outcome.status is Status.FAILED] == [7]
    assert outcomes[7].attempts == 2
    assert len(lab.agent.calls) <= 29 + 4


async def test_a_last_row_that_is_refused_fails_soon(lab, define):
    """No other row is answered in the meantime, and no other row was refused either."""
    batch = await lab.batch(3, definition=define(MAPPING))
    lab.agent.script = lambda call: (
        AgentCredentialsError("HTTP 403") if call.id.endswith("/3") else {"answer": 1}
    )
    outcomes, took_s = await process_all(lab, batch)
    assert outcomes[3].error.type == "AgentCredentialsError"
    assert took_s < 300


async def test_transient_failures_cost_attempts(lab, define):
    """HTTP 503 uses up an attempt, whatever other rows are answered."""
    batch = await lab.batch(1, definition=define(MAPPING))
    lab.agent.script = lambda _: AgentUnavailableError("HTTP 503")
    outcomes, _ = await process_all(lab, batch)
    assert outcomes[1].attempts == 2
    assert len(lab.agent.calls) == 2


async def test_no_attempt_begins_after_the_budget(lab, define):
    """`budget_seconds` runs from the first attempt, through all requeues."""
    batch = await lab.batch(1, definition=define(MAPPING.replace("max_attempts: 2", "max_attempts: 1000")))
    lab.agent.script = lambda _: AgentUnavailableError("HTTP 503", retry_after_s=50)
    outcomes, took_s = await process_all(lab, batch)
    outcome = outcomes[1]
    assert outcome.error.message == "HTTP 503"
    assert 10 <= outcome.attempts <= 12
    assert took_s < 610


async def test_a_deadline_holds_while_the_target_is_down(lab, define):
    """A row that waits for a target fails when its batch's deadline has passed."""
    deadline_at = iso_time(lab.clock.now_ms() + 100_000)
    batch = await lab.batch(30, definition=define(MAPPING), deadline_at=deadline_at)
    lab.agent.script = lambda _: AgentOutageError("connection refused")
    outcomes, took_s = await process_all(lab, batch)
    assert took_s < 140
    assert {outcome.error.type for outcome in outcomes.values()} == {"DeadlineError"}


async def test_an_outage_is_shown_in_the_status(lab, define):
    """The status has the reason and the beginning, until the target is up or the report expires."""
    batch = await lab.batch(40, definition=define(MAPPING))
    lab.agent.script = lambda _: AgentOutageError("connection refused")
    outages = OutageBoard(lab.table, lab.clock)
    assert await outages.read(batch) == ""
    async with working(lab, batch) as done:
        for _ in range(20):
            await lab.pass_time(1.0)
        report = await outages.read(batch)
        assert report.startswith("AgentOutageError: connection refused (since 2023-11-14T22:13:2")
        assert status_json(await lab.view(), lab.clock, report)["trouble"] == report
        lab.agent.script = lambda _: {"answer": 1}
        await lab.until(lambda: done() == 40, step_s=1.0)
        assert await outages.read(batch) == ""
    await outages.report(batch, "down")
    await lab.clock.advance(REPORT_TTL_S + 1)
    assert await outages.read(batch) == ""


async def test_one_target_does_not_hide_another(lab, define):
    """Behind hundreds of rows of a target that hangs, rows of another target are fetched and settled."""
    hanging = await lab.batch(
        200, execution_id="a", definition=define(MAPPING.replace("max_concurrency: 20", "max_concurrency: 3"))
    )
    quick = await lab.batch(30, execution_id="b", definition=define(MAPPING))
    agents = {hanging.mapping_digest: lab.agent}
    lab.agent.script = lambda _: lab.clock.sleep(10_000)
    other = type(lab.agent)(lambda _: {"answer": 1})
    batches = lab.batch_cache(lambda mapping: agents.get(mapping.digest, other))
    rows = [lab.row(n, hanging) for n in range(1, 201)] + [lab.row(n, quick) for n in range(1, 31)]
    await lab.send(lab.rows, *(row.encode() for row in rows))
    async with lab.committer() as committer:
        worker = lab.worker(committer, batches)
        consumer = lab.consumer(lab.rows, worker.handle, capacity=lab.gates, probe_s=0.25, drain_s=1.0)
        async with lab.consuming(consumer):
            began = lab.clock.monotonic()

            def is_done():
                return len(lab.table._rows[quick.batch_id]) == 30

            await lab.until(is_done, step_s=0.25)
            assert lab.clock.monotonic() - began < 15
    assert lab.agent.most_running == 3
    assert consumer.held == 0


async def test_a_process_that_stops_requeues_the_rows_that_wait(lab, define):
    """A drain waits for the calls in progress. Rows that wait for a target slot are requeued at once."""
    batch = await lab.batch(
        12, definition=define(MAPPING.replace("max_concurrency: 20", "max_concurrency: 4"))
    )

    async def answer(_):
        await lab.clock.sleep(30)
        return {"answer": 1}

    lab.agent.script = answer
    async with working(lab, batch, drain_s=3600.0):
        await lab.until(lambda: lab.agent.running == 4, step_s=0.1)
        await lab.pass_time(1.0)
    assert len(lab.agent.calls) == 4
    assert len(await lab.outcomes(batch)) == 4
    await lab.clock.advance(3600)
    assert {row.number for row in await lab.sent_rows()} == set(range(1, 13)) - {1, 2, 3, 4}


class CountingTable:
    """Counts reads of outcomes."""

    def __init__(self, table):
        self._table, self.reads = table, 0

    def __getattr__(self, name):
        return getattr(self._table, name)

    async def outcome(self, batch, number):
        """Count the read."""
        self.reads += 1
        return await self._table.outcome(batch, number)


async def test_a_requeued_row_that_finds_its_target_full_costs_no_read(lab, define):
    """It is requeued at once. If the target has a slot, its outcome is looked up before the call."""
    batch = await lab.batch(
        7, definition=define(MAPPING.replace("max_concurrency: 20", "max_concurrency: 2"))
    )
    lab.table = CountingTable(lab.table)
    lab.agent.script = lambda _: asyncio.Event().wait()
    again = [replace(lab.row(number, batch), replay=True) for number in range(1, 8)]
    async with lab.committer() as committer:
        worker = lab.worker(committer)
        tasks = [asyncio.create_task(worker.handle(lab.delivery(row.encode()))) for row in again[:4]]
        await lab.until(lambda: len(lab.agent.calls) == 2)
        await lab.pass_time(1)
        assert lab.table.reads == 4  # two rows are called, two wait for a slot
        await worker.handle(lab.delivery(again[4].encode()))
        assert (lab.table.reads, lab.metrics.totals["rows_turned_away_TargetFullError"]) == (4, 1)
        await worker.handle(lab.delivery(again[5].encode(), receives=2))  # its last worker may have died
        assert lab.table.reads == 5
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await lab.clock.advance(10)
    full = "TargetFullError: every place of the target is taken"
    assert await lab.sent_rows() == [again[4], replace(again[5], lost_deliveries=1, last_failure=full)]


def server_error(text="HTTP 500"):
    return AgentUnavailableError(text, scope=FailureScope.UNCLEAR)


@pytest.mark.parametrize("total", [3, 200])
async def test_server_errors_that_every_row_meets_cost_no_row_its_success(lab, define, total):
    """After 12 s of 5xx all rows succeed, with at most one attempt that counted."""
    batch = await lab.batch(total, definition=define(MAPPING))
    up_at = lab.clock.monotonic() + 12

    async def answer(call):
        await lab.clock.sleep(0.1)
        return {"answer": call.attempt} if lab.clock.monotonic() >= up_at else server_error()

    lab.agent.script = answer
    outcomes, took_s = await process_all(lab, batch)
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}
    assert took_s < 60
    assert len(lab.agent.calls) <= 2 * total + 20


async def test_server_errors_that_begin_amid_answers_cost_no_row_its_success(lab, define):
    """Calls in flight at the beginning may cost one attempt each."""
    batch = await lab.batch(60, definition=define(MAPPING.replace("max_attempts: 2", "max_attempts: 3")))
    began = lab.clock.monotonic()

    async def answer(call):
        await lab.clock.sleep(0.5)
        is_up = not 0.8 < lab.clock.monotonic() - began < 20
        return {"answer": call.attempt} if is_up else server_error()

    lab.agent.script = answer
    outcomes, _ = await process_all(lab, batch)
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}


async def test_rows_that_always_meet_server_errors_fail_among_others(lab, define):
    """Others are served between their attempts. At the end they are suspected for half a minute each."""
    batch = await lab.batch(100, definition=define(MAPPING.replace("max_attempts: 2", "max_attempts: 4")))
    bad = {f"/{number}" for number in (7, 30, 31, 32, 33, 34, 35, 60)}

    async def answer(call):
        await lab.clock.sleep(0.2)
        return server_error() if f"/{call.id.rpartition('/')[2]}" in bad else {"answer": 1}

    lab.agent.script = answer
    outcomes, took_s = await process_all(lab, batch)
    assert {f"/{n}" for n, outcome in outcomes.items() if outcome.status is Status.FAILED} == bad
    assert took_s < 7 * 30 + 60


UNCLEAR_FAILURES = [
    pytest.param(server_error, id="500"),
    pytest.param(lambda: AgentCredentialsError("HTTP 401"), id="401"),
    pytest.param(lambda: AgentOutageError("HTTP 404", scope=FailureScope.UNCLEAR), id="no such model"),
]


def mapping_with_defaults(max_concurrency=20):
    """The mapping with the default retry policy, whose budget is a day."""
    policy = ", retry_policy: {max_attempts: 2, base_seconds: 1, budget_seconds: 600}"
    return MAPPING.replace(policy, "").replace("max_concurrency: 20", f"max_concurrency: {max_concurrency}")


@pytest.mark.parametrize("max_concurrency", [1, 20])
@pytest.mark.parametrize("failure", UNCLEAR_FAILURES)
@pytest.mark.parametrize(("total", "bad", "most_s"), [(5, 2, 75), (5, 3, 120), (5, 5, 240), (20, 6, 300)])
async def test_a_batch_whose_last_rows_fail_for_themselves_ends_soon(
    lab, define, total, bad, most_s, failure, max_concurrency
):
    """The fewer rows are left, the sooner their failures count. No other row is served in the meantime."""
    if bad >= MANY_ROWS and isinstance(failure(), AgentOutageError):
        pytest.skip("so many rows prove an outage")
    batch = await lab.batch(total, definition=define(mapping_with_defaults(max_concurrency)))

    async def answer(call):
        await lab.clock.sleep(0.2)
        is_bad = int(call.id.rpartition("/")[2]) > total - bad
        return failure() if is_bad else {"answer": 1}

    lab.agent.script = answer
    outcomes, took_s = await process_all(lab, batch)
    failed = [n for n, outcome in outcomes.items() if outcome.status is Status.FAILED]
    assert sorted(failed) == list(range(total - bad + 1, total + 1))
    assert {outcomes[n].attempts for n in failed} == {4}
    assert took_s < most_s


async def test_different_failures_of_two_rows_are_no_outage(lab, define):
    """One of the last rows meets HTTP 500 and the other 401: each is to blame itself."""
    batch = await lab.batch(5, definition=define(mapping_with_defaults()))
    failures = {"4": server_error(), "5": AgentCredentialsError("HTTP 401")}
    lab.agent.script = lambda call: failures.get(call.id.rpartition("/")[2], {"answer": 1})
    outcomes, took_s = await process_all(lab, batch)
    assert [n for n, outcome in outcomes.items() if outcome.status is Status.FAILED] == [4, 5]
    assert took_s < 15


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(lambda: AgentUnavailableError("HTTP 503", scope=FailureScope.OVERLOAD), id="503"),
        pytest.param(lambda: AgentThrottledError("HTTP 529"), id="529"),
    ],
)
async def test_an_overload_that_every_call_meets_fails_no_row(lab, define, failure):
    """For 12 s none of hundreds of rows is served."""
    batch = await lab.batch(300, definition=define(mapping_with_defaults()))
    up_at = lab.clock.monotonic() + 12

    async def answer(call):
        await lab.clock.sleep(0.2)
        return {"answer": call.attempt} if lab.clock.monotonic() >= up_at else failure()

    lab.agent.script = answer
    outcomes, _ = await process_all(lab, batch)
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}


@pytest.mark.parametrize(("max_concurrency", "call_s", "most_counted"), [(20, 0.2, 1), (1, 29.0, 5)])
async def test_a_long_outage_by_server_errors_fails_no_row_of_a_large_batch(
    lab, define, max_concurrency, call_s, most_counted
):
    """Nine minutes of 5xx cost few rows an attempt, even if a gateway takes half a minute for each reply."""
    batch = await lab.batch(80, definition=define(mapping_with_defaults(max_concurrency)))
    began = lab.clock.monotonic()

    async def answer(call):
        is_down = lab.clock.monotonic() - began < 540
        await lab.clock.sleep(call_s if is_down else 0.2)
        return server_error("HTTP 504") if is_down else {"answer": call.attempt}

    lab.agent.script = answer
    outcomes, _ = await process_all(lab, batch)
    assert {outcome.status for outcome in outcomes.values()} == {Status.SUCCESS}
    attempts = [outcome.attempts for outcome in outcomes.values()]
    assert max(attempts) <= 2
    assert attempts.count(2) <= most_counted
    assert len(lab.agent.calls) <= 80 + 3 * max_concurrency + 40


async def test_an_overload_that_every_other_call_meets_costs_no_row_its_success(lab, define):
    """HTTP 503 does not count in a row's first minute. A row that always meets it fails soon after."""
    batch = await lab.batch(100, definition=define(MAPPING))
    began, calls = lab.clock.monotonic(), 0

    async def answer(call):
        nonlocal calls
        calls += 1
        await lab.clock.sleep(0.2)
        is_down = lab.clock.monotonic() - began < 15 and calls % 2
        error = AgentUnavailableError("HTTP 503", scope=FailureScope.OVERLOAD)
        return error if is_down or call.id.endswith("/7") else {"answer": 1}

    lab.agent.script = answer
    outcomes, took_s = await process_all(lab, batch)
    assert [n for n, outcome in outcomes.items() if outcome.status is Status.FAILED] == [7]
    assert took_s < 200


async def test_a_throttle_that_no_pause_can_help_counts(lab, define):
    """A request that is larger than the limit is throttled in every attempt."""
    batch = await lab.batch(1, definition=define(MAPPING))
    lab.agent.script = lambda _: AgentThrottledError("413", scope=FailureScope.ROW)
    outcomes, _ = await process_all(lab, batch)
    assert (outcomes[1].attempts, outcomes[1].error.failure_class) == (2, "rate_limit")
