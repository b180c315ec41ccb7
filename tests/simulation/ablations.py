"""Every safeguard switched off, in the simulation only: what remains has to break an invariant.

Each ablation says in its docstring what is missing. Production code has no switch for any of this.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.adapters.aws.row_items import row_items
from service.adapters.aws.values import Item
from service.batch.completion import Completion
from service.batch.group_commit import GroupCommitter
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, BatchView, Commit, Counts, Outcome, State, iso_time
from service.domain.ports import LeaseGrant, OutgoingMessage, SharedRecord
from service.runtime.delivery import Delivery, Handler
from service.runtime.sender import send_all
from service.worker.worker import Worker
from tests.simulation.network import FaultyQueue, FaultyTable
from tests.simulation.observed_ports import ObservedTable
from tests.simulation.process import Components, Process


class _AnyRow(ObservedTable):
    def _is_taken(self, commit: Commit, index: int, row: Item) -> bool:
        return False


class _AnyRound(ObservedTable):
    def _is_taken(self, commit: Commit, index: int, row: Item) -> bool:
        stored = self._rows[row["batch_id"]["S"]].get(commit.outcomes[index].number)
        return stored is not None and int(stored["round"]["N"]) == commit.round


class _CountLater(ObservedTable):
    async def commit(self, commit: Commit) -> Sequence[int]:
        rows = row_items(commit)
        await asyncio.sleep(0)
        if taken := [index for index, row in enumerate(rows) if self._is_taken(commit, index, row)]:
            return taken
        for outcome, row in zip(commit.outcomes, rows, strict=True):
            self._put(row["batch_id"]["S"], outcome.number, row)
        return ()


class _CountAfterwards(FaultyTable):
    async def commit(self, commit: Commit) -> Sequence[int]:
        """Put the rows, then count them, as two calls."""
        network, observed = self._network, self._observed
        taken = await network.call("commit", "table.put", (commit,), lambda: observed.commit(commit))
        if not taken:

            async def count() -> None:
                await asyncio.sleep(0)
                slots = observed._counts[commit.batch_id, commit.round]
                slots[commit.slot] = slots.get(commit.slot, Counts()) + commit.counts

            await network.call("commit", "table.count", (commit,), count)
        return taken


class _NewTokens(FaultyTable):
    def __getattr__(self, method: str) -> Callable[..., object]:
        call = super().__getattr__(method)
        if method != "commit":
            return call

        async def commit(commit: Commit) -> object:
            self._uses = self.__dict__.get("_uses", 0) + 1
            return await call(replace(commit, token=f"{commit.token[:24]}{self._uses:012d}"))

        return commit


class _EverybodysLease(FaultyTable):
    async def lease(self, batch_id: str, **_: object) -> LeaseGrant:
        """Yes."""
        return LeaseGrant(is_ours=True)


class _NoCheckOfDuplicates(GroupCommitter):
    async def commit(self, batch: Batch, number: int, outcome: Outcome | None) -> BatchView | None:
        """Take a row that is known to be committed for settled."""
        return None if outcome is None else await super().commit(batch, number, outcome)


class _ClaimFirst(Completion):
    async def check(self, batch_id: str) -> BatchView | None:
        """Claim, then send."""
        view = await self._ports.table.read(batch_id)
        if view is not None and view.batch.state is State.RUNNING and view.is_complete:
            await self._claim_and_send(view.batch, State.RUNNING)
        return view

    async def _claim_and_send(self, batch: Batch, state: State) -> None:
        now = iso_time(self._ports.clock.now_ms())
        claimed = await self._ports.table.move(
            batch.batch_id, expected=state, round=batch.round, to=State.AGGREGATING, now=now
        )
        if claimed:
            await send_all(
                self._ports.queues.aggregate,
                [OutgoingMessage(AggregateMessage(batch.batch_id, batch.round).encode())],
            )


class _NoSeal(_ClaimFirst):
    async def check(self, batch_id: str) -> BatchView | None:
        """Complete is what is done of what was sent so far."""
        view = await self._ports.table.read(batch_id)
        if view is not None and view.batch.state is State.SPLITTING:
            if view.batch.checkpoint.rows and view.counts.done >= view.batch.checkpoint.rows:
                await self._claim_and_send(view.batch, State.SPLITTING)
            return view
        return await Completion.check(self, batch_id)


class _NoHeartbeat(FaultyQueue):
    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Give back only."""
        if visibility_s >= 15.0:
            return ()
        return await super().extend(receipts, visibility_s)


