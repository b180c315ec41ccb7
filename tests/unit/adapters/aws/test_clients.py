"""AWS clients: parsing, counting of attempts, separate connections, time-outs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from service.adapters.aws.clients import AwsOptions, Clients, open_client, open_clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.domain.errors import ConfigError, RowfleetError, UnknownResultError, UnreachableError
from service.domain.ports import OutgoingMessage

SINGLE_ATTEMPT = AwsOptions(
    "us-east-1",
    "http://127.0.0.1:9",
    "test",
    "test",
    read_timeout_s=3_600.0,
    max_attempts=1,
)


@asynccontextmanager
async def server(answer: bytes | None, hangs: asyncio.Event | None = None) -> AsyncIterator[str]:
    """An HTTP server that sends `answer`, closes without one (None), or sets `hangs` and does not respond."""
    handlers: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        if hangs is not None:
            hangs.set()
            await reader.read()
        elif answer is not None:
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % len(answer) + answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await asyncio.gather(*filter(None, handlers))


async def test_every_attempt_is_counted(aws_options: AwsOptions, names: ResourceNames) -> None:
    """`on_call` is called with service and operation for each HTTP attempt."""
    calls: Counter[tuple[str, str]] = Counter()
    async with open_clients(aws_options, lambda *call: calls.update([call])) as clients:
        await clients.sqs.create_queue(QueueName=names.queue("rows"))
        await clients.s3.create_bucket(Bucket=names.bucket)
        with pytest.raises(ClientError):
            await clients.dynamodb.describe_table(TableName="none")
    assert calls == {("sqs", "CreateQueue"): 1, ("s3", "CreateBucket"): 1, ("dynamodb", "DescribeTable"): 1}


async def test_a_send_is_one_attempt() -> None:
    """A call without an answer may have been accepted: only its caller can mark the repetition."""
    calls: Counter[tuple[str, str]] = Counter()
    async with (
        server(None) as url,
        open_clients(
            replace(SINGLE_ATTEMPT, endpoint_url=url, max_attempts=3),
            lambda service, operation: calls.update([(service, operation)]),
        ) as clients,
    ):
        queue = SqsQueue(clients, "rows", f"{url}/rows")
        with pytest.raises(UnknownResultError):
            await queue.send([OutgoingMessage("a")])
    assert calls == {("sqs", "SendMessageBatch"): 1}


async def test_cancellation_reasons_are_kept(clients: Clients, names: ResourceNames) -> None:
    """Error responses are parsed by botocore, which keeps the reasons of a cancelled transaction."""
    await provision_table(Access(clients, may_write=True), names.table)
    put = {
        "TableName": names.table,
        "Item": {"batch_id": {"S": "a"}, "row_id": {"S": "b"}},
        "ConditionExpression": "attribute_exists(batch_id)",
    }
    with pytest.raises(ClientError) as caught:
        await clients.dynamodb.transact_write_items(TransactItems=[{"Put": put}])
    assert caught.value.response["CancellationReasons"][0]["Code"] == "ConditionalCheckFailed"


async def test_responses_keep_their_metadata(clients: Clients) -> None:
    """A response has its request id and HTTP status, for logs."""
    answer = await clients.dynamodb.list_tables()
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["ResponseMetadata"]["RequestId"]


async def test_a_long_poll_does_not_delay_a_send(aws_options: AwsOptions, names: ResourceNames) -> None:
    """Receives use their own connections: with one connection for each client, a send does not wait."""
    polled = asyncio.Event()

    def on_call(_: str, operation: str) -> None:
        if operation == "ReceiveMessage":
            polled.set()

    async with open_clients(replace(aws_options, max_connections=1), on_call) as clients:
        made = await clients.sqs.create_queue(QueueName=names.queue("rows"))
        queue = SqsQueue(clients, "rows", made["QueueUrl"])
        receiving = asyncio.create_task(queue.receive(1, wait_s=10, visibility_s=30))
        await polled.wait()
        await queue.send([OutgoingMessage("x")])  # if it waited for the poll, the poll would be empty
        assert [message.body for message in await receiving] == ["x"]


async def test_a_refused_connection_is_unreachable() -> None:
    """A refused connection raises UnreachableError with address and remedy."""
    async with open_clients(SINGLE_ATTEMPT) as clients:
        with pytest.raises(UnreachableError, match=r"cannot reach http://127\.0\.0\.1:9.*--endpoint-url"):
            await DynamoTable(clients, "t").read("a#b")


async def test_a_closed_connection_is_an_unknown_result() -> None:
    """A server that closes the connection after the request may have applied it."""
    async with server(None) as url, open_clients(replace(SINGLE_ATTEMPT, endpoint_url=url)) as clients:
        with pytest.raises(UnknownResultError):
            await SqsQueue(clients, "rows", url).send([OutgoingMessage("x")])


async def test_a_missing_response_is_an_unknown_result(skip_time: Callable[[float], None]) -> None:
    """A server that does not respond in time may have applied the request."""
    hangs = asyncio.Event()
    options = replace(SINGLE_ATTEMPT, read_timeout_s=10.0)
    async with server(None, hangs) as url, open_clients(replace(options, endpoint_url=url)) as clients:
        sending = asyncio.create_task(SqsQueue(clients, "rows", url).send([OutgoingMessage("x")]))
        await hangs.wait()
        skip_time(options.read_timeout_s + 1)
        with pytest.raises(UnknownResultError):
            await sending


async def test_a_response_that_is_not_json_is_an_unknown_result() -> None:
    """HTML instead of JSON, as from a captive portal or proxy, is not taken for success."""
    async with server(b"<html>") as url, open_clients(replace(SINGLE_ATTEMPT, endpoint_url=url)) as clients:
        with pytest.raises(
            UnknownResultError, match="does not answer sqs:SendMessage on queue rows as AWS does"
        ):
            await SqsQueue(clients, "rows", url).send([OutgoingMessage("x")])


async def test_a_malformed_endpoint_is_a_config_error() -> None:
    """The endpoint's URL is checked when clients are opened."""
    with pytest.raises(ConfigError):
        async with open_clients(replace(SINGLE_ATTEMPT, endpoint_url="not a url")):
            pass


