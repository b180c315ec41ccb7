"""Repeated calls of ports."""

import pytest
import stamina

from service.domain.errors import AccessError, ThrottledError
from service.runtime.port_retries import retry_for


class Flaky:
    """Fails with `errors`, one a call, then returns its argument."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self, value: int) -> int:
        """Fail or return."""
        if self.errors:
            raise self.errors.pop(0)
        return value


async def test_a_retryable_error_is_retried():
    """The caller returns the value of the first call that succeeds."""
    retry = retry_for(10.0, first_s=0.05, longest_s=2.0)
    assert await retry(Flaky(ThrottledError("1"), ThrottledError("2")), 7) == 7


async def test_other_errors_are_raised_at_once():
    """A refused permission is not retried."""
    flaky = Flaky(AccessError("denied"), ThrottledError("never raised"))
    with pytest.raises(AccessError, match="denied"):
        await retry_for(10.0, first_s=0.05, longest_s=2.0)(flaky, 7)
    assert len(flaky.errors) == 1


async def test_the_last_error_is_raised_after_the_time_out():
    """Pauses are real, so that the time-out ends the calls and not their number."""
    flaky = Flaky(*(ThrottledError(str(n)) for n in range(1_000)))
    with stamina.set_testing(False), pytest.raises(ThrottledError):
        await retry_for(0.2, first_s=0.05, longest_s=0.05, jitter_s=0.0)(flaky, 7)
    assert 1 <= 1_000 - len(flaky.errors) < 10
