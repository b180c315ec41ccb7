"""Retries in virtual time are those of stamina."""

import asyncio
import random
from types import SimpleNamespace

import pytest
import tenacity

from service.domain.errors import AccessError, RetryableError
from service.runtime.port_retries import retry_for, retrying
from tests.simulation.loop import VirtualLoop
from tests.simulation.retries import virtual_retries


def times(caller, errors: list[Exception]) -> tuple[list[float], object]:
    """The virtual times at which the caller calls a function that fails with `errors`, and the result."""
    loop, called, results = VirtualLoop(random.Random(1)), [], []

    async def function() -> str:
        called.append(loop.time())
        if errors:
            raise errors.pop(0)
        return "done"

    async def main() -> None:
        try:
            results.append(await caller(function))
        except (RetryableError, AccessError) as error:
            results.append(str(error))
        loop.stop()

    random.seed(7)
    loop.spawn(loop.world, main())
    loop.run()
    return called, results[0]


CALLERS = {
    "by type, with a time-out": retry_for(20.0, first_s=0.05, longest_s=5.0),
    "by decision, without one": retrying(None, first_s=0.02, longest_s=5.0, jitter_s=0.1).on(
        lambda error: not isinstance(error, AccessError)
    ),
    "without jitter": retry_for(2.0, first_s=0.5, longest_s=1.0, jitter_s=0.0),
}


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("failures", [0, 1, 9])
@pytest.mark.parametrize("last", [[], [AccessError("denied")]])
def test_calls_are_repeated_at_the_same_times_as_by_stamina(monkeypatch, name, failures, last) -> None:
    """The pauses, the end by a time-out and the end by another error are the same."""
    errors = [*(RetryableError(f"failure {number}") for number in range(failures)), *last]
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(tenacity, "time", clock)
    by_stamina = times(CALLERS[name], list(errors))
    with virtual_retries():
        assert times(CALLERS[name], list(errors)) == by_stamina