async def test_no_proxy_is_used_for_this_machine(
    aws_options: AwsOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY does not apply to an endpoint on the loopback."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with open_clients(aws_options) as clients:
        assert "TableNames" in await clients.dynamodb.list_tables()


@asynccontextmanager
async def proxy_of_aws(lines: list[str]) -> AsyncIterator[str]:
    """A proxy that notes request lines, and answers in the place of AWS with an empty JSON object."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines.append(head.split(b"\r\n")[0].decode())
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n"
            b"Content-Length: 2\r\n\r\n{}"
        )
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("direct", [True, False])
async def test_calls_of_aws_obey_the_environment(direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and HTTPS_PROXY apply to direct calls and to those of aiobotocore, except for NO_PROXY."""
    lines: list[str] = []
    options = replace(SINGLE_ATTEMPT, endpoint_url="http://aws.invalid", direct_calls=direct)
    async with proxy_of_aws(lines) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("no_proxy", "169.254.170.2,.example.invalid")
        async with open_clients(options) as clients:
            await clients.sqs_poll.receive_message(QueueUrl="http://aws.invalid/rows")
            await clients.dynamodb.get_item(TableName="t", Key={"pk": {"S": "1"}})
        assert lines == ["POST http://aws.invalid/ HTTP/1.1"] * 2
        tls = replace(options, endpoint_url="https://aws.invalid")
        async with open_clients(tls) as clients:
            with pytest.raises(Exception, match=r"aws\.invalid"):  # the proxy speaks no TLS
                await clients.dynamodb.get_item(TableName="t", Key={"pk": {"S": "1"}})
        assert lines[2:] == ["CONNECT aws.invalid:443 HTTP/1.1"]
        monkeypatch.setenv("no_proxy", ".invalid")
        async with open_clients(options) as clients:
            with pytest.raises(Exception, match=r"aws\.invalid"):  # nobody resolves it
                await clients.dynamodb.get_item(TableName="t", Key={"pk": {"S": "1"}})
    assert len(lines) == 3


async def test_credentials_of_a_task_are_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """ECS answers on the task itself, whatever HTTP_PROXY says and whether NO_PROXY names it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    answer = b'{"AccessKeyId":"key","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}'
    async with server(answer) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
        credentials = await AioSession().get_credentials()
        assert (await credentials.get_frozen_credentials()).access_key == "key"


FOREIGN_REPLIES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>Hi</html>",
    b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}',
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 19\r\n\r\n<html>no TLS</html>",
    b'HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{"detail":"Not Found"}',
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 19\r\n\r\n<html>denied</html>",
    b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 16\r\n\r\n<html>bad</html>",
    b"SSH-2.0-OpenSSH_9.6\r\n",
]


@pytest.mark.parametrize("reply", FOREIGN_REPLIES)
@pytest.mark.parametrize("operation", ["queue", "object"])
async def test_an_endpoint_that_is_no_aws_is_named_with_its_setting(reply: bytes, operation: str) -> None:
    """Any reply that no service of AWS writes becomes one sentence with the endpoint and the setting."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    options = replace(SINGLE_ATTEMPT, endpoint_url=url)
    async with listening, open_clients(options) as clients:
        queue, objects = SqsQueue(clients, "ingest"), S3Objects(clients)
        with pytest.raises(RowfleetError) as caught:
            await (queue.find() if operation == "queue" else objects.head("bucket", "key"))
    text = str(caught.value)
    assert "\n" not in text
    if operation == "queue":
        assert f"the endpoint {url} does not answer sqs:GetQueueUrl on queue ingest as AWS does" in text
        assert text.endswith("check --endpoint-url or AWS_ENDPOINT_URL")


async def test_an_endpoint_without_a_scheme_is_named_with_its_setting() -> None:
    """`localhost:4566` lacks http://, and the error says so."""
    with pytest.raises(
        ConfigError, match=r"Invalid endpoint: localhost:4566: check --endpoint-url .* http://"
    ):
        async with open_clients(replace(SINGLE_ATTEMPT, endpoint_url="localhost:4566")):
            pass


async def test_tcp_watches_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of many minutes is silent; NAT gateways and endpoints forget it after 350 s."""
    idle_s: list[int] = []
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def watched(used: socket.socket, address: object) -> None:
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle_s.append(used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
        await connect(used, address)

    monkeypatch.setattr(loop, "sock_connect", watched)
    async with server(b"{}") as url:
        options = replace(SINGLE_ATTEMPT, endpoint_url=url)
        async with open_client(options, "lambda") as client:
            await client.invoke(FunctionName="f")
    assert len(idle_s) == hasattr(socket, "TCP_KEEPIDLE")
    assert all(seconds < 350 for seconds in idle_s)
