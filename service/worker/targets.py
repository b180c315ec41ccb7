"""Targets: the agents that a worker has open, each with its compiled mapping, its gate and its rate limit.

Each version of a mapping is a target of its own, known by the digest of the definition. A target that no row
has used for a while is closed when another one is opened: a worker that runs for months meets many versions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from service.domain.ports import Agent, Clock
from service.mapping import Definition, RowMapping
from service.worker.admission.gate import Gate
from service.worker.admission.gates import Gates
from service.worker.money.call_costs import CallCosts
from service.worker.rate_limit.limiter import Limiter

log = structlog.get_logger(__name__)

MAX_TARGETS = 64
"""Open targets above which those that were used least recently are closed, if no row uses them."""

IDLE_S = 900.0
"""A target is closed when no row has used it for so long, however few there are."""

LEAST_IDLE_S = 60.0
"""A target is not closed earlier, even if there are too many: its rows would open it again at once."""


@dataclass(eq=False, slots=True)
class OpenTarget:
    """An agent, and the gate that its calls go through in this process.

    `rows` use it now; the last one ended at the monotonic time `used_at`.
    """

    mapping: RowMapping
    agent: Agent
    gate: Gate
    limiter: Limiter | None
    used_at: float
    costs: CallCosts
    rows: int = 0


class Targets:
    """The targets of one process.

    `open_agent` raises ConfigError for a mapping that it cannot serve. At most `max_in_flight` calls of a
    target run at a time. `open_limiter` opens a mapping's fleet-wide rate limit; it returns None if the
    mapping has no limit.
    """

    def __init__(
        self,
        open_agent: Callable[[RowMapping], Agent],
        gates: Gates,
        clock: Clock,
        *,
        max_in_flight: int,
        open_limiter: Callable[[RowMapping], Limiter | None],
    ) -> None:
        self._open_agent = open_agent
        self._open_limiter = open_limiter
        self._gates = gates
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._targets: dict[str, OpenTarget] = {}

    def get(self, digest: str) -> OpenTarget | None:
        """The open target of this digest."""
        return self._targets.get(digest)

    async def open(self, definition: Definition) -> OpenTarget:
        """Open the target of a definition. Raises ConfigError."""
        mapping = definition.compile()
        agent = self._open_agent(mapping)
        limiter = self._open_limiter(mapping)
        gate = self._gates.open(mapping.concurrency(self._max_in_flight), limiter)
        if limiter is not None:
            await limiter.__aenter__()
        target = OpenTarget(mapping, agent, gate, limiter, self._clock.monotonic(), CallCosts(mapping))
        self._targets[definition.digest] = target
        return target

    @contextmanager
    def use(self, target: OpenTarget | None) -> Iterator[None]:
        """Keep a target open while the body runs; None for a row that has none."""
        if target is None:
            yield
            return
        target.rows += 1
        try:
            yield
        finally:
            target.rows -= 1
            target.used_at = self._clock.monotonic()

    def take_idle(self) -> Sequence[OpenTarget]:
        """Remove the targets that are to be closed. The caller closes them once no row can find them."""
        now = self._clock.monotonic()
        spare = len(self._targets) - MAX_TARGETS
        idle: list[OpenTarget] = []
        for digest, target in sorted(self._targets.items(), key=lambda item: item[1].used_at):
            least_s = LEAST_IDLE_S if len(idle) < spare else IDLE_S
            if not target.rows and now - target.used_at >= least_s:
                idle.append(self._targets.pop(digest))
        return idle

    async def close(self, targets: Iterable[OpenTarget] | None = None) -> None:
        """Close agents and give back their shares of rate limits; all if no `targets` are given."""
        if targets is None:
            targets, self._targets = list(self._targets.values()), {}
        await asyncio.gather(*(self._close(target) for target in targets))

    async def _close(self, target: OpenTarget) -> None:
        self._gates.remove(target.gate)
        try:
            await target.agent.close()
        except Exception:
            # A bug of an agent must not fail the row for which another target is opened.
            log.exception("target_not_closed", mapping_digest=target.mapping.digest)
        finally:
            if target.limiter is not None:
                await target.limiter.__aexit__(None, None, None)
