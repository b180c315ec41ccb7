"""Samples that wait for approval: which batches have one, and what is decided on it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from service.domain.model import Batch, HoldReason, Json
from tests.simulation.scenario import InputFile, PlannedOperation, Scenario

_DECISIONS = ("approve", "approve", "reject", "pause", "resume", "cancel")
"""Operations that come at any step of a batch with a sample."""


def with_samples(scenario: Scenario) -> Scenario:
    """In some worlds batches run a sample first. What is drawn changes no other draw."""
    random = Random(f"samples of {scenario.seed}")
    if random.random() >= 0.2:
        return scenario
    files = tuple(_sampled(random, file) for file in scenario.files)
    planned = [_decision(random, scenario) for _ in range(random.choice((0, 1, 1, 3)))]
    operations = sorted((*scenario.operations, *planned), key=lambda operation: operation.at_s)
    scenario = replace(scenario, files=files, operations=tuple(operations))
    if scenario.has_sweeper and not scenario.next_files and random.random() < 0.3:
        # Nobody decides: the sample lapses.
        return replace(scenario, are_holds_left=True, hold_s=scenario.hold_s or 300.0)
    return scenario


def decision_of(random: Random, *, may_open_round: bool) -> tuple[str, dict[str, Json]]:
    """The operation by which a sample that waits is decided on at last, and its arguments."""
    if may_open_round and random.random() < 0.2:
        return "approve", {"mapping_now": True}
    return ("reject" if random.random() < 0.15 else "approve"), {}


def waits_for_approval(batch: Batch) -> bool:
    """True if the batch is held for its sample."""
    return batch.hold(HoldReason.APPROVAL) is not None


def is_behind_gate(batch: Batch, rows: int, number: int) -> bool:
    """True if a row must not be called yet, by the gate of its batch, whose file has so many rows."""
    gate = batch.gate
    if gate is None or gate.is_open or batch.cancelled_at or rows <= gate.size:
        return False
    if gate.end is not None:
        return number not in gate.sample
    return gate.is_random or number > gate.size


def _sampled(random: Random, file: InputFile) -> InputFile:
    rows = len(file.behaviours)
    if random.random() < 0.3:
        return file
    size = random.choice((1, 2, max(1, rows // 2), max(1, rows - 1), rows + 1))
    options: dict[str, Json] = {**file.options, "sample": size}
    if random.random() < 0.5:
        options["sample_random"] = True
    if random.random() < 0.2:
        options["approve_if"] = random.choice(("success>=50%", "success>=1%"))
    if random.random() < 0.3:
        options["approve_by"] = random.choice((30, 200))
    return replace(file, options=options)


def _decision(random: Random, scenario: Scenario) -> PlannedOperation:
    file = random.randrange(len(scenario.files))
    rows = len(scenario.files[file].behaviours)
    op = random.choice(_DECISIONS)
    mapping_now = op in ("approve", "resume") and not scenario.next_files and random.random() < 0.2
    return PlannedOperation(
        at_s=random.random() * scenario.faults_end_s,
        file=file,
        op=op,
        args=(("mapping_now", True),) if mapping_now else (),
        step=random.randrange(3 * rows + 2),
        delay_s=random.choice((0.0, 0.0, 1.0, 20.0)),
        is_twice=random.random() < 0.3,
    )
