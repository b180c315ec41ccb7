"""The calls that reach the agents of a world, as whoever limits them counts: in any minute, and under way."""

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
    """Who calls: `fleet.Process`."""

    is_over: bool


@dataclass(slots=True, eq=False)
class _Call:
    """The agent is at work until `until_s`, unless its caller hangs up or dies before."""

    caller: Caller
    until_s: float


class AgentCalls:
    """All calls of a world. `broken` is told of a limit that does not hold."""

    def __init__(self, now: Callable[[], float], broken: Callable[[str, str], None]) -> None:
        self._now = now
        self._broken = broken
        self._begun: dict[str, deque[float]] = defaultdict(deque)
        self._under_way: dict[str, list[_Call]] = defaultdict(list)
        self.rows: list[RowKey] = []

    @contextmanager
    def under_way(self, mapping: MappingSpec, row: RowKey, caller: Caller, takes_s: float) -> Iterator[int]:
        """A call for a row begins; its number, by which its answer is known.

        rate_limit_holds, concurrent_limit_holds.
        """
        self.rows.append(row)
        number = len(self.rows) - 1
        if not mapping.limit_name:
            yield number
            return
        call = _Call(caller, self._now() + takes_s)
        self._count(mapping)
        calls = self._under_way[mapping.limit_name]
        calls[:] = [x for x in calls if x.until_s > self._now() and not x.caller.is_over]
        calls.append(call)
        if mapping.concurrent and len(calls) > mapping.concurrent:
            self._broken(
                "concurrent_limit_holds", f"{len(calls)} calls are under way at {mapping.limit_name}"
            )
        try:
            yield number
        finally:
            if call in calls:
                calls.remove(call)

    def _count(self, mapping: MappingSpec) -> None:
        begun, now = self._begun[mapping.limit_name], self._now()
        begun.append(now)
        while begun[0] <= now - MINUTE_S:
            begun.popleft()
        if mapping.per_minute and len(begun) > mapping.per_minute:
            self._broken("rate_limit_holds", f"{len(begun)} calls in a minute at {mapping.limit_name}")
