"""The Table port on DynamoDB. `items` has the layout; here are the calls and their conditions.

botocore repeats a call whose answer was lost. For conditional writes (`move`, `seal`) the repetition may meet
its own success and report False: a caller that got False reads the batch before it concludes anything.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws import items, leases
from service.adapters.aws.clients import Clients
from service.adapters.aws.commits import applied, taken
from service.adapters.aws.errors import AwsCall, answered, code_of, message_of, translate
from service.adapters.aws.queries import BY_STATUS, BY_TIMESTAMP, Queries
from service.adapters.aws.values import Item, Value, encode
from service.domain.errors import BatchRejectedError, RowTooLargeError
from service.domain.model import Batch, BatchView, Commit, Outcome, State, partition_key, partition_of, row_id
from service.domain.ports import BatchPage, LeaseGrant, NumberPage, OutcomePage, SharedRecord

_CONDITION_FAILED = "ConditionalCheckFailedException"
_BATCH_WRITE_CODES = frozenset({_CONDITION_FAILED, "ValidationException"})


class DynamoTable:
    """The table `name`, as `provision` makes it."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._dynamodb = clients.dynamodb
        self._name = name
        self._timeout_s = clients.options.call_timeout_s
        self._get = self._call("dynamodb:GetItem")
        self._queries = Queries(clients, name, self._call("dynamodb:Query"))
        self._open = self._call(
            "dynamodb:PutItem",
            writes=True,
            expects=frozenset({"TransactionCanceledException", "ValidationException"}),
        )
        self._put = self._call("dynamodb:PutItem", writes=True, expects=frozenset({_CONDITION_FAILED}))
        self._update = self._call("dynamodb:UpdateItem", writes=True, expects=_BATCH_WRITE_CODES)
        self._commit = self._call(
            "dynamodb:PutItem and dynamodb:UpdateItem",
            writes=True,
            expects=frozenset(
                {
                    "TransactionCanceledException",
                    "ValidationException",
                    "IdempotentParameterMismatchException",
                }
            ),
        )

    async def open(self, batch: Batch, definition: str) -> Batch:
        """Store batch and definition, together, unless the batch id is taken; return what stands."""
        absent = {
            "ConditionExpression": "attribute_not_exists(#batch_id)",
            "ExpressionAttributeNames": {"#batch_id": "batch_id"},
        }
        writes = [
            {"Put": {"TableName": self._name, "Item": items.batch_item(batch), **absent}},
            {"Put": {"TableName": self._name, "Item": items.definition_item(batch, definition)}},
        ]
        try:
            await answered(self._open, self._dynamodb.transact_write_items(TransactItems=writes))
        except ClientError as error:
            self._check_taken(error, batch)
        else:
            return batch
        stored = await self._get_item(items.key(batch.batch_id, items.BATCH_SORT))
        return batch if stored is None else items.batch_of(stored)

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch and the sum of its counters of its current round, in one consistent Query."""
        found: list[Item] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self._queries.page(
                {":batch": {"S": batch_id}, ":meta": {"S": items.META_PREFIX}},
                "#batch_id = :batch AND begins_with(#row_id, :meta)",
                **page,
            )
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items.view_of(found)
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def definition(self, batch_id: str, digest: str) -> str | None:
        """The definition that `open` stored with the batch."""
        item = await self._get_item(items.key(batch_id, items.definition_sort(digest)))
        return None if item is None else str(item["definition"]["S"])

    async def checkpoint(self, batch: Batch) -> bool:
        """Store how far a split got. False where it is not SPLITTING any more, or got further."""
        values = {
            "checkpoint": items.checkpoint_value(batch.checkpoint),
            "columns": encode(batch.columns),
            "notes": encode(batch.notes),
            "updated_at": encode(batch.updated_at),
        }
        if batch.dialect is not None:
            values["dialect"] = items.dialect_value(batch.dialect)
        return await self._change(
            batch.batch_id,
            values,
            "#state = :was AND #checkpoint.#rows <= :rows",
            {":was": encode(State.SPLITTING.value), ":rows": encode(batch.checkpoint.rows)},
            ("state", "checkpoint", "rows"),
            remove="" if batch.dialect is not None else "dialect",
        )

    async def seal(self, batch_id: str, total: int, now: str) -> bool:
        """SPLITTING -> RUNNING with `total` rows. False: read the batch, it may be done."""
        values = _state_values(State.RUNNING) | {"total": encode(total), "updated_at": encode(now)}
        was = {":was": encode(State.SPLITTING.value)}
        return await self._change(batch_id, values, "#state = :was", was, ("state",))

    async def move(
        self,
        batch_id: str,
        *,
        expected: State,
        round: int,  # noqa: A002 -- the protocol's word
        to: State,
        now: str,
        error: str = "",
    ) -> bool:
        """Change the state unless state or round differ. False: read the batch, it may be done."""
        values = _state_values(to) | {"updated_at": encode(now)}
        if to.is_final:
            values["finished_at"] = encode(now)
        if error:
            values["error"] = encode(error)
        was = {":was": encode(expected.value), ":round": encode(round)}
        return await self._change(
            batch_id, values, "#state = :was AND #round = :round", was, ("state", "round")
        )

    async def lease(
        self,
        batch_id: str,
        *,
        round: int,  # noqa: A002 -- the protocol's word
        owner: str,
        now_ms: int,
        until_ms: int,
    ) -> LeaseGrant:
        """Take or extend the aggregation lease; see `Table.lease`.

        A repetition inside botocore meets its own success, which it may: the lease is `owner`'s then.
        """
        update = self._dynamodb.update_item(
            TableName=self._name,
            Key=items.key(batch_id, items.BATCH_SORT),
            **leases.taking(round, owner, now_ms, until_ms),
        )
        try:
            answer: dict[str, Any] = await answered(self._update, update)
        except ClientError as error:
            if code_of(error) != _CONDITION_FAILED:
                raise translate(error, self._update) from error
            stored = await self._get_item(items.key(batch_id, items.BATCH_SORT))
            return leases.refused(None if stored is None else items.batch_of(stored), round, owner)
        return leases.given(answer)

    async def release(self, batch_id: str, *, owner: str) -> bool:
        """Give the aggregation lease back. False where it is not `owner`'s."""
        values = {"lease_owner": encode(""), "lease_until_ms": encode(0)}
        return await self._change(
            batch_id, values, "#lease_owner = :owner", {":owner": encode(owner)}, ("lease_owner",)
        )

    async def commit(self, commit: Commit) -> tuple[int, ...]:
        """Store all outcomes and add their counts, atomically; see `Table.commit`.

        Raises RowRejectedError, naming the row, for an outcome that DynamoDB cannot hold.
        """
        return await applied(commit, self._name, self._commit, self._dynamodb.transact_write_items)

    async def outcome(self, batch: Batch, number: int) -> Outcome | None:
        """The committed outcome of a row."""
        partition = partition_key(batch.batch_id, partition_of(number, batch.partitions))
        item = await self._get_item(items.key(partition, row_id(number)))
        return None if item is None else items.outcome_of(item)

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's outcomes, from its table items; DynamoDB ends a page at 1 MB."""
        name = partition_key(batch.batch_id, partition)
        return await self._queries.outcomes({":key": {"S": name}}, "#batch_id = :key", after, limit)

    async def failed(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's FAILED outcomes, from the sparse index `by_status`."""
        name = items.failed_key(partition_key(batch.batch_id, partition))
        key = {":key": {"S": name}}
        return await self._queries.outcomes(key, "#status_key = :key", after, limit, IndexName=BY_STATUS)

    async def numbers(self, batch: Batch, partition: int, *, after: int, limit: int) -> NumberPage:
        """The rows of a partition that need no outcome any more: like `outcomes`, without their data."""
        name = partition_key(batch.batch_id, partition)
        return await self._queries.numbers(name, batch.round, after, limit)

    async def batches(self, state: State, *, after: str, limit: int) -> BatchPage:
        """Batches in a state, from the sparse index `by_status`."""
        return await self._queries.batches(state, after, limit)

    async def recent(self, limit: int) -> list[Batch]:
        """The latest batches by creation, newest first, from the index `by_timestamp`."""
        answer = await self._queries.page(
            {":timeline": {"S": items.TIMELINE}},
            "#timeline = :timeline",
            IndexName=BY_TIMESTAMP,
            ScanIndexForward=False,
            Limit=limit,
        )
        return [items.batch_of(item) for item in answer["Items"]]

    async def record(self, key: str) -> SharedRecord:
        """What workers share under `key`."""
        return items.record_of(await self._get_item(items.key(f"#{key}", items.RECORD_SORT)))

    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Replace the record `version`, and say what stands then; see `Table.swap`."""
        items.check_record_size(key, text, ttl)
        item = items.record_item(key, text, version + 1, ttl)
        name, value = ("batch_id", {}) if version == 0 else ("version", {":was": encode(version)})
        condition = f"attribute_not_exists(#{name})" if version == 0 else f"#{name} = :was"
        put = self._dynamodb.put_item(
            TableName=self._name,
            Item=item,
            ConditionExpression=condition,
            ExpressionAttributeNames={f"#{name}": name},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **({"ExpressionAttributeValues": value} if value else {}),
        )
        try:
            await answered(self._put, put)
        except ClientError as error:
            # DynamoDB says what stands; where that is nothing, it expired
            return items.record_of(error.response.get("Item"))
        return items.record_of(item)

    async def _get_item(self, key: Item) -> Item | None:
        get = self._dynamodb.get_item(TableName=self._name, Key=key, ConsistentRead=True)
        answer: dict[str, Any] = await answered(self._get, get)
        return answer.get("Item")

    def _check_taken(self, error: ClientError, batch: Batch) -> None:
        """Return where a batch was not opened because it exists; raises what else it was."""
        too_large = f"{self._open.resource} cannot hold this batch"
        if code_of(error) == "ValidationException":
            raise BatchRejectedError(f"{too_large}: {message_of(error)}") from error
        try:
            taken(error, f"batch {batch.batch_id} was not opened")
        except RowTooLargeError:
            raise BatchRejectedError(f"{too_large}: {message_of(error)}") from error

    async def _change(
        self,
        batch_id: str,
        values: dict[str, Value],
        condition: str,
        condition_values: dict[str, Value],
        condition_names: tuple[str, ...],
        *,
        remove: str = "",
    ) -> bool:
        """Set attributes of the batch item under a condition. All names are aliased: many are reserved."""
        sets = ", ".join(f"#{name} = :new_{name}" for name in values)
        names = {*values, *condition_names, *filter(None, [remove])}
        update = self._dynamodb.update_item(
            TableName=self._name,
            Key=items.key(batch_id, items.BATCH_SORT),
            UpdateExpression=f"SET {sets}" + (f" REMOVE #{remove}" if remove else ""),
            ConditionExpression=condition,
            ExpressionAttributeNames={f"#{name}": name for name in names},
            ExpressionAttributeValues={f":new_{name}": value for name, value in values.items()}
            | condition_values,
        )
        return await self._wrote(self._update, update)

    async def _wrote(self, call: AwsCall, write: Awaitable[object]) -> bool:
        """Whether a conditional write of a batch item was applied."""
        try:
            await answered(call, write)
        except ClientError as error:
            if code_of(error) == _CONDITION_FAILED:
                return False
            raise BatchRejectedError(
                f"{call.resource} cannot hold this batch: {message_of(error)}"
            ) from error
        return True

    def _call(
        self, permission: str, *, writes: bool = False, expects: frozenset[str] = frozenset()
    ) -> AwsCall:
        return AwsCall(permission, f"table {self._name}", self._timeout_s, writes=writes, expects=expects)


def _state_values(state: State) -> dict[str, Value]:
    """A batch's state and its place in `by_status`, which are kept in step."""
    return {"state": encode(state.value), "status_key": encode(items.batches_key(state))}
