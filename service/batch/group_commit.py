"""Group commit: outcomes that are ready together are committed in one transaction (steps 5 and 6).

A transaction holds outcomes of one batch and round, and adds their counts to one counter slot. A row's
outcome and its count are one atomic write, so no crash can separate them. After every commit one consistent
read of batch and counters decides whether the batch is complete. The last commit is followed by a check that
sees every count, so the aggregation is always triggered. `completion` sends the trigger *before* it moves the
batch on, so a crash between the two sends it twice rather than never; the aggregator is idempotent.

A row that is found to be committed already joins the next check without a commit. If a crash has lost the
trigger, the redelivered message of the last row makes up for it in this way.

A write that fails is repeated, under one token, for as long as one of its rows wants to wait (`Patience`). An
outcome that an agent was paid for thus outlives an outage of the table or of the bucket.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog

from service.batch.completion import Completion, Repeat
from service.batch.replies.pack import MAX_PACK_BYTES
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
from service.domain.item_size import has_long_reply, outcome_bytes
from service.domain.model import Batch, BatchView, Commit, Outcome
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT
from service.runtime.backoff import Linger, Lingers
from service.runtime.port_retries import repeated, retrying

T = TypeVar("T")
log = structlog.get_logger(__name__)


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


class _BoundedPatience:
    """Waits for `timeout_s`, and gives up at once if access is denied."""

    def __init__(self, timeout_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._give_up_at = self._now() + timeout_s

    def after_failure(self, error: RetryableError | AccessError) -> RowfleetError | None:
        is_over = isinstance(error, AccessError) or self._now() >= self._give_up_at
        return error if is_over else None


Future = asyncio.Future[BatchView | None]


@dataclass(slots=True)
class _Waiter:
    """A row that waits to be settled, and the futures of its callers, each with its patience.

    Without an outcome the row waits for a completion check only.
    """

    outcome: Outcome | None
    callers: list[tuple[Future, Patience]] = field(default_factory=list)

    @property
    def open_futures(self) -> Iterator[Future]:
        """The futures of the callers that still wait."""
        return (future for future, _ in self.callers if not future.done())

    def record_failure(self, error: RetryableError | AccessError) -> None:
        """Tell the callers of a failed try; those without patience get their error."""
        for future, patience in self.callers:
            if not future.done() and (final := patience.after_failure(error)) is not None:
                future.set_exception(final)


class _Group:
    """The waiting rows of one batch and round, by number, and how long they wait for each other."""

    def __init__(self, batch: Batch, linger: Linger) -> None:
        self.batch = batch
        self.linger = linger
        self.waiting: dict[int, _Waiter] = {}
        self.is_full = asyncio.Event()
        self._reply_chars = 0

    def linger_s(self, limits: GroupCommitLimits) -> float:
        """The time for which the next transaction waits for more outcomes."""
        return max(self.linger.seconds, limits.reply_linger_s if self._reply_chars else 0.0)

    def add(self, number: int, outcome: Outcome | None, patience: Patience, full: int) -> Future:
        """Add a row; the future ends when it is settled. The group does not linger once it has `full` rows.

        A row that waits already keeps its first outcome, so that it is counted once.
        """
        waiter = self.waiting.setdefault(number, _Waiter(outcome))
        waiter.outcome = waiter.outcome or outcome
        future: Future = asyncio.get_running_loop().create_future()
        waiter.callers.append((future, patience))
        self._reply_chars += _chars_to_pack(outcome)
        if len(self.waiting) >= full or self._reply_chars >= MAX_PACK_BYTES:
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
        self._reply_chars = sum(_chars_to_pack(waiter.outcome) for waiter in self.waiting.values())
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
        # No time-out: the patience of the rows ends a series of tries.
        self._retry = retrying(None, first_s=0.02, longest_s=5.0, jitter_s=0.1)
        self._slot = slot
        self._tokens = tokens
        self._packer = ReplyPacker(ports.objects, ports.large_outcomes)
        self._groups: dict[tuple[str, int], _Group] = {}
        self._lingers: Lingers[tuple[str, int]] = Lingers(limits.linger_s)
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

    async def commit(
        self, batch: Batch, number: int, outcome: Outcome | None, patience: Patience | None = None
    ) -> BatchView | None:
        """Commit row `number`, check whether its batch is complete, and return the batch as checked.

        Without an outcome, for a row that is known to be committed, only the check is done. Writes that fail
        are repeated until `patience` ends, by default after `timeout_s` or if access is denied. Raises the
        error that the patience gives, and RetryableError if the process stops: the row may be committed or
        not, and its message must not be deleted. Raises RowRejectedError if the outcome can never be stored.
        """
        patience = patience or _BoundedPatience(self._limits.timeout_s)
        if outcome is not None:
            outcome = await self._offload(batch, outcome, patience)
        key = (batch.identity, batch.round)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(batch, self._lingers.take(key))
            # In an empty context: the caller's has the row_id of one row bound to its log lines.
            self._tasks.create_task(self._commit_group(key, group), context=contextvars.Context())
        return await group.add(number, outcome, patience, self._limits.max_rows)

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

    async def _commit_group(self, key: tuple[str, int], group: _Group) -> None:
        """Commit the rows of a group, a few transactions at a time, until no row waits."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while group.waiting or under_way:
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
            _fail(group.waiting.values(), RetryableError("the process is stopping"))

    async def _commit(self, group: _Group, waiters: Sequence[_Waiter]) -> None:
        """Commit all of `waiters` in one transaction, check the batch once, and end their futures."""
        batch = group.batch
        repeat = partial(self._repeat, group, waiters)
        try:
            await self._packer.pack(batch, waiters, repeat)
            await self._write(batch, [w.outcome for w in waiters if w.outcome is not None], repeat)
            view = await self._completion.check(batch.batch_id, repeat)
        except RowRejectedError as error:
            await self._commit_halves(group, waiters, error)
        except (RetryableError, AccessError) as error:
            _fail(waiters, error)
        except Exception as error:
            # A bug: its rows fail and are redelivered, and other groups go on.
            log.exception("settle_crashed", batch_id=batch.batch_id)
            _fail(waiters, RetryableError(f"settling failed: {error!r}"))
        else:
            group.linger.shorten()
            for future in _open_futures(waiters):
                future.set_result(view)
        finally:
            # Futures are left only if this task was cancelled.
            _fail(waiters, RetryableError("the process is stopping"))

    async def _commit_halves(
        self, group: _Group, waiters: Sequence[_Waiter], error: RowRejectedError
    ) -> None:
        """Find the row that can never be stored by halving the transaction, and commit all others."""
        middle = len(waiters) // 2
        if not middle:
            _fail(waiters, error)
            return
        await self._commit(group, waiters[:middle])
        await self._commit(group, waiters[middle:])

    async def _write(self, batch: Batch, outcomes: list[Outcome], repeat: Repeat) -> None:
        """Write the outcomes that are not committed yet. Raises the last error if no row waits any more."""
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
            duplicates = set(await repeat(partial(self._ports.table.commit, commit)))
            if not duplicates:
                self._count(commit)
                return
            # A transaction is all or nothing: commit the remaining outcomes in a new one.
            self._ports.metrics.count("duplicate_outcomes", len(duplicates))
            log.info("outcomes_already_committed", batch_id=batch.batch_id, rows=len(duplicates))
            outcomes = [outcome for index, outcome in enumerate(outcomes) if index not in duplicates]

    async def _repeat(self, group: _Group, waiters: Sequence[_Waiter], call: Callable[[], Awaitable[T]]) -> T:
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
            return next(_open_futures(waiters), None) is not None

        return await repeated(self._retry, should_repeat, call)

    def _count(self, commit: Commit) -> None:
        metrics, counts = self._ports.metrics, commit.counts
        metrics.count("commits")
        metrics.observe("commit_rows", len(commit.outcomes))
        metrics.count("rows_succeeded", counts.succeeded)
        metrics.count("rows_failed", counts.failed)
        if counts.reused:
            metrics.count("rows_reused", counts.reused)


def _chars_to_pack(outcome: Outcome | None) -> int:
    return len(outcome.reply) if outcome is not None and has_long_reply(outcome) else 0


def _open_futures(waiters: Iterable[_Waiter]) -> Iterator[Future]:
    return (future for waiter in waiters for future in waiter.open_futures)


def _fail(waiters: Iterable[_Waiter], error: RowfleetError) -> None:
    for future in _open_futures(waiters):
        future.set_exception(error)
