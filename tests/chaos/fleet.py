"""The `rowfleet serve` processes of a chaos run: started, killed, drained, frozen, and started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from itertools import pairwise

from tests.acceptance.support import Deployment, Running
from tests.chaos.operations.calls import Absence
from tests.chaos.plan import Act

VISIBILITY_S = 5
DRAIN_S = 10
ENOUGH_RECEIVES = 1_000
"""So many deliveries that kills alone do not make a row a dead letter, or FAILED."""

END_S = DRAIN_S + 40
"""Limit for the end of a process after SIGTERM: its drain, and calls that end at their own time-outs."""

TIMES = {
    "ROWFLEET_INGEST__VISIBILITY_TIMEOUT_S": VISIBILITY_S,
    "ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S": VISIBILITY_S,
    "ROWFLEET_RESULTS__VISIBILITY_TIMEOUT_S": VISIBILITY_S,
    "ROWFLEET_AWS__READ_TIMEOUT_S": 3,
    "ROWFLEET_AWS__CONNECT_TIMEOUT_S": 2,
    "ROWFLEET_DRAIN_TIMEOUT_S": DRAIN_S,
}
"""Seconds, for a machine that has nothing else to do."""

SETTINGS = {
    # Empty queues are asked seldom: most of the time of a small machine would go into it.
    "ROWFLEET_INGEST__POLL_WAIT_S": "1",
    "ROWFLEET_ROWS__POLL_WAIT_S": "1",
    "ROWFLEET_RESULTS__POLL_WAIT_S": "1",
    "ROWFLEET_ROWS__MAX_RECEIVES": str(ENOUGH_RECEIVES),
    "ROWFLEET_INGEST__MAX_RECEIVES": str(ENOUGH_RECEIVES),
    "ROWFLEET_RESULTS__MAX_RECEIVES": str(ENOUGH_RECEIVES),
    "ROWFLEET_WORKER__INLINE_WAIT_S": "2",
    "ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "32",
    "ROWFLEET_WORKER__MAX_HELD_ROWS": "200",
    "ROWFLEET_SPLIT__CHECKPOINT_ROWS": "100",
    "ROWFLEET_SPLIT__MAX_QUEUED_ROWS": "300",
    "ROWFLEET_SPLIT__PARTITION_BYTES": "8192",
    "ROWFLEET_AGGREGATE__PART_BYTES": str(5 * 2**20),
    "ROWFLEET_AGGREGATE__PAGE_ROWS": "200",
}
"""Small windows and short times, so that a minute shows the events of a day."""

CANNOT_START = 2
"""Exit code of a process that cannot reach AWS when it starts. The fleet starts another."""

BUGS = frozenset({"handler_crashed", "settle_crashed", "counters_exceed_due", "counters_differ_from_rows"})
"""Events that only a bug can cause, never a fault."""


class State(Enum):
    """The state of a process."""

    STARTING = auto()
    UP = auto()
    FROZEN = auto()
    ENDING = auto()


@dataclass
class Member:
    """One member of the fleet and its present process, which has a number of its own.

    `until` is when FROZEN or ENDING is over.
    """

    running: Running
    number: int
    state: State = State.STARTING
    since: float = field(default_factory=time.monotonic)
    until: float = 0.0


class Fleet:
    """`size` processes with every role. Processes that end are replaced, as a container service does."""

    def __init__(
        self, deployment: Deployment, endpoint_url: str, size: int, *, slowness: float = 1.0
    ) -> None:
        self._slowness = slowness
        times = {name: str(seconds * slowness) for name, seconds in TIMES.items()}
        self._settings = SETTINGS | times
        self._deployment = deployment
        self.endpoint_url = endpoint_url
        self._ended: list[Running] = []
        self._started = 0
        self.absences: list[Absence] = []
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.longest_end_s = 0.0
        self._members = [Member(*self._start()) for _ in range(size)]

    def act(self, act: Act, pick: float) -> bool:
        """Perform an act on a process in a fit state, selected by `pick` in [0, 1). False if none is."""
        states = {State.UP, State.STARTING} if act is Act.KILL else {State.UP}
        able = [member for member in self._members if member.state in states]
        if not able:
            return False
        member, now = able[int(pick * len(able))], time.monotonic()
        process = member.running.process
        self.done[act] += 1
        if act is Act.KILL:
            process.kill()
            process.wait()
            self.absences.append(Absence(member.number, act, now, now))
            self._replace(member)
        elif act is Act.TERM:
            process.terminate()
            self.absences.append(Absence(member.number, act, now, now + self._end_s))
            member.state, member.since, member.until = State.ENDING, now, now + self._end_s
        else:
            process.send_signal(signal.SIGSTOP)
            member.state, member.since, member.until = (
                State.FROZEN,
                now,
                now + VISIBILITY_S * self._slowness * (1.3 + pick),
            )
        return True

    def tend(self) -> None:
        """Resume processes that were frozen long enough, and replace those that ended."""
        for member in self._members:
            code = member.running.process.poll()
            if code is not None:
                self._has_ended(member, code)
            elif member.state is State.STARTING and member.running.events("service_started"):
                member.state = State.UP
            elif member.state is State.FROZEN and time.monotonic() >= member.until:
                self._wake(member)
            elif member.state is State.ENDING and time.monotonic() >= member.until:
                self.problems.append(f"SIGTERM: it still runs after {self._end_s:g} s")
                member.running.process.kill()

    def wake_all(self) -> None:
        """Resume all frozen processes."""
        for member in self._members:
            if member.state is State.FROZEN:
                self._wake(member)

    @property
    def _end_s(self) -> float:
        return END_S * self._slowness

    @property
    def is_up(self) -> bool:
        """True if every member has a running process."""
        self.tend()
        return all(member.state is State.UP for member in self._members)

    def stop(self) -> None:
        """Send SIGTERM to all processes. Each must exit with code 0."""
        for member in self._members:
            member.running.process.terminate()
        for member in self._members:
            try:
                code = member.running.process.wait(self._end_s)
            except subprocess.TimeoutExpired:
                code = -1
            if code != 0:
                self.problems.append(f"SIGTERM at the end: exit {code}: {_tail(member.running)}")
            self._ended.append(member.running)
        self._members.clear()

    def logs(self) -> Iterator[Running]:
        """Every process so far."""
        yield from self._ended
        yield from (member.running for member in self._members)

    def count_events(self) -> Counter[str]:
        """Count the logged events. Tracebacks and events of bugs become problems."""
        counted: Counter[str] = Counter()
        for running in self.logs():
            if "Traceback" in running.stderr:
                self.problems.append(f"a traceback: {_tail(running, around='Traceback')}")
            for event in running.all_events():
                counted[event["event"]] += 1
                if event["event"] in BUGS:
                    self.problems.append(f"logged: {event}")
        return counted

    def longest_silence(self, since: datetime, until: datetime) -> tuple[float, str]:
        """The longest time in seconds in which no process logged anything, and the event that ended it."""
        events = [event for running in self.logs() for event in running.all_events()]
        times = [(datetime.fromisoformat(event["timestamp"]), event["event"]) for event in events]
        within = sorted((at, name) for at, name in times if since <= at <= until)
        marks = [(since, ""), *within, (until, "the end")]
        gaps = [((after - before).total_seconds(), name) for (before, _), (after, name) in pairwise(marks)]
        return max(gaps)

    def _start(self) -> tuple[Running, int]:
        """A new process and its number, which is in the path of each of its calls."""
        self._started += 1
        agent_url = f"{self._deployment.env['AGENT_URL']}/{self._started}"
        environment = {"AWS_ENDPOINT_URL": self.endpoint_url, "AGENT_URL": agent_url, **self._settings}
        return self._deployment.start("serve", **environment), self._started

    def _replace(self, member: Member) -> None:
        self._ended.append(member.running)
        member.running, member.number = self._start()
        member.state, member.since = State.STARTING, time.monotonic()

    def _wake(self, member: Member) -> None:
        member.running.process.send_signal(signal.SIGCONT)
        member.state = State.UP
        self.absences.append(Absence(member.number, Act.STOP, member.since, time.monotonic()))

    def _has_ended(self, member: Member, code: int) -> None:
        if member.state is State.ENDING:
            self.longest_end_s = max(self.longest_end_s, time.monotonic() - member.since)
            if code != 0:
                self.problems.append(f"SIGTERM: exit {code}: {_tail(member.running)}")
        elif member.state is State.STARTING:
            self.done["could not start"] += 1
            if code != CANNOT_START:
                self.problems.append(f"it did not start, exit {code}: {_tail(member.running)}")
        else:
            self.problems.append(f"it ended by itself, exit {code}: {_tail(member.running)}")
        self._replace(member)


def _tail(running: Running, around: str = "") -> str:
    text = running.stderr
    at = max(0, text.find(around) - 300) if around else max(0, len(text) - 1_500)
    return text[at : at + 3_000]
