"""Any agent whose options name secrets: opened when they are known, and anew when they have changed.

An agent that refuses its credentials has its secrets read again, once, and if they are others now the same
row is asked for again within the same time-out. What the agent says is passed on with the secrets taken out
of it, errors and replies alike: what is not written down cannot leak.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.secrets import Secrets
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply

T = TypeVar("T")
Opener = Callable[[ResolvedOptions, AgentContext], Agent]

SHORTEST_IN_REPLIES = 8
"""Shorter secrets stay in replies: as part of a word they would be taken out of data that means something."""


@dataclass(slots=True)
class _Opened:
    """An agent with the secrets that it was opened with, and how many calls it has under way."""

    agent: Agent
    options: ResolvedOptions = field(repr=False)
    known: dict[str, str] = field(repr=False)
    calls: int = 0

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """References and the secrets that replies must not hold, longest first."""
        values = [(f"${{secret:{name}}}", value.strip()) for name, value in self.known.items()]
        return sorted(
            (pair for pair in values if len(pair[1]) >= SHORTEST_IN_REPLIES), key=lambda pair: -len(pair[1])
        )


class AgentWithSecrets:
    """The agent that `opener` makes of the options with their secrets."""

    def __init__(self, opener: Opener, options: ResolvedOptions, context: AgentContext) -> None:
        self._opener = opener
        self._options = options
        self._context = context
        self._secrets = Secrets(options, context)
        self._current: _Opened | None = None
        self._retired: list[_Opened] = []
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Ask, at most twice: the second time with secrets that were changed meanwhile."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + invocation.timeout_s
        opened = await self._open(invocation.timeout_s)
        try:
            return await self._ask(opened, invocation)
        except AgentCredentialsError:
            left = deadline - loop.time()
            if left <= 0 or not await self._within(self._secrets.renew(opened.known, left), left):
                raise
        opened = await self._open(deadline - loop.time())
        return await self._ask(opened, replace(invocation, timeout_s=max(deadline - loop.time(), 0.001)))

    async def close(self) -> None:
        """Close the agent, those before it that still have calls under way, and the stores of secrets."""
        self._closed = True
        opened = [*self._retired, *([self._current] if self._current else [])]
        self._retired, self._current = [], None
        for one in opened:
            await one.agent.close()
        await self._secrets.close()

    async def _open(self, timeout_s: float) -> _Opened:
        """The agent with the secrets as they are now."""
        self._refuse_if_closed()
        known = await self._within(self._secrets.values(self._options.secrets, timeout_s), timeout_s)
        self._refuse_if_closed()
        current = self._current
        if current is None or current.known != known:
            options = self._options.with_secrets(known)
            try:
                agent = self._opener(options, self._context)
            except ConfigError as error:
                raise AgentOutageError(options.redact(str(error))) from None
            self._current = _Opened(agent, options, known)
            if current is not None:
                self._retired.append(current)
                await self._close_retired()
        assert self._current is not None
        return self._current

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise AgentUnavailableError(f"{self._options.place}: the agent is closed")

    async def _within(self, answer: Awaitable[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise AgentTimeoutError(f"{self._options.place}: its secrets were not read in time") from None

    async def _ask(self, opened: _Opened, invocation: Invocation) -> Reply:
        opened.calls += 1
        try:
            reply = await opened.agent.invoke(invocation)
        except AgentRetryableError as error:
            raise type(error)(opened.options.redact(str(error)), retry_after_s=error.retry_after_s) from None
        except AgentRejectedError as error:
            raise AgentRejectedError(opened.options.redact(str(error))) from None
        finally:
            opened.calls -= 1
            await self._close_retired()
        return replace(
            reply,
            body=_without(reply.body, opened.hidden),
            headers={name: str(_without(value, opened.hidden)) for name, value in reply.headers.items()},
        )

    async def _close_retired(self) -> None:
        idle = [opened for opened in self._retired if not opened.calls]
        self._retired = [opened for opened in self._retired if opened.calls]
        for opened in idle:
            await opened.agent.close()


def _without(value: Json, hidden: Sequence[tuple[str, str]]) -> Json:
    """A value of JSON with every secret in its texts and keys replaced by its reference."""
    if isinstance(value, str):
        for reference, secret in hidden:
            value = value.replace(secret, reference)
        return value
    if isinstance(value, list):
        return [_without(item, hidden) for item in value]
    if isinstance(value, dict):
        return {_without(key, hidden): _without(item, hidden) for key, item in value.items()}
    return value
