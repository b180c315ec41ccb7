"""Operations on DynamoDB: a batch, the log of its operations and perhaps a definition, in one transaction."""

from __future__ import annotations

from typing import Any

from service.adapters.aws.table.batch_items import batch_item, definition_item
from service.adapters.aws.table.batch_leases import NO_LEASE
from service.adapters.aws.table.conditions import is_as_read
from service.adapters.aws.table.keys import BATCH_SORT, primary_key
from service.adapters.aws.table.steering_values import operation_item
from service.adapters.aws.table.values import Value
from service.domain.model import Batch, Operation


def operation_writes(
    table: str, before: Batch, after: Batch, operation: Operation, definition: str | None
) -> list[dict[str, Any]]:
    """The writes of the transaction that `Table.operate` describes."""
    log = answer_write(table, after, operation)
    writes = [{"Update": _batch_update(table, before, after)}, {"Put": log}]
    if definition is not None:
        writes.append({"Put": {"TableName": table, "Item": definition_item(after, definition)}})
    return writes


def answer_write(table: str, batch: Batch, operation: Operation) -> dict[str, Any]:
    """The put of an operation, unless its request has an answer already."""
    return {
        "TableName": table,
        "Item": operation_item(batch, operation),
        "ConditionExpression": "attribute_not_exists(#batch_id)",
        "ExpressionAttributeNames": {"#batch_id": "batch_id"},
    }


def _batch_update(table: str, before: Batch, after: Batch) -> dict[str, Any]:
    condition = is_as_read(before)
    sets, removes = changed_values(before, after)
    expression = "SET " + ", ".join(f"#{name} = :new_{name}" for name in sets)
    if removes:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in removes)
    return {
        "TableName": table,
        "Key": primary_key(before.batch_id, BATCH_SORT),
        "UpdateExpression": expression,
        "ConditionExpression": condition.expression,
        "ExpressionAttributeNames": condition.aliases | {f"#{name}": name for name in (*sets, *removes)},
        "ExpressionAttributeValues": condition.values | {f":new_{name}": v for name, v in sets.items()},
    }


def ends_lease(before: Batch, after: Batch) -> bool:
    """True if the owner of the batch's lease works for rows that do not count any more."""
    return (before.state, before.round, before.generation) != (after.state, after.round, after.generation)


def changed_values(before: Batch, after: Batch) -> tuple[dict[str, Value], list[str]]:
    """The attributes of the batch item that an operation sets, and the names of those that it removes."""
    old, new = batch_item(before), batch_item(after)
    sets = {name: value for name, value in new.items() if old.get(name) != value}
    if ends_lease(before, after):
        # Somebody may have taken the lease since the batch was read.
        sets |= NO_LEASE
    return sets, [name for name in old if name not in new]
