"""Fleet: the services of a deployment, and the number of tasks that each of them is to have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks of a service: those it is to have, those that run, and those that are being started."""

    desired: int
    running: int = 0
    pending: int = 0


class Fleet(Protocol):
    """The services of one cluster."""

    async def counts(self, services: Collection[str]) -> Mapping[str, TaskCounts]:
        """The tasks of each of these services, at most ten.

        Raises ConfigError if one of them does not exist or is being deleted.
        """
        ...

    async def set_desired(self, service: str, tasks: int) -> None:
        """Let a service have so many tasks. Repeating it changes nothing."""
        ...
