"""Draws what operators do to the batches of a world, from a random generator of its own.

Most operations come at a step of their batch, a row sent, asked for or stored, so that they meet every phase
of it. Many have a rival that comes at the same step: two clients at once.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from service.domain.model import Json
from tests.simulation.scenario import (
    Behaviour,
    InputFile,
    PlannedOperation,
    PlannedProcessFault,
    ProcessFault,
    Scenario,
)

_OPERATIONS = ("pause", "pause", "pause", "resume", "cancel", "set", "finish")

_SETTINGS: tuple[tuple[str, Json], ...] = (
    ("priority", 1), ("priority", 9), ("weight", 7), ("max_concurrency", 1), ("max_concurrency", 3),
    ("tolerate", "any=1"), ("tolerate", "first=3"), ("deadline", 400),
)  # fmt: skip

_TOLERANCES = ("first=2", "first=0,any=1", "first=3,rejected=1,transient=2", "first=0,any=20%",
               "first=0,any=2,on_exceeded=cancel", "first=2,on_exceeded=finish")  # fmt: skip

_CLOCK_ERRORS_S = (0.0, 0.0, 0.3, -0.3)

_MOST_SLOW_ROWS = 20
"""More rows with a slow agent would take too long."""


def with_operations(scenario: Scenario) -> Scenario:
    """In some worlds two operators pause, resume, cancel, set and finish batches."""
    random = Random(f"operations of {scenario.seed}")
    scenario = _with_late_writes(random, scenario)
    if random.random() >= (0.6 if scenario.has_sweeper else 0.35):
        return scenario
    planned = [
        operation
        for _ in range(random.choice((1, 2, 4, 6)))
        for operation in _with_rival(random, _operation(random, scenario))
    ]
    if scenario.has_sweeper and random.random() < 0.7:
        index = len(scenario.roles)
        if random.random() < 0.6:
            scenario, planned = _without_faults(scenario), _lost_work(random, scenario)
        scenario = replace(
            scenario,
            roles=(*scenario.roles, "operator"),
            clock_skews_s=(*scenario.clock_skews_s, random.choice(_CLOCK_ERRORS_S)),
            process_faults=(*scenario.process_faults, *_operator_faults(random, index)),
        )
    else:
        planned = [replace(operation, is_direct=False) for operation in planned]
    if random.random() < 0.4 and _may_be_slow(scenario):
        scenario = _with_slow_agent(random, scenario)
        if random.random() < 0.6:
            scenario, planned = _without_faults(scenario), _long_stop(random, scenario)
    planned.sort(key=lambda operation: operation.at_s)
    new_mapping_at_s = random.choice((0.0, 0.0, 5.0, 40.0))
    scenario = replace(scenario, operations=tuple(planned), new_mapping_at_s=new_mapping_at_s)
    return _with_tolerance(random, scenario)


def _operation(random: Random, scenario: Scenario) -> PlannedOperation:
    op = random.choice(_OPERATIONS)
    file = random.randrange(len(scenario.files))
    rows = len(scenario.files[file].behaviours)
    return PlannedOperation(
        # What waits for a step comes then at the latest.
        at_s=random.random() ** 3 * 1.5 * scenario.faults_end_s,
        file=file,
        op=op,
        args=_arguments(random, op),
        step=random.randrange(3 * rows + 2),
        is_direct=random.random() < 0.5,
        is_fatal=random.random() < 0.5,
        is_twice=random.random() < 0.25,
    )


def _lost_work(random: Random, scenario: Scenario) -> list[PlannedOperation]:
    """A pause after most rows were sent, and a resume or cancel whose maker dies before it sends the work."""
    rows = len(scenario.files[0].behaviours)
    at_s, delay_s = random.random() * scenario.faults_end_s, random.choice((3.0, 12.0))
    step = rows + random.randrange(rows + 1)
    pause = PlannedOperation(at_s, 0, "pause", step=step)
    op = random.choice(("resume", "resume", "cancel"))
    lost = replace(pause, at_s=at_s + delay_s, op=op, delay_s=delay_s, is_direct=True, is_fatal=True)
    return [pause, lost]


def _long_stop(random: Random, scenario: Scenario) -> list[PlannedOperation]:
    """A pause or cancel when calls for the first file are under way, and a resume minutes later."""
    rows = len(scenario.files[0].behaviours)
    op, args = random.choice((("pause", ("now", True)), ("pause", ("now", False)), ("cancel", ("grace", 5))))
    stop = PlannedOperation(60.0, 0, op, (args,), step=rows + 1 + random.randrange(rows + 1))
    resume = PlannedOperation(500.0, 0, "resume", step=stop.step, delay_s=random.choice((60.0, 400.0)))
    return [stop, resume]


def _without_faults(scenario: Scenario) -> Scenario:
    """The world with nothing that fails or comes twice, so that nothing makes up for what is missing."""
    files = tuple(replace(file, jobs_at_s=file.jobs_at_s[:1]) for file in scenario.files)
    return replace(
        scenario, files=files, fault_rates={}, process_faults=(), storage_faults=(), stall_rate=0.0,
        redelivery_rate=0.0,
    )  # fmt: skip


def _arguments(random: Random, op: str) -> tuple[tuple[str, Json], ...]:
    if op == "pause" and random.random() < 0.35:
        return (("now", True),)
    if op == "resume" and random.random() < 0.4:
        return (("mapping_now", True),)
    if op == "cancel":
        return (("grace", random.choice((0, 5, 30))),)
    return (random.choice(_SETTINGS),) if op == "set" else ()


def _with_rival(random: Random, operation: PlannedOperation) -> list[PlannedOperation]:
    """The operation, and perhaps another one at the same time, or one that follows it."""
    if operation.op == "pause" and random.random() < 0.6:
        delay_s = random.choice((0.0, 0.2, 3.0, 12.0, 40.0))
        args = _arguments(random, "resume")
        operation = replace(operation, is_fatal=False)
        at_s, is_fatal = operation.at_s + delay_s, random.random() < 0.6
        resume = replace(operation, op="resume", args=args, at_s=at_s, delay_s=delay_s, is_fatal=is_fatal)
        return [operation, resume]
    if random.random() < 0.5:
        rival = random.choice((*_OPERATIONS, operation.op))
        is_direct = operation.is_direct and random.random() < 0.5
        return [operation, replace(operation, op=rival, args=_arguments(random, rival), is_direct=is_direct)]
    return [operation]


def _operator_faults(random: Random, index: int) -> tuple[PlannedProcessFault, ...]:
    """The operator's process is killed now and then."""
    times = [random.random() ** 2 * 60.0 for _ in range(random.choice((0, 0, 1, 3)))]
    return tuple(PlannedProcessFault(at_s, index, ProcessFault.KILLED, 0.0) for at_s in sorted(times))


