"""The webhook that the settings name, with its signing secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from service import __version__
from service.adapters.webhook.webhook import WebhookTarget
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.secrets import SecretCache
from service.app.events.event_settings import secret_name
from service.app.settings import Settings, user_environment
from service.app.wiring.agents import options_on_demand
from service.runtime.clock import SystemClock

SECRET_TIMEOUT_S = 10.0
"""Longest wait for the store of the signing secret."""


async def open_webhook(settings: Settings, stack: AsyncExitStack) -> WebhookTarget | None:
    """The webhook that the settings name, which `stack` closes; None without one."""
    events = settings.events
    if not (url := events.webhook_url.get_secret_value()):
        return None
    webhook = WebhookTarget(
        url,
        _signing_secret(settings, stack),
        allow_private=events.allow_private,
        proxy=settings.http.proxy,
        now_s=lambda: SystemClock().now_ms() / 1000,
        user_agent=f"rowfleet/{__version__}",
    )
    return await stack.enter_async_context(webhook)


def _signing_secret(settings: Settings, stack: AsyncExitStack) -> Callable[[], Awaitable[str]]:
    """Return a function that reads the webhook's secret, as the secrets of targets are read."""
    where = "ROWFLEET_EVENTS__WEBHOOK_SECRET"
    cache = SecretCache(
        ResolvedOptions(where=where, values={}, written={}, redactions=()),
        AgentContext(
            environ=user_environment(),
            secret_ttl_s=settings.secrets.ttl_s,
            aws=options_on_demand(settings),
        ),
    )
    stack.push_async_callback(cache.close)
    name = secret_name(settings.events.webhook_secret.get_secret_value())

    async def secret() -> str:
        return (await cache.values([name], SECRET_TIMEOUT_S))[name]

    return secret
