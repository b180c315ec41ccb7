"""Translation of the exceptions of botocore and aiohttp."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import Any

import aiohttp
import orjson
import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from service.adapters.aws import errors
from service.adapters.aws.errors import AwsCall, perform, translate
from service.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    RetryableError,
    RowfleetError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)

READ = AwsCall("sqs:ReceiveMessage", "queue rowfleet-rows", 5.0)
WRITE = AwsCall("sqs:SendMessage", "queue rowfleet-rows", 5.0, writes=True)
URL = "http://127.0.0.1:4566/"


def refusal(code: str, message: str = "words", status: int = 400) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "Operation",
    )


def instance(kind: type[Exception]) -> Exception:
    """An instance of a botocore exception class, with a value for every field of its text."""

    class AnyField(dict[str, Any]):
        def __missing__(self, key: str) -> str:
            return key

    if issubclass(kind, boto.ClientError):
        return kind({"Error": {"Code": "SomethingNew", "Message": "words"}}, "Operation")
    made = kind.__new__(kind)
    fields = AnyField(error=OSError("below"), endpoint_url=URL)
    Exception.__init__(made, str(getattr(kind, "fmt", "")).format_map(fields))
    made.kwargs = dict(fields)
    return made


BOTOCORE = sorted(
    (
        kind
        for _, kind in inspect.getmembers(boto, inspect.isclass)
        if issubclass(kind, boto.BotoCoreError | boto.ClientError) and kind.__module__ == boto.__name__
    ),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", BOTOCORE)
@pytest.mark.parametrize("call", [READ, WRITE])
async def test_every_botocore_exception_is_translated(kind: type[Exception], call: AwsCall) -> None:
    """Each exception of botocore becomes an error of `service.domain.errors`, with the cause attached."""

    async def fail() -> None:
        raise instance(kind)

    with pytest.raises(RowfleetError) as caught:
        await perform(call, fail())
    assert isinstance(caught.value.__cause__, kind)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (errors.THROTTLING, ThrottledError),
        (errors.CONFLICTS, ConflictError),
        (errors.BAD_CREDENTIALS, AccessError),
        (errors.ACCESS_DENIED, AccessError),
        (errors.MISSING, AccessError),
        (errors.SERVER_ERRORS, RetryableError),
        ({"AWS.SimpleQueueService.QueueDeletedRecently"}, RetryableError),
        ({"NoSuchBucket", "ValidationException", "SomethingNew", ""}, AccessError),
    ],
)
def test_every_known_code_has_its_class(codes: set[str], expected: type[RowfleetError]) -> None:
    """Codes are grouped by what the caller does about them."""
    for code in codes:
        assert type(translate(refusal(code), READ)) is expected, code


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_errors_depend_on_the_call(status: int) -> None:
    """A service that broke may have applied a write; a read is just repeated."""
    assert type(translate(refusal("Strange", status=status), READ)) is RetryableError
    assert type(translate(refusal("Strange", status=status), WRITE)) is UnknownResultError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (boto.EndpointConnectionError(endpoint_url=URL, error="refused"), UnreachableError),
        (boto.ConnectTimeoutError(endpoint_url=URL, error="slow"), UnreachableError),
        (boto.ProxyConnectionError(proxy_url=URL, error="refused"), UnreachableError),
        (boto.SSLError(endpoint_url=URL, error="self-signed"), UnreachableError),
        (socket.gaierror("no such host"), UnreachableError),
        (
            boto.EndpointConnectionError(endpoint_url=URL, error=aiohttp.ClientOSError(104, "reset")),
            UnknownResultError,
        ),
        (boto.ReadTimeoutError(endpoint_url=URL, error="slow"), UnknownResultError),
        (boto.ConnectionClosedError(endpoint_url=URL, error="closed"), UnknownResultError),
        (boto.HTTPClientError(error="other"), UnknownResultError),
        (boto.ResponseStreamingError(error="cut"), UnknownResultError),
        (aiohttp.ClientPayloadError("cut"), UnknownResultError),
        (ConnectionResetError("reset"), UnknownResultError),
        (TimeoutError(), UnknownResultError),
        (boto.NoCredentialsError(), AccessError),
        (boto.NoRegionError(), ConfigError),
        (ResponseParserError("<html>"), RetryableError),
        (orjson.JSONDecodeError("bad", "<html>", 0), RetryableError),
    ],
)
def test_lost_connections(error: Exception, expected: type[RowfleetError]) -> None:
    """Without a connection nothing was sent; after a lost connection the result is unknown."""
    assert type(translate(error, READ)) is expected


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            boto.EndpointConnectionError(endpoint_url=URL, error="refused"),
            ["cannot reach http://127.0.0.1:4566/", "--endpoint-url", "AWS_ENDPOINT_URL"],
        ),
        (refusal("ExpiredToken"), ["refused the credentials", "AWS_PROFILE"]),
        (refusal("AccessDeniedException"), ["sqs:SendMessage", "queue rowfleet-rows", "grant"]),
        (refusal("QueueDoesNotExist"), ["queue rowfleet-rows does not exist", "rowfleet setup"]),
        (boto.NoCredentialsError(), ["AWS_ACCESS_KEY_ID"]),
    ],
)
def test_texts_name_the_remedy(error: Exception, words: list[str]) -> None:
    """An error that the user can correct names the remedy."""
    text = str(translate(error, WRITE))
    assert all(word in text for word in words), text


async def test_a_call_has_a_deadline() -> None:
    """A call without a response ends with UnknownResultError."""
    with pytest.raises(UnknownResultError, match="no answer within"):
        await perform(AwsCall("s3:GetObject", "s3://b/k", 0.01), asyncio.Event().wait())


async def test_expected_codes_are_not_translated() -> None:
    """A ClientError with an expected code reaches the adapter."""

    async def fail() -> None:
        raise refusal("ConditionalCheckFailedException")

    call = AwsCall("dynamodb:PutItem", "table t", 5, expects=frozenset({"ConditionalCheckFailedException"}))
    with pytest.raises(boto.ClientError):
        await perform(call, fail())


async def test_cancellation_is_not_translated() -> None:
    """CancelledError is raised unchanged."""
    task = asyncio.create_task(perform(READ, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
