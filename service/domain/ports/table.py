"""Table: batches, their counters and definitions, outcomes, and small records that workers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
from service.domain.ports.outbox import Outbox

COMMIT_LIMIT = 99
"""Outcomes in one commit: a DynamoDB transaction takes 100 items, one of which is the counter."""

COMMIT_BYTES = 4_000_000
"""Largest sum of item sizes in one transaction (DynamoDB quota: 4 MB)."""

ITEM_BYTES = 400_000
"""Largest item (DynamoDB quota: 400 KB, attribute names included), rounded down from 409,600."""

ITEM_DEPTH = 32
"""Levels of nesting in one attribute (DynamoDB quota); a scalar is the first level."""


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Batches in one state. `after` is the batch id to continue after, "" on the last page."""

    batches: Sequence[Batch]
    after: str


@dataclass(frozen=True, slots=True)
class NumberPage:
    """Row numbers in ascending order. `after` is the number to continue after, None on the last page."""

    numbers: Sequence[int]
    after: int | None


@dataclass(frozen=True, slots=True)
class OutcomePage:
    """Outcomes in ascending row order. `after` is the number to continue after, None on the last page."""

    outcomes: Sequence[Outcome]
    after: int | None


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """Result of a request for the lease of a batch.

    If it was granted, `predecessor` is its former owner ("" if there was none). If it was refused, `until_ms`
    is the time when the other owner's lease ends, or 0 if the batch is not in the state that was asked for.
    """

    is_ours: bool
    predecessor: str = ""
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """A small text that workers share. `version` counts its changes; it is 0 if there is no record."""

    text: str = ""
    version: int = 0


