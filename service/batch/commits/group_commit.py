"""Group commit: outcomes that are ready together are committed in one transaction (steps 5 and 6).

A transaction holds outcomes of one batch and round, and adds their counts to one counter slot. A row's
outcome and its count are one atomic write, so no crash can separate them. After every commit one consistent
read of batch and counters decides whether the batch is complete. The last commit is followed by a check that
sees every count, so the aggregation is always triggered. `completion` sends the trigger *before* it moves the
batch on, so a crash between the two sends it twice rather than never; the aggregator is idempotent.

A row that is found to be committed already joins the next check without a commit. If a crash has lost the
trigger, the redelivered message of the last row makes up for it in this way.

The calls that were made for a row are counted in the same transaction as its outcome, so the spending is
never less than what the results cost. Calls that gave no outcome join the next transaction of their batch, or
have one of their own after `SPENDING_LINGER_S`. If it is not known if a transaction was applied, its calls
are counted once more: too many rather than too few.

A write that fails is repeated, under one token, for as long as one of its rows wants to wait (`Patience`). An
outcome that an agent was paid for thus outlives an outage of the table or of the bucket.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import structlog

from service.batch.commits.commit_group import (
    BoundedPatience,
    CommitGroup,
    GroupCommitLimits,
    Patience,
    RowFuture,
    WaitingRow,
    fail_all,
    open_futures,
)
from service.batch.completion import Completion, Repeat, once
from service.batch.replies.packing import ReplyPacker
from service.batch.role_ports import Ports
from service.domain.errors import (
    AccessError,
    ConflictError,
    RetryableError,
    RowfleetError,
    RowRejectedError,
    ThrottledError,
)
from service.domain.model import NOTHING_SPENT, Batch, BatchView, Commit, Outcome, Spending
from service.runtime.backoff import Lingers
from service.runtime.port_retries import repeated, retrying

T = TypeVar("T")
log = structlog.get_logger(__name__)

SPENDING_LINGER_S = 5.0
"""Calls without an outcome wait so long for a transaction of their batch."""

LAST_TRIES = 3
"""Tries to count calls when the process stops. After these they are only logged."""


class GroupCommitter:
    """Commits the outcomes of one process. As an async context manager it ends when no row waits.

    `slot` is the counter slot of this process in every batch. `tokens` makes request tokens (36 characters).
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
        # No time-out: the patience of the rows ends a series of tries.
        self._retry = retrying(None, first_s=0.02, longest_s=5.0, jitter_s=0.1)
        self._slot = slot
        self._tokens = tokens
        self._packer = ReplyPacker(ports.objects, ports.large_outcomes)
        self._groups: dict[tuple[str, int], CommitGroup] = {}
        self._lingers: Lingers[tuple[str, int]] = Lingers(limits.linger_s)
        self._tasks = asyncio.TaskGroup()
        self._is_stopping = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping = True
        for group in self._groups.values():
            group.has_rows.set()
        if isinstance(error, Exception):
            # Commit the waiting rows as usual. The error is raised as it is; the task group would wrap it.
            kind = error = trace = None
        await self._tasks.__aexit__(kind, error, trace)

    async def commit(
        self,
        batch: Batch,
        number: int,
        outcome: Outcome | None,
        patience: Patience | None = None,
        spent: Spending = NOTHING_SPENT,
    ) -> BatchView | None:
        """Commit row `number`, check whether its batch is complete, and return the batch as checked.

        Without an outcome, for a row that is known to be committed, only the check is done. `spent`: the
        calls that were made for the row, which are counted even if this raises an error. Writes that fail
        are repeated until `patience` ends, by default after `timeout_s` or if access is denied. Raises the
        error that the patience gives, and RetryableError if the process stops: the row may be committed or
        not, and its message must not be deleted. Raises RowRejectedError if the outcome can never be stored.
        """
        return await (await self.begin(batch, number, outcome, patience, spent))

    async def begin(
        self,
        batch: Batch,
        number: int,
        outcome: Outcome | None,
        patience: Patience | None = None,
        spent: Spending = NOTHING_SPENT,
    ) -> RowFuture:
        """Add row `number` to the next transaction; the future ends as `commit` does."""
        patience = patience or BoundedPatience(self._limits.timeout_s)
        if outcome is not None:
            try:
                outcome = await self._offload(batch, outcome, patience)
            except BaseException:
                self.count_spending(batch, spent)
                raise
        group = self._group_of(batch)
        return group.add(number, outcome, patience, self._limits.max_rows, spent)

    def count_spending(self, batch: Batch, spent: Spending) -> None:
        """Count calls that gave no outcome, with the next transaction of the batch or by themselves."""
        if spent != NOTHING_SPENT:
            self._group_of(batch).spent += spent

    def _group_of(self, batch: Batch) -> CommitGroup:
        """The group of a batch and round, which is being committed from now on."""
        key = (batch.identity, batch.round)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = CommitGroup(batch, self._lingers.take(key))
            # In an empty context: the caller's has the row_id of one row bound to its log lines.
            self._tasks.create_task(self._commit_group(key, group), context=contextvars.Context())
        return group

    async def commit_first(
        self, batch: Batch, outcomes: Iterable[Outcome], patience: Patience | None = None
    ) -> tuple[Outcome, BatchView | None]:
        """Commit the first of several outcomes of one row that can be stored; return it and the batch.

        Raises as `commit` does, and AccessError if none of them can be stored: then the row is not the cause.
        """
        refusal: RowRejectedError | None = None
        for outcome in outcomes:
            try:
                return outcome, await self.commit(batch, outcome.number, outcome, patience)
            except RowRejectedError as error:
                refusal = error
        raise AccessError(f"the table stores no outcome of this row: {refusal}") from refusal

    async def _offload(self, batch: Batch, outcome: Outcome, patience: Patience) -> Outcome:
        """The outcome as the table takes it: its data is put into S3 if it is too large for an item."""
        if self._ports.large_outcomes.fits_item(outcome):
            return outcome
        final: RowfleetError | None = None

        def should_repeat(error: Exception) -> bool:
            nonlocal final
            if not isinstance(error, RetryableError | AccessError):
                return False
            final = patience.after_failure(error)
            return final is None

        try:
            offload = partial(self._ports.large_outcomes.offload, batch, outcome)
            return await repeated(self._retry, should_repeat, offload)
        except (RetryableError, AccessError) as error:
            raise final or error from None

    async def _commit_group(self, key: tuple[str, int], group: CommitGroup) -> None:
        """Commit the rows of a group, a few transactions at a time, until no row waits."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while group.waiting or under_way or await self._count_late(group):
                if not group.waiting or len(under_way) >= self._limits.max_transactions:
                    _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(group.linger_s(self._limits)):
                        await group.is_full.wait()
                committing = self._commit(group, group.take(self._limits))
                if self._limits.max_transactions == 1:
                    await committing
                else:
                    under_way.add(self._tasks.create_task(committing, context=contextvars.Context()))
        finally:
            del self._groups[key]
            self._lingers.put_back(key, group.linger)
            fail_all(group.waiting.values(), RetryableError("the process is stopping"))

    async def _count_late(self, group: CommitGroup) -> bool:
        """Count calls for which no row waits, after a while; True if rows wait by then."""
        tries = 0
        while group.spent != NOTHING_SPENT:
            if not self._is_stopping:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SPENDING_LINGER_S):
                        await group.has_rows.wait()
            if group.waiting:
                return True
            try:
                await self._write(group, [], once)
            except (RetryableError, AccessError) as error:
                tries += 1
                log.warning("spending_not_counted", batch_id=group.batch.batch_id, reason=str(error))
                if self._is_stopping and tries >= LAST_TRIES:
                    break
        return bool(group.waiting)

    async def _commit(self, group: CommitGroup, waiters: Sequence[WaitingRow]) -> None:
        """Commit all of `waiters` in one transaction, check the batch once, and end their futures."""
        batch = group.batch
        repeat = partial(self._repeat, group, waiters)
        try:
            await self._packer.pack(batch, waiters, repeat)
            await self._write(group, waiters, repeat)
            view = await self._completion.check(batch.batch_id, repeat)
        except RowRejectedError as error:
            await self._commit_halves(group, waiters, error)
        except (RetryableError, AccessError) as error:
            fail_all(waiters, error)
        except Exception as error:
            # A bug: its rows fail and are redelivered, and other groups go on.
            log.exception("settle_crashed", batch_id=batch.batch_id)
            fail_all(waiters, RetryableError(f"settling failed: {error!r}"))
        else:
            group.linger.shorten()
            for future in open_futures(waiters):
                future.set_result(view)
        finally:
            # Futures are left only if this task was cancelled.
            fail_all(waiters, RetryableError("the process is stopping"))

    async def _commit_halves(
        self, group: CommitGroup, waiters: Sequence[WaitingRow], error: RowRejectedError
    ) -> None:
        """Find the row that can never be stored by halving the transaction, and commit all others."""
        middle = len(waiters) // 2
        if not middle:
            fail_all(waiters, error)
            return
        await self._commit(group, waiters[:middle])
        await self._commit(group, waiters[middle:])

    async def _write(self, group: CommitGroup, waiters: Sequence[WaitingRow], repeat: Repeat) -> None:
        """Write the outcomes that are not committed yet, and count the calls of their rows and of the group.

        Raises the last error if no row waits any more; then the calls are counted by a later transaction.
        """
        spent = sum((waiter.spent for waiter in waiters), group.spent)
        group.spent = NOTHING_SPENT
        for waiter in waiters:
            waiter.spent = NOTHING_SPENT
        try:
            await self._write_outcomes(group.batch, [w.outcome for w in waiters if w.outcome], spent, repeat)
        except BaseException:
            group.spent += spent
            raise

    async def _write_outcomes(
        self, batch: Batch, outcomes: list[Outcome], spent: Spending, repeat: Repeat
    ) -> None:
        while outcomes or spent != NOTHING_SPENT:
            commit = Commit(
                batch_id=batch.batch_id,
                round=batch.round,
                partitions=batch.partitions,
                slot=self._slot,
                outcomes=tuple(outcomes),
                token=self._tokens(),
                ttl=batch.ttl,
                incarnation=batch.incarnation,
                spent=spent,
            )
            # All repetitions carry one token: a commit whose response was lost is not counted twice.
            duplicates = set(await repeat(partial(self._ports.table.commit, commit)))
            if not duplicates:
                self._count(commit)
                return
            # A transaction is all or nothing: commit the remaining outcomes in a new one.
            self._ports.metrics.count("duplicate_outcomes", len(duplicates))
            log.info("outcomes_already_committed", batch_id=batch.batch_id, rows=len(duplicates))
            outcomes = [outcome for index, outcome in enumerate(outcomes) if index not in duplicates]

    async def _repeat(
        self, group: CommitGroup, waiters: Sequence[WaitingRow], call: Callable[[], Awaitable[T]]
    ) -> T:
        """Repeat a call that fails while one of `waiters` has the patience to wait.

        Raises the last error. The rows that wait for the next transaction are told of failures as well.
        """

        def should_repeat(error: Exception) -> bool:
            if not isinstance(error, RetryableError | AccessError):
                return False
            if isinstance(error, ThrottledError | ConflictError):
                group.linger.lengthen()
            for waiter in (*waiters, *group.waiting.values()):
                waiter.record_failure(error)
            return next(open_futures(waiters), None) is not None

        return await repeated(self._retry, should_repeat, call)

    def _count(self, commit: Commit) -> None:
        metrics, counts = self._ports.metrics, commit.counts
        metrics.count("commits")
        metrics.observe("commit_rows", len(commit.outcomes))
        metrics.count("rows_succeeded", counts.succeeded)
        metrics.count("rows_failed", counts.failed)
        if counts.reused:
            metrics.count("rows_reused", counts.reused)
