"""Queries of the table and its two indexes, one page at a time."""

from __future__ import annotations

from typing import Any

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, perform
from service.adapters.aws.table.batch_items import batch_of
from service.adapters.aws.table.keys import BATCH_SORT, TIMELINE, batches_key, primary_key
from service.adapters.aws.table.row_items import is_done, is_outcome_of, outcome_of
from service.adapters.aws.table.values import Item, Value
from service.domain.model import MAX_ROWS, Batch, State, partition_key, row_id, row_number
from service.domain.ports import BatchPage, NumberPage, OutcomePage

BY_STATUS = "by_status"
BY_TIMESTAMP = "by_timestamp"

_ROWS = " AND #row_id BETWEEN :from AND :to"


class Queries:
    """Reads of more than one item of the table `name`. `call` describes a query in error texts."""

    def __init__(self, clients: Clients, name: str, call: AwsCall) -> None:
        self._dynamodb = clients.dynamodb
        self._name = name
        self._call = call

    async def page(
        self, values: dict[str, Value], condition: str, *, projection: str = "", **more: Any
    ) -> dict[str, Any]:
        """One page: strongly consistent on the table, eventually on an index. 1 MB at most (DynamoDB)."""
        if projection:
            more["ProjectionExpression"] = projection
        if "IndexName" not in more:
            more["ConsistentRead"] = True
        query = self._dynamodb.query(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeNames={f"#{name}": name for name in _aliased(f"{condition} {projection}")},
            ExpressionAttributeValues=values,
            **more,
        )
        return await perform(self._call, query)

    async def outcomes(
        self, batch: Batch, values: dict[str, Value], condition: str, after: int, limit: int, **more: Any
    ) -> OutcomePage:
        """Outcomes with numbers above `after`, under a key condition on the partition."""
        if after >= MAX_ROWS:  # a longer number would sort before shorter ones
            return OutcomePage((), None)
        page = await self.page(values | _rows_after(after), condition + _ROWS, Limit=limit, **more)
        found = [outcome_of(item) for item in page["Items"] if is_outcome_of(item, batch)]
        return OutcomePage(found, _last_row(page))

    async def done_numbers(self, batch: Batch, partition: int, after: int, limit: int) -> NumberPage:
        """The numbers above `after` of rows that have an outcome of the batch's round."""
        if after >= MAX_ROWS:
            return NumberPage((), None)
        page = await self.page(
            {":key": {"S": partition_key(batch.batch_id, partition)}} | _rows_after(after),
            "#batch_id = :key" + _ROWS,
            projection="#row_id, #round, #incarnation, #ttl",
            Limit=limit,
        )
        sort_keys = [item["row_id"]["S"] for item in page["Items"] if is_done(item, batch)]
        return NumberPage([row_number(sort) for sort in sort_keys], _last_row(page))

    async def operations(self, batch_id: str, prefix: str) -> list[Item]:
        """The operations of a batch, in the order in which they were made; as many pages as that takes."""
        found: list[Item] = []
        start: dict[str, Any] = {}
        while True:
            page = await self.page(
                {":batch": {"S": batch_id}, ":prefix": {"S": prefix}},
                "#batch_id = :batch AND begins_with(#row_id, :prefix)",
                **start,
            )
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                return sorted(found, key=lambda item: int(item["control"]["N"]))
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def batches(self, state: State, after: str, limit: int) -> BatchPage:
        """Batches in a state that follow the batch id `after`, in the order of the index."""
        name = {"S": batches_key(state)}
        more: dict[str, Any] = {"IndexName": BY_STATUS, "Limit": limit}
        # the start key is built, not taken from a page: the batch may have left the index since
        if after:
            more["ExclusiveStartKey"] = primary_key(after, BATCH_SORT) | {"status_key": name}
        page = await self.page({":key": name}, "#status_key = :key", **more)
        last = page.get("LastEvaluatedKey")
        batches = [batch_of(item) for item in page["Items"]]
        return BatchPage(batches, "" if last is None else last["batch_id"]["S"])

    async def recent(self, limit: int) -> list[Batch]:
        """The latest batches by creation, newest first; as many pages as that takes."""
        found: list[Batch] = []
        more: dict[str, Any] = {"IndexName": BY_TIMESTAMP, "ScanIndexForward": False}
        while len(found) < limit:
            page = await self.page(
                {":timeline": {"S": TIMELINE}}, "#timeline = :timeline", Limit=limit - len(found), **more
            )
            found += [batch_of(item) for item in page["Items"]]
            if (last := page.get("LastEvaluatedKey")) is None:
                break
            more["ExclusiveStartKey"] = last
        return found


def _rows_after(after: int) -> dict[str, Value]:
    return {":from": {"S": row_id(after + 1)}, ":to": {"S": row_id(MAX_ROWS)}}


def _last_row(page: dict[str, Any]) -> int | None:
    last = page.get("LastEvaluatedKey")
    return None if last is None else row_number(last["row_id"]["S"])


def _aliased(expression: str) -> list[str]:
    """The attribute names behind the aliases (`#name`) in an expression."""
    # every name is aliased because many are reserved words of DynamoDB
    words = expression.replace("(", " ").split()
    return [word.strip("(),").removeprefix("#") for word in words if "#" in word]
