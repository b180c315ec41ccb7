"""Agent: the target of a mapping, invoked once per attempt at a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from service.domain.model import Json
from service.domain.redaction import Redactions


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of an agent. `body` is the JSON to send; `id` is the same for all attempts at a row."""

    id: str
    body: Json
    attempt: int = 1
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An agent's response: parsed JSON, or a str if it is not JSON. `size` is its bytes as received.

    `masks` are to be put into the reply where it is kept or quoted; the mapping sees it without them.
    """

    body: Json
    size: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    masks: Redactions = field(default=(), repr=False)


class Agent(Protocol):
    """An endpoint or function that answers one input. Safe to call from many tasks at once."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Call the agent once. Raises AgentRetryableError or AgentRejectedError, and nothing else."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
