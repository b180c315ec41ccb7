"""The reader of the fleet: queues, unfinished batches, the outbox and the services, all at once.

At rest that is six counts of queues, six queries of the index `by_status` and one description of services.
Every unfinished batch that is not held costs one more read. If one of the reads fails there is no reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import MappingError
from service.domain.model import Batch, BatchView, Counts, OutboxKind, State
from service.domain.ports import Fleet, Queue
from service.mapping import Definition, RowMapping
from service.runtime.tasks import task_group
from service.scaler.reading import FleetReading, QueueBacklog, UnderWay
from service.scaler.target_limits import target_limits

log = structlog.get_logger(__name__)

UNFINISHED = tuple(state for state in State if not state.is_final)

PAGE_BATCHES = 100
MAX_BATCHES = 1_000
"""Batches of one state that are looked at. No deployment needs more of them to know that it is busy."""

MAX_VIEWS = 200
"""Batches whose counters are read. Of all others, every row counts as left."""

CONCURRENT_READS = 16

PAGE_RECORDS = 100
"""Records of the outbox that are looked at: expired ones among them do not count."""

MAX_MAPPINGS = 256
"""Compiled mappings that are kept; the oldest is dropped first."""


class FleetReader:
    """Reads a fleet; a process keeps it, as it remembers mappings. Every method raises the ports' errors."""

    def __init__(self, ports: Ports, fleet: Fleet, services: Collection[str], calls_per_task: int) -> None:
        self._ports = ports
        self._fleet = fleet
        self._services = services
        self._calls_per_task = calls_per_task
        self._reads = asyncio.Semaphore(CONCURRENT_READS)
        self._mappings: dict[str, RowMapping | None] = {}

    async def read(self) -> FleetReading:
        """Read everything. Raises RetryableError, AccessError and ConfigError."""
        now_ms = self._ports.clock.now_ms()
        async with task_group() as group:
            backlog = group.create_task(self._backlog())
            batches = group.create_task(self._batches())
            pending = [group.create_task(self._pending(kind, now_ms)) for kind in OutboxKind]
            tasks = group.create_task(self._fleet.counts(self._services))
        return FleetReading(
            now_ms=now_ms,
            backlog=backlog.result(),
            tasks=tasks.result(),
            batches=batches.result(),
            pending=sum(task.result() for task in pending),
        )

    async def _backlog(self) -> QueueBacklog:
        queues = self._ports.queues
        asked = (queues.ingest, queues.rows, queues.aggregate)
        dead = (queues.dead_ingest, queues.dead_rows, queues.dead_aggregate)
        ingest, rows, aggregate, *others = await self._depths((*asked, *dead))
        return QueueBacklog(ingest, rows, aggregate, sum(others))

    async def _depths(self, queues: Sequence[Queue]) -> list[int]:
        async with task_group() as group:
            depths = [group.create_task(queue.depth()) for queue in queues]
        return [depth.result() for depth in depths]

    async def _pending(self, kind: OutboxKind, now_ms: int) -> int:
        page = await self._ports.table.pending(kind, after=None, limit=PAGE_RECORDS)
        return sum(not record.ttl or record.ttl * 1000 > now_ms for record in page.records)

    async def _batches(self) -> list[UnderWay]:
        async with task_group() as group:
            listings = [group.create_task(self._listed(state)) for state in UNFINISHED]
        # A batch that has just moved may be listed in two states.
        found = {batch.batch_id: batch for listing in listings for batch in listing.result()}
        async with task_group() as group:
            reads = [
                # No rows of a held batch are served, so its counters do not matter.
                group.create_task(
                    self._under_way(batch, is_read=batch.state is not State.PAUSED and number < MAX_VIEWS)
                )
                for number, batch in enumerate(found.values())
            ]
        return [each for task in reads if (each := task.result()) is not None]

    async def _listed(self, state: State) -> list[Batch]:
        found: list[Batch] = []
        after = ""
        while len(found) < MAX_BATCHES:
            page = await self._ports.table.batches(state, after=after, limit=PAGE_BATCHES)
            found += page.batches
            after = page.after
            if not after:
                break
        return found

    async def _under_way(self, batch: Batch, *, is_read: bool) -> UnderWay | None:
        """The batch as it stands; None if it has ended since it was listed."""
        async with self._reads:
            view = await self._ports.table.read(batch.batch_id) if is_read else BatchView(batch, Counts())
            if view is None or view.batch.state.is_final:
                return None
            mapping = await self._mapping(view.batch) if is_read else None
        return UnderWay(view, target_limits(view.batch, mapping, self._calls_per_task))

    async def _mapping(self, batch: Batch) -> RowMapping | None:
        """The mapping of a batch; None if it has none yet, or if this version of rowfleet cannot read it."""
        digest = batch.mapping_digest
        if digest in self._mappings:
            return self._mappings[digest]
        text = await self._ports.table.definition(batch.batch_id, digest)
        if text is None:
            return None
        try:
            mapping = Definition(batch.tool_name, text).compile()
        except MappingError as error:
            log.warning("mapping_not_read", batch_id=batch.batch_id, reason=str(error))
            mapping = None
        if len(self._mappings) >= MAX_MAPPINGS:
            del self._mappings[next(iter(self._mappings))]
        self._mappings[digest] = mapping
        return mapping
