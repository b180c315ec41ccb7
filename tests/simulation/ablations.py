"""Ablations: each switches one safeguard off, and some world then has to break an invariant.

An ablation is a subclass of `Components` that replaces a class by one without the safeguard; its docstring
says what happens instead. All this is in the simulation only: production code has no switch for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from service.adapters.aws.table.row_items import row_items
from service.adapters.aws.table.values import Item
from service.aggregator.aggregator import Aggregator
from service.batch.completion import Completion, Repeat, once
from service.batch.group_commit import GroupCommitter, Patience
from service.batch.role_ports import Ports
from service.domain.errors import FailureScope, RowfleetError, UnknownResultError
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import (
    Batch,
    BatchView,
    Commit,
    DeliveryEnd,
    DeliveryState,
    Event,
    OnExceeded,
    OutboxRecord,
    Outcome,
    State,
    iso_time,
)
from service.domain.ports import LeaseGrant, OutgoingMessage, ReceivedMessage, SharedRecord
from service.events.sender import EventSender
from service.runtime.delivery import Delivery, Handler
from service.runtime.sender import send_all
from service.steering.failures import FailureJudge
from service.worker.admission.commit_backlog import CommitBacklog
from service.worker.row_task import RowTask
from service.worker.trial_calls import TrialCalls
from service.worker.worker import Worker
from tests.simulation.network import FaultyQueue, FaultyTable
from tests.simulation.observed_ports import ObservedTable
from tests.simulation.process import Components, Process
from tests.simulation.result_ablations import NoExactCheckpoint, NoRewriting, NoSameManifest

# -- outcomes and counters


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
    async def open(self, batch: Batch, definition: str, *, replacing: Batch | None = None) -> Batch:
        """Open the batch without an incarnation."""
        network, observed = self._network, self._observed
        nameless = replace(batch, incarnation="")
        opened: Batch = await network.call(
            "write",
            "table.open",
            (nameless,),
            lambda: observed.open(nameless, definition, replacing=replacing),
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
        self, batch: Batch, number: int, outcome: Outcome | None, patience: Patience | None = None
    ) -> BatchView | None:
        """Do nothing for a row that is known to be committed."""
        return None if outcome is None else await super().commit(batch, number, outcome, patience)


class NoCheckAfterDuplicate(Components):
    """The message of a row that was committed already is deleted without a completion check."""

    committer = _UncheckedCommitter


class _ImpatientCommitter(GroupCommitter):
    async def commit(
        self, batch: Batch, number: int, outcome: Outcome | None, patience: Patience | None = None
    ) -> BatchView | None:
        """Give up after the time-out, or at once if access is denied."""
        return await super().commit(batch, number, outcome)


class NoKeptOutcomes(Components):
    """An outcome whose commit fails for a minute is dropped, and its row given back."""

    committer = _ImpatientCommitter


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


# -- completion


class _StateFirst(Completion):
    async def check(self, batch_id: str, repeat: Repeat = once) -> BatchView | None:
        """Change the state, then send the trigger."""
        view = await self._ports.table.read(batch_id)
        if view is not None and view.batch.state is State.RUNNING and view.is_complete:
            await self._move_and_send(view.batch, State.RUNNING)
        return view

    async def _move_and_send(self, batch: Batch, state: State) -> None:
        now = iso_time(self._ports.clock.now_ms())
        has_moved = await self._ports.table.move(batch, expected=state, to=State.AGGREGATING, now=now)
        if has_moved:
            await send_all(
                self._ports.queues.aggregate,
                [OutgoingMessage(AggregateMessage.of(batch).encode())],
            )


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

    def _split_by(self, batch: Batch, owner: str) -> Batch | None:
        stored = self._batches.get(batch.batch_id)
        is_behind = stored is None or stored.checkpoint.rows > batch.checkpoint.rows
        return None if is_behind or stored.state is not State.SPLITTING else stored


class NoSplitLease(Components):
    """Every splitter that asks for the lease of a split gets it, and may write a later checkpoint."""

    observed_table = _EverybodysSplitTable


class NoLease(Components):
    """Every aggregator that asks for the lease of a batch gets it."""

    table = _EverybodysLeaseTable


# -- messages


class _NoRenewalQueue(FaultyQueue):
    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Release messages, but do not renew leases."""
        # 15 s is the shortest lease of any world, so that shorter times can only be those of releases.
        if visibility_s >= 15.0:
            return ()
        return await super().extend(receipts, visibility_s)


class NoHeartbeat(Components):
    """Leases are never renewed."""

    queue = _NoRenewalQueue


