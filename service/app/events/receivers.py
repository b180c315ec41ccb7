"""The receivers of what the outbox holds, from the settings: targets of events, and Step Functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from service import __version__
from service.adapters.aws.clients import AwsOptions, open_client
from service.adapters.aws.receivers.event_bus import EventBusTarget
from service.adapters.aws.receivers.task_service import StepFunctionsTasks
from service.adapters.aws.receivers.topic import TopicTarget
from service.adapters.webhook.webhook import WebhookTarget
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.secrets import SecretCache
from service.app.aws.backend import aws_options
from service.app.events.event_settings import secret_name
from service.app.settings import Settings, user_environment
from service.domain.ports import EventTarget, TaskService
from service.runtime.clock import SystemClock

SECRET_TIMEOUT_S = 10.0
"""Longest wait for the store of the signing secret."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """The targets that have to get each event, and the service whose tasks wait for batches."""

    targets: Sequence[EventTarget]
    tasks: TaskService


@asynccontextmanager
async def open_receivers(options: AwsOptions, settings: Settings) -> AsyncIterator[Receivers]:
    """The receivers that the settings name. Their clients in AWS are opened when they are first used."""
    events = settings.events
    async with AsyncExitStack() as stack:
        called = (options.call_timeout_s, options.endpoint)
        targets: list[EventTarget] = []
        if url := events.webhook_url.get_secret_value():
            webhook = WebhookTarget(
                url,
                _signing_secret(settings, stack),
                allow_private=events.allow_private,
                now_s=lambda: SystemClock().now_ms() / 1000,
                user_agent=f"rowfleet/{__version__}",
            )
            targets.append(await stack.enter_async_context(webhook))
        if events.event_bus:
            targets.append(EventBusTarget(_client(options, "events", stack), events.event_bus, *called))
        if events.topic_arn:
            targets.append(TopicTarget(_client(options, "sns", stack), events.topic_arn, *called))
        yield Receivers(targets, StepFunctionsTasks(_client(options, "stepfunctions", stack), *called))


def _client(options: AwsOptions, service: str, stack: AsyncExitStack) -> Callable[[], Awaitable[Any]]:
    """Return a function that returns the client of a service, which `stack` closes."""
    lock = asyncio.Lock()
    opened: list[Any] = []

    async def client() -> Any:
        # opened late, since most processes never use it and a client takes a tenth of a second
        async with lock:
            if not opened:
                opened.append(await stack.enter_async_context(open_client(options, service)))
        return opened[0]

    return client


def _signing_secret(settings: Settings, stack: AsyncExitStack) -> Callable[[], Awaitable[str]]:
    """Return a function that reads the webhook's secret, as the secrets of targets are read."""
    where = "ROWFLEET_EVENTS__WEBHOOK_SECRET"
    cache = SecretCache(
        ResolvedOptions(where=where, values={}, written={}, redactions=()),
        AgentContext(
            environ=user_environment(),
            secret_ttl_s=settings.secrets.ttl_s,
            aws=partial(aws_options, settings),
        ),
    )
    stack.push_async_callback(cache.close)
    name = secret_name(settings.events.webhook_secret.get_secret_value())

    async def secret() -> str:
        return (await cache.values([name], SECRET_TIMEOUT_S))[name]

    return secret
