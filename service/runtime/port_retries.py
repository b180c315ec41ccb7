"""Repeated calls of ports: a RetryableError is retried with growing pauses until a time-out."""

from __future__ import annotations

import stamina

from service.domain.errors import RetryableError


def retry_for(
    timeout_s: float, *, first_s: float, longest_s: float, jitter_s: float = 1.0
) -> stamina.BoundAsyncRetryingCaller:
    """A caller: `await caller(function, *args)` repeats the call while it raises RetryableError.

    The pause before the first repetition is `first_s`; it doubles each time up to `longest_s`, with up to
    `jitter_s` more at random. The last error is raised once `timeout_s` is over; other errors at once.
    """
    return retrying(timeout_s, first_s=first_s, longest_s=longest_s, jitter_s=jitter_s).on(RetryableError)


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
