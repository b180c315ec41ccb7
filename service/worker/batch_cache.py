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
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import structlog

from service import __version__
from service.batch.ending import fail_batch
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.batch.row_checks import VIEW_AGE_S
from service.batch.source import is_older, stored_definition, too_old_text
from service.domain.errors import ConfigError
from service.domain.messages import RowMessage
from service.domain.model import Batch, BatchView, State
from service.domain.ports import Agent, Clock
from service.mapping import RowMapping
from service.worker.admission.gates import Gates
from service.worker.rate_limit.limiter import Limiter
from service.worker.targets import OpenTarget, Targets

log = structlog.get_logger(__name__)

MAX_BATCHES = 256
"""Batches in the cache; the least recently used one is evicted first."""


GIVE_BACK_S = 86_400.0
"""Longest time that a worker gives back the rows of a newer mapping. Then it fails their batch."""

LOOK_AGAIN_S = 60.0
"""A batch of a newer mapping is read again after this: newer workers may have ended it."""


@dataclass(slots=True)
class CachedBatch:
    """A batch as last read, and the target of its rows: None if this worker can call none for them.

    `loaded_seq` is the sequence number of the load, to tell whether a load began after a call of `get`. The
    view was read at `read_at` or later, in monotonic seconds. `digest` is that of the mapping whose target
    this is, "" if none was asked for because the batch had ended. `too_new`: the reason why only a newer
    worker can serve the mapping.
    """

    batch: Batch
    target: OpenTarget | None
    loaded_seq: int = 0
    read_at: float = 0.0
    digest: str = ""
    too_new: str = ""

    @property
    def has_its_target(self) -> bool:
        """False if an operation has reopened the batch, or given it another mapping, since the load."""
        return self.batch.state.is_final or self.digest == self.batch.mapping_digest

    def may_be_repeat(self, row: RowMessage, now: float) -> bool:
        """True unless this view shows that the splitter has sent no other message of the row.

        It shows that if it is fresh and the row's sender is still the last one of the batch.
        """
        return row.replay or row.sender != self.batch.sender or now - self.read_at > VIEW_AGE_S

    def covers(self, row: RowMessage, clock: Clock) -> bool:
        """True if this view can decide whether the row exists, and is a repeat; otherwise reload."""
        batch, now = self.batch, clock.monotonic()
        if not self.has_its_target:
            return False
        if batch.has_expired(clock.now_ms()) or (self.too_new and now - self.read_at >= LOOK_AGAIN_S):
            return False
        if now - self.read_at > VIEW_AGE_S:
            return False
        if row.incarnation != batch.incarnation:
            # A row of an earlier batch with this id can be told without a look at the table.
            return row.incarnation < batch.incarnation
        is_total_final = batch.total is not None or batch.state is not State.SPLITTING
        if (batch.round, batch.generation) < (row.round, row.generation):
            return False
        return is_total_final or row.number <= batch.checkpoint.rows


