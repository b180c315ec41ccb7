"""The calls that reach the agents of a world, counted as a provider would: in any minute, and in flight."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.simulation.mappings import MappingSpec
from tests.simulation.observed_ports import RowKey

MINUTE_S = 60.0


class Caller(Protocol):
    """The process that calls: `process.Process`."""

    is_over: bool


@dataclass(slots=True, eq=False)
class _Call:
    """A call in flight until `until_s`, unless its caller hangs up or crashes before."""

    caller: Caller
    until_s: float


class AgentCalls:
    """All calls of a world. `violated` is called with an invariant and a text if a limit does not hold.

    `rows` has the row of each call, in order: the index is the number of the call.
    """

    def __init__(self, now: Callable[[], float], violated: Callable[[str, str], None]) -> None:
        self._now = now
        self._violated = violated
        self._begun: dict[str, deque[float]] = defaultdict(deque)
        self._in_flight: dict[str, list[_Call]] = defaultdict(list)
        self.rows: list[RowKey] = []

    @contextmanager
    def in_flight(self, mapping: MappingSpec, row: RowKey, caller: Caller, takes_s: float) -> Iterator[int]:
        """Count a call of `takes_s` as in flight. Yield its number, by which its reply is known.

        Checks rate_limit_holds and concurrent_limit_holds.
        """
        self.rows.append(row)
        number = len(self.rows) - 1
        if not mapping.limit_name:
            yield number
            return
        call = _Call(caller, self._now() + takes_s)
        self._check_rate(mapping)
        calls = self._in_flight[mapping.limit_name]
        # A call ends at the provider when its caller's process has ended: the connection is closed.
        calls[:] = [x for x in calls if x.until_s > self._now() and not x.caller.is_over]
        calls.append(call)
        if mapping.concurrent and len(calls) > mapping.concurrent:
            self._violated(
                "concurrent_limit_holds", f"{len(calls)} calls are under way at {mapping.limit_name}"
            )
        try:
            yield number
        finally:
            if call in calls:
                calls.remove(call)

    def _check_rate(self, mapping: MappingSpec) -> None:
        begun, now = self._begun[mapping.limit_name], self._now()
        begun.append(now)
        while begun[0] <= now - MINUTE_S:
            begun.popleft()
        if mapping.per_minute and len(begun) > mapping.per_minute:
            self._violated("rate_limit_holds", f"{len(begun)} calls in a minute at {mapping.limit_name}")
