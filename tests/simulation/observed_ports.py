"""The memory ports as they really are: every change is reported to an observer.

All processes share them and reach them through the faulty ports of `network`. Here no call fails.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson

from service.adapters.aws.table.values import Item
from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.adapters.memory.queue import _Entry
from service.adapters.memory.table import CounterKey
from service.domain.model import (
    Batch,
    Commit,
    Counts,
    Event,
    Operation,
    OutboxKind,
    OutboxRecord,
    Spending,
    identity,
)
from service.domain.ports import OutgoingMessage, ReceivedMessage, StoredFile
from service.runtime.clock import SystemClock
from tests.simulation.loop import VirtualLoop

RowKey = tuple[str, int, int]
"""Identity of the batch (`Batch.identity`), round and number of a row."""


class Observer(Protocol):
    """Is told of every change: `monitor.Monitor`."""

    def row_stored(self, partition: str, before: Item | None, row: Item) -> None:
        """An outcome was written over `before` (None if there was none)."""

    def counted(self, table: ObservedTable, commit: Commit) -> None:
        """A commit was applied."""

    def batch_changed(self, before: Batch | None, batch: Batch) -> None:
        """The batch item was written."""

    def operated(self, before: Batch, after: Batch, operation: Operation) -> None:
        """An operation was made: it changed the batch from `before` to `after`."""

    def message_deleted(self, queue: ObservedQueue, body: str) -> None:
        """A message was deleted by its receipt."""

    def message_dead_lettered(self, queue: ObservedQueue, body: str, receives: int) -> None:
        """A message became a dead letter."""

    def object_stored(self, bucket: str, key: str, body: bytes) -> None:
        """An object became visible."""


class WorldClock(SystemClock):
    """The loop's time, with a wall clock that is wrong by `skew_s`: 0 for the services of AWS."""

    def __init__(self, loop: VirtualLoop, start_ms: int, skew_s: float = 0.0) -> None:
        # An attribute, because nothing is called more often.
        self.monotonic = loop.time  # type: ignore[method-assign]
        self._start_ms = start_ms + round(skew_s * 1000)

    def now_ms(self) -> int:
        """Milliseconds since 1970 by this clock."""
        return self._start_ms + round(self.monotonic() * 1000)


class ObservedTable(MemoryTable):
    """The table, observed."""

    def __init__(self, observer: Observer, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms)
        self.now_ms = now_ms
        self._observer = observer
        self._batches: ObservedBatches = ObservedBatches(observer)

    def batch(self, batch_id: str) -> Batch | None:
        """The batch item with this id, also if it has expired."""
        return self._batches.get(batch_id)

    def outbox(self, kind: OutboxKind) -> dict[str, OutboxRecord]:
        """The records of one kind, by name."""
        return {name: record for (of_kind, _, name), record in self._outbox.items() if of_kind is kind}

    def counted(self, batch: Batch, round_: int) -> tuple[int, int, int]:
        """The counters of a round of a batch, summed over its slots: succeeded, failed and reused."""
        counts = self._counted(replace(batch, round=round_))
        return counts.succeeded, counts.failed, counts.reused

    def counts(self, batch: Batch) -> Counts:
        """The counters of the present round of a batch, summed over its slots."""
        return self._counted(batch)

    def spent(self, batch: Batch) -> Spending:
        """The calls of all rounds of a batch."""
        return self._spent(batch)

    def delete_row(self, partition: str, number: int, row: Item) -> None:
        """Delete a row that has expired, unless it was written anew."""
        if self._rows[partition].get(number) is row:
            del self._rows[partition][number]
            self._numbers[partition].remove(number)

    def delete_counter(self, batch_id: str, key: CounterKey, ttl: int) -> None:
        """Delete a counter that has expired, unless it was written anew."""
        if (counter := self._counters[batch_id].get(key)) and counter.ttl == ttl:
            del self._counters[batch_id][key]

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Commit, and report it if it was applied now."""
        # A repeated commit is answered as the first one was, and not applied again.
        seen = commit.token in self._commits
        taken = await super().commit(commit)
        if not taken and not seen:
            self._observer.counted(self, commit)
        return taken

    async def operate(
        self,
        before: Batch,
        after: Batch,
        operation: Operation,
        *,
        definition: str | None = None,
        events: Sequence[Event] = (),
    ) -> bool:
        """Operate, and report it if the batch was changed."""
        is_made = await super().operate(before, after, operation, definition=definition, events=events)
        if is_made:
            replaced = self._batches.replaced
            assert replaced is not None
            self._observer.operated(replaced, self._batches[before.batch_id], operation)
        return is_made

    def _put(self, partition: str, number: int, row: Item) -> None:
        before = self._rows[partition].get(number)
        super()._put(partition, number, row)
        self._observer.row_stored(partition, before, row)


class ObservedBatches(dict[str, Batch]):
    """The batch items, every write observed. `replaced` is the item that the last write has replaced."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer
        self.replaced: Batch | None = None

    def __setitem__(self, batch_id: str, batch: Batch) -> None:
        before = self.replaced = self.get(batch_id)
        super().__setitem__(batch_id, batch)
        self._observer.batch_changed(before, batch)