class BatchCache:
    """The batches of one worker process. The arguments beside `ports` are those of `Targets`."""

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
        self._targets = Targets(
            open_agent, gates, ports.clock, max_in_flight=max_in_flight, open_limiter=open_limiter
        )
        self.use = self._targets.use
        self._outages = OutageBoard(ports.table, ports.clock)
        self._batches: OrderedDict[str, CachedBatch] = OrderedDict()
        # When a row of a mapping that is too new came first, by the mapping's digest.
        self._too_new: OrderedDict[str, float] = OrderedDict()
        # One load at a time for each batch; a lock lives as long as somebody holds it or waits for it.
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sequence = itertools.count(1)

    async def get(self, row: RowMessage) -> CachedBatch | None:
        """The batch that has the row's batch id now, or None if there is none.

        The batch is reloaded once if the cached view does not cover the row. Rows that ask before a load
        begins share its result.
        """
        asked_seq, batch_id = next(self._sequence), row.batch_id
        clock = self._ports.clock
        cached = self._batches.get(batch_id)
        if cached is None or not cached.covers(row, clock):
            async with self._loading_lock(batch_id):
                cached = self._batches.get(batch_id)
                # A load that began after this call is fresh enough, even if it does not cover the row.
                is_fresh = cached is not None and cached.loaded_seq > asked_seq and cached.has_its_target
                if cached is None or not (is_fresh or cached.covers(row, clock)):
                    cached = await self._load_newest(batch_id)
        if cached is not None:
            self._put(batch_id, cached)
        return cached

    async def current(self, batch_id: str) -> Batch | None:
        """The batch, as read at most `VIEW_AGE_S` ago."""
        cached = self._batches.get(batch_id)
        if cached is not None and self._is_fresh(cached.read_at):
            return cached.batch
        async with self._loading_lock(batch_id):
            cached = self._batches.get(batch_id)
            if cached is not None and self._is_fresh(cached.read_at):
                batch: Batch | None = cached.batch
            else:
                batch = await self._read_fresh(batch_id)
        return batch

    def _loading_lock(self, batch_id: str) -> asyncio.Lock:
        lock = self._loading.get(batch_id)
        if lock is None:
            lock = self._loading[batch_id] = asyncio.Lock()
        return lock

    async def _read_fresh(self, batch_id: str) -> Batch | None:
        """The batch as the table has it; an answer that took longer than `VIEW_AGE_S` is asked for again."""
        while True:
            read_at = self._ports.clock.monotonic()
            view = await self._ports.table.read(batch_id)
            self.refresh(view, read_at)
            if self._is_fresh(read_at):
                return None if view is None else view.batch

    def _is_fresh(self, read_at: float) -> bool:
        return self._ports.clock.monotonic() - read_at <= VIEW_AGE_S

    def refresh(self, view: BatchView | None, read_at: float) -> None:
        """Take over the batch that a completion check has read, so that rows of an ended batch are dropped.

        It was read at the monotonic time `read_at` or later.

        Rows in progress keep the `CachedBatch` they began with, so that an outcome is committed for the round
        of its row, even if the batch is in the next round by now.
        """
        if view is None or (cached := self._batches.get(view.batch.batch_id)) is None:
            return
        if view.batch is cached.batch:
            # the rows of a transaction share the view of one check
            cached.read_at = max(cached.read_at, read_at)
            return
        # The check may have read the table before the cached view was loaded.
        if _progress(view.batch) >= _progress(cached.batch):
            taken = self._batches[view.batch.batch_id] = replace(cached, batch=view.batch, read_at=read_at)
            if (
                taken.target is not None
                and taken.has_its_target
                and view.batch.control != cached.batch.control
            ):
                taken.target.gate.update(view.batch)

    async def close(self) -> None:
        """Close every agent, and release this process's reservations of rate limits."""
        await self._targets.close()

    def _put(self, batch_id: str, cached: CachedBatch) -> None:
        self._batches[batch_id] = cached
        self._batches.move_to_end(batch_id)
        if len(self._batches) > MAX_BATCHES:
            self._batches.popitem(last=False)

    async def _load_newest(self, batch_id: str) -> CachedBatch | None:
        """Load the batch; what a completion check has read while a slow load was under way may be newer."""
        while True:
            loaded = await self._load(batch_id)
            known = self._batches.get(batch_id)
            if loaded is None or known is None or _progress(known.batch) <= _progress(loaded.batch):
                return loaded
            if known.has_its_target:
                read_at = max(known.read_at, loaded.read_at)
                return replace(known, loaded_seq=loaded.loaded_seq, read_at=read_at)

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
                return await self._without_target(batch, error, loaded_seq, read_at)
        target.gate.update(batch)
        return CachedBatch(batch, target, loaded_seq, read_at, batch.mapping_digest)

    async def _open(self, batch: Batch) -> OpenTarget:
        """The target of the batch's mapping, opened; targets that no row uses are closed."""
        definition = await stored_definition(self._ports.table, batch)
        # Another batch of this mapping may have opened the target during the await above.
        target = self._targets.get(batch.mapping_digest) or await self._targets.open(definition)
        if idle := self._targets.take_idle():
            # Before they are closed, so that no row begins with one of them.
            for batch_id in [id_ for id_, cached in self._batches.items() if cached.target in idle]:
                del self._batches[batch_id]
            await self._targets.close(idle)
            log.info("targets_closed", mapping_digests=[closed.mapping.digest for closed in idle])
        return target

    async def _without_target(
        self, batch: Batch, error: ConfigError, loaded_seq: int, read_at: float
    ) -> CachedBatch:
        """The batch of a mapping that this worker cannot serve: a newer worker may, or the batch fails."""
        problem = str(error)
        if is_older(__version__, batch.compiled_by):
            problem = too_old_text(batch, error)
            since = self._too_new.setdefault(batch.mapping_digest, read_at)
            if len(self._too_new) > MAX_BATCHES:
                self._too_new.popitem(last=False)
            if read_at - since < GIVE_BACK_S:
                log.warning("mapping_too_new", batch_id=batch.batch_id, reason=problem)
                await self._outages.post(batch, problem)
                return CachedBatch(batch, None, loaded_seq, read_at, batch.mapping_digest, problem)
        return CachedBatch(await self._fail(batch, problem), None, loaded_seq, read_at)

    async def _fail(self, batch: Batch, problem: str) -> Batch:
        """Fail the batch at once if its mapping cannot be served, before any row is spent on it."""
        return await fail_batch(self._ports, batch, problem, expected=(State.SPLITTING, State.RUNNING))


def _progress(batch: Batch) -> tuple[str, int, bool, int, bool]:
    """Key that orders views of one batch id by age: none of these parts ever goes down."""
    # every operation raises `control`, also one that begins a round
    rows = batch.checkpoint.rows
    return batch.incarnation, batch.control, batch.total is not None, rows, bool(batch.columns)
