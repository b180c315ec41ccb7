"""What users ask of a batch."""

from dataclasses import replace

import pytest

from service.app.status import EXAMPLES, group_failures, read_batch, status_json
from service.domain.errors import UsageError
from service.domain.model import BatchView, Commit, Counts, RowError, State

KEYS = [
    "batch_id", "tool_name", "execution_id", "state", "round", "total", "succeeded", "failed", "reused",
    "in_progress", "rate_per_s", "eta_s", "started_at", "finished_at", "source", "output", "failures",
    "manifest", "error", "trouble", "deadline_at", "priority", "weight",
]  # fmt: skip


async def status(lab, total=10, counts=None, **changes):
    created = "2023-11-14T22:13:00.000Z"  # 20 s before the clock's start
    batch = await lab.batch(total, **({"created_at": created} | changes))
    return status_json(BatchView(batch, counts or Counts()), lab.clock)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("total", [None, 0, 10])
async def test_the_keys_are_the_contract(lab, state, total):
    """In every state there are the same keys, in the documented order."""
    assert list(await status(lab, total, state=state)) == KEYS


async def test_a_running_batch_tells_rate_and_time_left(lab):
    """Rows per second since the start, and what is left at that rate."""
    found = await status(lab, 100, Counts(succeeded=30, failed=10))
    assert (found["state"], found["total"], found["succeeded"], found["failed"]) == ("RUNNING", 100, 30, 10)
    assert (found["in_progress"], found["rate_per_s"], found["eta_s"]) == (60, 2.0, 30.0)
    assert (found["started_at"], found["finished_at"]) == ("2023-11-14T22:13:00.000Z", None)
    assert found["source"] == "s3://in/files/rows.csv"
    assert (found["output"], found["failures"], found["manifest"], found["error"]) == (None,) * 4


async def test_reused_rows_are_told_apart(lab):
    """They have succeeded, and are among those; how many they are is said beside."""
    found = await status(lab, 100, Counts(succeeded=30, reused=12))
    assert (found["succeeded"], found["reused"], found["in_progress"]) == (30, 12, 70)


async def test_while_splitting_nobody_knows_what_is_left(lab):
    """Without a total there is neither a rest nor an end."""
    found = await status(lab, None, Counts(succeeded=30))
    assert (found["state"], found["total"], found["in_progress"], found["eta_s"]) == (
        "SPLITTING",
        None,
        None,
        None,
    )


async def test_a_batch_without_progress_has_no_end_in_sight(lab):
    """A rate of nothing is no reason to divide by it."""
    found = await status(lab, 10)
    assert (found["rate_per_s"], found["eta_s"]) == (0.0, None)
    assert (await status(lab, 10, execution_id="e2", created_at=""))["rate_per_s"] is None


async def test_an_ended_batch_tells_where_its_files_are(lab):
    """The rate is that of the whole run, nothing is left, and failures.csv is named if there is one."""
    ended = {"state": State.COMPLETED_WITH_ERRORS, "finished_at": "2023-11-14T22:13:05.000Z"}
    found = await status(lab, 10, Counts(succeeded=8, failed=2), **ended)
    assert (found["in_progress"], found["rate_per_s"], found["eta_s"]) == (0, 2.0, 0)
    assert found["output"] == "s3://out/results/demo/e1/output.csv"
    assert found["failures"] == "s3://out/results/demo/e1/failures.csv"
    assert found["manifest"] == "s3://out/results/demo/e1/manifest.json"
    fine = await status(lab, 10, Counts(succeeded=10), execution_id="e2", state=State.SUCCEEDED)
    assert fine["output"] is not None
    assert fine["failures"] is None


async def test_a_failed_batch_tells_why(lab):
    """It has an error and no files."""
    found = await status(lab, 10, state=State.FAILED, error="no such column")
    assert found["error"] == "no such column"
    assert (found["output"], found["manifest"], found["in_progress"]) == (None, None, 0)


async def test_a_cancelled_batch_has_no_files(lab):
    """What was never aggregated is not promised."""
    found = await status(lab, 10, Counts(succeeded=3), state=State.CANCELLED)
    assert (found["output"], found["manifest"]) == (None, None)


async def test_an_unknown_batch_is_a_usage_error(lab):
    """The text names the command that helps."""
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
        commit = Commit(batch.batch_id, 1, batch.partitions, 0, rows, f"{batch.batch_id}{start}", batch.ttl)
        await lab.table.commit(commit)


async def test_failures_are_grouped_by_cause(lab):
    """Same error and same text but for numbers and quoted values: one cause, the commonest first.

    Outcomes of an earlier version have no class, and it is said so.
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


async def test_a_group_names_a_few_rows(lab):
    """All failures are counted over all pages; only some are named."""
    batch = await lab.batch(1_300, partitions=2)
    await fail(lab, batch, {n: ("AgentRejectedError", f"no {n}") for n in range(1, 1_301)})
    (group,) = await group_failures(lab.table, batch)
    assert group.count == 1_300
    assert len(group.rows) == EXAMPLES


async def test_a_batch_without_failures_has_no_groups(lab):
    """An empty list, not an error."""
    batch = await lab.batch(2)
    await fail(lab, batch, {1: None, 2: None})
    assert await group_failures(lab.table, batch) == []
