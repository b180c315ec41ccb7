"""Simulated worlds keep every invariant, and the generator makes worlds of every kind.

`make test` runs some hundred worlds, `make verify` two thousand.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.runtime.delivery import Delivery, Handler
from tests.simulation.faults import AT_SERVICE, IN_TRANSIT
from tests.simulation.generator import generate
from tests.simulation.invariants import INVARIANTS
from tests.simulation.scenario import ROW_S, Behaviour, ProcessFault, StorageFault, TargetFault
from tests.simulation.simulate import Summary, run_many
from tests.simulation.world import STEPS_PER_EVENT, Components, Process, World

SOME = 300
SEEDS = 2_000
ROOT = Path(__file__).parents[2]

MET = (
    "row: TargetFullError",
    "row: TargetDownError",
    "row: LimitReachedError",
    "row: CommitsWaitError",
    "row: reused",
    "row: tried",
    "row: DeadlineError",
    "row: read from its source",
    "row: kept in S3",
    "process: stalled",
    "receive: redelivered",
    "world: old receipts",
    "world: large cells",
)
"""Situations of rows that are no faults: requeued, answered by another row's reply, large, late."""

OPERATIONS = ("pause", "resume", "cancel", "set", "finish")
"""Operations that operators ask for in each way, and that are made."""

DECISIONS = ("approve", "reject")
"""Operations on samples, which come as messages, and are made."""

RESUMED = 5
"""A seed whose batches are resumed or redriven."""

SELDOM = 0.02
"""Least number of each fault and situation, per world. With fewer the generator no longer does its work."""


def worlds(seeds: int) -> Summary:
    """The summary of so many worlds, run on all cores; fails if one breaks an invariant."""
    total = Summary()
    for part in run_many(0, seeds, os.cpu_count() or 1):
        total.add(part)
    assert total.seeds == seeds
    told = [f"make replay SEED={seed}: {text}" for seed, _, text in total.violations]
    assert not told, "\n".join(told[:3])
    return total


@pytest.fixture(scope="module")
def summary() -> Summary:
    """The summary of two thousand worlds."""
    return worlds(SEEDS)


def test_some_worlds_break_no_invariant() -> None:
    """With any faults, every row is counted once, every batch ends, and its output is complete."""
    assert worlds(SOME).happened


@pytest.mark.verify
def test_many_worlds_break_no_invariant(summary: Summary) -> None:
    """The same in two thousand worlds."""
    assert summary.happened


@pytest.mark.verify
def test_every_kind_of_fault_happens(summary: Summary) -> None:
    """Each fault of a call, a process and a target happened, and each situation was met."""
    possible = {
        f"{call}: {fault}"
        for table in (IN_TRANSIT, AT_SERVICE)
        for call, faults in table.items()
        for fault in faults
    }
    possible |= {f"process: {what}" for what in ProcessFault} | {
        f"world: {fault}" for fault in (*TargetFault, *StorageFault)
    }
    worlds = ("rows lost", "second round", "results refused", "id reused", "late write", "source is late")
    operations = (*OPERATIONS, *DECISIONS, "remap")
    possible |= {f"world: {what}" for what in (*worlds, *operations, "present mapping")} | set(MET)
    possible |= {f"batch: {what}" for what in (*operations, "redrive", "hold", "later round", "sample")}

    assert possible - set(summary.happened) == set()


@pytest.mark.verify
def test_no_kind_of_fault_has_become_rare(summary: Summary) -> None:
    """The most important calls suffer each of their faults in many worlds."""
    for call in ("commit", "write", "send", "receive", "delete", "extend", "read"):
        for fault in IN_TRANSIT[call]:
            assert summary.happened[f"{call}: {fault}"] >= SELDOM * SEEDS, f"{call}: {fault}"
    seldom = (
        *(f"process: {what}" for what in ProcessFault),
        *(f"world: {target_fault}" for target_fault in TargetFault),
        *MET,
    )
    for what in seldom:
        assert summary.happened[what] >= SELDOM * SEEDS, what


def test_operators_do_everything_that_they_can() -> None:
    """Each operation comes by a message, by a process that may die, and twice; holds are left to expire.

    Decisions on samples come by messages only.
    """
    worlds = [generate(seed) for seed in range(SEEDS)]
    planned = [operation for world in worlds for operation in world.operations]

    for way, decisions in (("is_direct", ()), ("is_fatal", ()), ("is_twice", DECISIONS), ("step", DECISIONS)):
        wanted = {*OPERATIONS, *decisions}
        assert {operation.op for operation in planned if getattr(operation, way)} == wanted, way
    names = {name for operation in planned for name, _ in operation.args}
    settings = {"priority", "weight", "max_concurrency", "tolerate", "deadline", "max_calls"}
    assert names == {"now", "mapping_now", "grace", *settings}
    assert sum(world.are_holds_left for world in worlds) >= SELDOM * SEEDS
    assert sum(world.late_rate > 0 for world in worlds) >= SELDOM * SEEDS


