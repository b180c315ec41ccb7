"""Who gets the next place at a target, where more rows wait than there are places: batches, by weight.

Rows of a higher priority come first; within a priority the batch with the fewest rows in flight for its
weight. A batch alone has all places. Each batch may have a few rows waiting: what finds no room is the
caller's to put back, so that rows of other batches and targets are seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from service.domain.model import Batch

RECENT_S = 2.0
"""A batch of which no row came for this long is not waited for."""


@dataclass(slots=True)
class _BatchQueue:
    """A batch at a target: its rows in flight, and those that wait."""

    priority: int
    weight: int
    seen_at: float = 0.0
    in_flight: int = 0
    waiting: deque[asyncio.Future[bool]] = field(default_factory=deque)

    @property
    def is_idle(self) -> bool:
        return not self.in_flight and not self.waiting

    @property
    def claim(self) -> tuple[int, float]:
        """Smaller goes first."""
        return -self.priority, (self.in_flight + 1) / self.weight


class FairQueue:
    """The places of one target in one process. `places` says how many there are now.

    Each batch has room for `max_waiting` rows that wait.
    """

    def __init__(self, places: Callable[[], int], *, max_waiting: int) -> None:
        self._places = places
        self._max_waiting = max_waiting
        self._shares: dict[str, _BatchQueue] = {}
        self.in_flight = 0
        self.waiting = 0

    def room(self, now: float) -> int:
        """Rows that could come now and start or wait, of the batch that has most room for them."""
        free = max(0, self._places() - self.in_flight - self.waiting)
        recent = [share for share in self._shares.values() if now - share.seen_at < RECENT_S]
        fewest = min((len(share.waiting) for share in recent), default=self.waiting)
        return free + max(0, self._max_waiting - fewest)

    def is_full_for(self, batch: Batch) -> bool:
        """Whether a row of the batch would find neither a place nor room to wait for one."""
        share = self._shares.get(batch.batch_id)
        return not self._has_free and share is not None and len(share.waiting) >= self._max_waiting

    def take_free(self, batch: Batch, now: float) -> bool:
        """Take a place where one is free and nobody waits; whether there was one."""
        if not self._has_free:
            return False
        self._start(self._share(batch, now))
        return True

    async def take(self, batch: Batch, now: float) -> bool:
        """Take a place, after waiting for it where need be. False: no place, and no room to wait for one."""
        if self.take_free(batch, now):
            return True
        share = self._share(batch, now)
        if len(share.waiting) >= self._max_waiting:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        share.waiting.append(turn)
        self.waiting += 1
        self.fill()  # it may be its turn already
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():  # it had just got its place
                self.give_back(batch)
            elif turn in share.waiting:
                share.waiting.remove(turn)
                self.waiting -= 1
                self._tidy(batch.batch_id)
            raise

    def give_back(self, batch: Batch) -> None:
        """A row of the batch leaves its place."""
        self._shares[batch.batch_id].in_flight -= 1
        self.in_flight -= 1
        self.fill()
        self._tidy(batch.batch_id)

    def fill(self) -> None:
        """Give what is free to those who wait."""
        while self.waiting and self.in_flight < self._places():
            share = min((s for s in self._shares.values() if s.waiting), key=lambda s: s.claim)
            turn = share.waiting.popleft()
            self.waiting -= 1
            if not turn.done():  # cancelled, and not told yet
                self._start(share)
                turn.set_result(True)

    def turn_away(self) -> None:
        """Whoever waits gets no place."""
        for batch_id, share in list(self._shares.items()):
            while share.waiting:
                self.waiting -= 1
                if not (turn := share.waiting.popleft()).done():
                    turn.set_result(False)
            self._tidy(batch_id)

    @property
    def _has_free(self) -> bool:
        """Whether a place is free that nobody waits for."""
        return not self.waiting and self.in_flight < self._places()

    def _start(self, share: _BatchQueue) -> None:
        share.in_flight += 1
        self.in_flight += 1

    def _share(self, batch: Batch, now: float) -> _BatchQueue:
        share = self._shares.setdefault(batch.batch_id, _BatchQueue(batch.priority, batch.weight))
        share.seen_at = now
        return share

    def _tidy(self, batch_id: str) -> None:
        share = self._shares.get(batch_id)
        if share is not None and share.is_idle:
            del self._shares[batch_id]
