"""Ablations of events: their storage with a change, and their delivery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from service.domain.model import DeliveryEnd, DeliveryState, Event, OutboxRecord
from service.events.sender import EventSender
from tests.simulation.network import FaultyTable
from tests.simulation.process import Components


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
