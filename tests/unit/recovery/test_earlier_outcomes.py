"""Rows that run again from their outcomes."""

from dataclasses import replace

import pytest

from service.batch.outcomes import LastAttempt, shorten
from service.domain.errors import AgentRejectedError, BadRecordError
from service.domain.messages import RowMessage
from service.domain.model import Commit, PastOutcome, RowError, Status
from service.recovery.earlier_outcomes import has_all_cells, history_of, outcomes_of, row_again


async def commit(lab, batch, *outcomes):
    """Commit outcomes."""
    token = next(lab.tokens)
    await lab.table.commit(
        Commit(
            batch.batch_id, batch.round, batch.partitions, 0, outcomes, token, batch.ttl, batch.incarnation
        )
    )


def failed(batch, row, error):
    """The outcome of a row that has failed."""
    attempt = LastAttempt(
        row=row,
        columns=batch.columns,
        number=2,
        elapsed_ms=5,
        timestamp="2026-11-23T07:00:01.000Z",
        worker="w",
    )
    return attempt.failed(error)


@pytest.mark.parametrize("cells", [("1", "a"), ("1",), ("1", "a", "more", "cells"), ("", "")])
@pytest.mark.parametrize("defect", ["", "ragged"])
async def test_a_row_runs_again_as_it_was(lab, cells, defect):
    """Cells, surplus cells, the bytes of a refused record and its defect come from the outcome."""
    batch = replace(await lab.batch(3), round=2, generation=3, sender="s2")
    record = "eHk=" if defect else ""
    row = RowMessage(batch.batch_id, 1, 2, cells, defect=defect, record=record, lost_deliveries=3, attempt=2)
    error = BadRecordError(defect) if defect else AgentRejectedError("no")
    outcome = failed(batch, row, error)
    again = row_again(batch, outcome)
    assert has_all_cells(outcome)
    assert (again.cells, again.defect, again.record) == (cells, defect, record)
    assert (again.round, again.generation, again.sender) == (2, 3, "s2")
    assert (again.attempt, again.lost_deliveries, again.first_attempt_ms) == (1, 0, None)
    assert RowMessage.decode(again.encode()) == again


async def test_cut_and_missing_cells_are_not_taken_for_cells(lab):
    """Such a row has to be read from the source."""
    batch = await lab.batch(3)
    outcome = failed(batch, lab.row(1, batch), AgentRejectedError("no"))
    assert not has_all_cells(shorten(replace(outcome, input_data={"id": "x" * 900}), 2_000))
    assert not has_all_cells(replace(outcome, input_data={}))


def test_a_row_keeps_its_last_ten_outcomes(lab):
    """The latest last; long errors are cut, since each message of the row carries them."""
    past = tuple(PastOutcome(n, Status.FAILED, "t", 1) for n in range(1, 11))
    history = history_of(lab.outcome(1, failed="x" * 1_000, round_=11, history=past))
    assert [entry.round for entry in history] == [*range(2, 12)]
    assert history[-1].error == RowError("AgentRejectedError", "x" * 299 + "…")


@pytest.mark.parametrize("partitions", [1, 3, 16])
@pytest.mark.parametrize("numbers", [[1], [2, 90], [*range(1, 100)], [1, 2, 3, 50, 51, 99], [100, 101]])
async def test_outcomes_of_named_rows_are_found(lab, partitions, numbers):
    """Dense or sparse, and rows without an outcome are left out."""
    batch = await lab.batch(100, partitions=partitions)
    await commit(lab, batch, *(lab.outcome(n) for n in range(1, 100) if n % 7))
    found = [outcome.number async for page in outcomes_of(lab.table, batch, numbers) for outcome in page]
    assert sorted(found) == [n for n in numbers if n % 7 and n < 100]
