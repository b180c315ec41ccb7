"""Wrapper of an agent whose options refer to secrets: reopens the agent when their values change.

If the agent refuses its credentials, the secrets are read again once. If they have changed, the call is
repeated within the same time-out. Secrets are redacted in the agent's errors and replies, so that none
reaches a log, the table or a result file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions, user_part_redactions
from service.agents.secrets import SecretCache
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.ports import Agent, Invocation, Reply
from service.domain.redaction import MIN_REPLY_CHARS, redacted

T = TypeVar("T")
Opener = Callable[[ResolvedOptions, AgentContext], Agent]


@dataclass(slots=True)
class _OpenAgent:
    """An agent, the secrets it was opened with, and the number of its running calls."""

    agent: Agent
    options: ResolvedOptions = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    calls: int = 0

    @property
    def redactions(self) -> list[tuple[str, str]]:
        """Pairs of a reference and the secret that it replaces in replies, longest secret first."""
        values = [(f"${{secret:{name}}}", value.strip()) for name, value in self.secrets.items()]
        values += user_part_redactions(self.options.values)
        return sorted(
            (pair for pair in values if len(pair[1]) >= MIN_REPLY_CHARS), key=lambda pair: -len(pair[1])
        )


class AgentWithSecrets:
    """An agent that `opener` opens with the values of the secrets in its options."""

    def __init__(self, opener: Opener, options: ResolvedOptions, context: AgentContext) -> None:
        self._opener = opener
        self._options = options
        self._context = context
        self._secrets = SecretCache(options, context)
        self._current: _OpenAgent | None = None
        self._retired: list[_OpenAgent] = []
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Invoke the agent; a second time if it refused its credentials and the secrets have changed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + invocation.timeout_s
        opened = await self._open(invocation.timeout_s)
        try:
            return await self._invoke(opened, invocation)
        except AgentCredentialsError:
            left_s = deadline - loop.time()
            if left_s <= 0 or not await self._within(self._secrets.renew(opened.secrets, left_s), left_s):
                raise
        opened = await self._open(deadline - loop.time())
        # Reopening may have used up the rest of the time: the call then times out as usual.
        left_s = max(deadline - loop.time(), 0.001)
        return await self._invoke(opened, replace(invocation, timeout_s=left_s))

    async def close(self) -> None:
        """Close the agent, the retired agents, and the stores of secrets."""
        self._closed = True
        agents = [*self._retired, *([self._current] if self._current else [])]
        self._retired, self._current = [], None
        for opened in agents:
            await opened.agent.close()
        await self._secrets.close()

    async def _open(self, timeout_s: float) -> _OpenAgent:
        """The agent with the present secrets. An agent with earlier ones is closed after its last call."""
        self._check_open()
        secrets = await self._within(self._secrets.values(self._options.secrets, timeout_s), timeout_s)
        self._check_open()  # `close` may have been called while the secrets were read
        current = self._current
        if current is None or current.secrets != secrets:
            options = self._options.with_secrets(secrets)
            try:
                agent = self._opener(options, self._context)
            except ConfigError as error:
                # Not ConfigError: the secret may be corrected while the process runs.
                raise AgentOutageError(options.redact(str(error))) from None
            self._current = _OpenAgent(agent, options, secrets)
            if current is not None:
                self._retired.append(current)
                await self._close_retired()
        assert self._current is not None
        return self._current

    def _check_open(self) -> None:
        if self._closed:
            raise AgentUnavailableError(f"{self._options.where}: the agent is closed")

    async def _within(self, reading: Awaitable[T], timeout_s: float) -> T:
        """The result of `reading` secrets. Raises AgentTimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                return await reading
        except TimeoutError:
            raise AgentTimeoutError(f"{self._options.where}: its secrets were not read in time") from None

    async def _invoke(self, opened: _OpenAgent, invocation: Invocation) -> Reply:
        opened.calls += 1
        try:
            reply = await opened.agent.invoke(invocation)
        except (AgentRetryableError, AgentRejectedError) as error:
            masked = error.reworded(opened.options.redact(str(error)))
            masked.stated_in = redacted(error.stated_in, opened.redactions)
            raise masked from None
        finally:
            opened.calls -= 1
            await self._close_retired()
        return replace(
            reply,
            body=redacted(reply.body, opened.redactions),
            headers={name: str(redacted(value, opened.redactions)) for name, value in reply.headers.items()},
        )

    async def _close_retired(self) -> None:
        # The list is replaced before the first await, so that two callers never close the same agent.
        idle = [opened for opened in self._retired if not opened.calls]
        self._retired = [opened for opened in self._retired if opened.calls]
        for opened in idle:
            await opened.agent.close()
