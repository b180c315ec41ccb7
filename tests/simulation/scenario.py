"""What a seed means: files, agents, settings, processes, faults and process_faults of one world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from service.domain.ports import ITEM_BYTES, MESSAGE_BYTES
from tests.simulation.faults import Fault
from tests.simulation.mappings import MappingSpec


class Behaviour(StrEnum):
    """What the agent does with a row."""

    ANSWERS = "answers"
    IS_SLOW = "is slow"  # longer than a visibility time-out
    FAILS_FIRST = "fails first"  # retryable, once or twice
    ASKS_TO_WAIT = "asks to wait"  # once, for longer than a worker waits itself
    FAILS = "fails"  # retryable, each time
    REFUSES = "refuses"
    LACKS_RIGHTS = "lacks rights"  # as by 401, each time
    HANGS = "hangs"
    TALKS_NONSENSE = "talks nonsense"
    KILLS_ONCE = "kills once"  # the worker dies, the first time
    KILLS = "kills"  # the worker dies, each time


_BEHAVIOURS = (
    (Behaviour.IS_SLOW, 3),
    (Behaviour.FAILS_FIRST, 3),
    (Behaviour.ASKS_TO_WAIT, 2),
    (Behaviour.FAILS, 2),
    (Behaviour.REFUSES, 3),
    (Behaviour.HANGS, 1),
    (Behaviour.TALKS_NONSENSE, 2),
    (Behaviour.KILLS_ONCE, 1),
    (Behaviour.LACKS_RIGHTS, 1),
)


def expected_answer(name: str) -> str:
    """The only right answer to it."""
    return f"re: {name}"


_LIMITS = ((6, None), (20, None), (60, None), (None, 1), (None, 2), (20, 1), (60, 3))
"""Requests in a minute, and calls under way."""

_SKEWS_S = {False: (0.0, 0.0, 2.0, -7.0, 90.0, -200.0), True: (0.0, 0.0, 0.3, -0.3)}
"""How wrong clocks are; less so where a limit is kept by them, or what an outage costs is judged."""


class ProcessFault(StrEnum):
    """What happens to a process, at some time."""

    KILLED = "killed"  # SIGKILL, and started again after a while
    STOPPED = "stopped"  # SIGTERM, and started again after a while
    PAUSED = "paused"  # SIGSTOP, and SIGCONT after a while


@dataclass(frozen=True, slots=True)
class PlannedProcessFault:
    """A misfortune: to which process, when and for how long (seconds)."""

    at_s: float
    process: int
    what: ProcessFault
    for_s: float


class TargetFault(StrEnum):
    """What a target has to bear, whatever the row."""

    OUTAGE = "outage"  # it serves nobody
    STORM = "storm"  # it refuses most calls as too many


@dataclass(frozen=True, slots=True)
class TargetFaultPeriod:
    """The target_fault of a target, known by its mapping's name, for a while. No two of a target overlap."""

    target: str
    target_fault: TargetFault
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input: what the agent gets and does for each row, and how often and when its job is sent."""

    behaviours: tuple[Behaviour, ...]
    names: tuple[str, ...]
    jobs_at_s: tuple[float, ...]
    mapping: MappingSpec
    options: Mapping[str, int]

    @property
    def is_limited(self) -> bool:
        """Whether the fleet has to keep a rate limit."""
        return self.mapping.limit_name != ""

    @property
    def deadline_s(self) -> int | None:
        """How long its batch may take, where its job says so."""
        return self.options.get("deadline_s")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world. Times in virtual seconds. `is_calm`: no fault, no misfortune, agents that behave.

    With `max_message_bytes` 0 every row is read from its source by its worker, and with `max_item_bytes` 0
    every outcome is kept in S3.
    """

    seed: int
    is_calm: bool
    files: tuple[InputFile, ...]
    roles: tuple[str, ...]
    clock_skews_s: tuple[float, ...]
    rates: Mapping[Fault, float]
    until_s: float
    process_faults: tuple[PlannedProcessFault, ...]
    target_faults: tuple[TargetFaultPeriod, ...]
    message_losses_at_s: tuple[float, ...]
    redrive: bool
    max_receives: int
    visibility_s: float
    window: int
    partition_bytes: int
    send_concurrency: int
    read_bytes: int
    max_message_bytes: int
    max_item_bytes: int
    poll_wait_s: float
    pollers: int
    max_running: int
    max_held: int
    commit_rows: int
    commit_linger_s: float
    slots: int
    page_rows: int
    lease_s: float
    inline_wait_s: float
    drain_s: float

    @property
    def has_sweeper(self) -> bool:
        """Whether anybody sweeps and drains dead letters: without, no message may be lost for good."""
        return "sweeper" in self.roles

    @property
    def end_s(self) -> float:
        """When everything has to be over: faults have stopped, and what is slow was slow twice over.

        Rows of a batch that has a deadline need no time of their own.
        """
        rows = sum(len(file.behaviours) for file in self.files if file.deadline_s is None)
        rounds = 2 if self.redrive else 1
        sweeps = 12_000 if self.has_sweeper else 0
        return self.until_s + 1_800 + 12 * self.visibility_s + sweeps + rounds * rows * 400


