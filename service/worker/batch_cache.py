"""What a worker knows of the batches it has rows of: the batch, its compiled mapping, and the agent.

Loaded from the table once per batch and kept while rows come; a batch brings its own mapping, so every
worker of a fleet extracts alike whatever its folder holds. Agents are shared by batches of one mapping.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import structlog

from service.batch.definitions import stored_definition
from service.batch.ending import fail_batch
from service.batch.ports import Ports
from service.domain.errors import ConfigError
from service.domain.model import Batch, BatchView, State
from service.domain.ports import Agent
from service.mapping import RowMapping
from service.worker.admission.gate import Gate, Gates
from service.worker.rate_limit.limiter import Limiter

log = structlog.get_logger(__name__)

MAX_BATCHES = 256
"""Batches remembered at a time; the one used longest ago is forgotten first."""


@dataclass(slots=True)
class OpenTarget:
    """An agent, and the gate that its calls go through in this process."""

    mapping: RowMapping
    agent: Agent
    gate: Gate


@dataclass(slots=True)
class CachedBatch:
    """A batch as last seen, and how its rows are processed; no target where it takes no rows any more.

    `loaded_seq` is the place of its reading in the order of all that `BatchCache` was asked and read.
    """

    batch: Batch
    target: OpenTarget | None
    loaded_seq: int = 0

    def covers(self, round_: int, number: int) -> bool:
        """Whether what is known is enough to say that a row exists, or that it does not."""
        batch = self.batch
        is_settled = batch.total is not None or batch.state is not State.SPLITTING
        return batch.round >= round_ and (is_settled or number <= batch.checkpoint.rows)


class BatchCache:
    """The runs of one worker process. `open_agent` raises ConfigError for a mapping it cannot serve.

    A target has at most `max_in_flight` calls in flight. `open_limiter` makes what keeps the limit that a
    mapping shares with the whole fleet, where it has one.
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
        self._max_places = max_in_flight
        self._limiters = AsyncExitStack()
        self._batches: OrderedDict[str, CachedBatch] = OrderedDict()
        self._targets: dict[str, OpenTarget] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._sequence = itertools.count(1)

    async def get(self, batch_id: str, round_: int, number: int) -> CachedBatch | None:
        """The batch of a row; None where there is no such batch.

        Read again, once, where what is known is older than `round_` or does not vouch for row `number`. Rows
        that ask before a reading begins share it.
        """
        cached = self._batches.get(batch_id)
        asked_seq = next(self._sequence)
        if cached is None or not cached.covers(round_, number):
            async with self._loading.setdefault(batch_id, asyncio.Lock()):
                cached = self._batches.get(batch_id)
                if cached is None or (cached.loaded_seq < asked_seq and not cached.covers(round_, number)):
                    cached = await self._load(batch_id)
                    if cached is not None:
                        self._batches[batch_id] = cached
            self._loading.pop(batch_id, None)
        if cached is not None:
            self._batches[batch_id] = cached
            self._batches.move_to_end(batch_id)
            if len(self._batches) > MAX_BATCHES:
                self._batches.popitem(last=False)
        return cached

    def refresh(self, view: BatchView | None) -> None:
        """Take in what a completion check has just read, so that a batch that ended stops costing calls.

        Rows under way keep the `CachedBatch` they began with: what began in one round is committed for it.
        """
        if view is None or (cached := self._batches.get(view.batch.batch_id)) is None:
            return
        if _progress(view.batch) >= _progress(cached.batch):  # a slow answer may be older than what is known
            self._batches[view.batch.batch_id] = replace(cached, batch=view.batch)

    async def close(self) -> None:
        """Close every agent, and give back what is held of the fleet's limits."""
        targets, self._targets = list(self._targets.values()), {}
        async with self._limiters:
            await asyncio.gather(*(target.agent.close() for target in targets))

    async def _load(self, batch_id: str) -> CachedBatch | None:
        loaded_seq = next(self._sequence)
        view = await self._ports.table.read(batch_id)
        if view is None:
            return None
        batch = view.batch
        if batch.state.is_final:
            return CachedBatch(batch, None, loaded_seq)
        target = self._targets.get(batch.mapping_digest)
        if target is None:
            try:
                target = await self._open(batch)
            except ConfigError as error:
                return CachedBatch(await self._fail(batch, str(error)), None, loaded_seq)
        return CachedBatch(batch, target, loaded_seq)

    async def _open(self, batch: Batch) -> OpenTarget:
        definition = await stored_definition(self._ports.table, batch)
        if batch.mapping_digest in self._targets:  # another batch of this mapping was faster
            return self._targets[batch.mapping_digest]
        mapping = definition.compile()
        agent = self._open_agent(mapping)
        limiter = self._open_limiter(mapping)
        gate = self._gates.open(mapping.concurrency(self._max_places), limiter)
        if limiter is not None:
            await self._limiters.enter_async_context(limiter)
        target = self._targets[batch.mapping_digest] = OpenTarget(mapping, agent, gate)
        return target

    async def _fail(self, batch: Batch, problem: str) -> Batch:
        """Fail the batch at once if its mapping cannot be served, before any row is spent on it."""
        return await fail_batch(self._ports, batch, problem, expected=(State.SPLITTING, State.RUNNING))


def _progress(batch: Batch) -> tuple[int, bool, int]:
    """What of a batch only ever grows."""
    return batch.round, batch.total is not None, batch.checkpoint.rows
