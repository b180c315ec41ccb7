"""Settling rows: group commit, completion check, trigger. The protocol's heart (its steps 5 and 6).

Outcomes of one batch and round that become ready within a short linger are committed in one transaction
with one counter slot: a row's outcome and its count are one atomic write, so no crash can separate them.
After every commit one consistent read of batch and counters decides whether this was the last row: whoever
commits last sees every count, so somebody always triggers. The trigger is sent *before* the batch is
claimed, so a crash between the two sends it twice rather than never; the aggregator is idempotent.

A row that turns out to be committed already joins the next check without a commit: that is what makes a
trigger lost to a crash come back with the redelivered message.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog

from service.batch.completion import Completion
from service.batch.ports import Ports
from service.domain.errors import AccessError, RetryableError, RowfleetError, RowRejectedError
from service.domain.item_size import outcome_bytes
from service.domain.model import Batch, BatchView, Commit, Outcome
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT
from service.runtime.retrying import retry_for

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GroupCommitLimits:
    """`linger_s` trades latency for fuller transactions; `timeout_s` bounds one commit with its retries."""

    linger_s: float = 0.2
    max_rows: int = COMMIT_LIMIT
    max_bytes: int = COMMIT_BYTES
    timeout_s: float = 60.0


@dataclass(slots=True)
class _Waiter:
    """A row that waits to be settled; without an outcome it waits for a check only."""

    outcome: Outcome | None
    futures: list[asyncio.Future[BatchView | None]] = field(default_factory=list)


class _Group:
    """What waits to be committed for one batch and round."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.waiting: dict[int, _Waiter] = {}
        self.is_full = asyncio.Event()

    def add(self, number: int, outcome: Outcome | None, full: int) -> asyncio.Future[BatchView | None]:
        """Wait with the others. A row that waits already keeps its first outcome: it is counted once."""
        waiter = self.waiting.setdefault(number, _Waiter(outcome))
        waiter.outcome = waiter.outcome or outcome
        future: asyncio.Future[BatchView | None] = asyncio.get_running_loop().create_future()
        waiter.futures.append(future)
        if len(self.waiting) >= full:
            self.is_full.set()
        return future

    def take(self, limits: GroupCommitLimits) -> list[_Waiter]:
        """The next transaction's worth, by rows and bytes."""
        taken: list[_Waiter] = []
        size = 0
        for number, waiter in list(self.waiting.items()):
            size += outcome_bytes(waiter.outcome) if waiter.outcome else 0
            if taken and (len(taken) >= limits.max_rows or size > limits.max_bytes):
                break
            taken.append(self.waiting.pop(number))
        if len(self.waiting) < limits.max_rows:
            self.is_full.clear()
        return taken


class GroupCommitter:
    """Settles the outcomes of one worker process; an async context manager that ends with nothing waiting.

    `slot` is this worker's counter slot in every
    batch, `tokens` makes request tokens (36 characters).
    """

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        limits: GroupCommitLimits,
        *,
        slot: int,
        tokens: Callable[[], str],
    ) -> None:
        self._ports = ports
        self._completion = completion
        self._limits = limits
        self._retry = retry_for(limits.timeout_s, first_s=0.02, longest_s=5.0, jitter_s=0.1)
        self._slot = slot
        self._tokens = tokens
        self._groups: dict[tuple[str, int], _Group] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):  # goes on as it is, while a task group would wrap it
            kind = error = trace = None
        await self._tasks.__aexit__(kind, error, trace)

    async def commit(self, batch: Batch, number: int, outcome: Outcome | None) -> BatchView | None:
        """Return once row `number` is committed and its batch's completion was checked.

        Without an outcome (a row that is known to be committed) only the check is done. Returns the batch as
        the check saw it. Raises RetryableError or AccessError; the row may or may not be committed then, and
        its message has to come again. Raises RowRejectedError where the outcome can never be stored.
        """
        if outcome is not None:
            outcome = await self._ports.large_outcomes.offload(batch, outcome)
        key = (batch.batch_id, batch.round)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(batch)
            self._tasks.create_task(self._run(key, group), context=contextvars.Context())
        return await group.add(number, outcome, self._limits.max_rows)

    async def _run(self, key: tuple[str, int], group: _Group) -> None:
        """Settle the group's rows, one transaction at a time, until none waits."""
        try:
            while group.waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.linger_s):
                        await group.is_full.wait()
                await self._commit(group.batch, group.take(self._limits))
        finally:
            del self._groups[key]
            _fail(group.waiting.values(), RetryableError("the process is stopping"))

    async def _commit(self, batch: Batch, waiters: Sequence[_Waiter]) -> None:
        """One transaction and one check for all of `waiters`, who learn how it went."""
        try:
            await self._write(batch, [w.outcome for w in waiters if w.outcome is not None])
            view = await self._completion.check(batch.batch_id)
        except RowRejectedError as error:
            await self._commit_halves(batch, waiters, error)
        except (RetryableError, AccessError) as error:
            _fail(waiters, error)
        except Exception as error:
            # A bug must reach the rows that it concerns, and not stop the others.
            log.exception("settle_crashed", batch_id=batch.batch_id)
            _fail(waiters, RetryableError(f"settling failed: {error!r}"))
        else:
            for future in _pending(waiters):
                future.set_result(view)
        finally:
            _fail(waiters, RetryableError("the process is stopping"))  # cancelled: nobody was told yet

    async def _commit_halves(self, batch: Batch, waiters: Sequence[_Waiter], error: RowRejectedError) -> None:
        """Some row of these can never be stored: halve them until it is found, and settle the others."""
        middle = len(waiters) // 2
        if not middle:
            _fail(waiters, error)
            return
        await self._commit(batch, waiters[:middle])
        await self._commit(batch, waiters[middle:])

    async def _write(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Commit what is not committed yet. Raises RetryableError after `timeout_s` of trying."""
        while outcomes:
            commit = Commit(
                batch.batch_id,
                batch.round,
                batch.partitions,
                self._slot,
                tuple(outcomes),
                self._tokens(),
                batch.ttl,
            )
            # the same token for every repetition: an answer that was lost cannot make it count twice
            duplicates = set(await self._retry(self._ports.table.commit, commit))
            if not duplicates:
                self._ports.metrics.count("commits")
                self._ports.metrics.observe("commit_rows", len(outcomes))
                self._ports.metrics.count("rows_succeeded", commit.counts.succeeded)
                self._ports.metrics.count("rows_failed", commit.counts.failed)
                if commit.counts.reused:
                    self._ports.metrics.count("rows_reused", commit.counts.reused)
                return
            self._ports.metrics.count("duplicate_outcomes", len(duplicates))
            log.info("outcomes_already_committed", batch_id=batch.batch_id, rows=len(duplicates))
            outcomes = [outcome for index, outcome in enumerate(outcomes) if index not in duplicates]


def _pending(waiters: Iterable[_Waiter]) -> Iterator[asyncio.Future[BatchView | None]]:
    return (future for waiter in waiters for future in waiter.futures if not future.done())


def _fail(waiters: Iterable[_Waiter], error: RowfleetError) -> None:
    for future in _pending(waiters):
        future.set_exception(error)
