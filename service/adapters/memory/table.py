"""The Table port in memory. Rows are stored as DynamoDB items, so that values change in the same way."""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.adapters import batch_changes as changes
from service.adapters.aws.table.batch_items import check_batch_size
from service.adapters.aws.table.row_items import (
    check_commit_size,
    is_committed,
    is_done,
    is_outcome_of,
    outcome_of,
    row_items,
)
from service.adapters.aws.table.shared_records import check_record_size
from service.adapters.aws.table.values import Item, item_bytes
from service.adapters.memory.deletion import MemoryDeletion
from service.adapters.memory.outbox import MemoryOutbox
from service.domain.model import (
    NOTHING_SPENT,
    Batch,
    BatchView,
    Commit,
    Counts,
    Event,
    Operation,
    Outcome,
    Spending,
    State,
    Status,
    Trouble,
    Work,
    partition_key,
    partition_of,
)
from service.domain.ports import BatchPage, LeaseGrant, NumberPage, OutcomePage, SharedRecord

PAGE_BYTES = 1_000_000
"""Size at which a page ends, as in DynamoDB."""

REMEMBERED_TOKENS = 10_000
"""Latest commit tokens that are remembered. DynamoDB remembers a token for ten minutes."""


@dataclass(slots=True)
class Counter:
    """A counter item, with the expiry of its batch."""

    counts: Counts
    spent: Spending
    ttl: int


CounterKey = tuple[int, int, str]
"""Round, slot and incarnation."""