class ObservedQueue(MemoryQueue):
    """A queue, observed, that delivers in random order.

    `messages_of` counts the messages of each row in the queue; `rows_ever_sent` has every row ever sent. With
    `keeps_receipts`, receipts of earlier deliveries work half the time, as they may on SQS;
    `old_receipts_used` counts them.
    """

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        clock: WorldClock,
        observer: Observer,
        *,
        draw: Callable[[], float],
        dead_letters: ObservedQueue | None = None,
        max_receives: int = 5,
    ) -> None:
        super().__init__(name, clock, dead_letters=dead_letters, max_receives=max_receives)
        self._loop = loop
        self._observer = observer
        self._draw = draw
        self._receivers: list[asyncio.Future[None]] = []
        self._keys: dict[str, RowKey | None] = {}
        self.messages_of: dict[RowKey, int] = {}
        self.rows_ever_sent: set[RowKey] = set()
        self.keeps_receipts = False
        self.old_receipts_used = 0
        self._delivered: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bodies(self) -> list[str]:
        """The bodies of all messages in the queue."""
        return [entry.outgoing.body for entry in self._entries.values()]

    def key(self, body: str) -> RowKey | None:
        """The row of a row message; None for other messages."""
        if body not in self._keys:
            data = orjson.loads(body)
            self._keys[body] = _row_key(data) if "row" in data else None
        return self._keys[body]

    def row_of(self, receipt: str) -> RowKey | None:
        """The row of the message that was delivered with a receipt, None if the message is gone."""
        entry = self._by_receipt.get(receipt)
        return None if entry is None else self.key(entry.outgoing.body)

    def redeliver(self, message_id: str) -> None:
        """Make a message visible although its lease lives, as SQS may."""
        if (entry := self._entries.get(message_id)) is not None:
            self._hide(entry, 0.0)

    def duplicate(self, outgoing: OutgoingMessage, delay_s: float) -> None:
        """Add a copy of a message, as SQS may: it delivers at least once."""
        self._put(OutgoingMessage(outgoing.body, outgoing.group, int(delay_s)))

    def lose(self, index: int | None = None) -> list[str]:
        """Lose the message at `index` (modulo their number), or all as by a purge. Return the bodies."""
        lost = list(self._entries.values())
        if lost and index is not None:
            lost = [lost[index % len(lost)]]
        for entry in lost:
            self._remove(entry)
        return [entry.outgoing.body for entry in lost]

    async def wait(self, until: float) -> None:
        """Wait until a message may be visible, or until the time `until`."""
        hidden = self._hidden
        # The heap also has messages that were deleted, or hidden anew with another time.
        while hidden and (hidden[0][0] != hidden[0][2].visible_at or hidden[0][2].id not in self._entries):
            heapq.heappop(hidden)
        due = min(until, hidden[0][0]) if hidden else until
        arrival = self._loop.create_future()
        self._receivers.append(arrival)
        timer = self._loop.call_at(due, _wake, arrival)
        try:
            await arrival
        finally:
            timer.cancel()

    def _put(self, message: OutgoingMessage) -> None:
        super()._put(message)
        key = self.key(message.body)
        if key is not None:
            self.messages_of[key] = self.messages_of.get(key, 0) + 1
            self.rows_ever_sent.add(key)

    def _remove(self, entry: _Entry) -> None:
        super()._remove(entry)
        key = self.key(entry.outgoing.body)
        if key is not None:
            self.messages_of[key] -= 1

    def _hide(self, entry: _Entry, seconds: float) -> None:
        super()._hide(entry, seconds)
        if self._receivers:
            receivers, self._receivers = self._receivers, []
            for arrival in receivers:
                _wake(arrival)

    def _take(self, limit: int, visibility_s: float) -> list[ReceivedMessage]:
        self._make_due_visible()
        # A standard queue of SQS promises no order.
        if len(self._visible) > 1:
            self._visible.rotate(int(self._draw() * len(self._visible)))
        taken = super()._take(limit, visibility_s)
        if self.keeps_receipts:
            self._delivered.update((message.receipt, self._entries[message.id]) for message in taken)
        return taken

    def _let_old_receipts_work(self, receipts: Sequence[str]) -> None:
        """Accept some receipts of earlier deliveries from now on, and none of a message that is gone."""
        for receipt in receipts if self.keeps_receipts else ():
            entry = self._delivered.get(receipt)
            if entry is None or self._entries.get(entry.id) is not entry:
                self._by_receipt.pop(receipt, None)
            elif receipt not in self._by_receipt and self._draw() < 0.5:
                self.old_receipts_used += 1
                self._by_receipt[receipt] = entry

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Extend leases."""
        self._let_old_receipts_work(receipts)
        return await super().extend(receipts, visibility_s)

    def _move_to_dead_letters(self, entry: _Entry, dead_letters: MemoryQueue) -> None:
        self._observer.message_dead_lettered(self, entry.outgoing.body, entry.receives)
        super()._move_to_dead_letters(entry, dead_letters)

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete, and report each message that is gone."""
        await asyncio.sleep(0)
        self._let_old_receipts_work(receipts)
        refused = []
        for index, receipt in enumerate(receipts):
            entry = self._by_receipt.pop(receipt, None)
            if entry is None or entry.id not in self._entries:
                refused.append(index)
            else:
                self._remove(entry)
                self._observer.message_deleted(self, entry.outgoing.body)
        return refused


class ObservedObjects(MemoryObjects):
    """The buckets, observed."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write an object, and report that it is visible."""
        stored = await super().put(bucket, key, body, content_type=content_type)
        self._observer.object_stored(bucket, key, bytes(body))
        return stored


def _row_key(data: dict[str, Any]) -> RowKey:
    return identity(data["batch"], data.get("incarnation", "")), data["round"], data["row"]


def _wake(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)
