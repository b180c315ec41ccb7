"""The fault proxy: it produces each fault, and aiobotocore raises the errors that AWS documents."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError

from service.adapters.aws.clients import AwsOptions, open_clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.provision.table import provision_table
from tests.chaos.conftest import Behind
from tests.chaos.faults import RATES, Fault, Operation, Rates

KEY = {"batch_id": {"S": "a"}, "row_id": {"S": "b"}}


async def queue_url(behind: Behind, names: ResourceNames) -> str:
    return str((await behind.direct.sqs.create_queue(QueueName=names.queue("rows")))["QueueUrl"])


def transaction(table: str, writes: int = 2) -> dict[str, Any]:
    items = [{**KEY, "row_id": {"S": str(number)}} for number in range(writes)]
    return {"TransactItems": [{"Put": {"TableName": table, "Item": item}} for item in items]}


def entries(*numbers: int) -> list[dict[str, str]]:
    return [{"Id": str(number), "MessageBody": f"m{number}"} for number in numbers]


async def refused(call: Awaitable[Any]) -> tuple[str, int, dict[str, Any]]:
    """Code, HTTP status and response of a call that AWS refuses."""
    with pytest.raises(ClientError) as caught:
        await call
    response = dict(caught.value.response)
    return str(response["Error"]["Code"]), int(response["ResponseMetadata"]["HTTPStatusCode"]), response


async def bodies(behind: Behind, url: str) -> list[str]:
    """The bodies of the messages in a queue."""
    found = await behind.direct.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return sorted(message["Body"] for message in found.get("Messages", []))


# -- without faults --------------------------------------------------------------------------------------


async def test_without_faults_calls_pass_unchanged(behind: Behind, names: ResourceNames) -> None:
    """Bodies, quoted keys, HEAD, ranges, multipart uploads and conditions are forwarded unchanged."""
    s3, bucket, key = behind.clients.s3, names.bucket, "a b/ü+%20&?=#.csv"
    body = bytes(range(256)) * 8_192
    await s3.create_bucket(Bucket=bucket)
    await s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/csv")
    head = await s3.head_object(Bucket=bucket, Key=key)
    assert (head["ContentLength"], head["ContentType"]) == (len(body), "text/csv")
    got = await s3.get_object(Bucket=bucket, Key=key, Range="bytes=10-99", IfMatch=head["ETag"])
    async with got["Body"] as stream:
        assert await stream.read() == body[10:100]
    with pytest.raises(ClientError) as changed:
        await s3.get_object(Bucket=bucket, Key=key, IfMatch='"other"')
    assert changed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    upload = (await s3.create_multipart_upload(Bucket=bucket, Key="big"))["UploadId"]
    part = await s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=1, Body=body * 3)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload=parts)
    stored = await behind.direct.s3.get_object(Bucket=bucket, Key="big")
    async with stored["Body"] as stream:
        assert hashlib.sha256(await stream.read()).digest() == hashlib.sha256(body * 3).digest()
    assert behind.proxy.requests == 8
    assert not behind.proxy.produced


async def test_every_call_goes_through_the_proxy(behind: Behind, names: ResourceNames) -> None:
    """So do calls of SQS, whose queue URL names the endpoint, and the signed Host header is kept."""
    url = await queue_url(behind, names)
    assert behind.proxy.url not in url
    await behind.clients.sqs.send_message_batch(QueueUrl=url, Entries=entries(1))
    await behind.clients.sqs_poll.receive_message(QueueUrl=url)
    assert behind.proxy.requests == 2
    hosts = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        hosts.extend(line for line in head.split("\r\n") if line.lower().startswith("host:"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    behind.proxy._upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, aiohttp.ClientSession() as session:
        await session.post(behind.proxy.url, headers={"Host": "signed.example"}, data=b"x")
    assert hosts == ["Host: signed.example"]


async def test_connections_are_kept_open(behind: Behind) -> None:
    """Sequential calls use one connection, as on AWS."""
    made = []

    async def on_connection(*_: object) -> None:
        made.append(1)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(on_connection)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        for _ in range(5):
            async with session.get(behind.proxy.url + "/_ministack/health") as answer:
                assert answer.status == 200
                await answer.read()
    assert len(made) == 1


# -- refused without a call of the endpoint --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "codes"),
    [
        (Fault.ERROR_500, 500, ("InternalServerError", "InternalFailure", "InternalError")),
        (Fault.ERROR_503, 503, ("ServiceUnavailableException", "ServiceUnavailable", "ServiceUnavailable")),
        (
            Fault.THROTTLE,
            400,
            ("ProvisionedThroughputExceededException", "RequestThrottled", "SlowDown"),
        ),
    ],
)
async def test_errors_in_each_protocol(
    behind: Behind, names: ResourceNames, fault: Fault, status: int, codes: tuple[str, str, str]
) -> None:
    """DynamoDB, SQS and S3 each say it in their own format, with the documented code and status."""
    await provision_table(Access(behind.direct, may_write=True), names.table)
    url = await queue_url(behind, names)
    await behind.direct.s3.create_bucket(Bucket=names.bucket)
    calls: dict[str, Awaitable[Any]] = {
        "GetItem": behind.once.dynamodb.get_item(TableName=names.table, Key=KEY),
        "SendMessage": behind.once.sqs.send_message(QueueUrl=url, MessageBody="x"),
        "PutObject": behind.once.s3.put_object(Bucket=names.bucket, Key="k", Body=b"x"),
    }
    for (operation, call), code in zip(calls.items(), codes, strict=True):
        behind.script.add(operation, fault)
        got, got_status, response = await refused(call)
        assert got == code
        assert got_status == (503 if code == "SlowDown" else status)
        assert response["Error"]["Message"]
    assert behind.proxy.produced == {fault: 3}
    assert await bodies(behind, url) == []


async def test_a_head_that_fails_has_no_body(behind: Behind, names: ResourceNames) -> None:
    """S3 answers a HEAD with a status only, so the code of the error is the status."""
    behind.script.add("HeadObject", Fault.ERROR_503)
    code, status, _ = await refused(behind.once.s3.head_object(Bucket=names.bucket, Key="k"))
    assert (code, status) == ("503", 503)


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault.CONFLICT, "TransactionConflict"), (Fault.THROTTLE, "ThrottlingError")]
)
async def test_a_transaction_is_cancelled_with_reasons(
    behind: Behind, names: ResourceNames, fault: Fault, code: str
) -> None:
    """The error has one reason per write, `None` for those that are not the cause. Nothing is written."""
    await provision_table(Access(behind.direct, may_write=True), names.table)
    behind.script.add("TransactWriteItems", fault)
    call = behind.once.dynamodb.transact_write_items(**transaction(names.table, 3))
    kind, status, response = await refused(call)
    assert (kind, status) == ("TransactionCanceledException", 400)
    assert [reason["Code"] for reason in response["CancellationReasons"]] == ["None", "None", code]
    assert (await behind.direct.dynamodb.scan(TableName=names.table))["Count"] == 0


async def test_a_single_write_in_conflict(behind: Behind, names: ResourceNames) -> None:
    """UpdateItem on an item of a transaction under way: TransactionConflictException."""
    behind.script.add("UpdateItem", Fault.CONFLICT)
    call = behind.once.dynamodb.update_item(TableName=names.table, Key=KEY)
    assert (await refused(call))[:2] == ("TransactionConflictException", 400)


async def test_a_reset_is_no_answer(behind: Behind, names: ResourceNames) -> None:
    """The connection is reset without a response, and the endpoint is not called."""
    url = await queue_url(behind, names)
    behind.script.add("SendMessage", Fault.RESET)
    with pytest.raises((boto.ConnectionClosedError, boto.EndpointConnectionError, ConnectionResetError)):
        await behind.once.sqs.send_message(QueueUrl=url, MessageBody="x")
    assert await bodies(behind, url) == []


async def test_a_late_error_comes_under_200(behind: Behind, names: ResourceNames) -> None:
    """CompleteMultipartUpload can answer 200 with an error in the body; botocore takes it for a 500."""
    behind.script.add("CompleteMultipartUpload", Fault.LATE_ERROR)
    call = behind.once.s3.complete_multipart_upload(Bucket=names.bucket, Key="k", UploadId="u")
    assert (await refused(call))[0] == "InternalError"


# -- refused in part, or applied -------------------------------------------------------------------------


async def test_entries_of_a_batch_are_refused_under_200(behind: Behind, names: ResourceNames) -> None:
    """Every other entry is in `Failed`, the others are sent. A single entry is refused."""
    url = await queue_url(behind, names)
    behind.script.add("SendMessageBatch", Fault.PARTIAL, Fault.PARTIAL)
    answer = await behind.once.sqs.send_message_batch(QueueUrl=url, Entries=entries(1, 2, 3))
    assert [entry["Id"] for entry in answer["Failed"]] == ["1", "3"]
    assert all(not entry["SenderFault"] and entry["Code"] for entry in answer["Failed"])
    assert [entry["Id"] for entry in answer["Successful"]] == ["2"]
    answer = await behind.once.sqs.send_message_batch(QueueUrl=url, Entries=entries(4))
    assert ([entry["Id"] for entry in answer["Failed"]], answer["Successful"]) == (["4"], [])
    assert await bodies(behind, url) == ["m2"]


async def sees_reset(call: Awaitable[Any]) -> None:
    with pytest.raises((boto.ConnectionClosedError, boto.EndpointConnectionError, ConnectionResetError)):
        await call


async def sees_half(call: Awaitable[Any]) -> None:
    with pytest.raises((boto.HTTPClientError, aiohttp.ClientPayloadError)):
        await call


async def sees_timeout(call: Awaitable[Any]) -> None:
    with pytest.raises(boto.ReadTimeoutError):
        await call


@pytest.mark.parametrize(
    ("fault", "sees"),
    [(Fault.LOST, sees_reset), (Fault.HALF, sees_half), (Fault.HELD, sees_timeout)],
)
async def test_applied_and_not_answered(
    behind: Behind, names: ResourceNames, fault: Fault, sees: Callable[[Awaitable[Any]], Awaitable[None]]
) -> None:
    """The client gets a reset, half a body or its own time-out. The endpoint has applied the call once."""
    url = await queue_url(behind, names)
    behind.script.add("SendMessage", fault)
    await sees(behind.once.sqs.send_message(QueueUrl=url, MessageBody="x"))
    assert await bodies(behind, url) == ["x"]


async def test_half_an_object(behind: Behind, names: ResourceNames) -> None:
    """The body of a GET ends in the middle."""
    await behind.direct.s3.create_bucket(Bucket=names.bucket)
    await behind.direct.s3.put_object(Bucket=names.bucket, Key="k", Body=b"x" * 100_000)
    behind.script.add("GetObject", Fault.HALF)
    answer = await behind.once.s3.get_object(Bucket=names.bucket, Key="k")

    async def read() -> None:
        async with answer["Body"] as stream:
            await stream.read()

    await sees_half(read())


async def test_a_delayed_call_succeeds(behind: Behind, names: ResourceNames) -> None:
    """The call is forwarded after the delay."""
    url = await queue_url(behind, names)
    behind.script.add("SendMessage", Fault.DELAY)
    await behind.once.sqs.send_message(QueueUrl=url, MessageBody="x")
    assert await bodies(behind, url) == ["x"]
    assert behind.proxy.produced == {Fault.DELAY: 1}


async def test_the_proxy_ends_with_calls_under_way(aws_options: AwsOptions, behind: Behind) -> None:
    """A held answer does not delay the stop: its client sees a closed connection."""
    behind.script.add("HeadObject", Fault.HELD)
    options = AwsOptions("us-east-1", behind.proxy.url, "test", "test", max_attempts=1, read_timeout_s=3_600)
    async with open_clients(options) as patient:
        call = asyncio.create_task(patient.s3.head_object(Bucket="b", Key="k"))
        while not behind.proxy.produced:  # noqa: ASYNC110 -- a few turns of this very loop
            await asyncio.sleep(0)
        await behind.proxy.stop()
        await sees_reset(call)


# -- chance ----------------------------------------------------------------------------------------------


def drawn(seed: int, operation: Operation, count: int = 20_000, factor: float = 1.0) -> list[Fault | None]:
    rates = Rates(seed)
    rates.factor = factor
    return [rates.choose(operation) for _ in range(count)]


def test_chance_is_seeded() -> None:
    """Equal seeds draw equal faults, different seeds different ones."""
    operation = Operation("sqs", "SendMessageBatch")
    assert drawn(1, operation) == drawn(1, operation)
    assert drawn(1, operation) != drawn(2, operation)


@pytest.mark.parametrize(
    ("operation", "never"),
    [
        (Operation("sqs", "SendMessageBatch"), {Fault.CONFLICT, Fault.LATE_ERROR}),
        (Operation("dynamodb", "TransactWriteItems"), {Fault.PARTIAL, Fault.LATE_ERROR}),
        (Operation("s3", "CompleteMultipartUpload"), {Fault.CONFLICT, Fault.PARTIAL}),
        (Operation("dynamodb", "Query"), {Fault.CONFLICT, Fault.PARTIAL, Fault.LATE_ERROR}),
    ],
)
def test_each_fault_comes_at_its_rate(operation: Operation, never: set[Fault]) -> None:
    """An operation meets the faults that AWS has for it, each at about its share; with factor 0 none."""
    faults = drawn(3, operation)
    for fault, rate in RATES.items():
        share = faults.count(fault) / len(faults)
        assert share == (0 if fault in never else pytest.approx(rate, rel=0.5))
    assert set(drawn(3, operation, factor=0)) == {None}


@pytest.mark.parametrize(
    ("method", "query", "target", "name"),
    [
        ("POST", {}, "DynamoDB_20120810.TransactWriteItems", "TransactWriteItems"),
        ("POST", {}, "AmazonSQS.ReceiveMessage", "ReceiveMessage"),
        ("PUT", {"partNumber": "1", "uploadId": "u"}, "", "UploadPart"),
        ("POST", {"uploads": ""}, "", "CreateMultipartUpload"),
        ("POST", {"uploadId": "u"}, "", "CompleteMultipartUpload"),
        ("DELETE", {"uploadId": "u"}, "", "AbortMultipartUpload"),
        ("HEAD", {}, "", "HeadObject"),
        ("GET", {}, "", "GetObject"),
    ],
)
def test_operations_are_told_apart(method: str, query: dict[str, str], target: str, name: str) -> None:
    """The proxy reads the operation from method, query and headers."""
    assert Operation.of(method, query, target).name == name
