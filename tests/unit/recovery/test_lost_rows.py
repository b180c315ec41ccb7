"""Rows of a later round that are sent again or failed."""

import json
from dataclasses import replace

import pytest

from service.domain.errors import CancelledError
from service.domain.messages import RowMessage
from service.domain.model import Commit, Dialect, Status
from service.recovery.kept import KeptRows, KeptSelections


def held() -> None:
    """The lease is ours."""


@pytest.fixture
async def batch(lab):
    """A second round of ten rows over three partitions.

    Rows 1 to 4 are kept; 5 to 8 failed, 9 and 10 lack an outcome, and 6 is done in this round.
    """
    source = await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 11)))
    first = await lab.batch(10, partitions=3, source=source, dialect=None)
    await commit(lab, first, *(lab.outcome(n, failed="no" if n > 4 else "") for n in range(1, 9)))
    kept = KeptRows()
    for number in range(1, 5):
        kept.keep(number)
    stored = await KeptSelections(lab.objects).store(first.output, kept)
    second = replace(
        first, round=2, kept=stored, dialect=Dialect("utf-8", ",", 0, first_byte=8, first_line=2)
    )
    lab.table._batches[first.batch_id] = second
    await commit(lab, second, lab.outcome(6, round_=2))
    return second


async def commit(lab, batch, *outcomes):
    """Commit outcomes."""
    token = next(lab.tokens)
    await lab.table.commit(
        Commit(
            batch.batch_id, batch.round, batch.partitions, 0, outcomes, token, batch.ttl, batch.incarnation
        )
    )


async def resend(lab, batch, **options):
    """Send lost rows; return the messages by row, and what `done` was told."""
    told = []

    async def done(number):
        told.append(number)

    async with lab.committer() as committer:
        await lab.recovery(committer, **options).resend(batch, held, done=done, delay_s=0)
    return {row.number: row for row in await lab.sent_rows()}, told


async def test_only_rows_that_are_due_and_not_done_are_sent(lab, batch):
    """Those with an outcome carry it as their history; the others are read from the source."""
    rows, told = await resend(lab, batch)
    assert list(rows) == [5, 7, 8, 9, 10]
    assert all(row.cells == (str(n), f"name {n}") for n, row in rows.items())
    assert [len(row.history) for row in rows.values()] == [1, 1, 1, 0, 0]
    assert rows[5].history[0].error.message == "no"
    assert told == [10]


@pytest.mark.parametrize(("max_bytes", "calls"), [(4 * 2**20, 2), (1, 20)])
async def test_rows_that_lie_far_apart_are_sent_together(lab, max_bytes, calls):
    """Ten in a call of SQS, though each is read by a query of its own, unless their bytes are too many."""
    first = await lab.batch(200, partitions=1, dialect=None)
    for start in range(1, 200, 50):
        await commit(lab, first, *(lab.outcome(n, failed="no") for n in range(start, start + 50)))
    kept = KeptRows()
    for number in range(1, 201):
        if number % 10:
            kept.keep(number)
    stored = await KeptSelections(lab.objects).store(first.output, kept)
    second = lab.table._batches[first.batch_id] = replace(first, round=2, kept=stored)
    sizes = []
    send = lab.rows.send

    async def counted(messages):
        sizes.append(len(messages))
        return await send(messages)

    lab.rows.send = counted
    rows, _ = await resend(lab, second, max_bytes=max_bytes)
    assert list(rows) == list(range(10, 201, 10))
    assert (len(sizes), sum(sizes)) == (calls, 20)


async def test_rows_run_again_although_their_source_is_gone(lab, batch):
    """Only rows that never had an outcome fail, and say that they cannot be read."""
    del lab.objects.stored["in", "files/rows.csv"]
    rows, _ = await resend(lab, batch)
    assert list(rows) == [5, 7, 8]
    outcomes = await lab.outcomes(batch)
    assert [(n, outcomes[n].error.type) for n in (9, 10)] == [(9, "SourceError"), (10, "SourceError")]


async def test_a_row_too_large_for_a_message_refers_to_the_source(lab, batch):
    """It keeps its history."""
    rows, _ = await resend(lab, batch, max_message_bytes=1_050)
    large = lab.outcome(5, failed="no")
    large = replace(large, input_data={"id": "5", "name": "x" * 2_000})
    key = lab.table._rows[f"{batch.batch_id}#2"]
    key[5]["input_data"] = {"M": {"id": {"S": "5"}, "name": {"S": "x" * 2_000}}}
    again, _ = await resend(lab, batch, max_message_bytes=1_050)
    assert rows[5].span is None
    assert again[5].cells == ("5", "name 5"), "as the source has it"
    assert len(again[5].history) == 1


async def test_rows_of_a_later_round_can_be_failed(lab, batch):
    """A cancelled round fails its rows with their cells and their history, and no kept row."""
    async with lab.committer() as committer:
        failed = await lab.recovery(committer).fail(batch, CancelledError("cancelled"), held)
    outcomes = await lab.outcomes(batch)
    assert (failed.rows, failed.first, failed.last) == (5, 5, 10)
    assert {n for n, o in outcomes.items() if o.error and o.error.type == "CancelledError"} == {
        5,
        7,
        8,
        9,
        10,
    }
    assert outcomes[5].input_data == {"id": "5", "name": "name 5"}
    assert [past.status for past in outcomes[5].history] == [Status.FAILED]
    assert (await lab.view()).counts.done == 6


async def test_the_history_of_a_message_survives_a_requeue(lab, batch):
    """It is part of the message as JSON."""
    rows, _ = await resend(lab, batch)
    body = json.loads(replace(rows[5], attempt=2).encode())
    assert body["history"][0]["error"]["type"] == "AgentRejectedError"
    assert RowMessage.decode(json.dumps(body)).history == rows[5].history
