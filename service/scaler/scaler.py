"""The scaler: one look at the fleet, one decision, and the changes that follow from it.

Two scalers at once do no harm. What a service is to have is set as a number, not as a difference. A scaler
that has been overtaken by another one, or by time, changes nothing: the next look is a minute away.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from service.domain.ports import Clock, Fleet, SharedRecord, Table
from service.runtime.metrics import Metrics
from service.scaler.decision import ScaleDecision, decide
from service.scaler.memory import read_memory, write_memory
from service.scaler.reader import FleetReader
from service.scaler.reading import FleetReading
from service.scaler.scale_limits import ScaleLimits

log = structlog.get_logger(__name__)

RECORD = "scaler"
"""Key of the shared record in which the scaler keeps its memory."""

RECORD_TTL_S = 366 * 86_400
"""At rest the record is not written. Without it, dead letters that were left would start a task again."""


@dataclass(frozen=True, slots=True)
class Look:
    """A reading and the decision on it. `is_carried_out`: all changes were made, or there were none.

    `reason`: why they were not made, "" if they were.
    """

    reading: FleetReading
    decision: ScaleDecision
    is_carried_out: bool
    reason: str = ""


class Scaler:
    """Scales a fleet each time that it is told to look. `by` names this process, unlike any other."""

    def __init__(
        self,
        reader: FleetReader,
        table: Table,
        fleet: Fleet,
        clock: Clock,
        metrics: Metrics,
        limits: ScaleLimits,
        *,
        by: str,
    ) -> None:
        self._reader = reader
        self._table = table
        self._fleet = fleet
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._by = by
        self._writes = 0

    async def look(self, *, is_dry_run: bool = False) -> Look:
        """Look at the fleet and scale it; with `is_dry_run` change nothing.

        Raises RetryableError, AccessError and ConfigError, and then has not scaled anything unless the
        error is that of a change itself.
        """
        began = self._clock.monotonic()
        record = await self._table.record(RECORD)
        reading = await self._reader.read()
        memory = read_memory(record.text, reading.now_ms)
        decision = decide(reading, memory, self._limits)
        if is_dry_run:
            return Look(reading, decision, is_carried_out=False, reason="a dry run")
        is_known = bool(record.version) and decision.memory == memory
        if not is_known and not await self._keep(decision, record, reading.now_ms):
            reason = "another scaler has decided at the same time"
        elif self._clock.monotonic() - began > self._limits.stale_s:
            reason = "the look took too long"
        else:
            await self._carry_out(decision)
            reason = ""
        self._report(reading, decision, reason)
        return Look(reading, decision, is_carried_out=not reason, reason=reason)

    async def _keep(self, decision: ScaleDecision, record: SharedRecord, now_ms: int) -> bool:
        """Store the memory. False if another scaler was faster."""
        self._writes += 1
        text = write_memory(decision.memory, now_ms=now_ms, by=f"{self._by}/{self._writes}")
        ttl = now_ms // 1000 + RECORD_TTL_S
        return (await self._table.swap(RECORD, text, version=record.version, ttl=ttl)).text == text

    async def _carry_out(self, decision: ScaleDecision) -> None:
        for name, service in decision.services.items():
            if service.is_change:
                await self._fleet.set_desired(name, service.desired)
                log.info("service_scaled", service=name, was=service.tasks.desired, desired=service.desired)

    def _report(self, reading: FleetReading, decision: ScaleDecision, reason: str) -> None:
        """Log, and write metrics unless all is at rest: CloudWatch bills a metric by the hour."""
        if reason:
            log.warning("fleet_not_scaled", reason=reason)
        if decision.is_at_rest:
            return
        log.info(
            "fleet_looked_at", ingest=reading.backlog.ingest, rows=reading.backlog.rows,
            aggregate=reading.backlog.aggregate, dead_letters=reading.backlog.dead,
            unfinished_batches=len(reading.batches), pending_records=reading.pending,
            services={
                name: {
                    "running": service.tasks.running, "desired": service.desired,
                    "demand": service.demand.tasks, "reasons": list(service.demand.reasons),
                }
                for name, service in decision.services.items()
            },
        )  # fmt: skip
        for name, service in decision.services.items():
            self._metrics.observe(f"desired_tasks_{name}", service.desired)
        self._metrics.observe("unfinished_batches", len(reading.batches))
        self._metrics.observe("backlog", reading.backlog.rows)
        self._metrics.flush(reading.now_ms)
