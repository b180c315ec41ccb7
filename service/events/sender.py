"""Sender of events to one target: at least once, under one id, with the same bytes.

Several processes may run a sender for the same target. A try is stored in the record before it is made, so
two processes do not make it at the same time; if a process dies in a try, the event is tried again once its
lease has ended. Each target has a sender and deliveries of its own, so that one which is down holds no other
back, and none gets again what it has.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from service.batch.ending import write_failed_manifest
from service.batch.role_ports import Ports
from service.domain.errors import ReceiverGoneError
from service.domain.model import (
    DeliveryEnd,
    DeliveryState,
    Event,
    EventKind,
    OutboxKind,
    OutboxRecord,
    State,
)
from service.domain.ports import EventTarget
from service.events.poller import FAILURES, OutboxPoller, SendLimits
from service.runtime.tasks import timeout

log = structlog.get_logger(__name__)


class EventSender(OutboxPoller):
    """Delivers pending events to `target`, one of the `targets` that have to get each event."""

    def __init__(
        self, ports: Ports, target: EventTarget, targets: Collection[str], limits: SendLimits
    ) -> None:
        super().__init__(ports, OutboxKind.EVENT, limits, name=target.name)
        self._target = target
        self._targets = targets
        self._failures = 0
        self._resumes_at = 0.0
        self._is_gone = False

    async def send(self) -> None:
        """Deliver what is due, unless the target has failed lately."""
        if not self._is_paused:
            await super().send()

    @property
    def _is_paused(self) -> bool:
        return self._ports.clock.monotonic() < self._resumes_at

    async def _handle(self, record: OutboxRecord) -> None:
        state = record.delivery(self._target.name)
        now_ms = self._ports.clock.now_ms()
        if state.end:
            # The process that stored this end died before it settled the record.
            await self._settle(record)
        elif self._is_gone:
            if self._is_too_old(record, now_ms):
                await self._end(record, state, DeliveryEnd.REFUSED, "the target wants no event any more")
        elif state.due_ms <= now_ms and not self._is_paused:
            taken = state.tried(now_ms + round(self._limits.lease_s * 1000))
            stored = await self._ports.table.set_delivery(record, self._target.name, taken)
            if stored is not None:
                await self._try(stored, taken)

    async def _try(self, record: OutboxRecord, state: DeliveryState) -> None:
        event = Event.from_record(record)
        try:
            async with timeout(self._ports.clock, self._limits.attempt_s):
                if event.kind is EventKind.FAILED:
                    await self._write_manifest(event)
                await self._target.deliver(event)
        except ReceiverGoneError as error:
            self._is_gone = True
            log.error("event_target_gone", target=self._target.name, reason=str(error))
            await self._end(record, state, DeliveryEnd.REFUSED, str(error))
        except FAILURES as error:
            await self._failed(record, state, str(error) or f"no answer within {self._limits.attempt_s:g} s")
        else:
            self._failures, self._resumes_at = 0, 0.0
            self._ports.metrics.count("events_delivered")
            log.info("event_delivered", kind=event.kind, tries=state.tries, **self._known(record))
            await self._end(record, state, DeliveryEnd.DELIVERED)

    async def _write_manifest(self, event: Event) -> None:
        """Write the manifest that the event names: the process that failed the batch may have died before."""
        view = await self._ports.table.read(event.batch_id)
        if view is not None and view.batch.state is State.FAILED:
            await write_failed_manifest(self._ports, view.batch)

    async def _failed(self, record: OutboxRecord, state: DeliveryState, reason: str) -> None:
        """Have the event tried again later, or give it up; the target rests meanwhile."""
        limits, clock = self._limits, self._ports.clock
        if not self._is_paused:
            # Tries that were under way together count as one failure of the target.
            self._failures += 1
            pause_s = limits.pause_s(self._failures, limits.longest_target_pause_s)
            self._resumes_at = clock.monotonic() + pause_s
        self._ports.metrics.count("event_tries_failed")
        if self._is_too_old(record, clock.now_ms()):
            await self._end(record, state, DeliveryEnd.GIVEN_UP, reason)
            return
        pause_s = limits.pause_s(state.tries, limits.longest_pause_s)
        log.warning(
            "event_not_delivered", reason=reason, tries=state.tries, again_in_s=pause_s, **self._known(record)
        )
        later = state.due(clock.now_ms() + round(pause_s * 1000))
        await self._ports.table.set_delivery(record, self._target.name, later)

    async def _end(
        self, record: OutboxRecord, state: DeliveryState, end: DeliveryEnd, reason: str = ""
    ) -> None:
        if end is not DeliveryEnd.DELIVERED:
            self._ports.metrics.count("events_given_up")
            log.error("event_given_up", reason=reason, tries=state.tries, **self._known(record))
        stored = await self._ports.table.set_delivery(record, self._target.name, state.ended(end))
        if stored is not None:
            await self._settle(stored)

    async def _settle(self, record: OutboxRecord) -> None:
        if record.is_settled(self._targets):
            await self._ports.table.settle(record)

    def _is_too_old(self, record: OutboxRecord, now_ms: int) -> bool:
        return now_ms - record.at_ms >= self._limits.give_up_after_s * 1000

    def _known(self, record: OutboxRecord) -> dict[str, str]:
        return {"batch_id": record.batch_id, "event_id": record.name, "target": self._target.name}