def scenario(seed: int) -> Scenario:
    """The world of a seed."""
    random = Random(seed)
    is_calm = random.random() < 0.08
    has_sweeper = not is_calm and random.random() < 0.3
    until_s = random.choice((20.0, 60.0, 200.0))
    files = _files(random, is_calm=is_calm, has_sweeper=has_sweeper)
    more = Random(f"more of {seed}")
    files = _for_days(more, files)
    files = files if is_calm else _with_deadlines(more, files)
    roles = _roles(random, has_sweeper=has_sweeper)
    process_faults = () if is_calm else _process_faults(random, len(roles), until_s)
    target_faults = () if is_calm else _target_faults(random, files, until_s)
    do_clocks_agree = bool(target_faults) or any(file.is_limited for file in files)
    are_stopped = any(plan.what is ProcessFault.STOPPED for plan in process_faults)
    max_running = random.choice((1, 2, 4, 16))
    return Scenario(
        seed=seed,
        is_calm=is_calm,
        files=files,
        roles=roles,
        clock_skews_s=tuple(0.0 if is_calm else random.choice(_SKEWS_S[do_clocks_agree]) for _ in roles),
        rates={} if is_calm else _rates(random),
        until_s=0.0 if is_calm else until_s,
        process_faults=process_faults,
        target_faults=target_faults,
        message_losses_at_s=_message_losses(random, until_s) if has_sweeper else (),
        redrive=not is_calm and random.random() < 0.45,
        max_receives=5 if has_sweeper else 100_000,
        visibility_s=random.choice((15.0, 60.0, 120.0)),
        partition_bytes=random.choice((2**20, 2**20, 100, 40)),
        window=random.choice((1, 3, 7, 20, 2_000)),
        send_concurrency=random.choice((1, 2, 4)),
        read_bytes=random.choice((64, 1_024, 2**20)),
        max_message_bytes=more.choice((0, *[MESSAGE_BYTES] * 5)),
        max_item_bytes=more.choice((0, *[ITEM_BYTES] * 5)),
        poll_wait_s=20.0 if are_stopped else 300.0,  # idle polls cost steps, and a stop waits for one
        pollers=random.choice((1, 1, 2)),
        max_running=max_running,
        max_held=max_running * random.choice((1, 2, 8)),
        commit_rows=random.choice((1, 3, 99)),
        commit_linger_s=random.choice((0.0, 0.05, 0.2, 2.0)),
        slots=random.choice((1, 2, 32)),
        page_rows=random.choice((1, 10, 1_000)),
        lease_s=random.choice((10.0, 60.0)),
        inline_wait_s=random.choice((0.0, 5.0)),
        drain_s=random.choice((5.0, 30.0)),
    )


def _files(random: Random, *, is_calm: bool, has_sweeper: bool) -> tuple[InputFile, ...]:
    files = []
    count = 1 if random.random() < 0.8 else 2
    for _ in range(count):
        size = random.random()
        rows = 300 if size < 0.004 else random.choice((0, 1, 1, 2)) if size < 0.2 else random.randint(2, 20)
        rows = random.randint(20, 40) if size > 0.93 else rows
        odd = 0.0 if is_calm or rows > 100 else random.choice((0.0, 0.1, 0.4))
        behaviours = tuple(
            _behaviour(random, odd, is_calm=is_calm, has_sweeper=has_sweeper) for _ in range(rows)
        )
        first = random.choice((0.0, 0.0, 3.0))
        again = () if is_calm or random.random() < 0.8 else (first + random.choice((0.0, 5.0, 90.0)),)
        mapping = _mapping(random, rows, is_calm=is_calm, is_one_of_two=count > 1)
        mapping = files[0].mapping if files and random.random() < 0.3 else mapping
        files.append(InputFile(behaviours, _names(random, rows), (first, *again), mapping, _options(random)))
    return tuple(files)


