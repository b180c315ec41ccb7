"""A role of a process: it waits for its preconditions, then runs its parts.

A process whose queue, table or permission is missing does not exit, because its supervisor would only restart
it. It reports the problem on /readyz, in the log and in a metric, and begins to work when the problem is
gone. Until then nothing is received: a message that cannot be handled would only use up its deliveries.
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
from service.runtime.tasks import until_stopped
from service.sweeper.drain import Drain

Precondition = Callable[[], Awaitable[object]]
"""Returns if a resource can be used; otherwise raises ConfigError, AccessError or RetryableError."""


class Part(Protocol):
    """A part of a role: a consumer, or the sweeper.

    `last_success` is on the clock's monotonic scale, None before the first success.
    """

    last_success: float | None

    @property
    def problem(self) -> str:
        """The reason why it does not work, "" if it does."""
        ...

    @property
    def held(self) -> int:
        """Messages that it holds now."""
        ...

    @property
    def held_since(self) -> float | None:
        """Since when it holds the oldest of them, in monotonic seconds; None if it holds none."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        ...


class Role:
    """Runs its parts after all preconditions have been met, one after the other."""

    def __init__(
        self, name: str, parts: Sequence[Part], preconditions: Sequence[Precondition], clock: Clock
    ) -> None:
        self._parts = parts
        self._preconditions = preconditions
        self._clock = clock
        self._incident = IncidentLog(clock, "role_waits", role=name)

    @property
    def problem(self) -> str:
        """The reason why this role does not work, "" if it does."""
        if self._incident.reason:
            return self._incident.reason
        for part in self._parts:
            if part.problem:
                return part.problem
            # before the first receive nothing shows that a consumer can work
            if part.last_success is None:
                return "has not received yet"
        return ""

    def dead_letters_left(self) -> dict[str, int]:
        """The dead letters that the last passes of its drains have left, by queue."""
        drains = [part for part in self._parts if isinstance(part, Drain)]
        return {drain.name: drain.left for drain in drains if drain.left is not None}

    @property
    def held_since(self) -> float | None:
        """Since when the role holds its oldest message, in monotonic seconds; None if it holds none."""
        since = (part.held_since for part in self._parts)
        return min((at for at in since if at is not None), default=None)

    @property
    def held(self) -> int:
        """Messages that the role holds now."""
        return sum(part.held for part in self._parts)

    async def run(self, stop: asyncio.Event) -> None:
        """Wait and work until `stop` is set; then drain."""
        await until_stopped(stop, self._wait_for_preconditions())
        if stop.is_set():
            return
        # a bug in one part ends the others, and with them the process
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(part.run(stop))

    async def _wait_for_preconditions(self) -> None:
        for precondition in self._preconditions:
            backoff = Backoff()
            while True:
                try:
                    await precondition()
                    break
                except (ConfigError, AccessError, RetryableError) as error:
                    self._incident.update(str(error))
                    backoff.failed(error, self._clock.monotonic())
                await self._clock.sleep(backoff.until - self._clock.monotonic())
        self._incident.update("")


class ServiceRoles:
    """All roles of a process and its catalog, as /readyz, metrics and scale-in protection see them."""

    def __init__(self, roles: Mapping[str, Role], catalog: LiveCatalog, stop: asyncio.Event) -> None:
        self.roles = roles
        self._catalog = catalog
        self._stop = stop

    def role_problems(self) -> dict[str, str]:
        """The problem of each role by name, "" if it works; "draining" after `stop` was set."""
        if self._stop.is_set():
            return dict.fromkeys(self.roles, "draining")
        return {name: role.problem for name, role in self.roles.items()}

    def other_problems(self) -> dict[str, str]:
        """The problem of the mappings if the process runs the splitter, the only role that reads them."""
        return {"mappings": self._catalog.warning} if "splitter" in self.roles else {}

    def facts(self) -> dict[str, dict[str, int]]:
        """The dead letters that were left, by queue, if the process runs the sweeper."""
        role = self.roles.get("sweeper")
        return {} if role is None else {"dead_letters": role.dead_letters_left()}

    def count_problems(self) -> int:
        """The number of roles and other parts that have a problem."""
        problems = [*self.role_problems().values(), *self.other_problems().values()]
        return sum(problem != "" for problem in problems)

    def held(self) -> int:
        """Messages that the process holds now."""
        return sum(role.held for role in self.roles.values())

    def held_since(self) -> float | None:
        """Since when the process holds its oldest message, in monotonic seconds; None if it holds none."""
        since = (role.held_since for role in self.roles.values())
        return min((at for at in since if at is not None), default=None)
