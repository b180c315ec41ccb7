"""Draws the budgets of a world, and how they are changed, from a random generator of its own."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.simulation.scenario import InputFile, PlannedOperation, Scenario

_MOST_ROWS = 20
"""More rows, each sent anew by every resume, would take too many steps."""


def with_budgets(random: Random, scenario: Scenario) -> Scenario:
    """In some worlds a batch, or its mapping for each day, has fewer calls than it may need."""
    rows = sum(len(file.behaviours) for file in scenario.files)
    if scenario.next_files or not 0 < rows <= _MOST_ROWS or random.random() >= 0.25:
        return scenario
    if scenario.has_sweeper and random.random() < 0.3:
        return _with_day(random, scenario)
    index = random.randrange(len(scenario.files))
    files = list(scenario.files)
    files[index] = _with_budget(random, files[index])
    changes = tuple(_change(random, scenario, index) for _ in range(random.choice((0, 0, 1, 3))))
    operations = tuple(sorted((*scenario.operations, *changes), key=lambda operation: operation.at_s))
    return replace(scenario, files=tuple(files), operations=operations)


def _with_budget(random: Random, file: InputFile) -> InputFile:
    rows = max(1, len(file.behaviours))
    calls = random.choice((1, max(1, rows // 2), max(1, rows - 1), rows, rows + 2, 2 * rows))
    return replace(file, options={**file.options, "max_calls": calls})


def _change(random: Random, scenario: Scenario, file: int) -> PlannedOperation:
    """Another budget, higher or lower, at some step of the batch."""
    rows = max(1, len(scenario.files[file].behaviours))
    return PlannedOperation(
        at_s=random.random() * scenario.faults_end_s,
        file=file,
        op=random.choice(("set", "set", "resume")),
        args=(("max_calls", random.choice((1, rows, 2 * rows, 10 * rows))),),
        step=random.randrange(3 * rows + 2),
        is_direct=False,
        is_twice=random.random() < 0.25,
    )


def _with_day(random: Random, scenario: Scenario) -> Scenario:
    """The world with a budget of its first mapping for each day. A version without one comes later.

    A world ends before the next day has.
    """
    first = scenario.files[0].mapping
    rows = sum(len(file.behaviours) for file in scenario.files if file.mapping == first)
    mapping = replace(first, calls_per_day=random.choice((1, max(1, rows // 2), rows, 2 * rows)))
    files = tuple(
        replace(file, mapping=mapping) if file.mapping == first else file for file in scenario.files
    )
    faults = tuple(
        replace(fault, target=mapping.name) if fault.target == first.name else fault
        for fault in scenario.target_faults
    )
    comes_at_s = scenario.faults_end_s + random.choice((100.0, 2_000.0))
    return replace(
        scenario,
        files=files,
        target_faults=faults,
        new_mapping_at_s=scenario.new_mapping_at_s or comes_at_s,
    )
