"""Direct calls beside those of aiobotocore: the same requests, responses, errors and repetitions."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, ParamValidationError

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.direct.client import DirectClient
from service.adapters.aws.direct.operations import HOT_PATH
from service.adapters.aws.errors import AwsCall, perform
from tests.unit.adapters.aws.direct.scripted_server import (
    RESET,
    Asked,
    Scripted,
    ScriptedServer,
    refusal,
    scripted,
)

OPTIONS = AwsOptions(
    "us-east-1", None, "AKID", "secret", "session token", connect_timeout_s=3_600.0, read_timeout_s=3_600.0
)
CREDENTIALS = ReadOnlyCredentials("AKID", "secret", "session token")
CALL = AwsCall("service:Operation", "thing", 3_600.0, writes=True)
WORDS = 'é "quoted" \u2028 \U0001f600'
ENTRY = {"Id": "0", "MessageBody": WORDS, "DelaySeconds": 5, "MessageGroupId": "demo#e1"}
KEY = {"batch_id": {"S": "é#1"}, "row_id": {"S": "row_0000000001"}}
VALUES = [{"N": "1.50"}, {"NULL": True}, {"SS": ["x"]}, {"BOOL": False}]
PUT = {"TableName": "t", "Item": KEY | {"data": {"M": {"a": {"L": VALUES}}}}}

PARAMETERS: dict[str, dict[str, Any]] = {
    "send_message_batch": {"QueueUrl": "https://queue/rows", "Entries": [ENTRY]},
    "receive_message": {
        "QueueUrl": "https://queue/rows", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20,
        "VisibilityTimeout": 60, "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
    },
    "delete_message_batch": {"QueueUrl": "u", "Entries": [{"Id": "0", "ReceiptHandle": "r"}]},
    "change_message_visibility_batch": {
        "QueueUrl": "u", "Entries": [{"Id": "0", "ReceiptHandle": "r", "VisibilityTimeout": 60}],
    },
    "get_item": {"TableName": "t", "Key": KEY, "ConsistentRead": True},
    "query": {
        "TableName": "t", "KeyConditionExpression": "#k = :k", "ExpressionAttributeNames": {"#k": "batch_id"},
        "ExpressionAttributeValues": {":k": {"S": "a"}}, "Limit": 10,
    },
    "transact_write_items": {"TransactItems": [{"Put": PUT}], "ClientRequestToken": "t" * 36},
}  # fmt: skip
METHODS = [(service, method) for service, methods in HOT_PATH.items() for method in methods]

NEW = b'{"Items": [], "Messages": [], "Failed": [], "Item": {}, "ItemCollectionMetrics": {}, "New": 1}'
REASONS = [{"Code": "ConditionalCheckFailed", "Item": KEY, "Message": "no"}, {"Code": "None"}]
OK = Scripted(b"{}")
WHOLE = Scripted(b"{}", headers={"x-amz-crc32": str(zlib.crc32(b"{}"))})
DAMAGED = Scripted(b"{}", headers={"x-amz-crc32": "1"})
SCRIPTS: dict[str, tuple[Scripted | str, ...]] = {
    "success": (OK,),
    "whole": (WHOLE,),
    "damaged on the way": (DAMAGED, WHOLE),
    "always damaged": (DAMAGED,),
    "new member": (Scripted(NEW),),
    "throttled": (refusal("ProvisionedThroughputExceededException"), OK),
    "always throttled": (refusal("ThrottlingException"),),
    "throttled by HTTP": (Scripted(b"{}", 429), OK),
    "failed inside": (refusal("InternalServerError", 500), OK),
    "always failing inside": (refusal("InternalServerError", 500),),
    "unavailable": (Scripted(b"<html>busy</html>", 503), OK),
    "without an answer": (RESET, OK),
    "never an answer": (RESET,),
    "cancelled": (refusal("TransactionCanceledException", CancellationReasons=REASONS),),
    "in progress": (refusal("TransactionInProgressException"), OK),
    "condition": (refusal("ConditionalCheckFailedException", Item=KEY),),
    "invalid": (refusal("ValidationException"),),
    "no table": (refusal("ResourceNotFoundException"),),
    "no queue": (
        replace(
            refusal("QueueDoesNotExist"),
            headers={"x-amzn-query-error": "AWS.SimpleQueueService.NonExistentQueue;Sender"},
        ),
    ),
    "denied": (refusal("AccessDeniedException"),),
    "expired": (refusal("ExpiredTokenException"),),
    "unknown code": (refusal("SomethingNew", 418),),
    "no words": (Scripted(b"", 400),),
    "moved": (Scripted(b"", 301),),
    "HTML": (Scripted(b"<html>"),),
    "other JSON": (Scripted(b'{"status": "ok"}'),),
    "a list": (Scripted(b"[1, 2]"),),
    "nothing": (Scripted(b""),),
    "an HTML error": (Scripted(b"<html>no</html>", 403),),
    "half a body": (Scripted(b"{}", headers={"Content-Length": "9", "Connection": "close"}),),
}  # fmt: skip


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def instant(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", instant)
    return slept


async def outcome_of(clients: Clients, service: str, method: str, parameters: dict[str, Any]) -> Any:
    """The response to a call, or its error with all that our adapters make of it."""
    raised: list[Exception] = []

    async def call() -> dict[str, Any]:
        try:
            response: dict[str, Any] = await getattr(getattr(clients, service), method)(**parameters)
        except Exception as error:
            raised.append(error)
            raise
        return response

    try:
        return plain(await perform(CALL, call()))
    except Exception as translated:  # noqa: BLE001 -- each kind is compared
        (error,) = raised
        details = plain(error.response) if isinstance(error, ClientError) else without_digits(str(error))
        name = getattr(error, "operation_name", "")
        return type(error).__name__, name, details, type(translated), without_digits(str(translated))


def without_digits(text: str) -> str:
    """A text without numbers: the port of the server and addresses of objects differ."""
    return re.sub("0x[0-9a-f]+|[0-9]", "", text)


def plain(response: dict[str, Any]) -> dict[str, Any]:
    """A response with plain dictionaries."""
    response = dict(response)
    metadata = response["ResponseMetadata"] = dict(response["ResponseMetadata"])
    metadata["HTTPHeaders"] = {name.lower(): value for name, value in metadata["HTTPHeaders"].items()}
    return response


async def run_both(
    service: str, method: str, parameters: dict[str, Any], script: tuple[Scripted | str, ...]
) -> list[tuple[Any, ScriptedServer, Counter[str]]]:
    """Outcome, requests and counted attempts of the call by aiobotocore and by the direct client."""
    found = []
    for is_direct in (False, True):
        counted: Counter[str] = Counter()
        async with scripted(*script) as server:
            options = replace(OPTIONS, endpoint_url=server.url, direct_calls=is_direct)
            async with open_clients(options, lambda _, name, seen=counted: seen.update([name])) as clients:
                assert isinstance(getattr(clients, service), DirectClient) == is_direct
                outcome = await outcome_of(clients, service, method, dict(parameters))
        found.append((outcome, server, counted))
    return found


def meanings(requests: list[Asked]) -> list[tuple[Any, ...]]:
    """The requests without host, which differs in its port."""
    found = [request.meaning() for request in requests]
    for _, _, headers, _, _ in found:
        del headers["host"]
    return found


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("service", "method"), METHODS)
async def test_a_direct_call_is_that_of_aiobotocore(service: str, method: str, script: str) -> None:
    """The same attempts with the same method, headers and body; the same response, or error and words."""
    stock, direct = await run_both(service, method, PARAMETERS[method], SCRIPTS[script])
    assert meanings(direct[1].asked) == meanings(stock[1].asked)
    assert direct[0] == stock[0]
    assert direct[2] == stock[2]
    assert direct[2].total() == len(direct[1].asked)
    assert all(request.has_signature_of(CREDENTIALS) for request in direct[1].asked)


@pytest.mark.parametrize(("service", "method"), METHODS)
async def test_direct_calls_are_made_without_aiobotocore(service: str, method: str) -> None:
    """The client builds one request, as the template; the first call is direct as well."""
    built: list[str] = []
    async with scripted(OK) as server, open_clients(replace(OPTIONS, endpoint_url=server.url)) as clients:
        client = getattr(clients, service)
        client.meta.events.register_first("before-call", lambda event_name, **_: built.append(event_name))
        for _ in range(3):
            await getattr(client, method)(**PARAMETERS[method])
    assert len(server.asked) == 3
    assert len(built) == 1


async def test_a_transaction_without_a_token_gets_one_for_all_its_attempts() -> None:
    """A repetition is recognised by DynamoDB; another transaction has another token."""
    broken = refusal("InternalServerError", 500)
    async with (
        scripted(broken, OK) as server,
        open_clients(replace(OPTIONS, endpoint_url=server.url)) as clients,
    ):
        for _ in range(2):
            await clients.dynamodb.transact_write_items(TransactItems=[{"Put": PUT}])
    first, second, other = (orjson.loads(request.body)["ClientRequestToken"] for request in server.asked)
    assert first == second != other
    assert len(first) == 36


async def test_half_a_character_is_sent_as_aiobotocore_sends_it() -> None:
    """The service decides about it: as with aiobotocore, it is on the wire."""
    parameters = {"QueueUrl": "u", "Entries": [{"Id": "0", "MessageBody": "\ud83d"}]}
    stock, direct = await run_both("sqs", "send_message_batch", parameters, (OK,))
    assert b"\\ud83d" in direct[1].asked[0].body
    assert meanings(direct[1].asked) == meanings(stock[1].asked)


async def test_a_large_body_is_sent_whole() -> None:
    """Above 1 MiB the body is streamed; the service gets each byte."""
    entry = ENTRY | {"MessageBody": "x" * 2_000_000}
    stock, direct = await run_both("sqs", "send_message_batch", {"QueueUrl": "u", "Entries": [entry]}, (OK,))
    assert meanings(direct[1].asked) == meanings(stock[1].asked)


@pytest.mark.parametrize("attempts", [1, 4])
async def test_attempts_are_those_of_the_options(attempts: int, pauses: list[float]) -> None:
    """`max_attempts` counts them; between two there is a pause, which grows."""
    async with scripted(refusal("ThrottlingException")) as server:
        options = replace(OPTIONS, endpoint_url=server.url, max_attempts=attempts)
        async with open_clients(options) as clients:
            with pytest.raises(ClientError) as caught:
                await clients.dynamodb.get_item(**PARAMETERS["get_item"])
    assert len(server.asked) == attempts
    assert len(pauses) == attempts - 1
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == attempts - 1
    assert [request.headers["amz-sdk-request"].split("; ")[-2:] for request in server.asked[1:]] == [
        [f"attempt={number}", f"max={attempts}"] for number in range(2, attempts + 1)
    ]
    assert len({request.headers["amz-sdk-invocation-id"] for request in server.asked}) == 1


async def test_retries_end_with_the_quota_that_successes_fill_again(pauses: list[float]) -> None:
    """The quota of botocore bounds the retries of a client whose calls all fail; successes give some back."""
    async with scripted(*[refusal("InternalServerError", 500)] * 400, OK) as server:
        options = replace(OPTIONS, endpoint_url=server.url, max_attempts=2)
        async with open_clients(options) as clients:
            calls = 0
            while len(server.asked) == 2 * calls:
                with pytest.raises(ClientError):
                    await clients.dynamodb.get_item(**PARAMETERS["get_item"])
                calls += 1
            assert calls == 101  # 500 units, 5 for a retry
            while len(server.asked) < 400:
                with pytest.raises(ClientError):
                    await clients.dynamodb.get_item(**PARAMETERS["get_item"])
            for _ in range(5):
                await clients.dynamodb.get_item(**PARAMETERS["get_item"])
            server.script = [refusal("InternalServerError", 500)]
            before = len(server.asked)
            with pytest.raises(ClientError):
                await clients.dynamodb.get_item(**PARAMETERS["get_item"])
    assert len(server.asked) == before + 2


async def test_other_calls_and_members_are_those_of_the_client() -> None:
    """Only the hot path differs."""
    script = Scripted(b'{"QueueUrl": "u"}')
    async with scripted(script) as server, open_clients(replace(OPTIONS, endpoint_url=server.url)) as clients:
        assert (await clients.sqs.get_queue_url(QueueName="q"))["QueueUrl"] == "u"
        assert clients.sqs.meta.region_name == "us-east-1"
        assert clients.sqs.exceptions.QueueDoesNotExist
        with pytest.raises(AttributeError):
            clients.sqs.no_such_method  # noqa: B018


async def test_parameters_that_aws_does_not_know_are_refused_in_tests() -> None:
    """The validator that the tests switch on looks at the first call of each operation."""
    async with scripted(OK) as server, open_clients(replace(OPTIONS, endpoint_url=server.url)) as clients:
        with pytest.raises(ParamValidationError, match="Entries"):
            await clients.sqs.delete_message_batch(QueueUrl="u", Entry=[])
    assert not server.asked
