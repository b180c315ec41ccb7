"""Queries of the table and its two indexes, a page at a time. All names are aliased: many are reserved."""

from __future__ import annotations

from typing import Any

from service.adapters.aws import items
from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, answered
from service.adapters.aws.values import Value
from service.domain.model import MAX_ROWS, State, row_id, row_number
from service.domain.ports import BatchPage, NumberPage, OutcomePage

BY_STATUS = "by_status"
BY_TIMESTAMP = "by_timestamp"

_ROWS = " AND #row_id BETWEEN :from AND :to"


class Queries:
    """Reads of more than one item of the table `name`; `call` is how they are refused."""

    def __init__(self, clients: Clients, name: str, call: AwsCall) -> None:
        self._dynamodb = clients.dynamodb
        self._name = name
        self._call = call

    async def page(
        self, values: dict[str, Value], condition: str, *, projection: str = "", **more: Any
    ) -> dict[str, Any]:
        """One answer: strongly consistent on the table, eventually on an index. 1 MB at most (DynamoDB)."""
        if projection:
            more["ProjectionExpression"] = projection
        query = self._dynamodb.query(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeNames={f"#{name}": name for name in _names(f"{condition} {projection}")},
            ExpressionAttributeValues=values,
            **({} if "IndexName" in more else {"ConsistentRead": True}),
            **more,
        )
        return await answered(self._call, query)

    async def outcomes(
        self, values: dict[str, Value], condition: str, after: int, limit: int, **more: Any
    ) -> OutcomePage:
        """Outcomes with numbers above `after`, under a key condition on the partition."""
        if after >= MAX_ROWS:
            return OutcomePage((), None)
        answer = await self.page(values | _behind(after), condition + _ROWS, Limit=limit, **more)
        return OutcomePage([items.outcome_of(item) for item in answer["Items"]], _last_row(answer))

    async def numbers(self, partition: str, round_: int, after: int, limit: int) -> NumberPage:
        """The numbers above `after` of rows that need no outcome of this round."""
        if after >= MAX_ROWS:
            return NumberPage((), None)
        answer = await self.page(
            {":key": {"S": partition}} | _behind(after),
            "#batch_id = :key" + _ROWS,
            projection="#row_id, #round, #status",
            Limit=limit,
        )
        done = [item["row_id"]["S"] for item in answer["Items"] if items.is_done(item, round_)]
        return NumberPage([row_number(sort) for sort in done], _last_row(answer))

    async def batches(self, state: State, after: str, limit: int) -> BatchPage:
        """Batches in a state behind the batch id `after`, in the index's own order."""
        name = {"S": items.batches_key(state)}
        more: dict[str, Any] = {"IndexName": BY_STATUS, "Limit": limit}
        if after:
            more["ExclusiveStartKey"] = items.key(after, items.BATCH_SORT) | {"status_key": name}
        answer = await self.page({":key": name}, "#status_key = :key", **more)
        last = answer.get("LastEvaluatedKey")
        batches = [items.batch_of(item) for item in answer["Items"]]
        return BatchPage(batches, "" if last is None else last["batch_id"]["S"])


def _behind(after: int) -> dict[str, Value]:
    return {":from": {"S": row_id(after + 1)}, ":to": {"S": row_id(MAX_ROWS)}}


def _last_row(answer: dict[str, Any]) -> int | None:
    last = answer.get("LastEvaluatedKey")
    return None if last is None else row_number(last["row_id"]["S"])


def _names(expression: str) -> list[str]:
    """The aliases in an expression."""
    words = expression.replace("(", " ").split()
    return [word.strip("(),").removeprefix("#") for word in words if "#" in word]
