"""Scale-in protection on ECS: a task that holds messages is not stopped when the service scales in.

The container agent's endpoint is `PUT $ECS_AGENT_URI/task-protection/v1/state`
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html). It needs
ecs:UpdateTaskProtection in the task role and works only for tasks of a service.

Protection saves agent calls, not rows: a task that is stopped all the same drains, and the rows that it
cannot finish are redelivered elsewhere. If the endpoint fails, that is logged and work goes on.

A deployment waits for protected tasks. A task that is never idle therefore ends its protection once an hour,
for long enough that ECS can replace it, but not in the middle of long work: the split, the results or the
recovery of a large batch. ECS takes at most 48 hours at a time and counts anew with each renewal; the task
protects itself no longer than 48 hours in one go.
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
from service.runtime.tasks import until_stopped

PATH = "/task-protection/v1/state"

REQUEST_TIMEOUT_S = 10.0
"""Longer than the agent's own call to ECS, which it ends after about 5 s."""


@dataclass(frozen=True, slots=True)
class ProtectionLimits:
    """Times of the protection. ECS takes an expiry of 1 to 2,880 minutes.

    Every `check_s` the task looks whether it holds messages. Protection is renewed every `renew_s`, ends
    after `idle_s` without messages, and after `longest_s` ends for `pause_s` even if the task is busy. This
    pause waits, until `most_s` at the latest, while a message is held for longer than `long_work_s`.
    """

    check_s: float = 1.0
    expires_minutes: int = 15
    renew_s: float = 300.0
    idle_s: float = 30.0
    longest_s: float = 3_600.0
    long_work_s: float = 900.0
    most_s: float = 48 * 3_600.0
    pause_s: float = 120.0


SetProtection = Callable[[bool, int], Awaitable[None]]
"""Switches the protection of this task on or off, for that many minutes. Raises RetryableError."""


class TaskProtection:
    """Protects this task while it holds messages: `held_since` is when it received the oldest, or None."""

    def __init__(
        self,
        set_protection: SetProtection,
        held_since: Callable[[], float | None],
        clock: Clock,
        limits: ProtectionLimits,
    ) -> None:
        self._set_protection = set_protection
        self._held_since = held_since
        self._clock = clock
        self._limits = limits
        self._backoff = Backoff()
        self._incident = IncidentLog(clock, "task_protection_failed")
        self._protected_at: float | None = None  # None while the task is not protected
        self._may_be_on = False  # True from the first request on, whatever became of it
        self._renewed_at = self._busy_at = self._paused_until = 0.0

    async def run(self) -> None:
        """Switch protection on and off until cancelled; then switch it off."""
        try:
            while True:
                await self._update()
                await self._clock.sleep(self._limits.check_s)
        finally:
            # a request that was cancelled may have reached the agent
            if self._may_be_on:
                await self._switch(on=False)

    async def _update(self) -> None:
        now, limits = self._clock.monotonic(), self._limits
        since = self._held_since()
        is_busy = since is not None
        if is_busy:
            self._busy_at = now
        has_long_work = since is not None and now - since >= limits.long_work_s
        longest_s = limits.most_s if has_long_work else limits.longest_s
        if now < self._backoff.until:
            return
        if self._protected_at is None:
            if is_busy and now >= self._paused_until:
                await self._switch(on=True)
        elif now - self._busy_at >= limits.idle_s:
            await self._switch(on=False)
        elif now - self._protected_at >= longest_s:
            if await self._switch(on=False):
                self._paused_until = now + limits.pause_s
        elif now - self._renewed_at >= limits.renew_s:
            await self._switch(on=True)

    async def _switch(self, *, on: bool) -> bool:
        """Set the protection. False if the agent failed: the next try follows after a back-off."""
        self._may_be_on = self._may_be_on or on
        try:
            await self._set_protection(on, self._limits.expires_minutes)
        except RetryableError as error:
            self._backoff.failed(error, self._clock.monotonic())
            self._incident.update(str(error))
            return False
        self._backoff.succeeded()
        self._incident.update("")
        now = self._clock.monotonic()
        self._may_be_on = on
        self._renewed_at = now
        if not on:
            self._protected_at = None
        elif self._protected_at is None:
            self._protected_at = now
        return True


async def protect_task(
    uri: str, held_since: Callable[[], float | None], clock: Clock, stop: asyncio.Event
) -> None:
    """Protect this task through the agent at `uri` while it holds messages, until `stop` is set."""
    async with aiohttp.ClientSession() as session:
        protection = TaskProtection(EcsAgent(session, uri), held_since, clock, ProtectionLimits())
        await until_stopped(stop, protection.run())


class EcsAgent:
    """The container agent's endpoint at `$ECS_AGENT_URI`. Calls are not retried here."""

    def __init__(self, session: aiohttp.ClientSession, uri: str) -> None:
        self._session = session
        self._url = uri.rstrip("/") + PATH

    async def __call__(self, on: bool, minutes: int) -> None:
        """Protect this task for `minutes`, or end its protection. Raises RetryableError."""
        body: dict[str, object] = {"ProtectionEnabled": on}
        if on:
            body["ExpiresInMinutes"] = minutes
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        try:
            async with self._session.put(self._url, json=body, timeout=timeout) as response:
                status, text = response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise RetryableError(f"the ECS agent does not answer: {error or type(error).__name__}") from error
        if problem := _problem(status, text, on=on):
            raise RetryableError(f"task protection {'on' if on else 'off'}: {problem}")


def _problem(status: int, text: bytes, *, on: bool) -> str:
    """The problem that a response reports, "" if it confirms the request.

    A response has one of the keys `protection`, `failure` (also with status 200) and `error`.
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
