"""What a worker knows of the batches it has rows of: the batch, its compiled mapping, and the agent.

Loaded from the table once per batch and kept while rows come; a batch brings its own mapping, so every
worker of a fleet extracts alike whatever its folder holds. Agents are shared by batches of one mapping.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from service.errors import ConfigError
from service.mapping import RowMapping
from service.model import Batch, BatchView, State, iso_time
from service.opening import stored_definition
from service.ports import Agent, Clock, Table

log = structlog.get_logger(__name__)

MAX_RUNS = 256
"""Batches remembered at a time; the one used longest ago is forgotten first."""


@dataclass(slots=True)
class Target:
    """An agent with the places it has in this process."""

    mapping: RowMapping
    agent: Agent
    places: asyncio.Semaphore


@dataclass(slots=True)
class Run:
    """A batch as last seen, and how its rows are processed; no target where it takes no rows any more."""

    batch: Batch
    target: Target | None


class Runs:
    """The runs of one worker process. `open_agent` raises ConfigError for a mapping it cannot serve."""

    def __init__(
        self, table: Table, open_agent: Callable[[RowMapping], Agent], clock: Clock, *, max_places: int
    ) -> None:
        self._table = table
        self._open_agent = open_agent
        self._clock = clock
        self._max_places = max_places
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._targets: dict[str, Target] = {}
        self._loading: dict[str, asyncio.Lock] = {}

    async def get(self, batch_id: str, round_: int) -> Run | None:
        """The run, read again where it is older than `round_`; None where there is no such batch."""
        run = self._runs.get(batch_id)
        if run is None or run.batch.round < round_:
            async with self._loading.setdefault(batch_id, asyncio.Lock()):
                run = self._runs.get(batch_id)
                if run is None or run.batch.round < round_:
                    run = await self._load(batch_id)
            self._loading.pop(batch_id, None)
        if run is not None:
            self._runs[batch_id] = run
            self._runs.move_to_end(batch_id)
            if len(self._runs) > MAX_RUNS:
                self._runs.popitem(last=False)
        return run

    def refresh(self, view: BatchView | None) -> None:
        """Take in what a completion check has just read, so that a batch that ended stops costing calls."""
        if view is not None and (run := self._runs.get(view.batch.batch_id)):
            run.batch = view.batch

    async def close(self) -> None:
        """Close every agent."""
        targets, self._targets = list(self._targets.values()), {}
        await asyncio.gather(*(target.agent.close() for target in targets))

    async def _load(self, batch_id: str) -> Run | None:
        view = await self._table.read(batch_id)
        if view is None:
            return None
        batch = view.batch
        if batch.state.is_final:
            return Run(batch, None)
        target = self._targets.get(batch.mapping_digest)
        if target is None:
            try:
                target = await self._open(batch)
            except ConfigError as error:
                return Run(await self._fail(batch, str(error)), None)
        return Run(batch, target)

    async def _open(self, batch: Batch) -> Target:
        definition = await stored_definition(self._table, batch)
        if batch.mapping_digest in self._targets:  # another batch of this mapping was faster
            return self._targets[batch.mapping_digest]
        mapping = definition.compile()
        places = mapping.execution.places(self._max_places)
        target = Target(mapping, self._open_agent(mapping), asyncio.Semaphore(places))
        self._targets[batch.mapping_digest] = target
        return target

    async def _fail(self, batch: Batch, problem: str) -> Batch:
        """A mapping that cannot be served fails its batch at once, before any row is spent on it.

        In the order of the states, so that a batch which is sealed in between is caught as well.
        """
        log.warning("batch_failed", batch_id=batch.batch_id, reason=problem)
        now = iso_time(self._clock.now_ms())
        for state in (State.SPLITTING, State.RUNNING):
            await self._table.move(
                batch.batch_id, expected=state, round=batch.round, to=State.FAILED, now=now, error=problem
            )
        view = await self._table.read(batch.batch_id)
        return view.batch if view else batch
