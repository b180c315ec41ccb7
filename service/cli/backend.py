"""Commands on the AWS backend that the settings name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.app.aws.backend import AwsBackend, aws_options, connect
from service.app.settings import Settings
from service.cli.console import (
    run_async,
)
from service.cli.options import (
    log_as_command,
)

T = TypeVar("T")


def run_on_backend(settings: Settings, work: Callable[[AwsBackend], Awaitable[T]]) -> T:
    """Run `work` on an open backend."""
    log_as_command(settings)

    async def connected() -> T:
        async with connect(settings, aws_options(settings)) as backend:
            return await work(backend)

    return run_async(connected())
