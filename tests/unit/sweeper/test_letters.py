"""Dead letters as an operator sees and retries them."""

import json
from dataclasses import replace

import pytest

from service.domain.events import decode_ingest
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import batch_id
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.domain.ports import ReceivedMessage
from service.sweeper.letters import describe, retry_of

JOB = {"v": 1, "mapping": "demo", "source": "s3://in/files/rows.csv"}


def letter(body, id_="m1"):
    """A dead letter."""
    return ReceivedMessage(id_, body, "r1")


@pytest.mark.parametrize("kind", ["ingest", "rows", "aggregate"])
async def test_junk_has_a_reason_and_no_batch(lab, kind):
    """The reason is the one that the drain logs."""
    assert (await describe(kind, letter("junk"), lab.table, "incoming/"))[0].startswith("not JSON")
    assert (await describe(kind, letter("junk"), lab.table, "incoming/"))[1] == ""


async def test_a_letter_without_a_batch_names_the_batch_that_is_missing(lab):
    """It may have expired; the remedy is in the reason."""
    for kind, body in (
        ("rows", RowMessage("demo#x", 1, 1, ()).encode()),
        ("aggregate", AggregateMessage("demo#x", 1).encode()),
        ("ingest", OperationRequest("pause", "demo#x").encode()),
        ("ingest", WorkRequest("demo#x", "1", 3).encode()),
    ):
        reason, batch = await describe(kind, letter(body), lab.table, "incoming/")
        assert batch == "demo#x"
        assert "there is no batch 'demo#x'" in reason
        assert "rowfleet dead-letters drop" in reason


async def test_letters_that_the_sweeper_handles_have_no_reason(lab):
    """They wait for its next pass."""
    batch = await lab.batch(1)
    body = json.dumps(JOB)
    [job] = decode_ingest(body).jobs
    assert await describe("rows", letter(lab.row(1, batch).encode()), lab.table, "incoming/") == (
        "",
        "demo#e1",
    )
    trigger = AggregateMessage(batch.batch_id, 1).encode()
    assert await describe("aggregate", letter(trigger), lab.table, "incoming/") == ("", "demo#e1")
    expected = batch_id("demo", job.execution_id_for("m1"))
    assert await describe("ingest", letter(body), lab.table, "incoming/") == ("", expected)
    pause = OperationRequest("pause", batch.batch_id).encode()
    assert await describe("ingest", letter(pause), lab.table, "incoming/") == ("", "demo#e1")


async def test_a_retried_row_is_marked_and_goes_to_its_batch(lab):
    """It may have an outcome already: its worker has to look before it calls the agent."""
    batch = await lab.batch(1)
    again = retry_of("rows", letter(lab.row(1, batch, attempt=2).encode()))
    assert RowMessage.decode(again.body) == lab.row(1, batch, attempt=2, replay=True)
    assert again.group == batch.batch_id


def test_a_retried_job_keeps_its_batch_id():
    """The id would come from the new message's id otherwise, and the file would be run twice."""
    [job] = decode_ingest(json.dumps(JOB)).jobs
    for body in (json.dumps(JOB), json.dumps({"TopicArn": "t", "Message": json.dumps(JOB)})):
        again = decode_ingest(retry_of("ingest", letter(body)).body).jobs[0]
        assert again.execution_id == job.execution_id_for("m1")
    named = json.dumps(JOB | {"execution_id": "e1"})
    assert retry_of("ingest", letter(named)).body == named


def test_a_retried_operation_keeps_its_request_id():
    """It may have been carried out: under another id it would be, once more."""
    plain = OperationRequest("redrive", "demo#e1", args={"mapping_now": True})
    again = decode_ingest(retry_of("ingest", letter(plain.encode())).body).operation
    assert again == replace(plain, request_id="m1")
    named = replace(plain, request_id="r1").encode()
    assert retry_of("ingest", letter(named)).body == named


@pytest.mark.parametrize("kind", ["ingest", "rows", "aggregate"])
def test_a_retried_message_that_cannot_be_decoded_stays_as_it_is(kind):
    """A newer version may have written it."""
    assert retry_of(kind, letter('{"v": 9}')).body == '{"v": 9}'
