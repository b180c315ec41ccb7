"""Calls of agents before they are made: each way to invoke builds one for an input, then sends that one.

The two steps are apart so that a call can be shown (`agents/description.py`) exactly as it is sent.
"""

from __future__ import annotations

from typing import Protocol

from service.domain import exact_json
from service.domain.model import Json
from service.domain.ports import Invocation


class BuiltCall(Protocol):
    """All that is sent for one input, before it is sent."""

    def as_json(self) -> dict[str, Json]:
        """The call to show. Its values are those that are sent: secrets are not masked here."""
        ...


class CallBuilder(Protocol):
    """Builds the calls of one target. It opens no connection, starts no program and imports no function."""

    async def call(self, invocation: Invocation) -> BuiltCall:
        """The call for an input. Raises AgentRetryableError and AgentRejectedError."""
        ...


def shown_payload(payload: bytes | str | None) -> Json:
    """JSON that is sent, parsed so that it can be shown indented; None without a body."""
    return None if payload is None else exact_json.loads(payload)
