"""A role of a process: it waits for what it needs, then works.

A process whose queue, table or permission is missing does not end: it would only be started again to end
again. It says what is missing, on /readyz, in the log and in a metric, and begins once that is there. Nothing
is received before: a message that cannot be handled would only wear out its deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from service.catalog.live import LiveCatalog
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.ports import Clock
from service.runtime.backoff import Backoff
from service.runtime.incidents import IncidentLog
from service.runtime.shutdown import until_stopped

Precondition = Callable[[], Awaitable[object]]
"""Returns once something needed is there; raises ConfigError, AccessError or RetryableError otherwise."""


class Part(Protocol):
    """A part of a role: a consumer, or the sweeper. `last_success` is on the clock's monotonic scale."""

    last_success: float | None

    @property
    def problem(self) -> str:
        """What keeps it from working, in words; empty when nothing does."""
        ...

    @property
    def held(self) -> int:
        """Messages that are held now."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        ...


class Role:
    """Runs its parts once every need is met, in the order given; each is tried again with a back-off."""

    def __init__(
        self, name: str, runners: Sequence[Part], needs: Sequence[Precondition], clock: Clock
    ) -> None:
        self._runners = runners
        self._needs = needs
        self._clock = clock
        self._incident = IncidentLog(clock, "role_waits", role=name)

    @property
    def problem(self) -> str:
        """What keeps this role from working, in words; empty when nothing does."""
        return self._incident.reason or next(filter(None, map(_hindrance, self._runners)), "")

    @property
    def held(self) -> int:
        """Messages that are held now."""
        return sum(runner.held for runner in self._runners)

    async def run(self, stop: asyncio.Event) -> None:
        """Wait and work until `stop` is set; then drain."""
        await until_stopped(stop, self._wait_for_needs())
        if stop.is_set():
            return
        async with asyncio.TaskGroup() as group:
            for runner in self._runners:
                group.create_task(runner.run(stop))

    async def _wait_for_needs(self) -> None:
        for need in self._needs:
            backoff = Backoff()
            while True:
                try:
                    await need()
                    break
                except (ConfigError, AccessError, RetryableError) as error:
                    self._incident.update(str(error))
                    backoff.failed(error, self._clock.monotonic())
                await self._clock.sleep(backoff.until - self._clock.monotonic())
        self._incident.update("")


def _hindrance(runner: Part) -> str:
    return runner.problem or ("" if runner.last_success is not None else "has not received yet")


class ServiceRoles:
    """All roles of a process, and what they have in common, as /readyz and the metrics see them."""

    def __init__(self, roles: Mapping[str, Role], catalog: LiveCatalog, stop: asyncio.Event) -> None:
        self.roles = roles
        self._catalog = catalog
        self._stop = stop

    def readiness(self) -> dict[str, str]:
        """Role -> what keeps it from working, "" where nothing does."""
        return {n: "draining" if self._stop.is_set() else role.problem for n, role in self.roles.items()}

    def parts(self) -> dict[str, str]:
        """The same for what is no role: the mappings, which only a splitter reads."""
        return {"mappings": self._catalog.warning} if "splitter" in self.roles else {}

    def outages(self) -> int:
        """How many of them are not as they should be."""
        return sum(map(bool, [*self.readiness().values(), *self.parts().values()]))

    def held(self) -> int:
        """Messages that the process holds now."""
        return sum(role.held for role in self.roles.values())
