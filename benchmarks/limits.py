"""Rate limits of a fleet whose workers die and join: the limits must hold, and at least 90 % must be used.

    python benchmarks/limits.py [--rows 850] [--places-rows 1200]

The first agent is an HTTP server that enforces 600 requests a minute as services do: it answers 429 above 600
in any sliding minute, and above a token bucket of ten a second that holds ten. The second agent counts the
calls in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from aiohttp import web
from fleet import Fleet, Member, endpoint, run_with_agent, table_of, verdict, write_rows
from rich.console import Console

PER_MINUTE = 600
BURST = 10
SLOTS = 8
LEAST_USED = 0.9
GRACE_S = 1.0
"""Rejections in the first second are counted and allowed."""

CHANGES = ((8.0, "kill"), (16.0, "join"), (24.0, "kill"), (32.0, "join"), (44.0, "kill"), (50.0, "join"))
"""Events at seconds after the first call."""

SETTINGS = {"metrics_interval_s": 1, "rows__visibility_timeout_s": 20}
"""Metrics every second, so that killed workers have written theirs; their rows come again after 20 s."""


@dataclass
class PacedAgent:
    """Answers 429 above the limit. `served` and `rejected` have the monotonic time of each call."""

    delay_s: float = 0.3
    served: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    _bucket: float = BURST
    _filled_at: float = 0.0

    async def handle(self, request: web.Request) -> web.Response:
        """One call."""
        name = (await request.json())["name"]
        now = time.monotonic()
        self._bucket = min(BURST, self._bucket + (now - self._filled_at) * PER_MINUTE / 60)
        self._filled_at = now
        in_minute = len(self.served) < PER_MINUTE or self.served[-PER_MINUTE] <= now - 60
        if not in_minute or self._bucket < 1:
            self.rejected.append(now)
            return web.json_response({"reason": "too many"}, status=429)
        self._bucket -= 1
        self.served.append(now)
        await asyncio.sleep(self.delay_s)
        return web.json_response({"name": name.upper()})


@dataclass
class CountingAgent:
    """Records the number of calls in flight at each change."""

    delay_s: float = 0.5
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    _now: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        """One call."""
        self.arrived.append(self._change(1))
        try:
            name = (await request.json())["name"]
            await asyncio.sleep(self.delay_s)
            return web.json_response({"name": name.upper()})
        finally:
            self._change(-1)

    def _change(self, by: int) -> float:
        self._now += by
        self.in_flight.append((time.monotonic(), self._now))
        return self.in_flight[-1][0]

    @property
    def mean_in_flight(self) -> float:
        """The mean number of calls in flight from the first call to the start of the last one."""
        start, end = self.arrived[0], self.arrived[-1]
        within = [(at, count) for at, count in self.in_flight if at <= end]
        pairs = pairwise(within)
        return sum(count * (until - at) for (at, count), (until, _) in pairs) / (end - start)


def worst(times: Sequence[float], window_s: float) -> int:
    """The highest number of these times in any window of this length."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@dataclass
class Run:
    """Result of one batch: seconds and ledger writes of each worker, and the number of wrong rows."""

    writes: dict[str, tuple[float, int]]
    wrong: int


def run(agent: PacedAgent | CountingAgent, limit: str, rows: int, workers: int, url: str) -> Run:
    """Run one batch on an endpoint of its own; with the paced agent, workers are killed and join."""
    names = [f"name {number}" for number in range(1, rows + 1)]
    with endpoint() as (folder, aws), Fleet(folder, aws, "limits", **SETTINGS) as fleet:
        source = folder / "names.csv"
        write_rows(source, ("name",), ((name,) for name in names))
        fleet.mapping("bench", f'invoke: http, url: "{url}"', "name: $.name", f"rate_limit: {{{limit}}}\n")
        _, _, *members = fleet.start("splitter", "aggregator", *["worker"] * workers)
        changes = threading.Thread(target=change_workers, args=(agent, fleet, members))
        if isinstance(agent, PacedAgent):
            changes.start()
        status = fleet.submit(source, "bench")
        if isinstance(agent, PacedAgent):
            changes.join()
        for member in members:
            if member.process.returncode is None:
                member.end()
        writes = {member.name: (member.seconds, member.counts()["limit_writes"]) for member in members}
        output = fleet.fetch(status, Path(folder, "output.csv"))
    wanted = Counter(name.upper() for name in names)
    got = Counter(row["output_name"] for row in output)
    return Run(writes, (wanted - got).total() + (got - wanted).total())


