"""Ablations of operations on a batch, and of the fences that keep away what they have replaced."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from service.batch.commits.commit_group import Patience
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion, Repeat, once
from service.batch.lease import BatchLease
from service.batch.role_ports import Ports
from service.domain.messages import RowMessage
from service.domain.model import (
    NOTHING_SPENT,
    Batch,
    BatchView,
    OnExceeded,
    Operation,
    Outcome,
    Spending,
    State,
)
from service.domain.ports import ReceivedMessage
from service.mapping import Definition
from service.runtime.delivery import Delivery
from service.splitter.splitter import Splitter
from service.steering.failures import FailureJudge
from service.sweeper.interventions import Interventions, LongWork
from service.sweeper.observations import Observation
from service.sweeper.sweeper import Sweeper
from service.worker.batch_cache import BatchCache
from service.worker.row_task import RowTask
from service.worker.steering import CallWatch
from service.worker.trial_calls import TrialCalls
from service.worker.worker import Worker
from tests.simulation.network import FaultyQueue
from tests.simulation.observed_ports import ObservedTable
from tests.simulation.process import Components

# -- the transaction of an operation


class _UncontrolledTable(ObservedTable):
    async def operate(
        self, before: Batch, after: Batch, operation: Operation, *arguments: Any, **named: Any
    ) -> bool:
        """Operate on the batch, whatever operations have been made since it was read."""
        stored = self._batches.get(before.batch_id, before)
        basis = replace(before, control=stored.control)
        return await super().operate(basis, after, operation, *arguments, **named)


class NoControl(Components):
    """An operation changes a batch that another one has changed since it was read."""

    observed_table = _UncontrolledTable


class _ForgetfulLogTable(ObservedTable):
    async def operate(
        self, before: Batch, after: Batch, operation: Operation, *arguments: Any, **named: Any
    ) -> bool:
        """Operate, also for a request that has been carried out."""
        self._operations[before.batch_id, before.incarnation].pop(operation.request_id, None)
        return await super().operate(before, after, operation, *arguments, **named)

    async def operation(self, batch: Batch, request_id: str) -> None:
        """Find no answer to any request."""


class NoRequestIds(Components):
    """A request that comes twice is carried out twice."""

    observed_table = _ForgetfulLogTable


# -- samples


class _HastySplitter(Splitter):
    async def _split_leased(self, batch: Batch, *arguments: Any) -> None:
        """Split the batch to its end, whatever sample it asks approval for."""
        await super()._split_leased(replace(batch, gate=None), *arguments)


class NoGate(Components):
    """A splitter sends the rows behind a sample."""

    splitter = _HastySplitter


# -- what an operation has taken out of use


class _ForgedGenerationQueue(FaultyQueue):
    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Receive; each row message is of the generation that its batch has now."""
        messages = await super().receive(limit, wait_s=wait_s, visibility_s=visibility_s)
        return [self._forged(message) for message in messages] if self.name == "rows" else messages

    def _forged(self, message: ReceivedMessage) -> ReceivedMessage:
        row = RowMessage.decode(message.body)
        batch = self._network.monitor.table.batch(row.batch_id)
        if batch is None or batch.incarnation != row.incarnation:
            return message
        return replace(message, body=replace(row, generation=batch.generation).encode())


class NoGeneration(Components):
    """Row messages that an operation has replaced are served beside the new ones."""

    queue = _ForgedGenerationQueue


class _TrustingCache(BatchCache):
    async def current(self, batch_id: str) -> Batch | None:
        """The batch as it was last read, however long ago."""
        cached = self._batches.get(batch_id)
        return await super().current(batch_id) if cached is None else cached.batch


class NoFreshViews(Components):
    """A worker begins calls by what it knows of a batch, however old that is."""

    batches = _TrustingCache


class _IdleWatch(CallWatch):
    async def _watch(self, *_: object) -> None:
        """Cut no call."""


class _UncutWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._watch.__class__ = _IdleWatch


class NoCuts(Components):
    """Calls under way go on to their end after `pause --now`, and after the grace of a cancel."""

    worker = _UncutWorker


class _DroppingCommitter(GroupCommitter):
    async def commit(
        self,
        batch: Batch,
        number: int,
        outcome: Outcome | None,
        patience: Patience | None = None,
        spent: Spending = NOTHING_SPENT,
    ) -> BatchView | None:
        """Drop an outcome if its batch is paused."""
        view = await self._ports.table.read(batch.batch_id)
        if outcome is not None and view is not None and view.batch.state is State.PAUSED:
            return view
        return await super().commit(batch, number, outcome, patience, spent)


class NoCommitWhenHeld(Components):
    """The answers to calls that were under way when their batch was paused are thrown away."""

    committer = _DroppingCommitter


# -- cancelled while it is split


class _UncancelledTable:
    """A table whose batches never look cancelled."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        call: Callable[..., Awaitable[Any]] = getattr(self._table, method)
        return call

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch, as if it had not been cancelled."""
        view: BatchView | None = await self._table.read(batch_id)
        return None if view is None else replace(view, batch=replace(view.batch, cancelled_at=""))


class _OnwardSplitter(Splitter):
    async def _split_leased(
        self,
        batch: Batch,
        definition: Definition | None,
        lease: BatchLease,
        delivery: Delivery,
        repeat_delay_s: int,
    ) -> None:
        """Split the batch to its end, also if it is cancelled."""
        twin = copy.copy(self)
        table: Any = _UncancelledTable(self._ports.table)
        twin._ports = replace(self._ports, table=table)
        await Splitter._split_leased(twin, batch, definition, lease, delivery, repeat_delay_s)


class NoSealWhenCancelled(Components):
    """A batch that is cancelled while it is split is read to its end."""

    splitter = _OnwardSplitter


# -- the end of holds, and the work that an operation leaves


class _PatientSweeper(Sweeper):
    async def _end_hold_if_due(self, batch: Batch) -> None:
        """Leave a batch held."""


class NoEndOfHolds(Components):
    """A hold that nobody lifts lasts for ever."""

    sweeper = _PatientSweeper


class _BlindInterventions(Interventions):
    def due_work(self, view: BatchView) -> LongWork | None:
        """No work for a batch that has some of an operation."""
        return None if view.batch.work is not None else super().due_work(view)

    def stuck_work(self, view: BatchView, observed: Observation, still_s: float) -> LongWork | None:
        """No work for a batch that has some of an operation."""
        return None if view.batch.work is not None else super().stuck_work(view, observed, still_s)


class NoWorkOfOthers(Components):
    """A sweeper leaves the work of an operation to the message that asks for it, which may be lost."""

    interventions = _BlindInterventions


# -- tolerated failures


class _LenientJudge(FailureJudge):
    async def judge(self, view: BatchView) -> bool:
        """Tolerate any failures."""
        return False


class NoJudgement(Components):
    """A batch goes on, however many of its rows fail."""

    judge = _LenientJudge


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
