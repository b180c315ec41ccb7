"""The access that a run of `provision` has to AWS, and its findings."""

from __future__ import annotations

from dataclasses import dataclass

from service.adapters.aws.clients import Clients
from service.domain.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Finding:
    """The line about one resource. `differs` if a check found it missing or other than it should be."""

    line: str
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """Open clients. `may_write` is False in a check, which changes nothing."""

    clients: Clients
    may_write: bool

    def refuse(self, problem: str) -> Finding:
        """The finding about a resource that cannot be used, in a check; otherwise raises ConfigError."""
        if self.may_write:
            raise ConfigError(problem)
        return Finding(problem, differs=True)
