"""Deletion of a batch from DynamoDB: its rows page by page, then all else, and its own item last."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import AwsCall, perform
from service.adapters.aws.table.conditions import is_as_read
from service.adapters.aws.table.keys import BATCH_SORT, primary_key
from service.adapters.aws.table.queries import Queries
from service.adapters.aws.table.values import Item, Value
from service.domain.errors import ThrottledError
from service.domain.model import Batch, partition_key

PAGE_ITEMS = 500
"""Items that are deleted for one query."""

BATCH_WRITES = 25
"""Items in one BatchWriteItem (DynamoDB quota)."""

_KEYS = "#batch_id, #row_id"


class Deletions:
    """Deletes items of the table `name`. `deleting` describes the calls that delete in error texts."""

    def __init__(
        self, dynamodb: Any, name: str, queries: Queries, *, deleting: AwsCall, ending: AwsCall
    ) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._queries = queries
        self._deleting = deleting
        self._ending = ending

    async def rows(self, batch: Batch, partition: int) -> int:
        """Delete a page of rows of a partition, of any round; return their number."""
        values = {":key": {"S": partition_key(batch.batch_id, partition)}, ":row": {"S": "row_"}}
        return await self._page(values, "#batch_id = :key AND begins_with(#row_id, :row)")

    async def batch(self, batch: Batch) -> bool:
        """Delete all else under the id of the batch, its item last. False if the batch has changed."""
        values = {":key": {"S": batch.batch_id}}
        while await self._page(values, "#batch_id = :key"):
            pass
        condition = is_as_read(batch)
        delete = self._dynamodb.delete_item(
            TableName=self._name,
            Key=primary_key(batch.batch_id, BATCH_SORT),
            ConditionExpression=condition.expression,
            ExpressionAttributeNames=condition.aliases,
            ExpressionAttributeValues=condition.values,
        )
        try:
            await perform(self._ending, delete)
        except ClientError:  # the condition: any other error is translated
            return False
        return True

    async def _page(self, values: dict[str, Value], condition: str) -> int:
        """Delete a page of items under a key condition, but no batch; return their number."""
        page = await self._queries.page(values, condition, projection=_KEYS, Limit=PAGE_ITEMS)
        keys: list[Item] = [item for item in page["Items"] if item["row_id"]["S"] != BATCH_SORT]
        for begin in range(0, len(keys), BATCH_WRITES):
            await self._delete(keys[begin : begin + BATCH_WRITES])
        return len(keys)

    async def _delete(self, keys: list[Item]) -> None:
        requests = {self._name: [{"DeleteRequest": {"Key": key}} for key in keys]}
        response = await perform(self._deleting, self._dynamodb.batch_write_item(RequestItems=requests))
        if response.get("UnprocessedItems"):
            raise ThrottledError(f"table {self._name} deletes no more items now")
