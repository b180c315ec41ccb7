"""The memory ports as the world itself sees them: whatever really happens is told to the observer.

Nothing fails here and nothing is hidden: these are shared by all processes, which reach them through the
faulty ports of `network`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

import orjson

from service.adapters.aws.values import Item
from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.adapters.memory.queue import _Entry
from service.domain.model import Batch, Commit
from service.domain.ports import OutgoingMessage, ReceivedMessage, StoredFile
from tests.simulation.loop import VirtualLoop

RowKey = tuple[str, int, int]
"""Batch id, round and number of a row."""


class Observer(Protocol):
    """Who is told: `invariants.Monitor`."""

    def row_stored(self, partition: str, before: Item | None, row: Item) -> None:
        """An outcome was written over `before`."""

    def counted(self, table: ObservedTable, commit: Commit) -> None:
        """A commit was applied whole."""

    def batch_changed(self, before: Batch | None, batch: Batch) -> None:
        """The batch item was written."""

    def message_deleted(self, queue: ObservedQueue, body: str) -> None:
        """A message was deleted by a receipt."""

    def message_dead_lettered(self, queue: ObservedQueue, body: str, receives: int) -> None:
        """A message became a dead letter."""

    def object_stored(self, bucket: str, key: str, body: bytes) -> None:
        """An object became visible."""


class WorldClock:
    """AWS's own time."""

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self.monotonic = loop.time
        self._start_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._start_ms + round(self.monotonic() * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class ObservedTable(MemoryTable):
    """The table."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer
        self._batches = ObservedBatches(observer)

    def batch(self, batch_id: str) -> Batch | None:
        """A batch as it is now."""
        return self._batches.get(batch_id)

    @property
    def all_batches(self) -> list[Batch]:
        """Every batch as it is now."""
        return list(self._batches.values())

    def row(self, partition: str, number: int) -> Item | None:
        """A row's item as it is now."""
        return self._rows[partition].get(number)

    def counted(self, batch_id: str, round_: int) -> tuple[int, int, int]:
        """Succeeded, failed and reused, summed over the slots of a round."""
        slots = self._counts[batch_id, round_].values()
        return sum(x.succeeded for x in slots), sum(x.failed for x in slots), sum(x.reused for x in slots)

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Tell what was applied."""
        seen = commit.token in self._commits
        taken = await super().commit(commit)
        if not taken and not seen:
            self._observer.counted(self, commit)
        return taken

    def _put(self, partition: str, number: int, row: Item) -> None:
        before = self._rows[partition].get(number)
        super()._put(partition, number, row)
        self._observer.row_stored(partition, before, row)


class ObservedBatches(dict[str, Batch]):
    """The batch items: every write is told."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def __setitem__(self, batch_id: str, batch: Batch) -> None:
        before = self.get(batch_id)
        super().__setitem__(batch_id, batch)
        self._observer.batch_changed(before, batch)

    def setdefault(self, batch_id: str, batch: Batch) -> Batch:  # type: ignore[override]
        """What stands, or else `batch`, which is told."""
        if batch_id not in self:
            self[batch_id] = batch
        return self[batch_id]


class ObservedQueue(MemoryQueue):
    """A queue that delivers in any order. `waiting` receivers are woken when something may be there."""

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
        self.live: dict[RowKey, int] = {}
        self.ever: set[RowKey] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bodies(self) -> list[str]:
        """What is in it."""
        return [entry.outgoing.body for entry in self._entries.values()]

    def key(self, body: str) -> RowKey | None:
        """The row that a message is of; None for every other message."""
        if body not in self._keys:
            data = orjson.loads(body)
            self._keys[body] = (data["batch"], data["round"], data["row"]) if "row" in data else None
        return self._keys[body]

    def copy(self, outgoing: OutgoingMessage, delay_s: float) -> None:
        """Have a message twice: SQS delivers at least once."""
        self._put(OutgoingMessage(outgoing.body, outgoing.group, int(delay_s)))

    def lose(self, wanted: int | None = None) -> list[str]:
        """Lose the message at that place, or all of them: a purge, or the end of their retention."""
        entries = list(self._entries.values())
        lost = entries if wanted is None else entries[wanted % len(entries) :][:1] if entries else []
        for entry in lost:
            self._remove(entry)
        return [entry.outgoing.body for entry in lost]

    async def wait(self, until: float) -> None:
        """Until a message may be visible, or `until`."""
        hidden = self._hidden
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
            self.live[key] = self.live.get(key, 0) + 1
            self.ever.add(key)

    def _remove(self, entry: _Entry) -> None:
        super()._remove(entry)
        key = self.key(entry.outgoing.body)
        if key is not None:
            self.live[key] -= 1

    def _hide(self, entry: _Entry, seconds: float) -> None:
        super()._hide(entry, seconds)
        if self._receivers:
            receivers, self._receivers = self._receivers, []
            for arrival in receivers:
                _wake(arrival)

    def _take(self, limit: int, visibility_s: float) -> list[ReceivedMessage]:
        self._reveal()
        if len(self._visible) > 1:
            self._visible.rotate(int(self._draw() * len(self._visible)))
        return super()._take(limit, visibility_s)

    def _bury(self, entry: _Entry, dead_letters: MemoryQueue) -> None:
        self._observer.message_dead_lettered(self, entry.outgoing.body, entry.receives)
        super()._bury(entry, dead_letters)

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete, and tell what is gone."""
        await asyncio.sleep(0)
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
    """The buckets."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write, and tell what is visible now."""
        stored = await super().put(bucket, key, body, content_type=content_type)
        self._observer.object_stored(bucket, key, bytes(body))
        return stored


def _wake(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)
