"""Repeated calls of ports: a RetryableError is retried with growing pauses until a time-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

import stamina

from service.domain.errors import RetryableError

P = ParamSpec("P")
T = TypeVar("T")


Decide = type[Exception] | Callable[[Exception], bool]
"""The errors after which a call is repeated."""


class RetryingCaller:
    """`await caller(function, *args)` repeats the call while it raises RetryableError."""

    def __init__(self, caller: stamina.AsyncRetryingCaller) -> None:
        self._caller = caller

    async def __call__(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **named: P.kwargs) -> T:
        """The value of the first call that succeeds. Raises the last error once the time is over."""
        return await repeated(self._caller, RetryableError, partial(function, *args, **named))


async def repeated(
    caller: stamina.AsyncRetryingCaller, decide: Decide, function: Callable[[], Awaitable[T]]
) -> T:
    """The value of the first call of `function` that succeeds. Raises the last error.

    Stamina repeats it. The first call goes without: its machinery costs more than some calls.
    """
    try:
        return await function()
    except Exception as error:  # noqa: BLE001 -- `decide` knows which ones are meant
        failed: Exception | None = error

    async def call() -> T:
        # Stamina gets the error of the first call, and pauses as after one of its own.
        nonlocal failed
        if (first := failed) is not None:
            failed = None
            raise first
        return await function()

    return await caller.on(decide)(call)


def retry_for(timeout_s: float, *, first_s: float, longest_s: float, jitter_s: float = 1.0) -> RetryingCaller:
    """A caller: `await caller(function, *args)` repeats the call while it raises RetryableError.

    The pause before the first repetition is `first_s`; it doubles each time up to `longest_s`, with up to
    `jitter_s` more at random. The last error is raised once `timeout_s` is over, counted from the first
    failure; other errors at once.
    """
    return RetryingCaller(retrying(timeout_s, first_s=first_s, longest_s=longest_s, jitter_s=jitter_s))


def retrying(
    timeout_s: float | None, *, first_s: float, longest_s: float, jitter_s: float = 1.0
) -> stamina.AsyncRetryingCaller:
    """The same for other errors: `await caller(decide, function, *args)`, without a time-out for None.

    `decide` gets the error of each failed call, and returns True to repeat it.
    """
    return stamina.AsyncRetryingCaller(
        # no limit by number: a throttled service may refuse many quick calls
        attempts=None,
        timeout=timeout_s,
        wait_initial=first_s,
        wait_max=longest_s,
        wait_jitter=jitter_s,
    )
