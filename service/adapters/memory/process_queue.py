"""The Queue port for one process: nobody else can receive what it holds.

A received message stays hidden until it is released or deleted, however long that takes. So a process that
stood still for minutes goes on with the messages that it holds, and nothing is kept of a deleted message.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.domain.errors import AccessError
from service.domain.ports import BATCH_CALL_ENTRIES, MESSAGE_BYTES, Clock, OutgoingMessage, ReceivedMessage
from service.runtime.tasks import timeout


@dataclass(eq=False, slots=True)
class _Waiting:
    """A message that is not deleted. `receives` counts its deliveries; times are in ms since 1970."""

    id: str
    body: str
    sent_at_ms: int
    receives: int = 0
    first_received_ms: int = 0


class ProcessQueue:
    """A queue that is empty when its process begins.

    After `max_receives` deliveries a message moves to `dead_letters`, if there are any.
    """

    def __init__(
        self, name: str, clock: Clock, *, dead_letters: ProcessQueue | None = None, max_receives: int = 5
    ) -> None:
        self.name = name
        self._clock = clock
        self._dead_letters = dead_letters
        self._max_receives = max_receives
        self._visible: deque[_Waiting] = deque()
        # By the monotonic time at which they become visible; the number keeps messages out of comparisons.
        self._delayed: list[tuple[float, int, _Waiting]] = []
        self._held: dict[str, _Waiting] = {}
        self._visibility_s = 0.0
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Event()
        self._is_closed = False

    def close(self) -> None:
        """End the waits of receivers, those under way and later ones: the process stops."""
        self._is_closed = True
        self._arrived.set()

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send all messages; none is ever refused. Raises AccessError above SQS's size limit."""
        _check_entries(messages)
        size = sum(len(message.body) for message in messages)
        if size > MESSAGE_BYTES:
            raise AccessError(f"queue {self.name}: {size} bytes in one call; it takes {MESSAGE_BYTES}")
        now_ms = self._clock.now_ms()
        for message in messages:
            self._show(_Waiting(f"{self.name}-{next(self._numbers)}", message.body, now_ms), message.delay_s)
        await asyncio.sleep(0)
        return ()

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Up to `limit` messages, at most 10; waits for the first. They are hidden until they are released.

        `visibility_s` is the same in all calls: `extend` by less is a release.
        """
        self._visibility_s = visibility_s
        await asyncio.sleep(0)  # other tasks get their turn, as at every call of a service
        ends_at = self._clock.monotonic() + wait_s
        while not (taken := self._take(min(limit, BATCH_CALL_ENTRIES))):
            left_s = ends_at - self._clock.monotonic()
            if left_s <= 0 or self._is_closed:
                break
            await self._wait(left_s)
        return taken

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Release messages: they are visible again after `visibility_s`. That of `receive` only renews.

        Return the indices of the messages that are not held any more.
        """
        _check_entries(receipts)
        await asyncio.sleep(0)
        lost = []
        for index, receipt in enumerate(receipts):
            if receipt not in self._held:
                lost.append(index)
            elif visibility_s < self._visibility_s:
                self._show(self._held.pop(receipt), visibility_s)
        return lost

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete. The receipt of an earlier delivery is refused."""
        _check_entries(receipts)
        await asyncio.sleep(0)
        return [index for index, receipt in enumerate(receipts) if self._held.pop(receipt, None) is None]

    async def depth(self) -> int:
        """The number of messages that wait, are in flight or are delayed."""
        return len(self._visible) + len(self._delayed) + len(self._held)

    async def in_flight(self) -> int:
        """The number of messages that receivers hold."""
        return len(self._held)

    def take_over(self, waiting: _Waiting) -> None:
        """Take a dead letter of another queue."""
        waiting.receives = 0
        self._show(waiting, 0)

    def _show(self, waiting: _Waiting, delay_s: float) -> None:
        """Make a message visible, after a delay if there is one."""
        if delay_s > 0:
            due = self._clock.monotonic() + delay_s
            heapq.heappush(self._delayed, (due, next(self._numbers), waiting))
        else:
            self._visible.append(waiting)
        self._arrived.set()

    def _take(self, limit: int) -> list[ReceivedMessage]:
        now = self._clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            self._visible.append(heapq.heappop(self._delayed)[2])
        taken: list[ReceivedMessage] = []
        while self._visible and len(taken) < limit:
            waiting = self._visible.popleft()
            if self._dead_letters is not None and waiting.receives >= self._max_receives:
                # As on SQS it keeps its id and its times, and is a new message otherwise.
                self._dead_letters.take_over(waiting)
                continue
            taken.append(self._hold(waiting))
        return taken

    def _hold(self, waiting: _Waiting) -> ReceivedMessage:
        waiting.receives += 1
        waiting.first_received_ms = waiting.first_received_ms or self._clock.now_ms()
        receipt = f"{waiting.id}/{waiting.receives}"
        self._held[receipt] = waiting
        return ReceivedMessage(
            id=waiting.id,
            body=waiting.body,
            receipt=receipt,
            receives=waiting.receives,
            sent_at_ms=waiting.sent_at_ms,
            first_received_ms=waiting.first_received_ms,
        )

    async def _wait(self, seconds: float) -> None:
        """Wait until a message arrives or is due, or for `seconds`."""
        self._arrived.clear()
        if self._delayed:
            seconds = min(seconds, max(0.0, self._delayed[0][0] - self._clock.monotonic()))
        with suppress(TimeoutError):
            async with timeout(self._clock, seconds):
                await self._arrived.wait()


def _check_entries(entries: Sequence[object]) -> None:
    if len(entries) > BATCH_CALL_ENTRIES:
        raise ValueError(f"{len(entries)} entries; a call takes {BATCH_CALL_ENTRIES}")