def test_the_generator_makes_every_kind_of_world() -> None:
    """Calm worlds and others, with a sweeper or without, with one batch or two, of no rows or hundreds."""
    worlds = [generate(seed) for seed in range(SEEDS)]
    sizes = {len(file.behaviours) for world in worlds for file in world.files}

    assert sum(world.is_calm for world in worlds) > SEEDS * 0.04
    assert 0.5 < sum(not world.has_sweeper for world in worlds) / SEEDS < 0.9
    assert {0, 1, 2, 20, 40, 300} <= sizes
    assert {len(world.files) for world in worlds} == {1, 2}
    assert {world.roles.count("worker") for world in worlds} == {1, 2, 3, 4}
    assert {behaviour for world in worlds for file in world.files for behaviour in file.behaviours} == set(
        Behaviour
    )
    asks = [file.mapping for world in worlds for file in world.files]
    for wish in ("reuse", "per_minute", "concurrent", "max_concurrency", "row_deadline_s"):
        assert sum(1 for mapping in asks if getattr(mapping, wish)) >= SELDOM * SEEDS, wish
    assert sum(1 for mapping in asks if mapping.calls_per_day) >= SEEDS * 0.01
    assert any(len(set(file.names)) < len(file.names) for world in worlds for file in world.files)
    assert {"", "batch", "7 days"} == {mapping.reuse for mapping in asks}
    by_day = [world.files for world in worlds if world.files[0].mapping.reuse == "7 days"]
    assert sum(len(files) == 2 and files[0].mapping == files[1].mapping for files in by_day) >= SEEDS * 0.01
    assert {name for world in worlds for file in world.files for name in file.options} == {
        "priority",
        "weight",
        "deadline_s",
        "sample",
        "sample_random",
        "approve_if",
        "approve_by",
        "max_calls",
    }


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.verify) for seed in (36, 50))])
def test_a_seed_replays_exactly(seed: int) -> None:
    """Two processes with different hash seeds run the same world, step by step."""
    traces = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.simulate", "--seed", str(seed), "--trace"],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, check=False,
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip

    assert len(traces) == 1
    assert b"no violation" in traces.pop()


class EndlessLoop(Components):
    """The handler of a row never ends."""

    is_recorded = False

    def handler(self, process: Process, handle: Handler) -> Handler:
        """Let other tasks run, again and again."""

        async def spin(delivery: Delivery) -> None:
            while True:
                if self.is_recorded:
                    process._shared.trace.add(process.owner.name, "spins")
                await asyncio.sleep(0)

        return spin


class RecordedLoop(EndlessLoop):
    """The handler of a row never ends, and its steps are events."""

    is_recorded = True


@pytest.mark.parametrize(
    ("components", "limits", "text"),
    [
        (EndlessLoop, {"max_steps": 5_000}, "it has not ended after {steps} steps"),
        (RecordedLoop, {"max_events": 2_000}, "it has not ended after 2000 events"),
    ],
)
def test_a_world_that_makes_no_progress_ends_with_a_violation(
    components: type[Components], limits: dict[str, int], text: str
) -> None:
    """It ends after so many steps or events, before its trace fills the memory."""
    result = World(generate(1), components(), **limits).run()

    assert result.violation is not None
    text = text.format(steps=result.steps)
    assert (result.violation.invariant, result.violation.text) == ("makes_progress", text)
    assert len(result.trace.events) <= limits.get("max_events", 500)
    assert result.steps <= 5_000 + STEPS_PER_EVENT * len(result.trace.events)


def test_a_world_with_many_events_may_take_more_steps() -> None:
    """A long one takes more than a short one, and is not in an endless loop."""
    result = World(generate(0), Components(), max_steps=1_000).run()

    assert result.violation is None
    assert 1_000 < result.steps <= 1_000 + STEPS_PER_EVENT * len(result.trace.events)


class Idle(Components):
    """The handler of a row waits for ever."""

    def handler(self, process: Process, handle: Handler) -> Handler:
        """Wait."""

        async def wait(delivery: Delivery) -> None:
            await asyncio.Event().wait()

        return wait


@pytest.mark.parametrize("sent_anew", [0, 3])
def test_rows_that_are_sent_anew_get_their_time_again(sent_anew: int) -> None:
    """A world whose batches are held and resumed lasts longer, and ends all the same."""
    world = World(generate(2), Idle())
    world.monitor.sent_anew = sent_anew
    result = world.run()

    assert result.violation is not None
    assert result.violation.invariant == "nothing_stuck"
    assert result.virtual_s == world.scenario.end_s + sent_anew * ROW_S


def test_each_resume_and_round_sends_rows_anew() -> None:
    """All rows of the batch count."""
    world = World(generate(RESUMED), Components())
    assert world.run().violation is None

    made = [world.table.batch(batch_id) for batch_id in world.batch_ids]
    expected = sum(
        batch.generation * len(world.monitor.files[batch.identity].names) for batch in made if batch
    )
    assert world.monitor.sent_anew == expected > 0


def test_every_invariant_says_what_it_holds() -> None:
    """Each has a sentence that is printed with a violation."""
    assert all(text.endswith(".") for text in INVARIANTS.values())
