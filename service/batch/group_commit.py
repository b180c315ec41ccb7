"""Group commit: outcomes that are ready together are committed in one transaction (steps 5 and 6).

A transaction holds outcomes of one batch and round, and adds their counts to one counter slot. A row's
outcome and its count are one atomic write, so no crash can separate them. After every commit one consistent
read of batch and counters decides whether the batch is complete. The last commit is followed by a check that
sees every count, so the aggregation is always triggered. `completion` sends the trigger *before* it moves the
batch on, so a crash between the two sends it twice rather than never; the aggregator is idempotent.

A row that is found to be committed already joins the next check without a commit. If a crash has lost the
trigger, the redelivered message of the last row makes up for it in this way.
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
from service.batch.role_ports import Ports
from service.domain.errors import AccessError, RetryableError, RowfleetError, RowRejectedError
from service.domain.item_size import outcome_bytes
from service.domain.model import Batch, BatchView, Commit, Outcome
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT
from service.runtime.port_retries import retry_for

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GroupCommitLimits:
    """A transaction waits `linger_s` for more outcomes, up to `max_rows` and `max_bytes`.

    `timeout_s` bounds one commit with its retries.
    """

    linger_s: float = 0.2
    max_rows: int = COMMIT_LIMIT
    max_bytes: int = COMMIT_BYTES
    timeout_s: float = 60.0


@dataclass(slots=True)
class _Waiter:
    """A row that waits to be settled, and the futures of its callers.

    Without an outcome the row waits for a completion check only.
    """

    outcome: Outcome | None
    futures: list[asyncio.Future[BatchView | None]] = field(default_factory=list)


class _Group:
    """The waiting rows of one batch and round, by number."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.waiting: dict[int, _Waiter] = {}
        self.is_full = asyncio.Event()

    def add(self, number: int, outcome: Outcome | None, full: int) -> asyncio.Future[BatchView | None]:
        """Add a row; the future ends when it is settled. The group does not linger once it has `full` rows.

        A row that waits already keeps its first outcome, so that it is counted once.
        """
        waiter = self.waiting.setdefault(number, _Waiter(outcome))
        waiter.outcome = waiter.outcome or outcome
        future: asyncio.Future[BatchView | None] = asyncio.get_running_loop().create_future()
        waiter.futures.append(future)
        if len(self.waiting) >= full:
            self.is_full.set()
        return future

    def take(self, limits: GroupCommitLimits) -> list[_Waiter]:
        """Take the rows of the next transaction: as many as the limits allow, but at least one."""
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
        if isinstance(error, Exception):
            # Commit the waiting rows as usual. The error is raised as it is; the task group would wrap it.
            kind = error = trace = None
        await self._tasks.__aexit__(kind, error, trace)

    async def commit(self, batch: Batch, number: int, outcome: Outcome | None) -> BatchView | None:
        """Commit row `number`, check whether its batch is complete, and return the batch as checked.

        Without an outcome, for a row that is known to be committed, only the check is done. Raises
        RetryableError or AccessError: the row may be committed or not, and its message must not be deleted.
        Raises RowRejectedError if the outcome can never be stored.
        """
        if outcome is not None:
            outcome = await self._ports.large_outcomes.offload(batch, outcome)
        key = (batch.identity, batch.round)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(batch)
            # In an empty context: the caller's has the row_id of one row bound to its log lines.
            self._tasks.create_task(self._commit_group(key, group), context=contextvars.Context())
        return await group.add(number, outcome, self._limits.max_rows)

    async def _commit_group(self, key: tuple[str, int], group: _Group) -> None:
        """Commit the rows of a group, one transaction at a time, until no row waits."""
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
        """Commit all of `waiters` in one transaction, check the batch once, and end their futures."""
        try:
            await self._write(batch, [w.outcome for w in waiters if w.outcome is not None])
            view = await self._completion.check(batch.batch_id)
        except RowRejectedError as error:
            await self._commit_halves(batch, waiters, error)
        except (RetryableError, AccessError) as error:
            _fail(waiters, error)
        except Exception as error:
            # A bug: its rows fail and are redelivered, and other groups go on.
            log.exception("settle_crashed", batch_id=batch.batch_id)
            _fail(waiters, RetryableError(f"settling failed: {error!r}"))
        else:
            for future in _open_futures(waiters):
                future.set_result(view)
        finally:
            # Futures are left only if this task was cancelled.
            _fail(waiters, RetryableError("the process is stopping"))

    async def _commit_halves(self, batch: Batch, waiters: Sequence[_Waiter], error: RowRejectedError) -> None:
        """Find the row that can never be stored by halving the transaction, and commit all others."""
        middle = len(waiters) // 2
        if not middle:
            _fail(waiters, error)
            return
        await self._commit(batch, waiters[:middle])
        await self._commit(batch, waiters[middle:])

    async def _write(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Write the outcomes that are not committed yet. Raises RetryableError after `timeout_s`."""
        while outcomes:
            commit = Commit(
                batch_id=batch.batch_id,
                round=batch.round,
                partitions=batch.partitions,
                slot=self._slot,
                outcomes=tuple(outcomes),
                token=self._tokens(),
                ttl=batch.ttl,
                incarnation=batch.incarnation,
            )
            # All repetitions carry one token: a commit whose response was lost is not counted twice.
            duplicates = set(await self._retry(self._ports.table.commit, commit))
            if not duplicates:
                self._count(commit)
                return
            # A transaction is all or nothing: commit the remaining outcomes in a new one.
            self._ports.metrics.count("duplicate_outcomes", len(duplicates))
            log.info("outcomes_already_committed", batch_id=batch.batch_id, rows=len(duplicates))
            outcomes = [outcome for index, outcome in enumerate(outcomes) if index not in duplicates]

    def _count(self, commit: Commit) -> None:
        metrics, counts = self._ports.metrics, commit.counts
        metrics.count("commits")
        metrics.observe("commit_rows", len(commit.outcomes))
        metrics.count("rows_succeeded", counts.succeeded)
        metrics.count("rows_failed", counts.failed)
        if counts.reused:
            metrics.count("rows_reused", counts.reused)


def _open_futures(waiters: Iterable[_Waiter]) -> Iterator[asyncio.Future[BatchView | None]]:
    return (future for waiter in waiters for future in waiter.futures if not future.done())


def _fail(waiters: Iterable[_Waiter], error: RowfleetError) -> None:
    for future in _open_futures(waiters):
        future.set_exception(error)
