"""The receivers of a process on AWS: EventBridge, SNS and Step Functions, beside a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from service.adapters.aws.clients import AwsOptions, open_client
from service.adapters.aws.receivers.event_bus import EventBusTarget
from service.adapters.aws.receivers.task_service import StepFunctionsTasks
from service.adapters.aws.receivers.topic import TopicTarget
from service.app.events.receivers import Receivers
from service.app.events.webhook_target import open_webhook
from service.app.settings import Settings
from service.domain.ports import EventTarget


@asynccontextmanager
async def open_receivers(options: AwsOptions, settings: Settings) -> AsyncIterator[Receivers]:
    """The receivers that the settings name. Their clients in AWS are opened when they are first used."""
    events = settings.events
    async with AsyncExitStack() as stack:
        called = (options.call_timeout_s, options.endpoint)
        targets: list[EventTarget] = []
        if webhook := await open_webhook(settings, stack):
            targets.append(webhook)
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