class Table(Outbox, Protocol):
    """Batches, counters and outcomes, and the outbox of events.

    A batch id may be used again once its batch has expired, and items of the earlier batch may be left then.
    A batch past its `ttl` counts as absent. Outcomes and counters of another incarnation count as absent
    as well, and a write that is meant for another incarnation changes nothing.

    Every read is strongly consistent except `recent`, `failed` and `batches`, which read an index.
    """

    async def open(
        self, batch: Batch, definition: str, *, replacing: Batch | None = None, events: Sequence[Event] = ()
    ) -> Batch:
        """Store a batch, its definition (the mapping's JSON text) and events unless the batch id is taken.

        An id is not taken if its batch has expired, or if it is that of `replacing` and FAILED. Return the
        batch that is in the table afterwards: the given one or the existing one.
        """
        ...

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch and the sum of its counters of its current round, in one consistent read."""
        ...

    async def definition(self, batch_id: str, digest: str) -> str | None:
        """The definition that `open` stored with the batch."""
        ...

    async def checkpoint(self, batch: Batch, *, owner: str) -> bool:
        """Store `batch.checkpoint`, `columns`, `dialect` and `notes` of a batch that is still SPLITTING.

        False if the batch is not SPLITTING any more, if `owner` does not have its lease, or if the stored
        checkpoint is further: an earlier call may be applied late, and moves nothing back.
        """
        ...

    async def seal(self, batch: Batch, total: int, now: str, *, owner: str) -> bool:
        """Move a batch from SPLITTING to RUNNING with `total` rows, and end the lease.

        `batch.checkpoint` and `batch.unread_from` are stored by the same write.

        False if it is not SPLITTING any more, or if `owner` does not have its lease.
        """
        ...

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
        """Change the state, set `finished_at` ("" unless `to` is final) and `error`, and clear `trouble`.

        A move to AGGREGATING or FAILED stores `batch.settled` as well.

        This ends the lease of the former state, whoever has it.

        `events` are stored in the same transaction; one that the batch has already stays as it is. False
        unless the stored batch is in the state `expected` and in the round of `batch`; with events, of which
        the `control` is a part, also if an operation has changed it since.
        """
        ...

    async def operate(
        self,
        before: Batch,
        after: Batch,
        operation: Operation,
        *,
        definition: str | None = None,
        events: Sequence[Event] = (),
    ) -> bool:
        """Change the batch from `before` to `after`, and keep the operation in its log, in one transaction.

        Only the attributes that differ are written. A change of state, round or generation ends the lease,
        whose owner works for rows that do not count any more. A `definition` is stored under the mapping
        digest of `after`, `events` in the same transaction. False, and nothing is changed, unless the stored
        batch has the state, round and `control` of `before`, or if an operation with the same request id was
        made before.
        """
        ...

    async def keep_answer(self, batch: Batch, operation: Operation) -> bool:
        """Keep the answer to a request that has changed nothing; `control` is 0.

        False if the request has an answer already.
        """
        ...

    async def operation(self, batch: Batch, request_id: str) -> Operation | None:
        """The operation that was made for this request, or the answer that was kept for it, if any."""
        ...

    async def operations(self, batch: Batch) -> Sequence[Operation]:
        """All operations that have changed the batch, in the order in which they were made."""
        ...

    async def set_work(self, batch: Batch, work: Work | None) -> bool:
        """Store the progress of the batch's work, or None if it is done. False unless `batch.work` is stored.

        Only kind and `control` are compared, not the progress.
        """
        ...

    async def set_trouble(self, batch: Batch, trouble: Trouble | None) -> bool:
        """Store why the results cannot be written, or None. False unless AGGREGATING in this round."""
        ...

    async def recount(self, batch: Batch, counts: Counts) -> bool:
        """Store `counts` as those of the batch in its present round, in place of its counters.

        False unless the stored batch is in the state and round of `batch`.
        """
        ...

    async def lease(
        self, batch: Batch, *, state: State, owner: str, now_ms: int, until_ms: int, former: str = ""
    ) -> LeaseGrant:
        """Take or extend the lease of a batch that is in `state`, in its round.

        The state is SPLITTING, RUNNING, PAUSED or AGGREGATING. Before AGGREGATING, `owner` is stored as the
        batch's `sender` as well.

        The lease is granted if nobody has it, if the other owner's lease has ended by `now_ms`, or if `owner`
        has it already, perhaps under its `former` name. With a `now_ms` of 0 the own lease is extended and no
        other taken, not even one that is free: another owner may have had it meanwhile.
        """
        ...

    async def release(self, batch_id: str, *, owner: str) -> bool:
        """Release the lease of a batch. False if `owner` does not have it."""
        ...

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Store all outcomes and add their counts in one transaction, unless a row has an outcome already.

        An outcome of an earlier incarnation is replaced; one of a later incarnation counts as the row's.
        Return () if the transaction was applied, now or earlier with the same token. Otherwise nothing was
        applied; return the indices of the outcomes whose rows have one of this round or a later one.
        Raises ConflictError or ThrottledError (nothing applied), UnknownResultError (repeat it with the same
        token), RowTooLargeError if an item or the whole transaction is too large, and OutcomeRefusedError
        if one of the outcomes can never be stored for another reason.
        """
        ...

    async def outcome(self, batch: Batch, number: int) -> Outcome | None:
        """The committed outcome of a row."""
        ...

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """Up to `limit` outcomes of a partition with numbers above `after`, ascending; about 1 MB at most."""
        ...

    async def failed(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """Like `outcomes`, but only FAILED rows, from the sparse index `by_status`: eventually consistent."""
        ...

    async def done_numbers(self, batch: Batch, partition: int, *, after: int, limit: int) -> NumberPage:
        """Numbers of the partition's rows that have an outcome of the batch's round or a later one.

        Paged like `outcomes`. A page may be empty without being the last.
        """
        ...

    async def delete_rows(self, batch: Batch, partition: int) -> int:
        """Delete some rows of a partition, whatever their round or incarnation.

        Return their number, 0 if none is left.
        """
        ...

    async def delete_batch(self, batch: Batch) -> bool:
        """Delete what else is stored under the id of the batch, and the batch itself last.

        That are definitions, counters, operations, events, and rows that are left. If it is interrupted, the
        batch is still there. False if the stored batch has another state, round or `control`, or is gone.
        """
        ...

    async def batches(self, state: State, *, after: str, limit: int) -> BatchPage:
        """Batches in a state, in no particular order, from the index `by_status`: eventually consistent."""
        ...

    async def recent(self, limit: int) -> Sequence[Batch]:
        """The latest batches, newest first, from the index `by_timestamp`: eventually consistent."""
        ...

    async def record(self, key: str) -> SharedRecord:
        """The shared record under `key`; its version is 0 if it does not exist."""
        ...

    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Replace the record if its version is `version` (0: if it does not exist). Return the stored record.

        A returned text other than `text` means that another worker wrote first. After a lost response, a
        repetition sees the own write in this way too; a text therefore has to name its writer. The record
        may be gone after `ttl`, in seconds since 1970. Raises RowTooLargeError if no item holds the text.
        """
        ...