def _for_days(random: Random, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """In some worlds the first file's answers are kept for the second, which has the same mapping."""
    mapping = files[0].mapping
    if not mapping.reuse or random.random() < 0.6:
        return tuple(files)
    return tuple(replace(file, mapping=replace(mapping, reuse="7 days")) for file in files)


def _with_deadlines(random: Random, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """Some of them with a deadline for the batch, for each row, or both: seconds to minutes."""

    def some(choices: Sequence[int]) -> int | None:
        return random.choice(choices) if random.random() < 0.1 else None

    timed = []
    for file in files:
        batch_s, row_deadline_s = some((5, 20, 60, 300)), some((4, 15, 60, 300))
        options = dict(file.options) if batch_s is None else {**file.options, "deadline_s": batch_s}
        timed.append(
            replace(file, mapping=replace(file.mapping, row_deadline_s=row_deadline_s), options=options)
        )
    return tuple(timed)


def _mapping(random: Random, rows: int, *, is_calm: bool, is_one_of_two: bool) -> MappingSpec:
    """A mapping; limits that are small for the time that its rows have."""
    pace = random.choice(("quick", "patient"))
    reuse = "batch" if random.random() < (0.5 if is_calm else 0.25) else ""
    max_concurrency = random.choice((1, 2)) if random.random() < (0.4 if is_one_of_two else 0.15) else None
    if pace != "quick" or rows > 20 or random.random() >= 0.25:
        return MappingSpec(pace, reuse=reuse, max_concurrency=max_concurrency)
    per_minute, concurrent = random.choice(_LIMITS)
    return MappingSpec(
        pace, reuse=reuse, per_minute=per_minute, concurrent=concurrent, max_concurrency=max_concurrency
    )


def _names(random: Random, rows: int) -> tuple[str, ...]:
    """The cell of every row that the agent gets: now and then one that an earlier row had."""
    share = random.choice((0.0, 0.3, 0.7))
    names: list[str] = []
    for number in range(1, rows + 1):
        is_again = names and random.random() < share
        names.append(random.choice(names) if is_again else f"row {number}")
    return tuple(names)


def _options(random: Random) -> dict[str, int]:
    """How much more than others a batch matters, where its job says so."""
    wanted = {"priority": random.choice((None, 1, 5, 9)), "weight": random.choice((None, 1, 3, 1_000))}
    return {name: value for name, value in wanted.items() if value is not None}


def _target_faults(
    random: Random, files: Sequence[InputFile], until_s: float
) -> tuple[TargetFaultPeriod, ...]:
    """One to three target_faults of one target, one after the other; over before the faults are."""
    if random.random() >= 0.25:
        return ()
    target = random.choice(files).mapping.name
    count = random.choice((1, 2, 3))
    times = sorted(random.random() * until_s for _ in range(2 * count))
    pairs = zip(times[::2], times[1::2], strict=True)
    return tuple(TargetFaultPeriod(target, random.choice(list(TargetFault)), *pair) for pair in pairs)


def _behaviour(random: Random, odd: float, *, is_calm: bool, has_sweeper: bool) -> Behaviour:
    if is_calm:
        return random.choices((Behaviour.ANSWERS, Behaviour.IS_SLOW), (6, 1))[0]
    if random.random() >= odd:
        return Behaviour.ANSWERS
    if has_sweeper and random.random() < 0.1:
        return Behaviour.KILLS
    kinds, weights = zip(*_BEHAVIOURS, strict=True)
    return Behaviour(random.choices(kinds, weights)[0])


def _roles(random: Random, *, has_sweeper: bool) -> tuple[str, ...]:
    return (
        *["splitter"] * random.choice((1, 1, 2, 3)),
        *["worker"] * random.choice((1, 2, 2, 3, 4)),
        *["aggregator"] * random.choice((1, 2, 2, 3)),
        *["sweeper"] * (random.choice((1, 2)) if has_sweeper else 0),
    )


def _rates(random: Random) -> dict[Fault, float]:
    """Some kinds of faults, seldom or often: all of them at once would hide what each one does."""
    level = random.choice((0.005, 0.02, 0.06))
    some = random.choice((0.2, 0.5, 0.9))
    return {fault: level for fault in Fault if random.random() < some}


def _process_faults(random: Random, processes: int, until_s: float) -> tuple[PlannedProcessFault, ...]:
    """Killed, stopped and paused processes, all of them back by the end of the faults."""
    plans = []
    for _ in range(random.choice((0, 0, 1, 2, 5))):
        at_s = random.random() ** 2 * until_s
        for_s = min(random.choice((0.1, 5.0, 40.0, 150.0)), until_s)
        plans.append(
            PlannedProcessFault(at_s, random.randrange(processes), random.choice(list(ProcessFault)), for_s)
        )
    return tuple(sorted(plans, key=lambda plan: plan.at_s))


def _message_losses(random: Random, until_s: float) -> tuple[float, ...]:
    """When the rows queue is purged, or a single message lost: only where somebody sweeps."""
    return tuple(random.random() * until_s / 2 for _ in range(random.choice((0, 1, 1, 2))))