class _UnmarkedResends(FaultyQueue):
    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Remove the replay mark, unless a worker sends."""
        if not self._network.who.startswith("worker"):
            messages = _unmarked(messages)
        return await super().send(messages)


class NoReplayMarks(Components):
    """Rows that a splitter or sweeper may have sent before carry no replay mark."""

    queue = _UnmarkedResends


class _UnmarkedRequeues(FaultyQueue):
    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Remove the replay mark if a worker sends."""
        if self.name == "rows" and self._network.who.startswith("worker"):
            messages = _unmarked(messages)
        return await super().send(messages)


class NoMarksOnReturns(Components):
    """Rows that a worker requeues carry no replay mark."""

    queue = _UnmarkedRequeues


def _unmarked(messages: Sequence[OutgoingMessage]) -> Sequence[OutgoingMessage]:
    return [replace(message, body=message.body.replace(',"replay":true', "")) for message in messages]


class _RepeatingQueue(FaultyQueue):
    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send, and repeat a call without an answer at once, as a client of AWS does by itself."""
        try:
            return await super().send(messages)
        except UnknownResultError:
            return await super().send(messages)


class NoMarksOnRepeatedCalls(Components):
    """Rows of a call that is repeated because its answer was lost carry no replay mark."""

    queue = _RepeatingQueue


class _SilentRecoveryTable(ObservedTable):
    async def lease(self, batch: Batch, *, state: State, **named: Any) -> LeaseGrant:
        """Lease; a sweeper does not become the batch's sender."""
        before = self._batches.get(batch.batch_id)
        grant = await super().lease(batch, state=state, **named)
        if state is State.RUNNING and grant.is_ours and before is not None:
            self._batches[batch.batch_id] = replace(self._batches[batch.batch_id], sender=before.sender)
        return grant


class NoSenderOfRecoveries(Components):
    """A sweeper sends rows again, and workers take their first messages for the only ones."""

    observed_table = _SilentRecoveryTable


class _EverybodysRecoveryTable(FaultyTable):
    async def lease(self, batch: Batch, *, state: State, **named: Any) -> LeaseGrant:
        """Grant the lease of a recovery, without writing it."""
        if state is State.RUNNING:
            return LeaseGrant(is_ours=True)
        observed = self._observed
        return await self._network.call(
            "write", "table.lease", (batch,), lambda: observed.lease(batch, state=state, **named)
        )


class NoRecoveryLease(Components):
    """Every sweeper that asks for the lease of a RUNNING batch gets it."""

    table = _EverybodysRecoveryTable


class _ForgedSenderQueue(FaultyQueue):
    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Receive; each row message names the batch's sender of now."""
        messages = await super().receive(limit, wait_s=wait_s, visibility_s=visibility_s)
        return [self._forged(message) for message in messages] if self.name == "rows" else messages

    def _forged(self, message: ReceivedMessage) -> ReceivedMessage:
        row = RowMessage.decode(message.body)
        batch = self._network.monitor.table.batch(row.batch_id)
        if batch is None or not row.sender:
            return message
        return replace(message, body=replace(row, sender=batch.sender).encode())


class NoSenders(Components):
    """Rows of a splitter that was replaced are taken for those of its successor."""

    queue = _ForgedSenderQueue


class DeleteFirst(Components):
    """A row's message is deleted when it is received, before its handler runs."""

    def handler(self, process: Process, handle: Handler) -> Handler:
        """Delete, then handle."""

        async def deleting(delivery: Delivery) -> None:
            await process.queue("rows").delete([delivery.message.receipt])
            await handle(delivery)

        return deleting


class NoSweeper(Components):
    """Dead letters are handled, but there is no sweeper."""

    sweeps = False


class NoDrain(Components):
    """There is a sweeper, but dead letters are not handled."""

    drains = False


# -- calls of agents


class _AllCountedWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._is_uncounted = lambda *_: False


class NoExcuses(Components):
    """An outage or a throttle counts as an attempt, as every other failure does."""

    worker = _AllCountedWorker


class _UnsuspectingWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        real = self._attempts._is_uncounted
        self._attempts._is_uncounted = lambda task, call, error: (
            error.scope is not FailureScope.UNCLEAR and real(task, call, error)
        )


class NoSuspicion(Components):
    """A server error counts as an attempt, however many rows meet one while none is served."""

    worker = _UnsuspectingWorker


class _TimelessWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._left_s = lambda _: math.inf


class NoDeadlines(Components):
    """A worker calls the agent for a row even after its deadline."""

    worker = _TimelessWorker


