"""Scale-in protection on ECS: a task that holds messages asks not to be chosen when the service shrinks.

It goes through the container agent's endpoint, `PUT $ECS_AGENT_URI/task-protection/v1/state`
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html), which
needs ecs:UpdateTaskProtection in the task role and works for tasks of a service only. Protection saves agent
calls, not rows: a task that is stopped all the same drains, and what it cannot finish comes again elsewhere.
So an endpoint that refuses or does not answer is a line in the log, and work goes on.

A deployment waits for protected tasks. A task that is never idle therefore lets go now and then for long
enough that ECS can replace it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import orjson

from service.domain.errors import RetryableError
from service.domain.ports import Clock
from service.runtime.backoff import Backoff
from service.runtime.incidents import IncidentLog
from service.runtime.shutdown import until_stopped

PATH = "/task-protection/v1/state"

REQUEST_TIMEOUT_S = 10.0
"""The agent gives up its own call to ECS after about 5 s."""


@dataclass(frozen=True, slots=True)
class ProtectionLimits:
    """Times in seconds. ECS takes an expiry of 1 to 2,880 minutes."""

    look_s: float = 1.0
    expires_minutes: int = 15
    renew_s: float = 300.0
    idle_s: float = 30.0
    longest_s: float = 3_600.0
    pause_s: float = 120.0


Ask = Callable[[bool, int], Awaitable[None]]
"""Sets the protection of this task: on or off, and for how many minutes. Raises RetryableError."""


class TaskProtection:
    """Protects this task while `held` says that it holds messages."""

    def __init__(self, ask: Ask, held: Callable[[], int], clock: Clock, limits: ProtectionLimits) -> None:
        self._ask = ask
        self._held = held
        self._clock = clock
        self._limits = limits
        self._backoff = Backoff()
        self._incident = IncidentLog(clock, "task_protection_failed")
        self._since: float | None = None  # protected since
        self._may_be_on = False  # asked for, whatever became of it
        self._renewed_at = self._busy_at = self._paused_until = 0.0

    async def run(self) -> None:
        """Look and ask, until cancelled; then let go."""
        try:
            while True:
                await self._look()
                await self._clock.sleep(self._limits.look_s)
        finally:
            if self._may_be_on:
                await self._set(on=False)

    async def _look(self) -> None:
        now, limits = self._clock.monotonic(), self._limits
        is_busy = self._held() > 0
        if is_busy:
            self._busy_at = now
        if now < self._backoff.until:
            return
        if self._since is None:
            if is_busy and now >= self._paused_until:
                await self._set(on=True)
        elif now - self._busy_at >= limits.idle_s:
            await self._set(on=False)
        elif now - self._since >= limits.longest_s:
            if await self._set(on=False):
                self._paused_until = now + limits.pause_s
        elif now - self._renewed_at >= limits.renew_s:
            await self._set(on=True)

    async def _set(self, *, on: bool) -> bool:
        """Ask, and take note of what became of it."""
        self._may_be_on = self._may_be_on or on
        try:
            await self._ask(on, self._limits.expires_minutes)
        except RetryableError as error:
            self._backoff.failed(error, self._clock.monotonic())
            self._incident.update(str(error))
            return False
        self._backoff.succeeded()
        self._incident.update("")
        now = self._clock.monotonic()
        self._may_be_on = on
        self._renewed_at = now
        self._since = (now if self._since is None else self._since) if on else None
        return True


async def protect_task(uri: str, held: Callable[[], int], clock: Clock, stop: asyncio.Event) -> None:
    """Protect this task through the agent at `uri` while it holds messages, until `stop` is set."""
    async with aiohttp.ClientSession() as session:
        protection = TaskProtection(EcsAgent(session, uri), held, clock, ProtectionLimits())
        await until_stopped(stop, protection.run())


class EcsAgent:
    """The container agent's endpoint at `$ECS_AGENT_URI`. Its answers are small; nothing is retried here."""

    def __init__(self, session: aiohttp.ClientSession, uri: str) -> None:
        self._session = session
        self._url = uri.rstrip("/") + PATH

    async def __call__(self, on: bool, minutes: int) -> None:
        """Protect this task for `minutes`, or let it go. Raises RetryableError in words."""
        body = {"ProtectionEnabled": on, **({"ExpiresInMinutes": minutes} if on else {})}
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        try:
            async with self._session.put(self._url, json=body, timeout=timeout) as response:
                status, text = response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise RetryableError(f"the ECS agent does not answer: {error or type(error).__name__}") from error
        if problem := _problem(status, text, on=on):
            raise RetryableError(f"task protection {'on' if on else 'off'}: {problem}")


def _problem(status: int, text: bytes, *, on: bool) -> str:
    """What the answer says went wrong, "" where it confirms what was asked for.

    It holds one of `protection`, `failure` (with status 200 as well) and `error`.
    """
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        return f"HTTP {status} without an answer in JSON"
    if isinstance(failure := answer.get("failure"), dict):
        return f"{failure.get('Reason')}: {failure.get('Detail') or 'see the ECS API failure reasons'}"
    if isinstance(error := answer.get("error"), dict):
        code = str(error.get("Code"))
        remedy = (
            "; grant ecs:UpdateTaskProtection to the task role" if code.startswith("AccessDenied") else ""
        )
        return f"{code}: {error.get('Message')}{remedy}"
    protection = answer.get("protection")
    if status != HTTPStatus.OK or not isinstance(protection, dict):
        return f"HTTP {status}, and no word about the protection"
    is_on = protection.get("ProtectionEnabled") is True
    return "" if is_on is on else f"the agent answered that it is {'on' if is_on else 'off'}"
