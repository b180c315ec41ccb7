"""The Queue port in memory."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.errors import AccessError
from service.domain.ports import BATCH_CALL_ENTRIES, MESSAGE_BYTES, Clock, OutgoingMessage, ReceivedMessage

MAX_WAIT_S = 20.0
"""Longest wait of a receive, as on SQS."""


@dataclass(frozen=True, slots=True)
class _DeadLetter(OutgoingMessage):
    """A message that moves to the dead-letter queue. As on SQS it keeps its id and its times."""

    id: str = ""
    sent_at_ms: int = 0
    first_received_ms: int = 0


@dataclass(slots=True)
class _Entry:
    """A message in a queue. `visible_at` is on the clock's monotonic scale."""

    id: str
    outgoing: OutgoingMessage
    sent_at_ms: int
    visible_at: float
    receives: int = 0
    receipt: str = ""
    first_received_ms: int = 0


class MemoryQueue:
    """A standard queue. After `max_receives` deliveries a message moves to `dead_letters`, if any."""

    def __init__(
        self, name: str, clock: Clock, *, dead_letters: MemoryQueue | None = None, max_receives: int = 5
    ) -> None:
        self._name = name
        self._clock = clock
        self._dead_letters = dead_letters
        self._max_receives = max_receives
        self._entries: dict[str, _Entry] = {}
        self._by_receipt: dict[str, _Entry] = {}
        self._visible: deque[_Entry] = deque()
        # a heap by the time at which a message becomes visible; the counter keeps messages out of comparisons
        self._hidden: list[tuple[float, int, _Entry]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """The queue's name, for logs."""
        return self._name

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send all messages; none is ever refused. Raises AccessError above SQS's size limit."""
        _check_entries(messages)
        await asyncio.sleep(0)
        size = sum(len(message.body) for message in messages)
        if size > MESSAGE_BYTES:
            raise AccessError(f"queue {self._name}: {size} bytes in one call; SQS takes {MESSAGE_BYTES}")
        for message in messages:
            self._put(message)
        return ()

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Up to `limit` messages, at most 10, hidden for `visibility_s`; waits for the first."""
        await asyncio.sleep(0)
        deadline = self._clock.monotonic() + min(wait_s, MAX_WAIT_S)
        while not (taken := self._take(min(limit, BATCH_CALL_ENTRIES), visibility_s)):
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            await self._wait(left)
        return taken

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Hide for `visibility_s` from now; return the indices whose lease is lost."""
        _check_entries(receipts)
        await asyncio.sleep(0)
        lost = []
        for index, receipt in enumerate(receipts):
            entry = self._by_receipt.get(receipt)
            if entry is None or entry.visible_at <= self._clock.monotonic():
                lost.append(index)
            else:
                self._hide(entry, visibility_s)
        return lost

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete. The receipt of an earlier delivery is refused."""
        _check_entries(receipts)
        await asyncio.sleep(0)
        refused = []
        for index, receipt in enumerate(receipts):
            entry = self._by_receipt.pop(receipt, None)
            if entry is None:
                refused.append(index)
            else:
                self._remove(entry)
        return refused

    async def depth(self) -> int:
        """The number of messages that wait, are in flight or are delayed."""
        await asyncio.sleep(0)
        return len(self._entries)

    async def in_flight(self) -> int:
        """The number of messages that receivers hold."""
        await asyncio.sleep(0)
        now = self._clock.monotonic()
        return sum(entry.receives > 0 and entry.visible_at > now for entry in self._entries.values())

    def _put(self, message: OutgoingMessage) -> None:
        """Add a message to the queue, whether it was sent or became a dead letter."""
        if isinstance(message, _DeadLetter):
            entry = _Entry(
                message.id,
                message,
                message.sent_at_ms,
                visible_at=0.0,
                first_received_ms=message.first_received_ms,
            )
        else:
            id_ = f"{self._name}-{next(self._order)}"
            entry = _Entry(id_, message, self._clock.now_ms(), visible_at=0.0)
        self._entries[entry.id] = entry
        self._hide(entry, message.delay_s)

    def _hide(self, entry: _Entry, seconds: float) -> None:
        entry.visible_at = self._clock.monotonic() + seconds
        heapq.heappush(self._hidden, (entry.visible_at, next(self._order), entry))
        self._changed.set()

    def _take(self, limit: int, visibility_s: float) -> list[ReceivedMessage]:
        self._make_due_visible()
        taken: list[ReceivedMessage] = []
        while self._visible and len(taken) < limit:
            entry = self._visible.popleft()
            if self._is_stale(entry):
                continue
            # a new delivery invalidates the receipt of the previous one
            self._by_receipt.pop(entry.receipt, None)
            if self._dead_letters is not None and entry.receives >= self._max_receives:
                self._move_to_dead_letters(entry, self._dead_letters)
                continue
            entry.receives += 1
            entry.receipt = f"{entry.id}-{entry.receives}"
            entry.first_received_ms = entry.first_received_ms or self._clock.now_ms()
            self._by_receipt[entry.receipt] = entry
            self._hide(entry, visibility_s)
            taken.append(
                ReceivedMessage(
                    id=entry.id,
                    body=entry.outgoing.body,
                    receipt=entry.receipt,
                    receives=entry.receives,
                    sent_at_ms=entry.sent_at_ms,
                    first_received_ms=entry.first_received_ms,
                )
            )
        return taken

    def _make_due_visible(self) -> None:
        """Move the messages whose time has come from hidden to visible."""
        now = self._clock.monotonic()
        while self._hidden and self._hidden[0][0] <= now:
            due, _, entry = heapq.heappop(self._hidden)
            # after an extension the heap holds the message twice, and the earlier entry is stale
            if due == entry.visible_at:
                self._visible.append(entry)

    def _is_stale(self, entry: _Entry) -> bool:
        # deleted; or listed twice, by two extensions to the same time, and taken once already
        return self._entries.get(entry.id) is not entry or entry.visible_at > self._clock.monotonic()

    def _remove(self, entry: _Entry) -> None:
        del self._entries[entry.id]

    def _move_to_dead_letters(self, entry: _Entry, dead_letters: MemoryQueue) -> None:
        self._remove(entry)
        sent = entry.outgoing
        dead_letters._put(
            _DeadLetter(
                sent.body,
                sent.group,
                id=entry.id,
                sent_at_ms=entry.sent_at_ms,
                first_received_ms=entry.first_received_ms,
            )
        )

    async def _wait(self, seconds: float) -> None:
        """Wait until a message is sent or released, the next hidden one is due, or `seconds` have passed."""
        self._changed.clear()
        # no task makes a hidden message visible at its time, so the receiver wakes for it
        if self._hidden:
            seconds = min(seconds, max(0.0, self._hidden[0][0] - self._clock.monotonic()))
        waits = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _check_entries(entries: Sequence[object]) -> None:
    if len(entries) > BATCH_CALL_ENTRIES:
        raise ValueError(f"{len(entries)} entries; SQS takes {BATCH_CALL_ENTRIES} in one call")
