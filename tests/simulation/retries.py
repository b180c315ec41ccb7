"""Retries in virtual time, by stamina's rules: its own machinery takes a tenth of the time of a world."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import stamina

On = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


@contextmanager
def virtual_retries() -> Iterator[None]:
    """Callers of stamina repeat calls by the running loop's time, and draw jitter from `random`."""
    real = stamina.AsyncRetryingCaller.__call__
    stamina.AsyncRetryingCaller.__call__ = _call  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        stamina.AsyncRetryingCaller.__call__ = real  # type: ignore[method-assign]


async def _call(
    caller: stamina.AsyncRetryingCaller,
    on: On,
    function: Callable[..., Awaitable[Any]],
    /,
    *arguments: Any,
    **named: Any,
) -> Any:
    """Do the same as `AsyncRetryingCaller.__call__` without a limit of attempts and without hooks."""
    settings = caller._context_kws
    timeout, longest, wait = settings["timeout"], settings["wait_max"], settings["wait_initial"]
    now = asyncio.get_running_loop().time
    began = now()
    while True:
        try:
            return await function(*arguments, **named)
        except Exception as error:
            if not (isinstance(error, on) if isinstance(on, type | tuple) else on(error)):
                raise
            pause = min(longest, wait + random.uniform(0, settings["wait_jitter"]))
            if timeout is not None and now() - began >= timeout:
                raise
        wait *= settings["wait_exp_base"]
        await asyncio.sleep(pause)
