"""A fleet of Limiters in virtual time: workers join, crash and lose answers, and every call is recorded."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from service.adapters.memory import MemoryTable
from service.domain.errors import LimitReachedError, ThrottledError, UnknownResultError
from service.mapping.definition import RateLimit
from service.mapping.replies.transcript import Usage
from service.runtime.metrics import Metrics
from service.worker.rate_limit.limiter import Limiter
from tests.simulation.loop import Owner, VirtualLoop
from tests.simulation.observed_ports import WorldClock

START_MS = 1_700_000_000_000


@dataclass(slots=True)
class Call:
    """A call as the agent sees it. Times in virtual seconds."""

    worker: str
    begin: float
    end: float
    usage: Usage


class DistantTable(MemoryTable):
    """A table with latency. Some calls fail, and some swaps are applied although their answer is lost."""

    def __init__(self, random: Random, faults: float) -> None:
        super().__init__()
        self.random = random
        self.faults = faults
        self.swaps = 0
        self.write_units = 0

    async def record(self, key):
        """Read the record, or fail."""
        await asyncio.sleep(self.random.uniform(0.002, 0.02))
        if self.random.random() < self.faults:
            raise ThrottledError("too fast")
        return await super().record(key)

    async def swap(self, key, text, *, version, ttl):
        """Swap the record, or fail before or after that."""
        self.swaps += 1
        self.write_units += math.ceil(len(text) / 1_024)
        await asyncio.sleep(self.random.uniform(0.002, 0.02))
        if self.random.random() < self.faults:
            raise ThrottledError("too fast")
        stands = await super().swap(key, text, version=version, ttl=ttl)
        await asyncio.sleep(self.random.uniform(0.002, 0.02))
        if self.random.random() < self.faults:
            raise UnknownResultError("no answer")
        return stands


@dataclass(slots=True)
class Member:
    """A worker process."""

    owner: Owner
    metrics: Metrics = field(default_factory=Metrics)
    refusals: int = 0

    def crash(self) -> None:
        """Stop all its tasks. Calls that it has sent still run at the agent."""
        self.owner.is_frozen = True


class Fleet:
    """Workers that share one limit."""

    def __init__(self, limit: RateLimit, seed: int = 1, *, faults: float = 0.0) -> None:
        self.random = Random(seed)
        self.loop = VirtualLoop(Random(seed), max_steps=50_000_000)
        self.table = DistantTable(Random(seed), faults)
        self.limit = limit
        self.calls: list[Call] = []
        self.members: list[Member] = []

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.at(self.loop.time() + seconds, self.loop.stop)
        self.loop.run()
        assert self.loop.errors == []

    def close(self) -> None:
        """Cancel all tasks."""
        self.loop.cancel_all([member.owner for member in self.members])

    def join(
        self,
        *,
        callers: int = 16,
        call_s: Callable[[Random], float] = lambda random: random.uniform(0.1, 2.0),
        usage: Callable[[Random], Usage] = lambda _: Usage(100, 50),
        pause_s: float = 0.0,
        skew_s: float = 0.0,
        stop_after_s: float | None = None,
    ) -> Member:
        """A new worker. Each of its callers makes one call after the other, `pause_s` apart on average."""
        name = f"w{len(self.members) + 1}"
        member = Member(Owner(name))
        self.members.append(member)
        clock = WorldClock(self.loop, START_MS, skew_s)

        async def call(limiter: Limiter) -> None:
            while stop_after_s is None or self.loop.time() < stop_after_s:
                try:
                    permit = await limiter.admit(limiter.estimate(400))
                except LimitReachedError as error:
                    member.refusals += 1
                    await clock.sleep(error.retry_after_s * self.random.uniform(0.5, 1.5))
                    continue
                now, spent = self.loop.time(), usage(self.random)
                duration = call_s(self.random)
                self.calls.append(Call(name, now, now + duration, spent))
                await clock.sleep(duration)
                permit.release(spent)
                await clock.sleep(self.random.uniform(0, 2 * pause_s))

        async def work() -> None:
            limiter = Limiter(
                self.table, self.limit, owner=name, clock=clock, metrics=member.metrics, call_s=2.0
            )
            async with limiter, asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(call(limiter))

        self.loop.spawn(member.owner, work())
        return member

    # -- as the agents saw it

    def most_begun(self, seconds: float) -> int:
        """The largest number of calls that began in any half-open window of this length."""
        begins = sorted(call.begin for call in self.calls)
        return max(bisect_left(begins, begin + seconds) - i for i, begin in enumerate(begins))

    def most_spent(self, seconds: float, tokens: Callable[[Call], int]) -> int:
        """The largest number of tokens used by calls that began in any half-open window of this length."""
        calls = sorted(self.calls, key=lambda call: call.begin)
        begins = [call.begin for call in calls]
        sums = [0]
        for call in calls:
            sums.append(sums[-1] + tokens(call))
        return max(sums[bisect_left(begins, b + seconds)] - sums[i] for i, b in enumerate(begins))

    def most_in_flight(self) -> int:
        """The largest number of calls in flight at once, with those of crashed workers: they still run."""
        changes = sorted([(call.begin, 1) for call in self.calls] + [(call.end, -1) for call in self.calls])
        most = now = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most

    def begun(self, since: float, until: float) -> int:
        """The number of calls that began in this interval."""
        return sum(since <= call.begin < until for call in self.calls)
