"""The invariant one_trial_at_a_time: calls in a batch that is held for its target are trials, one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.agent_calls import Caller


@dataclass(frozen=True, slots=True)
class _Call:
    """A trial call under way, which its caller cuts off at `until_s`."""

    caller: Caller
    until_s: float


class TrialCalls:
    """The trial calls of a world that are under way, by the batch's identity."""

    def __init__(self, now: Callable[[], float], violated: Callable[[str, str], None]) -> None:
        self._now = now
        self._violated = violated
        self._under_way: dict[str, list[_Call]] = defaultdict(list)
        self.count = 0

    @contextmanager
    def under_way(self, identity: str, caller: Caller, timeout_s: float) -> Iterator[None]:
        """Count a call of a batch that its target holds. Checks one_trial_at_a_time."""
        self.count += 1
        calls = self._under_way[identity]
        # A call of a process that has ended is one that the sweeper waits for all the same.
        others = [call for call in calls if call.until_s > self._now() and not call.caller.is_over]
        if others:
            self._violated("one_trial_at_a_time", f"{len(others) + 1} trials of {identity} are under way")
        call = _Call(caller, self._now() + timeout_s)
        calls[:] = [*others, call]
        try:
            yield
        finally:
            if call in calls:
                calls.remove(call)