class MemoryTable(MemoryDeletion, MemoryOutbox):
    """Batches, counters and outcomes in dictionaries.

    Nothing expires by itself, but batches past their `ttl` by `now_ms` count as absent; by default none has.
    """

    def __init__(self, now_ms: Callable[[], int] = lambda: 0) -> None:
        super().__init__()
        self._now_ms = now_ms
        self._batches: dict[str, Batch] = {}
        self._definitions: dict[tuple[str, str], str] = {}
        self._counters: dict[str, dict[CounterKey, Counter]] = defaultdict(dict)
        self._rows: dict[str, dict[int, Item]] = defaultdict(dict)
        # the keys of `_rows`, sorted: pages are slices of it
        self._numbers: dict[str, list[int]] = defaultdict(list)
        self._commits: dict[str, Commit] = {}
        self._tokens: deque[str] = deque()
        self._records: dict[str, SharedRecord] = {}
        # operations by request id, for each batch id and incarnation
        self._operations: dict[tuple[str, str], dict[str, Operation]] = defaultdict(dict)

    async def open(
        self, batch: Batch, definition: str, *, replacing: Batch | None = None, events: Sequence[Event] = ()
    ) -> Batch:
        """Store batch, definition and events unless the batch id is taken; return the stored batch."""
        await asyncio.sleep(0)
        check_batch_size(batch, definition)
        stored = self._present(batch.batch_id)
        if stored is not None and not changes.may_replace(stored, replacing):
            return stored
        self._definitions[batch.batch_id, batch.mapping_digest] = definition
        self._batches[batch.batch_id] = batch
        self._announce(events)
        return batch

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch and the sum of its counters of its current round."""
        await asyncio.sleep(0)
        batch = self._present(batch_id)
        return None if batch is None else BatchView(batch, self._counted(batch), self._spent(batch))

    async def definition(self, batch_id: str, digest: str) -> str | None:
        """The definition that `open` stored with the batch."""
        await asyncio.sleep(0)
        return self._definitions.get((batch_id, digest))

    async def checkpoint(self, batch: Batch, *, owner: str) -> bool:
        """Store the progress of a split; see `Table.checkpoint`."""
        await asyncio.sleep(0)
        return self._store(changes.with_checkpoint(self._batches.get(batch.batch_id), batch, owner))

    async def seal(self, batch: Batch, total: int, now: str, *, owner: str) -> bool:
        """SPLITTING -> RUNNING with `total` rows, without a lease. False as `checkpoint`."""
        await asyncio.sleep(0)
        return self._store(changes.sealed(self._batches.get(batch.batch_id), batch, total, now, owner))

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
        await asyncio.sleep(0)
        stored = self._batches.get(batch.batch_id)
        changed = changes.moved(
            stored, batch, expected=expected, to=to, now=now, error=error, is_told=bool(events)
        )
        if changed is not None:
            self._announce(events)
        return self._store(changed)

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
        await asyncio.sleep(0)
        log = self._operations[before.batch_id, before.incarnation]
        if operation.request_id in log:
            return False
        changed = changes.operated(self._batches.get(before.batch_id), before, after, definition)
        if changed is None:
            return False
        if definition is not None:
            self._definitions[before.batch_id, after.mapping_digest] = definition
        log[operation.request_id] = operation
        self._announce(events)
        return self._store(changed)

    async def keep_answer(self, batch: Batch, operation: Operation) -> bool:
        """Keep the answer to a request. False if it has one already."""
        await asyncio.sleep(0)
        log = self._operations[batch.batch_id, batch.incarnation]
        return log.setdefault(operation.request_id, operation) is operation

    async def operation(self, batch: Batch, request_id: str) -> Operation | None:
        """The operation that was made for this request, or the answer that was kept."""
        await asyncio.sleep(0)
        return self._operations[batch.batch_id, batch.incarnation].get(request_id)

    async def operations(self, batch: Batch) -> list[Operation]:
        """All operations on the batch, in order."""
        await asyncio.sleep(0)
        log = self._operations[batch.batch_id, batch.incarnation].values()
        made = [operation for operation in log if operation.control]
        return sorted(made, key=lambda operation: operation.control)

    async def set_work(self, batch: Batch, work: Work | None) -> bool:
        """Store the progress of the batch's work. False unless that work is under way."""
        await asyncio.sleep(0)
        return self._store(changes.with_work(self._batches.get(batch.batch_id), batch, work))

    async def set_trouble(self, batch: Batch, trouble: Trouble | None) -> bool:
        """Store why the results cannot be written. False unless AGGREGATING in this round."""
        await asyncio.sleep(0)
        return self._store(changes.with_trouble(self._batches.get(batch.batch_id), batch, trouble))

    async def recount(self, batch: Batch, counts: Counts) -> bool:
        """Store the counts of this round. False if the batch is in another state or round."""
        await asyncio.sleep(0)
        return self._store(changes.recounted(self._batches.get(batch.batch_id), batch, counts))

    async def lease(
        self, batch: Batch, *, state: State, owner: str, now_ms: int, until_ms: int, former: str = ""
    ) -> LeaseGrant:
        """Take or extend the lease of a batch; see `Table.lease`."""
        await asyncio.sleep(0)
        changed, grant = changes.leased(
            self._batches.get(batch.batch_id),
            batch,
            state=state,
            owner=owner,
            now_ms=now_ms,
            until_ms=until_ms,
            former=former,
        )
        self._store(changed)
        return grant

    async def release(self, batch_id: str, *, owner: str) -> bool:
        """Release the lease of a batch. False if it is not `owner`'s."""
        await asyncio.sleep(0)
        return self._store(changes.released(self._batches.get(batch_id), owner))

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Store all outcomes and add their counts, or nothing; see `Table.commit`."""
        rows = row_items(commit)
        check_commit_size(commit, rows)
        await asyncio.sleep(0)
        if commit.token in self._commits:
            if self._commits[commit.token] != commit:
                raise RuntimeError(f"commit token {commit.token} was used for other outcomes: a bug")
            return ()
        committed = [index for index, row in enumerate(rows) if self._is_committed(commit, index, row)]
        if committed:
            return committed
        for outcome, row in zip(commit.outcomes, rows, strict=True):
            self._put(row["batch_id"]["S"], outcome.number, row)
        self._count(commit)
        self._remember(commit)
        return ()

    async def outcome(self, batch: Batch, number: int) -> Outcome | None:
        """The committed outcome of a row."""
        await asyncio.sleep(0)
        partition = partition_key(batch.batch_id, partition_of(number, batch.partitions))
        row = self._rows[partition].get(number)
        return outcome_of(row) if row is not None and is_outcome_of(row, batch) else None

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's outcomes, ascending."""
        await asyncio.sleep(0)
        return self._page(batch, partition, after, limit, lambda _: True)

    async def failed(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """A page of a partition's FAILED outcomes, ascending."""
        await asyncio.sleep(0)
        return self._page(batch, partition, after, limit, lambda row: row["status"]["S"] == Status.FAILED)

    async def done_numbers(self, batch: Batch, partition: int, *, after: int, limit: int) -> NumberPage:
        """Numbers of a partition's rows that have an outcome of the batch's round, ascending."""
        await asyncio.sleep(0)
        key = partition_key(batch.batch_id, partition)
        numbers, rows = self._numbers[key], self._rows[key]
        first = bisect_right(numbers, after)
        page = numbers[first : first + limit]
        done = [number for number in page if is_done(rows[number], batch)]
        return NumberPage(done, page[-1] if len(page) == limit else None)

    async def batches(self, state: State, *, after: str, limit: int) -> BatchPage:
        """Batches in a state, in the order of their ids."""
        await asyncio.sleep(0)
        found = sorted(id_ for id_, batch in self._batches.items() if batch.state is state and id_ > after)
        page = found[:limit]
        batches = [batch for id_ in page if (batch := self._present(id_))]
        return BatchPage(batches, page[-1] if len(page) == limit else "")

    async def recent(self, limit: int) -> Sequence[Batch]:
        """The latest batches by creation, newest first."""
        await asyncio.sleep(0)
        present = filter(None, map(self._present, self._batches))
        dated = [batch for batch in present if batch.created_at]
        return sorted(dated, key=lambda batch: batch.created_at, reverse=True)[:limit]

    async def record(self, key: str) -> SharedRecord:
        """The shared record `key`."""
        await asyncio.sleep(0)
        return self._records.get(key, SharedRecord())

    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Replace the shared record if it has this version; return the stored one. Records do not expire."""
        check_record_size(key, text, ttl)
        await asyncio.sleep(0)
        stored = self._records.get(key, SharedRecord())
        if stored.version == version:
            stored = self._records[key] = SharedRecord(text, version + 1)
        return stored

    def _store(self, changed: Batch | None) -> bool:
        """Store a changed batch, if there is one; True if there is."""
        if changed is not None:
            self._batches[changed.batch_id] = changed
        return changed is not None

    def _is_committed(self, commit: Commit, index: int, row: Item) -> bool:
        stored = self._rows[row["batch_id"]["S"]].get(commit.outcomes[index].number)
        return stored is not None and is_committed(stored, commit)

    def _present(self, batch_id: str) -> Batch | None:
        """The batch unless it has expired."""
        batch = self._batches.get(batch_id)
        return None if batch is None or batch.has_expired(self._now_ms()) else batch

    def _counted(self, batch: Batch) -> Counts:
        """The sum of the counters of the batch's round."""
        own = (counter.counts for round_, counter in self._own_counters(batch) if round_ == batch.round)
        return batch.counts_of(own)

    def _spent(self, batch: Batch) -> Spending:
        """The calls of all rounds of the batch."""
        return sum((counter.spent for _, counter in self._own_counters(batch)), NOTHING_SPENT)

    def _own_counters(self, batch: Batch) -> Iterator[tuple[int, Counter]]:
        """The counters of the batch with their rounds, without leftovers of another with its id."""
        for (round_, _, incarnation), counter in self._counters[batch.batch_id].items():
            if batch.owns(incarnation, counter.ttl):
                yield round_, counter

    def _count(self, commit: Commit) -> None:
        key = (commit.round, commit.slot, commit.incarnation)
        counter = self._counters[commit.batch_id].setdefault(
            key, Counter(Counts(), NOTHING_SPENT, commit.ttl)
        )
        counter.counts += commit.counts
        counter.spent += commit.spent
        counter.ttl = commit.ttl

    def _put(self, partition: str, number: int, row: Item) -> None:
        if number not in self._rows[partition]:
            insort(self._numbers[partition], number)
        self._rows[partition][number] = row

    def _remember(self, commit: Commit) -> None:
        self._commits[commit.token] = commit
        self._tokens.append(commit.token)
        if len(self._tokens) > REMEMBERED_TOKENS:
            del self._commits[self._tokens.popleft()]

    def _page(
        self, batch: Batch, partition: int, after: int, limit: int, is_listed: Callable[[Item], bool]
    ) -> OutcomePage:
        # As in DynamoDB, a full page names its last row as the place to continue, even if no row follows.
        key = partition_key(batch.batch_id, partition)
        numbers, rows = self._numbers[key], self._rows[key]
        found: list[Outcome] = []
        size = read = 0
        for number in numbers[bisect_right(numbers, after) :]:
            row = rows[number]
            if not is_listed(row):
                continue
            if is_outcome_of(row, batch):
                found.append(outcome_of(row))
            read += 1
            size += item_bytes(row)
            if read >= limit or size >= PAGE_BYTES:
                return OutcomePage(found, number)
        return OutcomePage(found, None)