class _EverybodysLockTable(FaultyTable):
    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Confirm an in-flight lock, but do not write it."""
        if '"state":"claimed"' in text:
            return SharedRecord(text, version)
        network, observed = self._network, self._observed
        return await network.call(
            "write", "table.swap", (key, text), lambda: observed.swap(key, text, version=version, ttl=ttl)
        )


class NoInFlightLock(Components):
    """With `reuse`, every row that asks for the in-flight lock of its request key gets it."""

    table = _EverybodysLockTable


class _OwnLedgerTable(FaultyTable):
    def __getattr__(self, method: str) -> Callable[..., object]:
        call = super().__getattr__(method)
        if method not in {"record", "swap"}:
            return call

        async def own(key: str, *arguments: object, **named: object) -> object:
            own_key = f"{key}/{self._network.who}" if key.startswith("limit/") else key
            return await call(own_key, *arguments, **named)

        self.__dict__[method] = own
        return own


class NoSharedLedger(Components):
    """Each worker has a ledger of its own, and so takes the whole rate limit for itself."""

    table = _OwnLedgerTable


class _LateEventsTable(FaultyTable):
    def __getattr__(self, method: str) -> Callable[..., object]:
        call = super().__getattr__(method)
        if method not in {"open", "move"}:
            return call

        async def change(*arguments: Any, events: Sequence[Event] = (), **named: Any) -> object:
            answer = await call(*arguments, **named)
            if answer is True or (method == "open" and answer == arguments[0]):
                for event in events:
                    await self.add(event.record())
            return answer

        return change


class NoOutbox(Components):
    """An event is stored by a second call, after the change that it tells of."""

    table = _LateEventsTable


class _HastySender(EventSender):
    async def _try(self, record: OutboxRecord, state: DeliveryState) -> None:
        await self._end(record, state, DeliveryEnd.DELIVERED)
        await self._target.deliver(Event.from_record(record))


class DeliveredFirst(Components):
    """An event counts as delivered before it is sent."""

    sender = _HastySender


# -- operations


class _HastyJudge(FailureJudge):
    def _is_judged(self, view: BatchView) -> bool:
        tolerate = view.batch.tolerate
        return bool(tolerate.first or tolerate.limits) and tolerate.on_exceeded is not OnExceeded.FINISH


class _JudgesFirst(Completion):
    async def check(self, batch_id: str, repeat: Repeat = once) -> BatchView | None:
        view = await repeat(partial(self._ports.table.read, batch_id))
        if view is not None and self._judge is not None:
            await self._judge.judge(view)
        return await super().check(batch_id, repeat)


class NoCompleteFirst(Components):
    """A batch whose rows are all done is held for its failures."""

    completion = _JudgesFirst
    judge = _HastyJudge


class _EagerTrials(TrialCalls):
    async def begin(self, task: RowTask, longest_s: float) -> None:
        """Begin the call, whatever the state of the trials is."""


class _EagerWorker(Worker):
    def __init__(self, ports: Ports, *arguments: Any, **named: Any) -> None:
        super().__init__(ports, *arguments, **named)
        self._trials.__class__ = _EagerTrials


class NoTrialState(Components):
    """A worker calls the row of each trial that it receives, whether another one is under way or not."""

    worker = _EagerWorker


class _ForgetfulTable(ObservedTable):
    async def operate(self, before: Batch, after: Batch, *arguments: Any, **named: Any) -> bool:
        """Forget which rows keep their outcome when a round opens."""
        return await super().operate(before, replace(after, kept=None), *arguments, **named)


class NoSelection(Components):
    """A later round is over all rows, also those that keep their outcome."""

    observed_table = _ForgetfulTable


ABLATIONS: Mapping[str, type[Components]] = {
    kind.__name__: kind
    for kind in (
        NoRowCondition, NoRoundFence, NoCounterInTransaction, NoCheckAfterDuplicate, StateBeforeSend, NoSeal,
        NoHeartbeat, NoReplayMarks, NoSweeper, NoDrain, NoLease, NoSplitLease, NoSenders,
        NoMarksOnRepeatedCalls, NoSenderOfRecoveries, NoRecoveryLease,
        NoCommitToken, DeleteFirst, NoMarksOnReturns, NoWaitingResults, NoKeptOutcomes, NoClosedGate,
        NoExcuses, NoSuspicion, NoDeadlines, NoInFlightLock, NoSharedLedger, NoIncarnation,
        NoSameManifest, NoRewriting, NoExactCheckpoint,
        NoOutbox, DeliveredFirst, NoCompleteFirst, NoTrialState, NoSelection,
    )
}  # fmt: skip
"""All ablations by name."""
