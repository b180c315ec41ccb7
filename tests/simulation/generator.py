"""Draws the scenario of a seed.

The order of the draws is part of a seed's meaning: a draw that is added, removed or moved changes every
world. A new choice is drawn from `more`, after all the others, so that the worlds of old seeds change little.
What operators do is drawn in `operation_plans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from service.domain.ports import ITEM_BYTES, MESSAGE_BYTES
from tests.simulation.budget_plans import with_budgets
from tests.simulation.faults import Fault
from tests.simulation.mappings import MappingSpec
from tests.simulation.operation_plans import with_operations
from tests.simulation.samples import with_samples
from tests.simulation.scenario import (
    Behaviour,
    InputFile,
    PlannedProcessFault,
    ProcessFault,
    Scenario,
    StorageFault,
    StorageFaultPeriod,
    TargetFault,
    TargetFaultPeriod,
)

_ODD_BEHAVIOURS = (
    (Behaviour.IS_SLOW, 3),
    (Behaviour.FAILS_FIRST, 3),
    (Behaviour.THROTTLES_FIRST, 2),
    (Behaviour.FAILS, 2),
    (Behaviour.REJECTS, 3),
    (Behaviour.HANGS, 1),
    (Behaviour.REPLIES_NONSENSE, 2),
    (Behaviour.CRASHES_WORKER_ONCE, 1),
    (Behaviour.DENIES_ACCESS, 1),
)
"""Behaviours other than a reply, and their weights."""

_LIMITS = ((6, None), (20, None), (60, None), (None, 1), (None, 2), (20, 1), (60, 3))
"""Rate limits: requests per minute, and calls in flight."""

_SKEWS_S = (0.0, 0.0, 2.0, -7.0, 90.0, -200.0)
_SMALL_SKEWS_S = (0.0, 0.0, 0.3, -0.3)
"""Errors of clocks. Only small ones if a rate limit is kept by clocks or the cost of an outage is judged."""


def generate(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(seed)
    is_calm = random.random() < 0.08
    has_sweeper = not is_calm and random.random() < 0.3
    faults_end_s = random.choice((20.0, 60.0, 200.0))
    files = _files(random, is_calm=is_calm, has_sweeper=has_sweeper)
    more = Random(f"more of {seed}")
    files = _with_kept_replies(more, files)
    files = files if is_calm else _with_deadlines(more, files)
    roles = _roles(random, has_sweeper=has_sweeper)
    process_faults = () if is_calm else _process_faults(random, len(roles), faults_end_s)
    target_faults = () if is_calm else _target_faults(random, files, faults_end_s)
    do_clocks_agree = bool(target_faults) or any(file.is_limited for file in files)
    skews_s = _SMALL_SKEWS_S if do_clocks_agree else _SKEWS_S
    are_stopped = any(planned.fault is ProcessFault.STOPPED for planned in process_faults)
    max_running = random.choice((1, 2, 4, 16))
    scenario = Scenario(
        seed=seed,
        is_calm=is_calm,
        files=files,
        roles=roles,
        clock_skews_s=tuple(0.0 if is_calm else random.choice(skews_s) for _ in roles),
        fault_rates={} if is_calm else _fault_rates(random),
        faults_end_s=0.0 if is_calm else faults_end_s,
        process_faults=process_faults,
        target_faults=target_faults,
        storage_faults=(),
        message_losses_at_s=_message_losses(random, faults_end_s) if has_sweeper else (),
        redrive=not is_calm and random.random() < 0.45,
        max_receives=5 if has_sweeper else 100_000,
        visibility_s=random.choice((15.0, 60.0, 120.0)),
        partition_bytes=random.choice((2**20, 2**20, 100, 40)),
        window=random.choice((1, 3, 7, 20, 2_000)),
        send_concurrency=random.choice((1, 2, 4)),
        read_bytes=random.choice((64, 1_024, 2**20)),
        max_message_bytes=more.choice((0, *[MESSAGE_BYTES] * 5)),
        max_item_bytes=more.choice((0, *[ITEM_BYTES] * 5)),
        # Idle polls cost steps, so they are long, unless a process is stopped: a stop waits for a poll.
        poll_wait_s=20.0 if are_stopped else 300.0,
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
        part_bytes=more.choice((2**23, 100, 500)),
        refusals=() if is_calm else _refusals(more, faults_end_s),
        finishes_at_s=() if is_calm else _finishes(more, faults_end_s),
        next_files=(),
    )
    scenario = _with_stalled_splitters(more, _with_storage_faults(more, scenario))
    scenario = _with_large_cells(more, scenario)
    if not (is_calm or scenario.redrive):
        scenario = replace(scenario, next_files=_next_files(more, files))
    if is_calm:
        return scenario
    scenario = with_operations(replace(scenario, redelivery_rate=_redelivery_rate(more)))
    scenario = _with_long_outage(Random(f"long outage of {seed}"), scenario)
    scenario = with_budgets(Random(f"budgets of {seed}"), scenario)
    return with_samples(scenario)


def _with_long_outage(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds with a sweeper a target is down for minutes, and holds its batches meanwhile."""
    # Without other faults a world shows one thing that is missing.
    is_about_others = scenario.next_files or scenario.target_faults or not scenario.fault_rates
    if not scenario.has_sweeper or is_about_others or random.random() >= 0.7:
        return scenario
    from_s = random.choice((0.0, 2.0, 10.0))
    to_s = from_s + random.choice((400.0, 900.0))
    mapping = random.choice(scenario.files).mapping
    # Only a patient caller waits for the refusal.
    refuses_after_s = random.choice((0.0, 90.0, 90.0)) if mapping.pace.timeout_s > 90.0 else 0.0
    period = TargetFaultPeriod(mapping.name, TargetFault.OUTAGE, from_s, to_s, refuses_after_s)
    return replace(
        scenario,
        target_faults=(period,),
        faults_end_s=max(scenario.faults_end_s, to_s),
        # The cost of an outage is judged by clocks.
        clock_skews_s=tuple(skew_s if abs(skew_s) < 1 else 0.0 for skew_s in scenario.clock_skews_s),
        trouble_pause_s=random.choice((20.0, 60.0)),
    )