class _NoMarks(FaultyQueue):
    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Take the replay mark off, where it is no worker's."""
        if not self._network.who.startswith("worker"):
            messages = [replace(m, body=m.body.replace(',"replay":true', "")) for m in messages]
        return await super().send(messages)


class _NoMarksOnReturns(FaultyQueue):
    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Take the replay mark off, where it is a worker's."""
        if self.name == "rows" and self._network.who.startswith("worker"):
            messages = [replace(m, body=m.body.replace(',"replay":true', "")) for m in messages]
        return await super().send(messages)


class _NoExcuses(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._is_uncounted = lambda *_: False


class _NoDeadlines(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._left_s = lambda _: math.inf


class _EverybodysClaim(FaultyTable):
    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Say yes to a claim, and forget it."""
        if '"state":"claimed"' in text:
            return SharedRecord(text, version)
        network, observed = self._network, self._observed
        return await network.call(
            "write", "table.swap", (key, text), lambda: observed.swap(key, text, version=version, ttl=ttl)
        )


class _OwnLedger(FaultyTable):
    def __getattr__(self, method: str) -> Callable[..., object]:
        call = super().__getattr__(method)
        if method not in {"record", "swap"}:
            return call

        async def own(key: str, *arguments: object, **named: object) -> object:
            mine = f"{key}/{self._network.who}" if key.startswith("limit/") else key
            return await call(mine, *arguments, **named)

        return own


class NoRowCondition(Components):
    """A row is put whether or not it has an outcome."""

    observed_table = _AnyRow


class NoRoundFence(Components):
    """A row is put unless it has an outcome of exactly this round."""

    observed_table = _AnyRound


class NoCounterInTransaction(Components):
    """Rows are put, and counted in a second call."""

    observed_table = _CountLater
    table = _CountAfterwards


class NoCheckAfterDuplicate(Components):
    """A row that was committed already is deleted without a completion check."""

    committer = _NoCheckOfDuplicates


class ClaimBeforeSend(Components):
    """The batch is claimed, and the trigger sent afterwards."""

    completion = _ClaimFirst


class NoSeal(Components):
    """A batch counts as complete when what was sent so far is done."""

    completion = _NoSeal


class NoHeartbeat(Components):
    """Leases are never extended."""

    queue = _NoHeartbeat


class NoReplayMarks(Components):
    """Rows that a splitter or sweeper may have sent before do not say so."""

    queue = _NoMarks


class NoMarksOnReturns(Components):
    """A row that its worker sends again, to be tried later, does not say that it may be a repeat."""

    queue = _NoMarksOnReturns


class NoExcuses(Components):
    """An outage and a throttle cost an attempt, as every other failure does."""

    worker = _NoExcuses


class NoDeadlines(Components):
    """A worker asks for a row whatever time it is."""

    worker = _NoDeadlines


class NoClaims(Components):
    """With `reuse`, whoever wants to ask may, whether or not somebody else does."""

    table = _EverybodysClaim


class NoSharedLedger(Components):
    """Each worker takes the whole rate limit for itself."""

    table = _OwnLedger


class NoSweeper(Components):
    """Dead letters are drained, but nobody sweeps."""

    sweeps = False


class NoDrain(Components):
    """Somebody sweeps, but dead letters stay."""

    drains = False


class NoLease(Components):
    """Every aggregator that asks for the lease gets it."""

    table = _EverybodysLease


class NoCommitToken(Components):
    """A commit is repeated under another token."""

    table = _NewTokens


class DeleteFirst(Components):
    """A row's message is deleted as soon as it is received."""

    def handler(self, process: Process, handle: Handler) -> Handler:
        """Delete, then handle."""

        async def deleting(delivery: Delivery) -> None:
            await process.queue("rows").delete([delivery.message.receipt])
            await handle(delivery)

        return deleting


ABLATIONS: Mapping[str, type[Components]] = {
    kind.__name__: kind
    for kind in (
        NoRowCondition, NoRoundFence, NoCounterInTransaction, NoCheckAfterDuplicate, ClaimBeforeSend, NoSeal,
        NoHeartbeat, NoReplayMarks, NoSweeper, NoDrain, NoLease, NoCommitToken, DeleteFirst,
        NoMarksOnReturns, NoExcuses, NoDeadlines, NoClaims, NoSharedLedger,
    )
}  # fmt: skip
"""By name."""
