"""Commit groups: the rows of one batch and round that wait to be committed together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from service.batch.replies.pack import MAX_PACK_BYTES
from service.domain.errors import AccessError, RetryableError, RowfleetError
from service.domain.item_size import has_long_reply, outcome_bytes
from service.domain.model import NOTHING_SPENT, Batch, BatchView, Outcome, Spending
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT
from service.runtime.backoff import Linger


@dataclass(frozen=True, slots=True)
class GroupCommitLimits:
    """A transaction waits `linger_s` for more outcomes, up to `max_rows` and `max_bytes`.

    Under load it waits longer (see `backoff`), and with long replies for `reply_linger_s`: the pack that they
    are put into costs as much for two rows as for a hundred.
    `timeout_s` bounds the wait of a row that brings no `Patience` of its own. `max_transactions` of a batch
    are under way at a time: several, where their writes do not conflict and wait for one disk.
    """

    linger_s: float = 0.2
    reply_linger_s: float = 0.0
    max_rows: int = COMMIT_LIMIT
    max_bytes: int = COMMIT_BYTES
    timeout_s: float = 60.0
    max_transactions: int = 1


class Patience(Protocol):
    """Decides how long a row waits for its commit."""

    def after_failure(self, error: RetryableError | AccessError) -> RowfleetError | None:
        """Told of a failed try: None to wait for the next one, or the error with which the row gives up."""
        ...


class BoundedPatience:
    """Waits for `timeout_s`, and gives up at once if access is denied."""

    def __init__(self, timeout_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._give_up_at = self._now() + timeout_s

    def after_failure(self, error: RetryableError | AccessError) -> RowfleetError | None:
        """Give up when the time is over, and at once if access is denied."""
        is_over = isinstance(error, AccessError) or self._now() >= self._give_up_at
        return error if is_over else None


RowFuture = asyncio.Future[BatchView | None]


@dataclass(slots=True)
class WaitingRow:
    """A row that waits to be settled, and the futures of its callers, each with its patience.

    Without an outcome the row waits for a completion check only. `spent`: the calls that were made for it.
    """

    outcome: Outcome | None
    spent: Spending = NOTHING_SPENT
    callers: list[tuple[RowFuture, Patience]] = field(default_factory=list)

    @property
    def open_futures(self) -> Iterator[RowFuture]:
        """The futures of the callers that still wait."""
        return (future for future, _ in self.callers if not future.done())

    def record_failure(self, error: RetryableError | AccessError) -> None:
        """Tell the callers of a failed try; those without patience get their error."""
        for future, patience in self.callers:
            if not future.done() and (final := patience.after_failure(error)) is not None:
                future.set_exception(final)


class CommitGroup:
    """The waiting rows of one batch and round, by number, and how long they wait for each other.

    `spent`: calls that gave no outcome. `has_rows` is set once a row waits, or the process stops.
    """

    def __init__(self, batch: Batch, linger: Linger) -> None:
        self.batch = batch
        self.linger = linger
        self.waiting: dict[int, WaitingRow] = {}
        self.spent = NOTHING_SPENT
        self.is_full = asyncio.Event()
        self.has_rows = asyncio.Event()
        self._reply_chars = 0

    def linger_s(self, limits: GroupCommitLimits) -> float:
        """The time for which the next transaction waits for more outcomes."""
        return max(self.linger.seconds, limits.reply_linger_s if self._reply_chars else 0.0)

    def add(
        self, number: int, outcome: Outcome | None, patience: Patience, full: int, spent: Spending
    ) -> RowFuture:
        """Add a row; the future ends when it is settled. The group does not linger once it has `full` rows.

        A row that waits already keeps its first outcome, so that it is counted once.
        """
        waiter = self.waiting.setdefault(number, WaitingRow(outcome))
        waiter.outcome = waiter.outcome or outcome
        waiter.spent += spent
        self.has_rows.set()
        future: RowFuture = asyncio.get_running_loop().create_future()
        waiter.callers.append((future, patience))
        self._reply_chars += _chars_to_pack(outcome)
        if len(self.waiting) >= full or self._reply_chars >= MAX_PACK_BYTES:
            self.is_full.set()
        return future

    def take(self, limits: GroupCommitLimits) -> list[WaitingRow]:
        """Take the rows of the next transaction: as many as the limits allow, but at least one."""
        taken: list[WaitingRow] = []
        size = 0
        for number, waiter in list(self.waiting.items()):
            size += outcome_bytes(waiter.outcome) if waiter.outcome else 0
            if taken and (len(taken) >= limits.max_rows or size > limits.max_bytes):
                break
            taken.append(self.waiting.pop(number))
        self._reply_chars = sum(_chars_to_pack(waiter.outcome) for waiter in self.waiting.values())
        if len(self.waiting) < limits.max_rows:
            self.is_full.clear()
        if not self.waiting:
            self.has_rows.clear()
        return taken


def _chars_to_pack(outcome: Outcome | None) -> int:
    return len(outcome.reply) if outcome is not None and has_long_reply(outcome) else 0


def open_futures(waiters: Iterable[WaitingRow]) -> Iterator[RowFuture]:
    """The futures of callers that still wait."""
    return (future for waiter in waiters for future in waiter.open_futures)


def fail_all(waiters: Iterable[WaitingRow], error: RowfleetError) -> None:
    """End the wait of all callers with an error."""
    for future in open_futures(waiters):
        future.set_exception(error)
