"""Ablations of messages: their leases, marks and senders, and what is done about lost ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from service.domain.errors import UnknownResultError
from service.domain.messages import RowMessage
from service.domain.model import Batch, State
from service.domain.ports import LeaseGrant, OutgoingMessage, ReceivedMessage
from service.runtime.delivery import Delivery, Handler
from tests.simulation.network import FaultyQueue, FaultyTable
from tests.simulation.observed_ports import ObservedTable
from tests.simulation.process import Components, Process


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