def _with_stalled_splitters(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds jobs come twice or more, and splitters are paused just before they send rows."""
    if scenario.is_calm or random.random() >= 0.2:
        return scenario
    files = tuple(
        replace(
            file,
            jobs_at_s=tuple(sorted((*file.jobs_at_s, *random.choices((0.0, 0.01, 3.0, 30.0), k=2)))),
        )
        for file in scenario.files
    )
    return replace(scenario, files=files, stall_rate=random.choice((0.1, 0.3)))


def _with_large_cells(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds cells differ in size: windows end by bytes, and large rows are read from the source."""
    if random.random() >= 0.12:
        return scenario
    padded: dict[str, str] = {}
    for file in scenario.files:
        for name in file.names:
            padded.setdefault(name, name + "x" * random.choice((0, 0, 200, 900)))
    files = tuple(replace(file, names=tuple(padded[name] for name in file.names)) for file in scenario.files)
    return replace(
        scenario,
        files=files,
        checkpoint_bytes=random.choice((100, 500, 2_000)),
        max_message_bytes=1_200,
        read_bytes=max(1_024, scenario.read_bytes),
    )


# -- files and mappings


def _files(random: Random, *, is_calm: bool, has_sweeper: bool) -> tuple[InputFile, ...]:
    """One file, or two that may have the same mapping."""
    files: list[InputFile] = []
    count = 1 if random.random() < 0.8 else 2
    for _ in range(count):
        rows = _row_count(random)
        # Hundreds of rows with odd behaviour would take too many steps.
        odd_share = 0.0 if is_calm or rows > 100 else random.choice((0.0, 0.1, 0.4))
        behaviours = tuple(
            _behaviour(random, odd_share, is_calm=is_calm, has_sweeper=has_sweeper) for _ in range(rows)
        )
        first_at_s = random.choice((0.0, 0.0, 3.0))
        jobs_at_s: tuple[float, ...] = (first_at_s,)
        if not is_calm and random.random() >= 0.8:
            jobs_at_s = (first_at_s, first_at_s + random.choice((0.0, 5.0, 90.0)))
        mapping = _mapping(random, rows, is_calm=is_calm, is_one_of_two=count > 1)
        if files and random.random() < 0.3:
            mapping = files[0].mapping
        names = _names(random, rows)
        files.append(InputFile(behaviours, names, jobs_at_s, mapping, _options(random)))
    return tuple(files)


def _row_count(random: Random) -> int:
    """The number of rows of a file: mostly 2 to 20, seldom none, 20 to 40, or 300."""
    size = random.random()
    if size < 0.004:
        rows = 300
    elif size < 0.2:
        rows = random.choice((0, 1, 1, 2))
    else:
        rows = random.randint(2, 20)
    return random.randint(20, 40) if size > 0.93 else rows


def _with_kept_replies(random: Random, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """In some worlds with `reuse`, all files get the first one's mapping, and replies are kept for days."""
    mapping = files[0].mapping
    if not mapping.reuse or random.random() < 0.6:
        return tuple(files)
    return tuple(replace(file, mapping=replace(mapping, reuse="7 days")) for file in files)


def _next_files(random: Random, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """In some worlds each id is used again, for a file with the same mapping, and other cells and rows."""
    if random.random() >= 0.15:
        return ()
    again = []
    for file in files:
        rows = min(len(file.names), 20) if random.random() < 0.6 else random.randint(0, 12)
        behaviours = tuple(random.choice(file.behaviours or (Behaviour.REPLIES,)) for _ in range(rows))
        names = tuple(f"again {number}" for number in range(1, rows + 1))
        again.append(
            replace(file, behaviours=behaviours, names=names, jobs_at_s=(0.0, 0.0)[: random.choice((1, 2))])
        )
    return tuple(again)


def _with_deadlines(random: Random, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """Some files get a deadline for the batch, for each row, or both: seconds to minutes."""

    def sometimes(choices: Sequence[int]) -> int | None:
        return random.choice(choices) if random.random() < 0.1 else None

    timed = []
    for file in files:
        batch_s, row_s = sometimes((5, 20, 60, 300)), sometimes((4, 15, 60, 300))
        options = dict(file.options) if batch_s is None else {**file.options, "deadline_s": batch_s}
        mapping = replace(file.mapping, row_deadline_s=row_s)
        timed.append(replace(file, mapping=mapping, options=options))
    return tuple(timed)


def _mapping(random: Random, rows: int, *, is_calm: bool, is_one_of_two: bool) -> MappingSpec:
    """A mapping. Only quick ones with few rows get a rate limit, so that no world takes too long."""
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
    """The cell of each row that the agent gets. Some equal that of an earlier row."""
    repeated_share = random.choice((0.0, 0.3, 0.7))
    names: list[str] = []
    for number in range(1, rows + 1):
        is_repeated = names and random.random() < repeated_share
        names.append(random.choice(names) if is_repeated else f"row {number}")
    return tuple(names)


def _options(random: Random) -> dict[str, int]:
    """The priority and weight of a job, if it has them."""
    wanted = {"priority": random.choice((None, 1, 5, 9)), "weight": random.choice((None, 1, 3, 1_000))}
    return {name: value for name, value in wanted.items() if value is not None}


def _behaviour(random: Random, odd_share: float, *, is_calm: bool, has_sweeper: bool) -> Behaviour:
    if is_calm:
        return random.choices((Behaviour.REPLIES, Behaviour.IS_SLOW), (6, 1))[0]
    if random.random() >= odd_share:
        return Behaviour.REPLIES
    # Without a sweeper's dead-letter handling such a row would come back for ever.
    if has_sweeper and random.random() < 0.1:
        return Behaviour.CRASHES_WORKER
    behaviours, weights = zip(*_ODD_BEHAVIOURS, strict=True)
    return Behaviour(random.choices(behaviours, weights)[0])


# -- processes and faults


def _roles(random: Random, *, has_sweeper: bool) -> tuple[str, ...]:
    return (
        *["splitter"] * random.choice((1, 1, 2, 3)),
        *["worker"] * random.choice((1, 2, 2, 3, 4)),
        *["aggregator"] * random.choice((1, 2, 2, 3)),
        *["sweeper"] * (random.choice((1, 2)) if has_sweeper else 0),
    )


def _fault_rates(random: Random) -> dict[Fault, float]:
    """Some faults at the same rate. All of them in every world would hide the effect of each."""
    rate = random.choice((0.005, 0.02, 0.06))
    share = random.choice((0.2, 0.5, 0.9))
    return {fault: rate for fault in Fault if random.random() < share}


def _target_faults(
    random: Random, files: Sequence[InputFile], faults_end_s: float
) -> tuple[TargetFaultPeriod, ...]:
    """In some worlds one to three periods of one target, one after the other."""
    if random.random() >= 0.25:
        return ()
    target = random.choice(files).mapping.name
    count = random.choice((1, 2, 3))
    times = sorted(random.random() * faults_end_s for _ in range(2 * count))
    pairs = zip(times[::2], times[1::2], strict=True)
    return tuple(TargetFaultPeriod(target, random.choice(list(TargetFault)), *pair) for pair in pairs)


def _with_storage_faults(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds storage refuses writes for one to ten minutes, from about when the first rows end."""
    if random.random() >= (0.4 if scenario.is_calm else 0.06):
        return scenario
    kinds = [StorageFault.COMMITS_THROTTLED, StorageFault.COMMITS_DENIED]
    if scenario.max_item_bytes == 0:
        kinds.append(StorageFault.DATA_REFUSED)
    if not scenario.is_calm:
        kinds.append(StorageFault.TABLE_DENIED)
    from_s = random.choice((0.0, 1.0, 5.0, 20.0))
    period = StorageFaultPeriod(random.choice(kinds), from_s, from_s + random.choice((60.0, 150.0, 600.0)))
    faults_end_s = max(scenario.faults_end_s, period.to_s)
    return replace(scenario, storage_faults=(period,), faults_end_s=faults_end_s)


def _process_faults(random: Random, processes: int, faults_end_s: float) -> tuple[PlannedProcessFault, ...]:
    """Processes that are killed, stopped or paused. Pauses end soon after the faults at the latest."""
    planned = []
    for _ in range(random.choice((0, 0, 1, 2, 5))):
        # Squared, so that most faults hit while there is still work.
        at_s = random.random() ** 2 * faults_end_s
        for_s = min(random.choice((0.1, 5.0, 40.0, 150.0)), faults_end_s)
        process = random.randrange(processes)
        planned.append(PlannedProcessFault(at_s, process, random.choice(list(ProcessFault)), for_s))
    return tuple(sorted(planned, key=lambda fault: fault.at_s))


def _refusals(random: Random, faults_end_s: float) -> tuple[tuple[float, float], ...]:
    """In some worlds a period in which the bucket refuses the results; some begin before the first job."""
    if random.random() >= 0.2:
        return ()
    from_s = random.choice((0.0, 5.0, random.random() * faults_end_s))
    return ((from_s, max(from_s, random.random() * faults_end_s)),)


def _finishes(random: Random, faults_end_s: float) -> tuple[float, ...]:
    """In some worlds times at which somebody has results written again, during the faults or after them."""
    if random.random() >= 0.15:
        return ()
    return tuple(random.random() * 2 * faults_end_s for _ in range(random.choice((1, 2))))


def _redelivery_rate(random: Random) -> float:
    """In some worlds messages are delivered again while their leases live, and old receipts still work."""
    return random.choice((0.1, 0.4)) if random.random() < 0.12 else 0.0


def _message_losses(random: Random, faults_end_s: float) -> tuple[float, ...]:
    """Times when the rows queue loses a message or is purged. Only a sweeper can mend that."""
    return tuple(random.random() * faults_end_s / 2 for _ in range(random.choice((0, 1, 1, 2))))
