"""Group commit on DynamoDB: one TransactWriteItems, and the error for each reason to cancel it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import CONFLICTS, THROTTLING, AwsCall, error_code, error_message, perform
from service.adapters.aws.table.batch_items import counter_values
from service.adapters.aws.table.keys import counter_sort, primary_key
from service.adapters.aws.table.row_items import check_commit_size, row_items
from service.adapters.aws.table.values import Item
from service.domain.errors import (
    AccessError,
    ConflictError,
    OutcomeRefusedError,
    RetryableError,
    RowTooLargeError,
    ThrottledError,
)
from service.domain.model import Commit

_CONDITION_FAILED = "ConditionalCheckFailed"
_ROW_CONDITION = "attribute_not_exists(#row_id) OR #round < :round"
"""For batches without an incarnation, which an earlier version has opened."""

_FENCED_ROW_CONDITION = (
    "attribute_not_exists(#row_id) OR #incarnation < :incarnation OR "
    "(#incarnation = :incarnation AND #round < :round) OR "
    # a worker of an earlier version writes rows of this batch without an incarnation
    "(attribute_not_exists(#incarnation) AND (#ttl < :ttl OR (#ttl = :ttl AND #round < :round)))"
)
"""Incarnations sort by time: leftovers are replaced, and a late worker replaces nothing of a later batch."""


async def write_commit(
    commit: Commit, table: str, call: AwsCall, transact: Callable[..., Awaitable[dict[str, Any]]]
) -> tuple[int, ...]:
    """Write a commit. Return () if it was applied, else the indices of rows that were committed before."""
    rows = row_items(commit)
    condition = _row_condition(commit)
    writes = [{"Put": {"TableName": table, "Item": row, **condition}} for row in rows]
    # the counter changes in the same transaction, so it never differs from the outcomes
    writes.append(_counter_update(table, commit))
    try:
        # DynamoDB applies a token once within ten minutes, so a lost response may be followed by a repetition
        await perform(call, transact(TransactItems=writes, ClientRequestToken=commit.token))
    except ClientError as error:
        code = error_code(error)
        if code == "IdempotentParameterMismatchException":
            raise RuntimeError(f"commit token {commit.token} was used for other outcomes: a bug") from error
        if code == "ValidationException":
            # DynamoDB does not name the row
            check_commit_size(commit, rows)
            raise OutcomeRefusedError(
                f"{call.resource} cannot store {_rows_of(commit)}: {error_message(error)}"
            ) from error
        if _is_invalid(error):
            check_commit_size(commit, rows)
        return failed_conditions(error, f"batch {commit.batch_id}: commit cancelled")
    return ()


def _rows_of(commit: Commit) -> str:
    """`row 7`, or `one of 12 outcomes`."""
    first, *others = commit.outcomes
    return f"one of {len(commit.outcomes)} outcomes" if others else f"row {first.number}"


def failed_conditions(error: ClientError, what: str) -> tuple[int, ...]:
    """The indices of the writes whose conditions failed, if failed conditions alone cancelled a transaction.

    For any other reason raises ConflictError, ThrottledError, AccessError, RowTooLargeError or
    RetryableError; `what` begins their texts.
    """
    codes = _cancellation_codes(error)
    others = set(codes) - {"None", _CONDITION_FAILED}
    if not others and _CONDITION_FAILED in codes:
        return tuple(index for index, code in enumerate(codes) if code == _CONDITION_FAILED)
    text = f"{what} ({', '.join(sorted(others)) or error_message(error)})"
    if "TransactionConflict" in others or others & CONFLICTS:
        raise ConflictError(text) from error
    if others & THROTTLING:
        raise ThrottledError(text) from error
    if "AccessDenied" in others:
        raise AccessError(text) from error
    if _is_invalid(error):
        messages = [reason.get("Message") for reason in error.response["CancellationReasons"]]
        raise RowTooLargeError(f"{text}: {next(filter(None, messages), '')}") from error
    raise RetryableError(text) from error


def _cancellation_codes(error: ClientError) -> list[str]:
    """One code for each write; "None" for a write that could have been applied."""
    reasons = error.response.get("CancellationReasons") or []
    return [str(reason.get("Code") or "None") for reason in reasons]


def _is_invalid(error: ClientError) -> bool:
    return "ValidationError" in _cancellation_codes(error)


def _row_condition(commit: Commit) -> dict[str, Any]:
    """The condition of each row's Put. `row_items.is_committed` is its opposite."""
    names = ["row_id", "round"]
    values: Item = {":round": {"N": str(commit.round)}}
    if commit.incarnation:
        names += ["incarnation", "ttl"]
        values |= {":incarnation": {"S": commit.incarnation}, ":ttl": {"N": str(commit.ttl)}}
    return {
        "ConditionExpression": _FENCED_ROW_CONDITION if commit.incarnation else _ROW_CONDITION,
        "ExpressionAttributeNames": {f"#{name}": name for name in names},
        "ExpressionAttributeValues": values,
    }


def _counter_update(table: str, commit: Commit) -> dict[str, Any]:
    # an amount of 0 needs no attribute: each is a part of what the write costs
    added = {name: amount for name, amount in counter_values(commit.counts, commit.spent).items() if amount}
    adds = ", ".join(f"#{name} :{name}" for name in added)
    return {
        "Update": {
            "TableName": table,
            "Key": primary_key(commit.batch_id, counter_sort(commit.round, commit.slot, commit.incarnation)),
            "UpdateExpression": "SET #ttl = :ttl" + (f" ADD {adds}" if adds else ""),
            "ExpressionAttributeNames": {f"#{name}": name for name in (*added, "ttl")},
            "ExpressionAttributeValues": {
                f":{name}": {"N": str(amount)} for name, amount in {**added, "ttl": commit.ttl}.items()
            },
        }
    }
