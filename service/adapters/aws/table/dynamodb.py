"""The Table port on DynamoDB. `keys` has the layout of the table.

botocore repeats a call whose response was lost. The repetition of a conditional write (`move`, `seal`) may
fail its condition because the first attempt was applied, and then returns False. A caller that gets False
therefore reads the batch before it decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, error_code, perform, translate
from service.adapters.aws.outbox.batch_updates import BatchUpdates
from service.adapters.aws.outbox.table import DynamoOutbox
from service.adapters.aws.table import batch_leases
from service.adapters.aws.table.batch_items import (
    batch_item,
    batch_of,
    checkpoint_value,
    definition_item,
    dialect_value,
    recount_value,
    trouble_value,
    view_of,
)
from service.adapters.aws.table.batch_leases import NO_LEASE, is_leased_to
from service.adapters.aws.table.commits import write_commit
from service.adapters.aws.table.conditions import (
    is_behind,
    is_free,
    is_in_control,
    is_in_generation,
    is_in_round,
    is_under_way,
)
from service.adapters.aws.table.deletions import Deletions
from service.adapters.aws.table.keys import (
    BATCH_SORT,
    META_PREFIX,
    batches_key,
    definition_sort,
    failed_key,
    operation_prefix,
    operation_sort,
    primary_key,
    record_key,
)
from service.adapters.aws.table.operations import answer_write, operation_writes
from service.adapters.aws.table.queries import BY_STATUS, Queries
from service.adapters.aws.table.row_items import is_outcome_of, outcome_of
from service.adapters.aws.table.shared_records import check_record_size, record_item, record_of
from service.adapters.aws.table.steering_values import operation_of, settled_value, work_value
from service.adapters.aws.table.values import Item, Value, encode
from service.domain.errors import ConflictError
from service.domain.model import (
    Batch,
    BatchView,
    Commit,
    Counts,
    Event,
    Operation,
    Outcome,
    Recount,
    State,
    Trouble,
    Work,
    partition_key,
    partition_of,
    row_id,
)
from service.domain.ports import BatchPage, LeaseGrant, NumberPage, OutcomePage, SharedRecord
from service.runtime.clock import SystemClock

_CONDITION_FAILED = "ConditionalCheckFailedException"
_UPDATE_CODES = frozenset({_CONDITION_FAILED, "ValidationException"})
_TRANSACT_CODES = frozenset({"TransactionCanceledException", "ValidationException"})
_COMMIT_CODES = _TRANSACT_CODES | {"IdempotentParameterMismatchException"}

_NOW_MS = SystemClock().now_ms


class DynamoTable(DynamoOutbox):
    """The table `name`, with the keys and indexes that `provision` creates.

    `now_ms` is the time, in milliseconds since 1970, by which batches have expired.
    """

    def __init__(self, clients: Clients, name: str, *, now_ms: Callable[[], int] = _NOW_MS) -> None:
        self._dynamodb = clients.dynamodb
        self._name = name
        self._now_ms = now_ms
        self._timeout_s = clients.options.call_timeout_s
        self._endpoint = clients.options.endpoint
        self._get_call = self._call("dynamodb:GetItem")
        self._put_call = self._call("dynamodb:PutItem", writes=True, expects=frozenset({_CONDITION_FAILED}))
        self._update_call = self._call("dynamodb:UpdateItem", writes=True, expects=_UPDATE_CODES)
        # a transaction needs the permissions of its parts
        both = "dynamodb:PutItem and dynamodb:UpdateItem"
        self._commit_call = self._call(both, writes=True, expects=_COMMIT_CODES)
        self._updates = BatchUpdates(
            self._dynamodb, name, self._update_call, self._call(both, writes=True, expects=_TRANSACT_CODES)
        )
        self._queries = Queries(clients, name, self._call("dynamodb:Query"))
        self._deletions = Deletions(
            self._dynamodb,
            name,
            self._queries,
            deleting=self._call("dynamodb:BatchWriteItem", writes=True),
            ending=self._call("dynamodb:DeleteItem", writes=True, expects=frozenset({_CONDITION_FAILED})),
        )

    async def open(
        self, batch: Batch, definition: str, *, replacing: Batch | None = None, events: Sequence[Event] = ()
    ) -> Batch:
        """Store batch, definition and events unless the batch id is taken; return the stored batch."""
        free = is_free(self._now_ms() // 1000)
        if replacing is not None:
            free |= is_in_round(replacing, State.FAILED)
        condition = {
            "ConditionExpression": free.expression,
            "ExpressionAttributeNames": free.aliases,
            "ExpressionAttributeValues": free.values,
        }
        # the condition on the batch item guards the others too: a transaction applies all or none
        puts = [
            {"TableName": self._name, "Item": batch_item(batch), **condition},
            {"TableName": self._name, "Item": definition_item(batch, definition)},
        ]
        if await self._updates.put(batch.batch_id, puts, events):
            return batch
        stored = await self._get_batch(batch.batch_id)
        if stored is None:
            raise ConflictError(f"batch {batch.batch_id} was deleted while it was opened")
        return stored

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch and the sum of the counters of its current round, in one consistent query."""
        found: list[Item] = []
        start: dict[str, Any] = {}
        while True:
            page = await self._queries.page(
                {":batch": {"S": batch_id}, ":meta": {"S": META_PREFIX}},
                "#batch_id = :batch AND begins_with(#row_id, :meta)",
                **start,
            )
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                view = view_of(found)
                return None if view is None or view.batch.has_expired(self._now_ms()) else view
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def definition(self, batch_id: str, digest: str) -> str | None:
        """The definition that `open` stored with the batch."""
        item = await self._get_item(primary_key(batch_id, definition_sort(digest)))
        return None if item is None else str(item["definition"]["S"])

    async def checkpoint(self, batch: Batch, *, owner: str) -> bool:
        """Store the progress of a split; see `Table.checkpoint`."""
        values = {
            "checkpoint": checkpoint_value(batch.checkpoint),
            "columns": encode(batch.columns),
            "notes": encode(batch.notes),
            "updated_at": encode(batch.updated_at),
        }
        if batch.dialect is not None:
            values["dialect"] = dialect_value(batch.dialect)
        condition = (
            is_in_generation(batch, State.SPLITTING) & is_leased_to(owner) & is_behind(batch.checkpoint)
        )
        remove = "" if batch.dialect is not None else "dialect"
        return await self._updates.update(batch.batch_id, values, condition, remove=remove)

    async def seal(self, batch: Batch, total: int, now: str, *, owner: str) -> bool:
        """SPLITTING -> RUNNING with `total` rows. After False, read the batch: it may be sealed."""
        values = _state_values(State.RUNNING) | NO_LEASE
        values |= {
            "total": encode(total),
            "checkpoint": checkpoint_value(batch.checkpoint),
            "updated_at": encode(now),
        }
        if batch.unread_from:
            values["unread_from"] = encode(batch.unread_from)
        condition = is_in_generation(batch, State.SPLITTING) & is_leased_to(owner)
        return await self._updates.update(batch.batch_id, values, condition)

    async def move(
        self,
        batch: Batch,
        *,
        expected: State,
        to: State,
        now: str,
        error: str = "",
        events: Sequence[Event] = (),
    ) -> bool:
        """Change the state; see `Table.move`. After False, read the batch: it may be changed."""
        values = (
            _state_values(to)
            | NO_LEASE
            | {
                "updated_at": encode(now),
                "finished_at": encode(now if to.is_final else ""),
                "error": encode(error),
                "trouble": trouble_value(None),
            }
        )
        if to in (State.AGGREGATING, State.FAILED) and batch.settled is not None:
            values["settled"] = settled_value(batch.settled)
        condition = is_in_control(batch, expected) if events else is_in_round(batch, expected)
        return await self._updates.update(batch.batch_id, values, condition, events=events)

    async def operate(
        self,
        before: Batch,
        after: Batch,
        operation: Operation,
        *,
        definition: str | None = None,
        events: Sequence[Event] = (),
    ) -> bool:
        """Change the batch and keep the operation in its log. After False, read the operation."""
        writes = operation_writes(self._name, before, after, operation, definition)
        return await self._updates.write(after.batch_id, writes, events)

    async def keep_answer(self, batch: Batch, operation: Operation) -> bool:
        """Keep the answer to a request. False if it has one already."""
        put = self._dynamodb.put_item(**answer_write(self._name, batch, operation))
        try:
            await perform(self._put_call, put)
        except ClientError:  # the condition: any other error is translated
            return False
        return True

    async def operation(self, batch: Batch, request_id: str) -> Operation | None:
        """The operation that was made for this request, or the answer that was kept."""
        key = primary_key(batch.batch_id, operation_sort(batch.incarnation, request_id))
        item = await self._get_item(key)
        return None if item is None else operation_of(item)

    async def operations(self, batch: Batch) -> list[Operation]:
        """All operations on the batch, in order."""
        prefix = operation_prefix(batch.incarnation)
        log = [operation_of(item) for item in await self._queries.operations(batch.batch_id, prefix)]
        return [operation for operation in log if operation.control]

    async def set_work(self, batch: Batch, work: Work | None) -> bool:
        """Store the progress of the batch's work. False unless that work is under way."""
        assert batch.work is not None
        condition = is_under_way(batch, batch.work)
        if work is None:
            return await self._updates.update(batch.batch_id, {}, condition, remove="work")
        return await self._updates.update(batch.batch_id, {"work": work_value(work)}, condition)

    async def set_trouble(self, batch: Batch, trouble: Trouble | None) -> bool:
        """Store why the results cannot be written, unless the batch is not AGGREGATING in this round."""
        values = {"trouble": trouble_value(trouble)}
        return await self._updates.update(batch.batch_id, values, is_in_round(batch, State.AGGREGATING))

    async def recount(self, batch: Batch, counts: Counts) -> bool:
        """Store the counts of this round, unless the batch is in another state or round."""
        values = {"recount": recount_value(Recount(batch.round, counts))}
        return await self._updates.update(batch.batch_id, values, is_in_round(batch, batch.state))

    async def lease(
        self, batch: Batch, *, state: State, owner: str, now_ms: int, until_ms: int, former: str = ""
    ) -> LeaseGrant:
        """Take or extend the lease of a batch; see `Table.lease`."""
        update = self._dynamodb.update_item(
            TableName=self._name,
            Key=primary_key(batch.batch_id, BATCH_SORT),
            **batch_leases.lease_update(batch, state, owner, now_ms, until_ms, former),
        )
        # A repetition inside botocore is harmless: after the first attempt the lease is `owner`'s, and its
        # owner may take it again.
        try:
            response: dict[str, Any] = await perform(self._update_call, update)
        except ClientError as error:
            if error_code(error) != _CONDITION_FAILED:
                raise translate(error, self._update_call) from error
            return batch_leases.refused(await self._get_batch(batch.batch_id), batch, state, owner)
        return batch_leases.granted(response)

    async def release(self, batch_id: str, *, owner: str) -> bool:
        """Release the lease of a batch. False if it is not `owner`'s."""
        return await self._updates.update(batch_id, NO_LEASE, is_leased_to(owner))

    async def commit(self, commit: Commit) -> tuple[int, ...]:
        """Store all outcomes and add their counts, atomically; see `Table.commit`.

        Raises RowRejectedError, naming the row, for an outcome that DynamoDB cannot hold.
        """
        return await write_commit(commit, self._name, self._commit_call, self._dynamodb.transact_write_items)

    async def outcome(self, batch: Batch, number: int) -> Outcome | None:
        """The committed outcome of a row."""
        partition = partition_key(batch.batch_id, partition_of(number, batch.partitions))
        item = await self._get_item(primary_key(partition, row_id(number)))
        return outcome_of(item) if item is not None and is_outcome_of(item, batch) else None

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's outcomes, strongly consistent; DynamoDB ends a page at 1 MB."""
        name = partition_key(batch.batch_id, partition)
        return await self._queries.outcomes(batch, {":key": {"S": name}}, "#batch_id = :key", after, limit)

    async def failed(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's FAILED outcomes, from the sparse index `by_status`."""
        name = failed_key(partition_key(batch.batch_id, partition))
        key = {":key": {"S": name}}
        return await self._queries.outcomes(
            batch, key, "#status_key = :key", after, limit, IndexName=BY_STATUS
        )

    async def done_numbers(self, batch: Batch, partition: int, *, after: int, limit: int) -> NumberPage:
        """Numbers of a partition's rows that need no outcome any more: like `outcomes`, without the data."""
        return await self._queries.done_numbers(batch, partition, after, limit)

    async def delete_rows(self, batch: Batch, partition: int) -> int:
        """Delete some rows of a partition; return their number."""
        return await self._deletions.rows(batch, partition)

    async def delete_batch(self, batch: Batch) -> bool:
        """Delete what else the batch has, and the batch itself last; see `Table.delete_batch`."""
        stored = await self._get_batch(batch.batch_id)
        return stored is not None and stored.is_as_read(batch) and await self._deletions.batch(batch)

    async def batches(self, state: State, *, after: str, limit: int) -> BatchPage:
        """Batches in a state, from the sparse index `by_status`."""
        page = await self._queries.batches(state, after, limit)
        return BatchPage(self._without_expired(page.batches), page.after)

    async def recent(self, limit: int) -> list[Batch]:
        """The latest batches by creation, newest first, from the index `by_timestamp`."""
        return self._without_expired(await self._queries.recent(limit))

    async def record(self, key: str) -> SharedRecord:
        """The shared record `key`."""
        return record_of(await self._get_item(record_key(key)))

    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Replace the shared record if it has this version; return the stored record. See `Table.swap`."""
        check_record_size(key, text, ttl)
        item = record_item(key, text, version + 1, ttl)
        if version == 0:
            condition: dict[str, Any] = {
                "ConditionExpression": "attribute_not_exists(#batch_id)",
                "ExpressionAttributeNames": {"#batch_id": "batch_id"},
            }
        else:
            condition = {
                "ConditionExpression": "#version = :was",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":was": encode(version)},
            }
        put = self._dynamodb.put_item(
            TableName=self._name,
            Item=item,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **condition,
        )
        try:
            await perform(self._put_call, put)
        except ClientError as error:
            # the error holds the stored item, or none if the record has expired
            return record_of(error.response.get("Item"))
        return record_of(item)

    def _without_expired(self, batches: Iterable[Batch]) -> list[Batch]:
        now_ms = self._now_ms()
        return [batch for batch in batches if not batch.has_expired(now_ms)]

    async def _get_item(self, key: Item) -> Item | None:
        get = self._dynamodb.get_item(TableName=self._name, Key=key, ConsistentRead=True)
        response: dict[str, Any] = await perform(self._get_call, get)
        return response.get("Item")

    async def _get_batch(self, batch_id: str) -> Batch | None:
        item = await self._get_item(primary_key(batch_id, BATCH_SORT))
        return None if item is None else batch_of(item)

    def _call(
        self, permission: str, *, writes: bool = False, expects: frozenset[str] = frozenset()
    ) -> AwsCall:
        return AwsCall(
            permission,
            f"table {self._name}",
            self._timeout_s,
            writes=writes,
            expects=expects,
            endpoint=self._endpoint,
        )


def _state_values(state: State) -> dict[str, Value]:
    """A batch's state, and its key in `by_status`, which must change together."""
    return {"state": encode(state.value), "status_key": encode(batches_key(state))}
