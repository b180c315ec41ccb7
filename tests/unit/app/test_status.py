"""Status and failures of a batch as commands show them."""

from dataclasses import replace

import pytest

from service.app.status import (
    EXAMPLES,
    calls_that_may_end,
    can_be_redriven,
    group_failures,
    read_batch,
    read_operations,
    sample_failures,
    status_json,
)
from service.batch.outages import OutageBoard
from service.domain.errors import AccessError, UsageError
from service.domain.model import (
    BatchView,
    Checkpoint,
    Commit,
    Counts,
    Hold,
    Operation,
    RowError,
    State,
    Trouble,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from service.domain.tolerance import parse_tolerance
from service.steering.operate import operate

KEYS = [
    "batch_id", "tool_name", "execution_id", "state", "round", "total", "due", "succeeded",
    "failed", "reused", "calls", "tokens", "cost", "in_progress", "rate_per_s", "eta_s",
    "started_at", "finished_at", "source", "output", "failures", "manifest", "error", "budget",
    "trouble", "deadline_at", "priority", "weight", "max_concurrency", "dialect", "blank_records", "holds",
    "operations", "cancelled_at", "cancel_reason", "unread_from", "sample", "tolerate", "exceeded",
    "undelivered", "redrivable_until",
]  # fmt: skip


async def status(lab, total=10, counts=None, **changes):
    created = "2023-11-14T22:13:00.000Z"  # 20 s before the clock's start
    batch = await lab.batch(total, **({"created_at": created} | changes))
    return status_json(BatchView(batch, counts or Counts()), lab.clock)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("total", [None, 0, 10])
async def test_the_keys_are_the_contract(lab, state, total):
    """The status has the same keys in the same order in every state."""
    assert list(await status(lab, total, state=state)) == KEYS


async def test_a_running_batch_has_rate_and_eta(lab):
    """The rate is in rows per second since the start; the ETA is the time for the rest at that rate."""
    found = await status(lab, 100, Counts(succeeded=30, failed=10))
    assert (found["state"], found["total"], found["succeeded"], found["failed"]) == ("RUNNING", 100, 30, 10)
    assert (found["in_progress"], found["rate_per_s"], found["eta_s"]) == (60, 2.0, 30.0)
    assert (found["started_at"], found["finished_at"]) == ("2023-11-14T22:13:00.000Z", None)
    assert found["source"] == "s3://in/files/rows.csv"
    assert (found["output"], found["failures"], found["manifest"], found["error"]) == (None,) * 4


async def test_a_later_round_has_a_rate_of_its_own(lab):
    """It is that of its own rows since it was opened: the time between the rounds says nothing about it."""
    batch = await lab.batch(
        100, created_at="2023-11-14T20:00:00.000Z", round=2, carried=Counts(succeeded=60), control=1
    )
    opened = Operation(
        "redrive", "r1", "ada", "2023-11-14T22:13:10.000Z", 1, answer={"round": 2, "due": 40, "carried": 60}
    )
    found = status_json(BatchView(batch, Counts(succeeded=20)), lab.clock, operations=[opened])
    assert (found["in_progress"], found["rate_per_s"], found["eta_s"]) == (20, 2.0, 10.0)
    assert found["started_at"] == "2023-11-14T20:00:00.000Z"


async def test_reused_rows_are_counted_separately(lab):
    """Reused rows are among the succeeded ones and have their own count."""
    found = await status(lab, 100, Counts(succeeded=30, reused=12))
    assert (found["succeeded"], found["reused"], found["in_progress"]) == (30, 12, 70)


async def test_a_batch_without_total_has_no_eta(lab):
    """While splitting, `total`, `in_progress` and `eta_s` are None."""
    found = await status(lab, None, Counts(succeeded=30))
    assert (found["state"], found["total"], found["in_progress"], found["eta_s"]) == (
        "SPLITTING",
        None,
        None,
        None,
    )


async def test_a_batch_without_progress_has_no_eta(lab):
    """A rate of 0 gives no ETA, and a batch without a start no rate."""
    found = await status(lab, 10)
    assert (found["rate_per_s"], found["eta_s"]) == (0.0, None)
    assert (await status(lab, 10, execution_id="e2", created_at=""))["rate_per_s"] is None


async def test_an_ended_batch_names_its_files(lab):
    """An ended batch has the rate of the whole run and its files; failures.csv only if rows failed."""
    ended = {"state": State.COMPLETED_WITH_ERRORS, "finished_at": "2023-11-14T22:13:05.000Z"}
    found = await status(lab, 10, Counts(succeeded=8, failed=2), **ended)
    assert (found["in_progress"], found["rate_per_s"], found["eta_s"]) == (0, 2.0, 0)
    assert found["output"] == "s3://out/results/demo/e1/output.csv"
    assert found["failures"] == "s3://out/results/demo/e1/failures.csv"
    assert found["manifest"] == "s3://out/results/demo/e1/manifest.json"
    fine = await status(lab, 10, Counts(succeeded=10), execution_id="e2", state=State.SUCCEEDED)
    assert fine["output"] is not None
    assert fine["failures"] is None


async def test_a_failed_batch_has_an_error(lab):
    """A FAILED batch has an error and no files."""
    found = await status(lab, 10, state=State.FAILED, error="no such column")
    assert found["error"] == "no such column"
    assert (found["output"], found["manifest"], found["in_progress"]) == (None, None, 0)


async def test_holds_and_operations_are_shown(lab):
    """Each hold by its reason, with its actor, time and facts; all operations in their order."""
    batch = await lab.batch(10)
    for request_id, op in (("r1", "pause"), ("r2", "resume"), ("r3", "pause")):
        await operate(lab.ports, OperationRequest(op, batch.batch_id, request_id, "ann"))
    view = await lab.view()
    operations = await read_operations(lab.table, view.batch)
    found = status_json(view, lab.clock, operations=operations)
    assert (found["state"], found["due"]) == ("PAUSED", 10)
    at = found["holds"]["user"].pop("at")
    day_before_expiry = iso_time((batch.ttl - 86_400) * 1000)
    assert found["holds"] == {"user": {"by": "ann", "until": day_before_expiry, "detail": {}}}
    assert found["operations"][2] == {
        "control": 3, "op": "pause", "args": {}, "by": "ann", "at": at, "request_id": "r3",
    }  # fmt: skip
    assert [made["request_id"] for made in found["operations"]] == ["r1", "r2", "r3"]


async def test_the_end_of_a_hold_is_shown(lab):
    """By the setting of the service, or by the batch's own limit."""
    hold = Hold("failures", "rowfleet", iso_time(lab.clock.now_ms()))
    for own_s, until_s in ((None, 100), (7, 7)):
        batch = await lab.batch(10, execution_id=f"e{own_s}", state=State.PAUSED, holds=(hold,), hold_s=own_s)
        found = status_json(BatchView(batch, Counts()), lab.clock, hold_s=100)
        assert found["holds"]["failures"]["until"] == iso_time(lab.clock.now_ms() + until_s * 1000)


@pytest.mark.parametrize(
    ("state", "total", "is_known"),
    [(State.RUNNING, 10, False), (State.COMPLETED_WITH_ERRORS, 10, True), (State.FAILED, None, False)],
)
async def test_an_ended_batch_can_be_redriven_until_a_day_before_it_expires(lab, state, total, is_known):
    """A batch that runs, or whose rows are not all known, cannot."""
    batch = await lab.batch(total, state=state)
    found = status_json(BatchView(batch, Counts()), lab.clock)["redrivable_until"]
    until_ms = (batch.ttl - 86_400) * 1000
    assert found == (iso_time(until_ms) if is_known else None)
    assert can_be_redriven(batch, until_ms - 1) is is_known
    assert not can_be_redriven(batch, until_ms)


async def test_the_calls_that_may_end_are_bounded(lab):
    """By the messages that workers hold, by the rows that have no outcome, and by those that were sent."""
    batch = await lab.batch(10)
    await lab.rows.send([OutgoingMessage(str(number)) for number in range(5)])
    await lab.rows.receive(3, wait_s=0, visibility_s=30)
    assert await calls_that_may_end(lab.rows, BatchView(batch, Counts(4))) == 3
    assert await calls_that_may_end(lab.rows, BatchView(batch, Counts(8))) == 2

    async def refused() -> int:
        raise AccessError("no sqs:GetQueueAttributes")

    lab.rows.in_flight = refused
    assert await calls_that_may_end(lab.rows, BatchView(batch, Counts(4))) == 6
    split = replace(batch, total=None, checkpoint=Checkpoint(rows=20), window=30)
    assert await calls_that_may_end(lab.rows, BatchView(split, Counts(4))) == 46


async def test_a_batch_without_operations_costs_no_read(lab):
    """Its log is not read."""
    batch = await lab.batch(10)
    lab.table.operations = None
    assert await read_operations(lab.table, batch) == ()


async def test_a_cancelled_batch_has_results(lab):
    """The results of what was done are written, and say where the source was not read any more."""
    found = await status(lab, state=State.CANCELLED, unread_from=11, counts=Counts(failed=10, cancelled=10))
    assert found["output"].endswith("output.csv")
    assert found["failures"].endswith("failures.csv")
    assert found["unread_from"] == 11


async def test_a_limit_that_is_exceeded_is_shown(lab):
    """A batch that goes on in spite of its failures says so."""
    tolerate = parse_tolerance("any=3,on_exceeded=finish")
    found = await status(lab, tolerate=tolerate, counts=Counts(succeeded=1, failed=4, rejected=4))
    assert found["exceeded"] == "4 of 5 rows failed, and 3 are tolerated"
    assert found["tolerate"] == "any=3,first=20,on_exceeded=finish"


async def test_results_that_cannot_be_written_are_a_trouble(lab):
    """While the batch is AGGREGATING its trouble has the reason, since when, and when it is tried again."""
    batch = await lab.batch(3, state=State.AGGREGATING)
    board = OutageBoard(lab.table, lab.clock)
    await board.report(batch, "the target is down")
    assert await board.read((await lab.view()).batch) == ""
    await lab.table.set_trouble(batch, Trouble("refused", 1_000, 3, 9_000))
    view = await lab.view()
    trouble = await board.read(view.batch)
    assert trouble == (
        "the results cannot be written: refused (since 1970-01-01T00:00:01.000Z, tried 3\u00d7, "
        "again at 1970-01-01T00:00:09.000Z)"
    )
    assert status_json(view, lab.clock, trouble)["trouble"] == trouble
    assert await board.read(replace(view.batch, state=State.FAILED)) == ""


async def test_an_unknown_batch_is_a_usage_error(lab):
    """An unknown batch raises UsageError that names `rowfleet list`."""
    with pytest.raises(UsageError, match=r"no batch 'demo#none'.*rowfleet list"):
        await read_batch(lab.table, "demo#none")
    batch = await lab.batch(1)
    assert (await read_batch(lab.table, batch.batch_id)).batch == batch


async def fail(lab, batch, errors):
    outcomes = tuple(
        replace(lab.outcome(n, failed="x" if error else ""), error=RowError(*error) if error else None)
        for n, error in errors.items()
    )
    for start in range(0, len(outcomes), 99):
        rows = outcomes[start : start + 99]
        commit = Commit(
            batch_id=batch.batch_id,
            round=1,
            partitions=batch.partitions,
            slot=0,
            outcomes=rows,
            token=f"{batch.batch_id}{start}",
            ttl=batch.ttl,
        )
        await lab.table.commit(commit)


async def test_failures_are_grouped_by_cause(lab):
    """Failures with the same error and, except for numbers and quotations, the same text are one group.

    The largest group comes first. Outcomes of earlier versions have the class "".
    """
    batch = await lab.batch(9, partitions=3)
    await fail(
        lab,
        batch,
        {
            1: ("AgentTimeoutError", "no answer within 10 s", "transient"),
            2: ("AgentRejectedError", "422: 'Paris' is no city"),
            3: ("AgentRejectedError", "422: 'Rome' is no city"),
            4: None,
            5: ("AgentRejectedError", '418: "Oslo" is no city'),
            6: ("ExtractionError", "no answer within 10 s"),
            7: ("AgentTimeoutError", "no answer within 20 s", "transient"),
        },
    )
    groups = [group.as_json() for group in await group_failures(lab.table, batch)]
    found = [(group["type"], group["class"], group["count"], sorted(group["rows"])) for group in groups]
    assert found == [
        ("AgentRejectedError", "", 3, [2, 3, 5]),
        ("AgentTimeoutError", "transient", 2, [1, 7]),
        ("ExtractionError", "", 1, [6]),
    ]
    assert groups[2]["message"] == "no answer within 10 s"
    assert list(groups[0]) == ["type", "class", "message", "count", "rows"]


async def test_a_group_lists_a_few_rows(lab):
    """Failures of all pages are counted; only some rows are listed."""
    batch = await lab.batch(1_300, partitions=2)
    await fail(lab, batch, {n: ("AgentRejectedError", f"no {n}") for n in range(1, 1_301)})
    (group,) = await group_failures(lab.table, batch)
    assert group.count == 1_300
    assert len(group.rows) == EXAMPLES


async def test_a_batch_without_failures_has_no_groups(lab):
    """A batch without failures gives an empty list."""
    batch = await lab.batch(2)
    await fail(lab, batch, {1: None, 2: None})
    assert await group_failures(lab.table, batch) == []


async def test_a_sample_of_failures_has_some_of_each_partition(lab):
    """It is enough to see whether they have one cause, and costs one read for each partition."""
    batch = await lab.batch(60, partitions=3)
    await fail(lab, batch, {n: ("ExtractionError", f"no value for field {n}") for n in range(1, 61)})
    found = await sample_failures(lab.table, batch)
    assert len(found) == 3 * EXAMPLES
    assert len({error.cause for error in found}) == 1