def _with_tolerance(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds with operators, batches that fail too often are held or cancelled."""
    if random.random() >= 0.7:
        return scenario
    tolerate = random.choice(_TOLERANCES)
    if random.random() < 0.3:
        scenario = replace(scenario, files=(_with_wrong_mapping(scenario.files[0]), *scenario.files[1:]))
    files = (*scenario.files, *scenario.next_files)
    mappings = {file.mapping.name: replace(file.mapping, tolerate=tolerate) for file in files}
    files = tuple(replace(file, mapping=mappings[file.mapping.name]) for file in files)
    count = len(scenario.files)
    faults = tuple(
        replace(fault, target=mappings[fault.target].name) if fault.target in mappings else fault
        for fault in scenario.target_faults
    )
    scenario = replace(scenario, files=files[:count], next_files=files[count:], target_faults=faults)
    if not scenario.has_sweeper or random.random() >= 0.6:
        return scenario
    return replace(scenario, hold_s=random.choice((60.0, 300.0)), are_holds_left=True)


def _may_be_slow(scenario: Scenario) -> bool:
    """True if slow calls for the first file end in time, and this world is not about other things."""
    first = scenario.files[0]
    return not (scenario.next_files or first.is_limited) and 0 < len(first.behaviours) <= _MOST_SLOW_ROWS


def _with_slow_agent(random: Random, scenario: Scenario) -> Scenario:
    """The world with an agent that takes minutes for many rows of the first file, a few at a time."""
    first, *others = scenario.files
    slow = (Behaviour.IS_SLOW, Behaviour.IS_SLOW, Behaviour.HANGS)
    behaviours = tuple(
        random.choice(slow) if behaviour is Behaviour.REPLIES and random.random() < 0.6 else behaviour
        for behaviour in first.behaviours
    )
    old = first.mapping
    mapping = replace(old, pace_name="patient", max_concurrency=random.choice((1, 2, 4)))
    faults = tuple(
        replace(fault, target=mapping.name) if fault.target == old.name else fault
        for fault in scenario.target_faults
    )
    files = [replace(file, mapping=mapping if file.mapping == old else file.mapping) for file in others]
    first = replace(first, mapping=mapping, behaviours=behaviours)
    return replace(scenario, files=(first, *files), target_faults=faults)


def _with_wrong_mapping(file: InputFile) -> InputFile:
    """The file with a mapping that can make nothing of any reply."""
    return replace(file, behaviours=(Behaviour.REPLIES_NONSENSE,) * len(file.behaviours))


def _with_late_writes(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds conditional writes of objects are late, also that of the manifest of a first failure."""
    if random.random() >= 0.2:
        return scenario
    scenario = replace(scenario, late_rate=0.7)
    if scenario.next_files:
        return scenario
    first, *others = scenario.files
    if random.random() < 0.5:
        # A later round, whose results are written while those of the first are late.
        behaviours = (Behaviour.REJECTS,) * (first.behaviours != ()) + first.behaviours[1:]
        return replace(scenario, redrive=True, files=(replace(first, behaviours=behaviours), *others))
    appears_at_s = random.choice((0.5, 5.0, 20.0))
    files = tuple(
        replace(
            file,
            appears_at_s=appears_at_s,
            jobs_at_s=(0.0, *(appears_at_s + at_s for at_s in file.jobs_at_s)),
        )
        for file in scenario.files
    )
    return replace(scenario, files=files)
