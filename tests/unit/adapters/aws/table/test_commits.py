"""Responses that ministack never gives: other cancellation reasons, throttles, partial failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from service.adapters.aws.clients import AwsOptions, Clients
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.domain.errors import (
    AccessError,
    ConflictError,
    OutcomeRefusedError,
    RetryableError,
    RowTooLargeError,
    ThrottledError,
    UnknownResultError,
)
from service.domain.model import Commit, Outcome, Status
from service.domain.ports import OutgoingMessage


@dataclass
class StubClient:
    """A client whose every operation gives the same response, and which records its parameters."""

    response: Any
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __getattr__(self, operation: str) -> Any:
        async def call(**parameters: Any) -> Any:
            self.calls.append(parameters)
            if isinstance(self.response, Exception):
                raise self.response
            return self.response

        return call


def clients(response: Any) -> Clients:
    client = StubClient(response)
    return Clients(
        AwsOptions("us-east-1"), sqs=client, sqs_poll=client, sqs_send=client, dynamodb=client, s3=client
    )


def commit(rows: int = 2) -> Commit:
    outcomes = tuple(
        Outcome(
            number=number,
            round=1,
            status=Status.SUCCESS,
            input_data={},
            output_data={},
            execution_time_ms=1,
            timestamp="2026-11-18T10:00:00Z",
        )
        for number in range(1, rows + 1)
    )
    return Commit(
        batch_id="t#e", round=1, partitions=1, slot=7, outcomes=outcomes, token="token", ttl=1_900_000_000
    )


def refused(code: str, *reasons: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "words"},
            "CancellationReasons": [{"Code": reason, "Message": f"about {reason}"} for reason in reasons],
        },
        "TransactWriteItems",
    )


CANCELLED = "TransactionCanceledException"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(CANCELLED, "None", "TransactionConflict", "None"), ConflictError),
        (refused(CANCELLED, "ConditionalCheckFailed", "None", "TransactionConflict"), ConflictError),
        (refused(CANCELLED, "None", "ThrottlingError", "None"), ThrottledError),
        (refused(CANCELLED, "ProvisionedThroughputExceeded", "None", "None"), ThrottledError),
        (refused(CANCELLED, "ValidationError", "None", "None"), RowTooLargeError),
        (refused(CANCELLED, "AccessDenied", "None", "None"), AccessError),
        (refused(CANCELLED, "SomethingNew", "None", "None"), RetryableError),
        (refused(CANCELLED), RetryableError),
        (refused("TransactionInProgressException"), ConflictError),
        (refused("ThrottlingException"), ThrottledError),
        (refused("ValidationException"), OutcomeRefusedError),
        (refused("InternalServerError"), UnknownResultError),
        (refused("IdempotentParameterMismatchException"), RuntimeError),
        (ReadTimeoutError(endpoint_url="http://x", error="slow"), UnknownResultError),
    ],
)
async def test_each_refusal_of_a_commit_has_its_class(error: Exception, expected: type[Exception]) -> None:
    """Each reason to refuse a commit raises its error, and none is taken for success."""
    with pytest.raises(expected) as caught:
        await DynamoTable(clients(error), "table").commit(commit())
    assert type(caught.value) is expected


async def test_committed_rows_are_returned_as_indices() -> None:
    """If all cancellation reasons are committed rows, `commit` returns their indices."""
    error = refused(CANCELLED, "None", "ConditionalCheckFailed", "None")
    assert list(await DynamoTable(clients(error), "table").commit(commit())) == [1]


async def test_a_commit_is_one_transaction_under_its_token() -> None:
    """A commit is one call: a condition on each row, and the sums added to the worker's counter slot."""
    opened = clients({})
    await DynamoTable(opened, "table").commit(commit())
    (call,) = opened.dynamodb.calls
    assert call["ClientRequestToken"] == "token"
    *puts, counter = call["TransactItems"]
    condition = "attribute_not_exists(#row_id) OR #round < :round"
    assert [put["Put"]["ConditionExpression"] for put in puts] == [condition, condition]
    assert counter["Update"]["Key"] == {"batch_id": {"S": "t#e"}, "row_id": {"S": "#count#001#07"}}
    assert counter["Update"]["ExpressionAttributeValues"][":succeeded"] == {"N": "2"}


def failed(code: str, *, fault: bool) -> dict[str, Any]:
    entries = [
        {"Id": "2", "Code": code, "SenderFault": fault},
        {"Id": "0", "Code": code, "SenderFault": fault},
    ]
    return {"Successful": [{"Id": "1"}], "Failed": entries}


async def test_entries_that_failed_inside_sqs_are_sent_again() -> None:
    """A batch call may fail in part with HTTP 200: the indices of failed entries are returned in order."""
    queue = SqsQueue(clients(failed("InternalError", fault=False)), "rows", "url")
    assert list(await queue.send([OutgoingMessage("x")] * 3)) == [0, 2]
    queue = SqsQueue(clients(failed("RequestThrottled", fault=True)), "rows", "url")
    assert list(await queue.send([OutgoingMessage("x")] * 3)) == [0, 2]
    assert list(await queue.delete(["a", "b", "c"])) == [0, 2]


async def test_an_entry_that_can_never_be_sent_is_an_error() -> None:
    """An entry that failed by the sender's fault raises AccessError, because every retry would fail too."""
    queue = SqsQueue(clients(failed("InvalidMessageContents", fault=True)), "rows", "url")
    with pytest.raises(AccessError, match="InvalidMessageContents"):
        await queue.send([OutgoingMessage("x")] * 3)


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"])
async def test_lost_leases_are_distinguished_from_failures(code: str) -> None:
    """A stale receipt is a lost lease; an internal error raises RetryableError."""
    assert list(
        await SqsQueue(clients(failed(code, fault=True)), "rows", "url").extend(["a", "b", "c"], 5)
    ) == [0, 2]
    with pytest.raises(RetryableError):
        await SqsQueue(clients(failed("InternalError", fault=False)), "rows", "url").extend(
            ["a", "b", "c"], 5
        )
