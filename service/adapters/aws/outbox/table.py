"""The Outbox port on the table of DynamoDB."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import AwsCall, perform
from service.adapters.aws.outbox.items import (
    delivery_name,
    delivery_value,
    outbox_key,
    outbox_record,
    put_unless_stored,
)
from service.adapters.aws.table.keys import outbox_prefix, pending_key
from service.adapters.aws.table.queries import BY_STATUS, Queries
from service.adapters.aws.table.values import encode
from service.domain.model import DeliveryState, OutboxKind, OutboxRecord
from service.domain.ports import OutboxPage


class DynamoOutbox:
    """The records of the outbox in one table; `DynamoTable` is the rest of the table.

    The calls have to expect a condition that fails.
    """

    _dynamodb: Any
    _name: str
    _queries: Queries
    _put_call: AwsCall
    _update_call: AwsCall

    async def add(self, record: OutboxRecord) -> bool:
        """Store a record unless it is stored. A lost answer and a repetition give False as well."""
        put = self._dynamodb.put_item(**put_unless_stored(self._name, record))
        try:
            await perform(self._put_call, put)
        except ClientError:
            return False
        return True

    async def pending(self, kind: OutboxKind, *, after: OutboxRecord | None, limit: int) -> OutboxPage:
        """A page of pending records, from the sparse index `by_status`."""
        name = {"S": pending_key(kind)}
        more: dict[str, Any] = {"IndexName": BY_STATUS, "Limit": limit}
        if after is not None:
            more["ExclusiveStartKey"] = outbox_key(after) | {"status_key": name}
        page = await self._queries.page({":key": name}, "#status_key = :key", **more)
        records = [outbox_record(item) for item in page["Items"]]
        return OutboxPage(records, records[-1] if records and "LastEvaluatedKey" in page else None)

    async def records(self, batch_id: str, kind: OutboxKind) -> list[OutboxRecord]:
        """All records of one kind of a batch."""
        values = {":batch": {"S": batch_id}, ":prefix": {"S": outbox_prefix(kind)}}
        found: list[OutboxRecord] = []
        more: dict[str, Any] = {}
        while True:
            condition = "#batch_id = :batch AND begins_with(#row_id, :prefix)"
            page = await self._queries.page(values, condition, **more)
            found += [outbox_record(item) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return found
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def set_delivery(
        self, record: OutboxRecord, target: str, delivery: DeliveryState
    ) -> OutboxRecord | None:
        """Store the deliveries to one target; see `Outbox.set_delivery`."""
        names = {"#batch_id": "batch_id", "#delivery": delivery_name(target)}
        values = {":new": delivery_value(delivery)}
        if delivery.version > 1:
            condition = "attribute_exists(#batch_id) AND #delivery.#version = :was"
            names["#version"] = "version"
            values[":was"] = encode(delivery.version - 1)
        else:
            condition = "attribute_exists(#batch_id) AND attribute_not_exists(#delivery)"
        update = self._dynamodb.update_item(
            TableName=self._name,
            Key=outbox_key(record),
            UpdateExpression="SET #delivery = :new",
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
        )
        try:
            response: dict[str, Any] = await perform(self._update_call, update)
        except ClientError:
            return None
        return outbox_record(response["Attributes"])

    async def settle(self, record: OutboxRecord) -> None:
        """Take a record out of the index of pending ones."""
        update = self._dynamodb.update_item(
            TableName=self._name,
            Key=outbox_key(record),
            UpdateExpression="REMOVE #status_key",
            # an update would create the item anew after its expiry
            ConditionExpression="attribute_exists(#batch_id)",
            ExpressionAttributeNames={"#batch_id": "batch_id", "#status_key": "status_key"},
        )
        try:
            await perform(self._update_call, update)
        except ClientError:
            return
