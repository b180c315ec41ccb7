"""Group commit on DynamoDB: one TransactWriteItems, and what each way of being refused means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws import items
from service.adapters.aws.errors import CONFLICTS, THROTTLING, AwsCall, answered, code_of, message_of
from service.adapters.aws.values import Item
from service.domain.errors import AccessError, ConflictError, RetryableError, RowTooLargeError, ThrottledError
from service.domain.model import Commit

_TAKEN = "ConditionalCheckFailed"
_ROW_NAMES = {"#row_id": "row_id", "#round": "round"}
_ROW_CONDITION = "attribute_not_exists(#row_id) OR #round < :round"
_COUNTER_NAMES = {f"#{name}": name for name in (*items.COUNTER_FIELDS, "ttl")}
_COUNTER_UPDATE = "SET #ttl = :ttl ADD " + ", ".join(f"#{name} :{name}" for name in items.COUNTER_FIELDS)


async def applied(
    commit: Commit, table: str, call: AwsCall, transact: Callable[..., Awaitable[dict[str, Any]]]
) -> tuple[int, ...]:
    """Write a commit; () when it stands, else the indices of the rows that were committed before."""
    rows = items.row_items(commit)
    writes = [_row_put(table, row, commit.round) for row in rows]
    writes.append(_counter_update(table, commit))
    try:
        await answered(call, transact(TransactItems=writes, ClientRequestToken=commit.token))
    except ClientError as error:
        code = code_of(error)
        if code == "IdempotentParameterMismatchException":
            raise RuntimeError(f"commit token {commit.token} was used for other outcomes: a bug") from error
        if code == "ValidationException":
            items.check_sizes(commit, rows)
            raise AccessError(f"{call.resource} refused a commit ({message_of(error)})") from error
        if _is_invalid(error):
            items.check_sizes(commit, rows)
        return taken(error, f"batch {commit.batch_id}: commit cancelled")
    return ()


def taken(error: ClientError, what: str) -> tuple[int, ...]:
    """The indices of the writes whose conditions failed, where nothing else kept a transaction from applying.

    Raises what the other reasons mean; `what` begins their texts.
    """
    codes = _reasons(error)
    others = set(codes) - {"None", _TAKEN}
    if not others and _TAKEN in codes:
        return tuple(index for index, code in enumerate(codes) if code == _TAKEN)
    text = f"{what} ({', '.join(sorted(others)) or message_of(error)})"
    if "TransactionConflict" in others or others & CONFLICTS:
        raise ConflictError(text) from error
    if others & THROTTLING:
        raise ThrottledError(text) from error
    if "AccessDenied" in others:
        raise AccessError(text) from error
    if _is_invalid(error):
        words = [reason.get("Message") for reason in error.response["CancellationReasons"]]
        raise RowTooLargeError(f"{text}: {next(filter(None, words), '')}") from error
    raise RetryableError(text) from error


def _reasons(error: ClientError) -> list[str]:
    """The code of each write, "None" for those that could have been applied."""
    reasons = error.response.get("CancellationReasons") or []
    return [str(reason.get("Code") or "None") for reason in reasons]


def _is_invalid(error: ClientError) -> bool:
    return "ValidationError" in _reasons(error)


def _row_put(table: str, row: Item, round_: int) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": table,
            "Item": row,
            "ConditionExpression": _ROW_CONDITION,
            "ExpressionAttributeNames": _ROW_NAMES,
            "ExpressionAttributeValues": {":round": {"N": str(round_)}},
        }
    }


def _counter_update(table: str, commit: Commit) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": table,
            "Key": items.key(commit.batch_id, items.counter_sort(commit.round, commit.slot)),
            "UpdateExpression": _COUNTER_UPDATE,
            "ExpressionAttributeNames": _COUNTER_NAMES,
            "ExpressionAttributeValues": items.counter_values(commit.counts)
            | {":ttl": {"N": str(commit.ttl)}},
        }
    }
