"""Changes of a batch item, alone or in one transaction with events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import AwsCall, error_code, error_message, perform
from service.adapters.aws.outbox.items import put_unless_stored
from service.adapters.aws.table.commits import failed_conditions
from service.adapters.aws.table.conditions import Condition
from service.adapters.aws.table.keys import BATCH_SORT, primary_key
from service.adapters.aws.table.values import Value
from service.domain.errors import BatchRejectedError, ConflictError, RowTooLargeError
from service.domain.model import Event

_CONDITION_FAILED = "ConditionalCheckFailedException"
_CONFLICT_PAUSES_S = (0.05, 0.1, 0.2, 0.4)
"""Pauses after transactions that met another change of the batch item, such as a renewal of its lease."""


@dataclass(frozen=True, slots=True)
class BatchUpdates:
    """Changes of batch items in the table `name`. The calls have to expect failed conditions."""

    dynamodb: Any
    name: str
    update_call: AwsCall
    transact_call: AwsCall

    async def update(
        self,
        batch_id: str,
        values: dict[str, Value],
        condition: Condition,
        *,
        remove: str = "",
        events: Sequence[Event] = (),
    ) -> bool:
        """Set attributes of the batch item, remove one, and store events. False if the condition failed."""
        update = self._parameters(batch_id, values, condition, remove)
        if events:
            return await self._transact(batch_id, update, events)
        try:
            await perform(self.update_call, self.dynamodb.update_item(**update))
        except ClientError as error:
            if error_code(error) == _CONDITION_FAILED:
                return False
            raise self._rejected(self.update_call, error) from error
        return True

    async def put(self, batch_id: str, puts: Sequence[dict[str, Any]], events: Sequence[Event]) -> bool:
        """Put the batch item, whose condition is the first put's, with others and with events."""
        return await self._apply(batch_id, [{"Put": put} for put in puts], events)

    async def write(self, batch_id: str, writes: Sequence[dict[str, Any]], events: Sequence[Event]) -> bool:
        """Apply writes and store events. False, and nothing is applied, if a condition of a write failed."""
        return await self._apply(batch_id, writes, events)

    async def _transact(self, batch_id: str, update: dict[str, Any], events: Sequence[Event]) -> bool:
        for pause_s in _CONFLICT_PAUSES_S:
            try:
                return await self._apply(batch_id, [{"Update": update}], events)
            except ConflictError:
                # Nothing was applied, and the caller's work may have taken minutes.
                await asyncio.sleep(pause_s)
        return await self._apply(batch_id, [{"Update": update}], events)

    async def _apply(self, batch_id: str, writes: Sequence[dict[str, Any]], events: Sequence[Event]) -> bool:
        """Apply all writes or none. False if a condition of a write failed."""
        while True:
            puts = [{"Put": put_unless_stored(self.name, event.record())} for event in events]
            try:
                # botocore gives all attempts of one call the same token, so a lost answer is repeated
                call = self.dynamodb.transact_write_items(TransactItems=[*writes, *puts])
                await perform(self.transact_call, call)
            except ClientError as error:
                failed = self._failed(error, batch_id)
                if any(index < len(writes) for index in failed):
                    return False
                # An event that is stored already stays as it is.
                stored = {index - len(writes) for index in failed}
                events = [event for index, event in enumerate(events) if index not in stored]
            else:
                return True

    def _failed(self, error: ClientError, batch_id: str) -> tuple[int, ...]:
        if error_code(error) == "ValidationException":
            raise self._rejected(self.transact_call, error) from error
        try:
            return failed_conditions(error, f"batch {batch_id} was not written")
        except RowTooLargeError:
            raise self._rejected(self.transact_call, error) from error

    def _rejected(self, call: AwsCall, error: ClientError) -> BatchRejectedError:
        return BatchRejectedError(f"{call.resource} cannot hold this batch: {error_message(error)}")

    def _parameters(
        self, batch_id: str, values: dict[str, Value], condition: Condition, remove: str
    ) -> dict[str, Any]:
        sets = ", ".join(f"#{name} = :new_{name}" for name in values)
        names = {*values, *condition.names}
        if remove:
            names.add(remove)
        return {
            "TableName": self.name,
            "Key": primary_key(batch_id, BATCH_SORT),
            "UpdateExpression": " ".join(
                [f"SET {sets}"] * bool(values) + [f"REMOVE #{remove}"] * bool(remove)
            ),
            "ConditionExpression": condition.expression,
            # every name is aliased because many are reserved words of DynamoDB
            "ExpressionAttributeNames": {f"#{name}": name for name in names},
            "ExpressionAttributeValues": {f":new_{name}": value for name, value in values.items()}
            | condition.values,
        }