def change_workers(agent: PacedAgent, fleet: Fleet, members: list[Member]) -> None:
    """Kill the oldest worker, or start a new one, at the times of `CHANGES`."""
    while not agent.served:
        time.sleep(0.01)
    killed = 0
    for after_s, what in CHANGES:
        time.sleep(max(0.0, agent.served[0] + after_s - time.monotonic()))
        if what == "join":
            members += fleet.start("worker")
        else:
            members[killed].end(signal.SIGKILL)
            killed += 1


def measure_pace(console: Console, rows: int) -> dict[str, bool]:
    """Measure a limit of 600 requests a minute while workers die; return the criteria."""
    agent = PacedAgent()
    ran = run_with_agent(
        agent.handle, lambda url: run(agent, f"requests_per_minute: {PER_MINUTE}", rows, 4, url)
    )
    first, last = agent.served[0], agent.served[-1]
    late = sum(at > first + GRACE_S for at in agent.rejected)
    used = (len(agent.served) - 1) / (last - first) / (PER_MINUTE / 60)
    killed = sum(what == "kill" for _, what in CHANGES)
    per_second = [writes / seconds for seconds, writes in ran.writes.values()]
    console.print(f"requests_per_minute: {PER_MINUTE}; 4 workers, {killed} killed and replaced", style="bold")
    lines = {
        "rows": f"{rows:,}",
        "requests served": f"{len(agent.served):,}",
        "seconds from the first to the last": f"{last - first:.1f}",
        "of the allowed rate": f"{used:.1%}",
        "429, in all": f"{len(agent.rejected)}",
        "429, after the first second": f"{late}",
        "worst 60 s": f"{worst(agent.served, 60)}",
        "worst 1 s": f"{worst(agent.served, 1)}",
        "ledger writes per worker and second, mean": f"{sum(per_second) / len(per_second):.2f}",
        "ledger writes per worker and second, most": f"{max(per_second):.2f}",
        "rows missing, double or wrong": f"{ran.wrong}",
    }
    console.print(table_of(("", ""), lines.items()))
    return {
        "no request rejected after the first second": not late,
        f"{LEAST_USED:.0%} of {PER_MINUTE} a minute used": used >= LEAST_USED,
        "each row once in the output": not ran.wrong,
    }


def measure_concurrency(console: Console, rows: int) -> dict[str, bool]:
    """Measure a limit of eight calls in flight; return the criteria."""
    agent = CountingAgent()
    ran = run_with_agent(agent.handle, lambda url: run(agent, f"concurrent: {SLOTS}", rows, 3, url))
    most = max(count for _, count in agent.in_flight)
    per_second = [writes / seconds for seconds, writes in ran.writes.values()]
    console.print(f"concurrent: {SLOTS}; 3 workers, an agent of {agent.delay_s * 1000:g} ms", style="bold")
    lines = {
        "requests": f"{len(agent.arrived):,}",
        "seconds from the first to the last": f"{agent.arrived[-1] - agent.arrived[0]:.1f}",
        "most under way": f"{most}",
        "under way, mean": f"{agent.mean_in_flight:.2f}",
        "of the places": f"{agent.mean_in_flight / SLOTS:.1%}",
        "ledger writes per worker and second, mean": f"{sum(per_second) / len(per_second):.2f}",
        "rows missing, double or wrong": f"{ran.wrong}",
    }
    console.print(table_of(("", ""), lines.items()))
    return {
        f"never more than {SLOTS} under way": most <= SLOTS,
        f"{LEAST_USED:.0%} of the {SLOTS} places used": agent.mean_in_flight / SLOTS >= LEAST_USED,
        "each row once in that output": not ran.wrong,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=850)
    parser.add_argument("--places-rows", type=int, default=1_200)
    options = parser.parse_args()
    console = Console()
    criteria = measure_pace(console, options.rows)
    criteria |= measure_concurrency(console, options.places_rows)
    verdict(console, criteria)


if __name__ == "__main__":
    main()
