"""Ablations of outcomes, their counters, and the completion of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from service.adapters.aws.table.row_items import row_items
from service.adapters.aws.table.values import Item
from service.aggregator.aggregator import Aggregator
from service.batch.commits.commit_group import CommitGroup, Patience, WaitingRow
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion, Repeat, once
from service.domain.errors import RowfleetError
from service.domain.messages import AggregateMessage
from service.domain.model import (
    NOTHING_SPENT,
    Batch,
    BatchView,
    Commit,
    Outcome,
    Spending,
    State,
    iso_time,
)
from service.domain.ports import LeaseGrant, OutgoingMessage
from service.runtime.delivery import Delivery
from service.runtime.sender import send_all
from service.worker.admission.commit_backlog import CommitBacklog
from service.worker.worker import Worker
from tests.simulation.network import FaultyTable
from tests.simulation.observed_ports import ObservedTable
from tests.simulation.process import Components


class _UnconditionalTable(ObservedTable):
    def _is_committed(self, commit: Commit, index: int, row: Item) -> bool:
        return False


class NoRowCondition(Components):
    """A row is written even if it has an outcome."""

    observed_table = _UnconditionalTable


class _UnfencedTable(ObservedTable):
    def _is_committed(self, commit: Commit, index: int, row: Item) -> bool:
        stored = self._rows[row["batch_id"]["S"]].get(commit.outcomes[index].number)
        is_of_round = stored is not None and int(stored["round"]["N"]) == commit.round
        return is_of_round and super()._is_committed(commit, index, row)


class NoRoundFence(Components):
    """A row is written unless it has an outcome of the same round, so also over one of a later round."""

    observed_table = _UnfencedTable


class _ForgetfulCommitter(GroupCommitter):
    async def commit(
        self,
        batch: Batch,
        number: int,
        outcome: Outcome | None,
        patience: Patience | None = None,
        spent: Spending = NOTHING_SPENT,
    ) -> BatchView | None:
        """Commit the outcome, and count its calls afterwards."""
        view = await super().commit(batch, number, outcome, patience)
        self.count_spending(batch, spent)
        return view


class SpendingApart(Components):
    """The calls of a row are counted after its outcome, in another transaction."""

    committer = _ForgetfulCommitter


class _UncountedTable(ObservedTable):
    async def commit(self, commit: Commit) -> Sequence[int]:
        """Write the rows, but do not count them."""
        rows = row_items(commit)
        await asyncio.sleep(0)
        if taken := [index for index, row in enumerate(rows) if self._is_committed(commit, index, row)]:
            return taken
        for outcome, row in zip(commit.outcomes, rows, strict=True):
            self._put(row["batch_id"]["S"], outcome.number, row)
        return ()


class _NamelessTable(FaultyTable):
    async def open(self, batch: Batch, definition: str, **named: Any) -> Batch:
        """Open the batch without an incarnation."""
        network, observed = self._network, self._observed
        nameless = replace(batch, incarnation="")
        opened: Batch = await network.call(
            "write", "table.open", (nameless,), lambda: observed.open(nameless, definition, **named)
        )
        return opened


class NoIncarnation(Components):
    """A batch is not told from an expired one with the same id."""

    table = _NamelessTable


class _TwoCallTable(FaultyTable):
    async def commit(self, commit: Commit) -> Sequence[int]:
        """Write the rows, then count them, in two calls."""
        network, observed = self._network, self._observed
        taken = await network.call("commit", "table.put", (commit,), lambda: observed.commit(commit))
        if not taken:

            async def count() -> None:
                await asyncio.sleep(0)
                observed._count(commit)

            await network.call("commit", "table.count", (commit,), count)
        return taken


class NoCounterInTransaction(Components):
    """Rows are written in one call and counted in a second one."""

    observed_table = _UncountedTable
    table = _TwoCallTable


class _NewTokenTable(FaultyTable):
    def __getattr__(self, method: str) -> Callable[..., object]:
        call = super().__getattr__(method)
        if method != "commit":
            return call

        async def commit(commit: Commit) -> object:
            # As long as a token may be: 36 characters.
            self._uses = self.__dict__.get("_uses", 0) + 1
            return await call(replace(commit, token=f"{commit.token[:24]}{self._uses:012d}"))

        self.__dict__[method] = commit
        return commit


class NoCommitToken(Components):
    """A commit is repeated under another token."""

    table = _NewTokenTable


class _UncheckedCommitter(GroupCommitter):
    async def commit(
        self,
        batch: Batch,
        number: int,
        outcome: Outcome | None,
        patience: Patience | None = None,
        spent: Spending = NOTHING_SPENT,
    ) -> BatchView | None:
        """Do nothing for a row that is known to be committed."""
        return None if outcome is None else await super().commit(batch, number, outcome, patience, spent)


class NoCheckAfterDuplicate(Components):
    """The message of a row that was committed already is deleted without a completion check."""

    committer = _UncheckedCommitter


class _ImpatientCommitter(GroupCommitter):
    async def commit(
        self,
        batch: Batch,
        number: int,
        outcome: Outcome | None,
        patience: Patience | None = None,
        spent: Spending = NOTHING_SPENT,
    ) -> BatchView | None:
        """Give up after the time-out, or at once if access is denied."""
        return await super().commit(batch, number, outcome, spent=spent)


class NoKeptOutcomes(Components):
    """An outcome whose commit fails for a minute is dropped, and its row given back."""

    committer = _ImpatientCommitter


class _NoPacker:
    async def pack(self, batch: Batch, rows: Iterable[Any], repeat: Repeat) -> None:
        """Leave the replies where they are."""


class _LateCommitter(GroupCommitter):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._late_packer, self._packer = self._packer, _NoPacker()  # type: ignore[assignment]

    async def _write(self, group: CommitGroup, waiters: Sequence[WaitingRow], repeat: Repeat) -> None:
        """Write the outcomes, and put the packs then."""
        puts: list[Callable[[], Awaitable[object]]] = []

        async def later(call: Callable[[], Awaitable[Any]]) -> Any:
            puts.append(call)

        await self._late_packer.pack(group.batch, waiters, later)
        await super()._write(group, waiters, repeat)
        for put in puts:
            await repeat(put)


class LatePacks(Components):
    """The replies of a commit are put into their pack after its transaction."""

    committer = _LateCommitter


class _OpenBacklog(CommitBacklog):
    is_late = False  # type: ignore[assignment]


class _CarelessWorker(Worker):
    async def handle(self, delivery: Delivery) -> None:
        """Process a row, also while outcomes wait for their commit."""
        for gate in self._batches._targets._gates._gates:
            gate.backlog.__class__ = _OpenBacklog
        await super().handle(delivery)


class NoClosedGate(Components):
    """Calls begin while outcomes of earlier ones wait for their commit."""

    worker = _CarelessWorker


class _StateFirst(Completion):
    async def check(self, batch_id: str, repeat: Repeat = once) -> BatchView | None:
        """Change the state, then send the trigger. That of a sample changes no state."""
        read = self._ports.table.read
        view = await read(batch_id)
        if view and self._judge and not view.is_complete and await self._judge.judge(view):
            view = await read(batch_id)
        if view and self._judge and view.is_complete and await self._judge.release(view):
            view = await read(batch_id)
        if view is not None and view.has_its_sample:
            await self._send(view.batch)
        if view is not None and view.batch.state is State.RUNNING and view.has_all_rows:
            await self._move_and_send(replace(view.batch, settled=view.spending), State.RUNNING)
        return view

    async def _move_and_send(self, batch: Batch, state: State) -> None:
        now = iso_time(self._ports.clock.now_ms())
        if await self._ports.table.move(batch, expected=state, to=State.AGGREGATING, now=now):
            await self._send(batch)

    async def _send(self, batch: Batch) -> None:
        trigger = OutgoingMessage(AggregateMessage.of(batch).encode())
        await send_all(self._ports.queues.aggregate, [trigger])


class StateBeforeSend(Components):
    """A batch becomes AGGREGATING first, and its trigger is sent afterwards."""

    completion = _StateFirst


class _CompleteUnsealed(_StateFirst):
    async def check(self, batch_id: str, repeat: Repeat = once) -> BatchView | None:
        """Aggregate also a batch that is still split, once the rows sent so far have outcomes."""
        view = await self._ports.table.read(batch_id)
        if view is not None and view.batch.state is State.SPLITTING:
            if view.batch.checkpoint.rows and view.counts.done >= view.batch.checkpoint.rows:
                await self._move_and_send(view.batch, State.SPLITTING)
            return view
        return await Completion.check(self, batch_id, repeat)


class NoSeal(Components):
    """A batch counts as complete when the rows that were sent so far have outcomes."""

    completion = _CompleteUnsealed


class _EverybodysLeaseTable(FaultyTable):
    async def lease(self, batch: Batch, *, state: State, **named: Any) -> LeaseGrant:
        """Grant the lease of an aggregation, without writing it."""
        if state is State.AGGREGATING:
            return LeaseGrant(is_ours=True)
        observed = self._observed
        return await self._network.call(
            "write", "table.lease", (batch,), lambda: observed.lease(batch, state=state, **named)
        )


class _ImpatientAggregator(Aggregator):
    async def _wait(self, batch: Batch, error: RowfleetError) -> None:
        """Fail the batch."""
        await self._fail(batch, str(error))


class NoWaitingResults(Components):
    """A batch whose results cannot be written now is FAILED."""

    aggregator = _ImpatientAggregator


class _EverybodysSplitTable(ObservedTable):
    async def lease(self, batch: Batch, *, state: State, now_ms: int, **named: Any) -> LeaseGrant:
        """Grant the lease of a split to whoever asks for it."""
        if state is State.SPLITTING and now_ms:
            now_ms = 2**62
        return await super().lease(batch, state=state, now_ms=now_ms, **named)

    async def checkpoint(self, batch: Batch, *, owner: str) -> bool:
        """Store the progress of any splitter."""
        return await super().checkpoint(batch, owner=self._holder(batch, owner))

    async def seal(self, batch: Batch, total: int, now: str, *, owner: str) -> bool:
        """Let any splitter seal the batch."""
        return await super().seal(batch, total, now, owner=self._holder(batch, owner))

    def _holder(self, batch: Batch, owner: str) -> str:
        stored = self._batches.get(batch.batch_id)
        return owner if stored is None else stored.lease_owner


class NoSplitLease(Components):
    """Every splitter that asks for the lease of a split gets it, and may write a later checkpoint."""

    observed_table = _EverybodysSplitTable


class NoLease(Components):
    """Every aggregator that asks for the lease of a batch gets it."""

    table = _EverybodysLeaseTable
