"""The Fleet port in memory: services whose tasks start when a test says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from service.domain.errors import ConfigError
from service.domain.ports import TaskCounts


class MemoryFleet:
    """Services by name. `changes` lists every call that has set a number of tasks, in order."""

    def __init__(self, services: Mapping[str, TaskCounts]) -> None:
        self.services = dict(services)
        self.changes: list[tuple[str, int]] = []

    async def counts(self, services: Collection[str]) -> Mapping[str, TaskCounts]:
        """The tasks of each service. Raises ConfigError if there is no such service."""
        return {name: self._service(name) for name in services}

    async def set_desired(self, service: str, tasks: int) -> None:
        """Let a service have so many tasks. Those that it has run on until `settle`."""
        counts = self._service(service)
        self.changes.append((service, tasks))
        self.services[service] = replace(counts, desired=tasks, pending=max(0, tasks - counts.running))

    def settle(self) -> None:
        """Start and stop tasks, so that as many run as are desired."""
        for name, counts in self.services.items():
            self.services[name] = TaskCounts(counts.desired, running=counts.desired)

    def _service(self, name: str) -> TaskCounts:
        try:
            return self.services[name]
        except KeyError:
            raise ConfigError(f"service {name} does not exist") from None
