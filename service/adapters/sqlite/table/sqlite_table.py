"""The Table port on SQLite."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from sqlite3 import Connection

from service.adapters import batch_changes as changes
from service.adapters.aws.table.batch_items import check_batch_size
from service.adapters.aws.table.shared_records import check_record_size
from service.adapters.sqlite.connection import StoreConnection
from service.adapters.sqlite.table import batch_rows, outcome_rows
from service.adapters.sqlite.table.outbox import SqliteOutbox, announce, records_of
from service.adapters.sqlite.table.outcome_bodies import bodies_of
from service.adapters.sqlite.table.records import stored_record, swap_record
from service.domain.model import (
    Batch,
    BatchView,
    Commit,
    Counts,
    Event,
    Operation,
    Outcome,
    State,
    Trouble,
    Work,
)
from service.domain.ports import BatchPage, LeaseGrant, NumberPage, OutcomePage, SharedRecord

REMEMBERED_TOKENS = 1_000
"""Latest commit tokens that are remembered: a caller repeats a commit soon, or never."""


class SqliteTable(SqliteOutbox):
    """Batches, counters and outcomes. A batch past its `ttl` by `now_ms` counts as absent."""

    def __init__(self, connection: StoreConnection, now_ms: Callable[[], int]) -> None:
        super().__init__(connection)
        self._now_ms = now_ms
        # a hash of the outcomes by the token of their commit
        self._tokens: OrderedDict[str, int] = OrderedDict()

    async def open(
        self, batch: Batch, definition: str, *, replacing: Batch | None = None, events: Sequence[Event] = ()
    ) -> Batch:
        """Store batch, definition and events unless the batch id is taken; return the stored batch."""
        check_batch_size(batch, definition)
        now_ms = self._now_ms()
        records = records_of(events)

        def open_(connection: Connection) -> Batch:
            stored = batch_rows.stored_batch(connection, batch.batch_id)
            is_taken = stored is not None and not stored.has_expired(now_ms)
            if stored is not None and is_taken and not changes.may_replace(stored, replacing):
                return stored
            batch_rows.save_batch(connection, batch)
            batch_rows.save_definition(connection, batch.batch_id, batch.mapping_digest, definition)
            announce(connection, records)
            return batch

        return await self._connection.run(open_, is_durable=True)

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch and the sum of its counters of its current round."""
        now_ms = self._now_ms()
        return await self._connection.run(lambda one: batch_rows.present_view(one, batch_id, now_ms))

    async def definition(self, batch_id: str, digest: str) -> str | None:
        """The definition that `open` stored with the batch."""
        return await self._connection.run(lambda one: batch_rows.stored_definition(one, batch_id, digest))

    async def checkpoint(self, batch: Batch, *, owner: str) -> bool:
        """Store the progress of a split; see `Table.checkpoint`."""
        return await self._change(
            batch.batch_id, lambda stored: changes.with_checkpoint(stored, batch, owner), is_durable=False
        )

    async def seal(self, batch: Batch, total: int, now: str, *, owner: str) -> bool:
        """SPLITTING -> RUNNING with `total` rows, without a lease. False as `checkpoint`."""
        return await self._change(
            batch.batch_id, lambda stored: changes.sealed(stored, batch, total, now, owner)
        )

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
        """Change the state; see `Table.move`."""
        return await self._change(
            batch.batch_id,
            lambda stored: changes.moved(
                stored, batch, expected=expected, to=to, now=now, error=error, is_told=bool(events)
            ),
            events=events,
        )

    async def operate(
        self,
        before: Batch,
        after: Batch,
        operation: Operation,
        *,
        definition: str | None = None,
        events: Sequence[Event] = (),
    ) -> bool:
        """Change the batch and keep the operation in its log; see `Table.operate`."""
        records = records_of(events)

        def operate(connection: Connection) -> bool:
            if batch_rows.stored_operation(connection, before, operation.request_id) is not None:
                return False
            stored = batch_rows.stored_batch(connection, before.batch_id)
            changed = changes.operated(stored, before, after, definition)
            if changed is None:
                return False
            batch_rows.save_batch(connection, changed)
            batch_rows.add_operation(connection, after, operation)
            if definition is not None:
                batch_rows.save_definition(connection, after.batch_id, after.mapping_digest, definition)
            announce(connection, records)
            return True

        return await self._connection.run(operate, is_durable=True)

    async def keep_answer(self, batch: Batch, operation: Operation) -> bool:
        """Keep the answer to a request. False if it has one already."""
        return await self._connection.run(
            lambda one: batch_rows.add_operation(one, batch, operation), is_durable=True
        )

    async def operation(self, batch: Batch, request_id: str) -> Operation | None:
        """The operation that was made for this request, or the answer that was kept."""
        return await self._connection.run(lambda one: batch_rows.stored_operation(one, batch, request_id))

    async def operations(self, batch: Batch) -> Sequence[Operation]:
        """All operations on the batch, in order."""
        return await self._connection.run(lambda one: batch_rows.operations_of(one, batch))

    async def set_work(self, batch: Batch, work: Work | None) -> bool:
        """Store the progress of the batch's work. False unless that work is under way."""
        return await self._change(batch.batch_id, lambda stored: changes.with_work(stored, batch, work))

    async def set_trouble(self, batch: Batch, trouble: Trouble | None) -> bool:
        """Store why the results cannot be written. False unless AGGREGATING in this round."""
        return await self._change(batch.batch_id, lambda stored: changes.with_trouble(stored, batch, trouble))

    async def recount(self, batch: Batch, counts: Counts) -> bool:
        """Store the counts of this round. False if the batch is in another state or round."""
        return await self._change(batch.batch_id, lambda stored: changes.recounted(stored, batch, counts))

    async def lease(
        self, batch: Batch, *, state: State, owner: str, now_ms: int, until_ms: int, former: str = ""
    ) -> LeaseGrant:
        """Take or extend the lease of a batch; see `Table.lease`."""

        def lease(connection: Connection) -> LeaseGrant:
            changed, grant = changes.leased(
                batch_rows.stored_batch(connection, batch.batch_id),
                batch,
                state=state,
                owner=owner,
                now_ms=now_ms,
                until_ms=until_ms,
                former=former,
            )
            batch_rows.save_batch(connection, changed)
            return grant

        return await self._connection.run(lease)

    async def release(self, batch_id: str, *, owner: str) -> bool:
        """Release the lease of a batch. False if it is not `owner`'s."""
        return await self._change(batch_id, lambda stored: changes.released(stored, owner), is_durable=False)

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Store all outcomes and add their counts, or nothing; see `Table.commit`."""
        bodies = bodies_of(commit)
        content = hash((commit.batch_id, commit.round, commit.spent, *bodies))
        if (applied := self._tokens.get(commit.token)) is not None:
            if applied != content:
                raise RuntimeError(f"commit token {commit.token} was used for other outcomes: a bug")
            return ()
        counts = commit.counts
        committed = await self._connection.run(
            lambda one: outcome_rows.write_commit(one, commit, bodies, counts), is_durable=True
        )
        if not committed:
            self._tokens[commit.token] = content
            if len(self._tokens) > REMEMBERED_TOKENS:
                self._tokens.popitem(last=False)
        return committed

    async def outcome(self, batch: Batch, number: int) -> Outcome | None:
        """The committed outcome of a row."""
        return await self._connection.run(lambda one: outcome_rows.stored_outcome(one, batch, number))

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's outcomes, ascending."""
        return await self._connection.run(
            lambda one: outcome_rows.outcome_page(one, batch, partition, after, limit, failed=False)
        )

    async def failed(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's FAILED outcomes, ascending."""
        return await self._connection.run(
            lambda one: outcome_rows.outcome_page(one, batch, partition, after, limit, failed=True)
        )

    async def done_numbers(self, batch: Batch, partition: int, *, after: int, limit: int) -> NumberPage:
        """Numbers of a partition's rows that have an outcome of the batch's round, ascending."""
        return await self._connection.run(
            lambda one: outcome_rows.done_page(one, batch, partition, after, limit)
        )

    async def delete_rows(self, batch: Batch, partition: int) -> int:
        """Delete some rows of a partition; return their number."""
        return await self._connection.run(lambda one: outcome_rows.delete_page(one, batch, partition))

    async def delete_batch(self, batch: Batch) -> bool:
        """Delete what else the batch has, and the batch itself; see `Table.delete_batch`."""

        def delete(connection: Connection) -> bool:
            stored = batch_rows.stored_batch(connection, batch.batch_id)
            if stored is None or not stored.is_as_read(batch):
                return False
            batch_rows.delete_batch(connection, batch.batch_id)
            return True

        return await self._connection.run(delete, is_durable=True)

    async def batches(self, state: State, *, after: str, limit: int) -> BatchPage:
        """Batches in a state, in the order of their ids."""
        now_ms = self._now_ms()
        found = await self._connection.run(
            lambda one: batch_rows.batches_in(one, state, after, limit, now_ms)
        )
        return BatchPage(found, found[-1].batch_id if len(found) == limit else "")

    async def recent(self, limit: int) -> Sequence[Batch]:
        """The latest batches by creation, newest first."""
        now_ms = self._now_ms()
        return await self._connection.run(lambda one: batch_rows.recent_batches(one, limit, now_ms))

    async def record(self, key: str) -> SharedRecord:
        """The shared record `key`."""
        return await self._connection.run(lambda one: stored_record(one, key))

    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Replace the shared record if it has this version; return the stored one."""
        check_record_size(key, text, ttl)
        return await self._connection.run(lambda one: swap_record(one, key, text, version=version, ttl=ttl))

    async def _change(
        self,
        batch_id: str,
        change: Callable[[Batch | None], Batch | None],
        *,
        events: Sequence[Event] = (),
        is_durable: bool = True,
    ) -> bool:
        """Store what `change` makes of the stored batch, with events; False if it makes nothing."""
        records = records_of(events)

        def apply(connection: Connection) -> bool:
            changed = change(batch_rows.stored_batch(connection, batch_id))
            if changed is not None:
                announce(connection, records)
            return batch_rows.save_batch(connection, changed)

        return await self._connection.run(apply, is_durable=is_durable)
