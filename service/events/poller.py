"""A part of a role that looks at pending records of the outbox, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.model import OutboxKind, OutboxRecord
from service.runtime.incidents import IncidentLog
from service.runtime.tasks import until_stopped

log = structlog.get_logger(__name__)

DAY_S = 86_400.0

FAILURES = (RetryableError, AccessError, ConfigError, TimeoutError)
"""Errors after which a try is repeated: a target that is missing may be created."""


@dataclass(frozen=True, slots=True)
class SendLimits:
    """Every `interval_s` pending records are looked at, `page_records` at a time.

    A try takes `attempt_s` at most; a record that is tried is left alone by other processes for `lease_s`.
    After a failed try the pause doubles from `first_pause_s` to `longest_pause_s`, for a target as a whole to
    `longest_target_pause_s`. After `give_up_after_s` a failed record is given up. `concurrency` records are
    tried at the same time.
    """

    interval_s: float = 2.0
    attempt_s: float = 30.0
    lease_s: float = 60.0
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0
    longest_target_pause_s: float = 60.0
    give_up_after_s: float = DAY_S
    concurrency: int = 8
    page_records: int = 100
    most_pages: int = 10

    def pause_s(self, failures: int, longest_s: float) -> float:
        """The pause after so many failures in a row, from 1."""
        return float(min(longest_s, self.first_pause_s * 2.0 ** min(failures - 1, 20)))


class OutboxPoller:
    """Looks at the pending records of one kind. Subclasses say how one is handled.

    A receiver that fails is no problem of this part; a table that cannot be read is.
    """

    held = 0
    held_since: float | None = None

    def __init__(self, ports: Ports, kind: OutboxKind, limits: SendLimits, *, name: str) -> None:
        self._ports = ports
        self._kind = kind
        self._limits = limits
        self._incident = IncidentLog(ports.clock, "outbox_trouble", part=name)
        self._after: OutboxRecord | None = None
        self.last_success: float | None = None

    @property
    def problem(self) -> str:
        """The reason why the outbox cannot be read or written, "" if it can."""
        return self._incident.reason

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set. A try under way is then cancelled, and repeated after its lease."""
        await until_stopped(stop, self._poll_forever())

    async def send(self) -> None:
        """Look at the pending records once. Raises RetryableError and AccessError of the table."""
        async for records in self._pages():
            for first in range(0, len(records), self._limits.concurrency):
                async with asyncio.TaskGroup() as group:
                    for record in records[first : first + self._limits.concurrency]:
                        group.create_task(self._guarded(record))

    async def _handle(self, record: OutboxRecord) -> None:
        """Handle one pending record if something is due."""
        raise NotImplementedError

    async def _guarded(self, record: OutboxRecord) -> None:
        try:
            await self._handle(record)
        except FAILURES as error:
            log.warning("outbox_record_left", batch_id=record.batch_id, record=record.name, reason=str(error))
        except Exception:
            # A bug that one record triggers must not keep the others waiting.
            log.exception("outbox_record_crashed", batch_id=record.batch_id, record=record.name)
            self._ports.metrics.count("handler_crashes")

    async def _pages(self) -> AsyncIterator[Sequence[OutboxRecord]]:
        """Pages of pending records, continuing where the last look has stopped."""
        for _ in range(self._limits.most_pages):
            page = await self._ports.table.pending(
                self._kind, after=self._after, limit=self._limits.page_records
            )
            yield page.records
            self._after = page.after
            if self._after is None:
                break

    async def _poll_forever(self) -> None:
        while True:
            try:
                await self.send()
            except FAILURES as error:
                self._incident.update(str(error))
            except Exception as error:
                # A bug must not end the role: the next look tries again.
                log.exception("outbox_crashed")
                self._ports.metrics.count("handler_crashes")
                self._incident.update(f"sending failed: {error!r}")
            else:
                self._incident.update("")
                self.last_success = self._ports.clock.monotonic()
            await self._ports.clock.sleep(self._limits.interval_s)
