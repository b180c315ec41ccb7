"""LRU cache of the batches that a worker has rows of: batch, compiled mapping, agent and gate.

A batch is loaded from the table once and kept while rows of it come. Its mapping comes from the table too,
so all workers of a fleet extract alike, whatever mapping files they have. Batches of one mapping share an
agent and a gate.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import structlog

from service.batch.ending import fail_batch
from service.batch.role_ports import Ports
from service.batch.row_checks import VIEW_AGE_S
from service.batch.source import stored_definition
from service.domain.errors import ConfigError
from service.domain.messages import RowMessage
from service.domain.model import Batch, BatchView, State
from service.domain.ports import Agent
from service.mapping import RowMapping
from service.worker.admission.gate import Gate, Gates
from service.worker.rate_limit.limiter import Limiter

log = structlog.get_logger(__name__)

MAX_BATCHES = 256
"""Batches in the cache; the least recently used one is evicted first."""


@dataclass(slots=True)
class OpenTarget:
    """An agent, and the gate that its calls go through in this process."""

    mapping: RowMapping
    agent: Agent
    gate: Gate


@dataclass(slots=True)
class CachedBatch:
    """A batch as last read, and the target of its rows: None if the batch takes no more rows.

    `loaded_seq` is the sequence number of the load, to tell whether a load began after a call of `get`. The
    view was read at `read_at` or later, in monotonic seconds.
    """

    batch: Batch
    target: OpenTarget | None
    loaded_seq: int = 0
    read_at: float = 0.0

    def may_be_repeat(self, row: RowMessage, now: float) -> bool:
        """True unless this view shows that the splitter has sent no other message of the row.

        It shows that if it is fresh and the row's sender is still the last one of the batch.
        """
        return row.replay or row.sender != self.batch.sender or now - self.read_at > VIEW_AGE_S

    def covers(self, row: RowMessage, now: float) -> bool:
        """True if this view can decide whether the row exists, and is a repeat; otherwise reload."""
        batch = self.batch
        if not row.replay and now - self.read_at > VIEW_AGE_S:
            return False
        if row.incarnation != batch.incarnation:
            # A row of an earlier batch with this id can be told without a look at the table.
            return row.incarnation < batch.incarnation
        is_total_final = batch.total is not None or batch.state is not State.SPLITTING
        return batch.round >= row.round and (is_total_final or row.number <= batch.checkpoint.rows)


class BatchCache:
    """The batches of one worker process.

    `open_agent` raises ConfigError for a mapping that it cannot serve. At most `max_in_flight` calls of a
    target run at a time. `open_limiter` opens a mapping's fleet-wide rate limit; it returns None if the
    mapping has no limit.
    """

    def __init__(
        self,
        ports: Ports,
        open_agent: Callable[[RowMapping], Agent],
        gates: Gates,
        *,
        max_in_flight: int,
        open_limiter: Callable[[RowMapping], Limiter | None] = lambda _: None,
    ) -> None:
        self._ports = ports
        self._open_agent = open_agent
        self._open_limiter = open_limiter
        self._gates = gates
        self._max_in_flight = max_in_flight
        self._limiters = AsyncExitStack()
        self._batches: OrderedDict[str, CachedBatch] = OrderedDict()
        self._targets: dict[str, OpenTarget] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._sequence = itertools.count(1)

    async def get(self, row: RowMessage) -> CachedBatch | None:
        """The batch that has the row's batch id now, or None if there is none.

        The batch is reloaded once if the cached view does not cover the row. Rows that ask before a load
        begins share its result.
        """
        asked_seq, batch_id = next(self._sequence), row.batch_id
        cached = self._batches.get(batch_id)
        if cached is None or not cached.covers(row, self._ports.clock.monotonic()):
            async with self._loading.setdefault(batch_id, asyncio.Lock()):
                cached = self._batches.get(batch_id)
                # A load that began after this call is fresh enough, even if it does not cover the row.
                now = self._ports.clock.monotonic()
                if cached is None or (cached.loaded_seq < asked_seq and not cached.covers(row, now)):
                    cached = await self._load(batch_id)
            # Rows that wait keep the lock that they have; a lock for every batch ever seen would pile up.
            self._loading.pop(batch_id, None)
        if cached is not None:
            self._put(batch_id, cached)
        return cached

    def refresh(self, view: BatchView | None, read_at: float) -> None:
        """Take over the batch that a completion check has read, so that rows of an ended batch are dropped.

        It was read at the monotonic time `read_at` or later.

        Rows in progress keep the `CachedBatch` they began with, so that an outcome is committed for the round
        of its row, even if the batch is in the next round by now.
        """
        if view is None or (cached := self._batches.get(view.batch.batch_id)) is None:
            return
        # The check may have read the table before the cached view was loaded.
        if _progress(view.batch) >= _progress(cached.batch):
            self._batches[view.batch.batch_id] = replace(cached, batch=view.batch, read_at=read_at)

    async def close(self) -> None:
        """Close every agent, and release this process's reservations of rate limits."""
        targets, self._targets = list(self._targets.values()), {}
        async with self._limiters:
            await asyncio.gather(*(target.agent.close() for target in targets))

    def _put(self, batch_id: str, cached: CachedBatch) -> None:
        self._batches[batch_id] = cached
        self._batches.move_to_end(batch_id)
        if len(self._batches) > MAX_BATCHES:
            self._batches.popitem(last=False)

    async def _load(self, batch_id: str) -> CachedBatch | None:
        loaded_seq, read_at = next(self._sequence), self._ports.clock.monotonic()
        view = await self._ports.table.read(batch_id)
        if view is None:
            return None
        batch = view.batch
        if batch.state.is_final:
            return CachedBatch(batch, None, loaded_seq, read_at)
        target = self._targets.get(batch.mapping_digest)
        if target is None:
            try:
                target = await self._open(batch)
            except ConfigError as error:
                return CachedBatch(await self._fail(batch, str(error)), None, loaded_seq, read_at)
        return CachedBatch(batch, target, loaded_seq, read_at)

    async def _open(self, batch: Batch) -> OpenTarget:
        definition = await stored_definition(self._ports.table, batch)
        if batch.mapping_digest in self._targets:
            # Another batch of this mapping has opened the target during the await above.
            return self._targets[batch.mapping_digest]
        mapping = definition.compile()
        agent = self._open_agent(mapping)
        limiter = self._open_limiter(mapping)
        gate = self._gates.open(mapping.concurrency(self._max_in_flight), limiter)
        if limiter is not None:
            await self._limiters.enter_async_context(limiter)
        target = self._targets[batch.mapping_digest] = OpenTarget(mapping, agent, gate)
        return target

    async def _fail(self, batch: Batch, problem: str) -> Batch:
        """Fail the batch at once if its mapping cannot be served, before any row is spent on it."""
        return await fail_batch(self._ports, batch, problem, expected=(State.SPLITTING, State.RUNNING))


def _progress(batch: Batch) -> tuple[str, int, bool, int]:
    """Key that orders views of one batch id by age: none of these parts ever goes down."""
    return batch.incarnation, batch.round, batch.total is not None, batch.checkpoint.rows
