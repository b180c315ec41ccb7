"""The script of operations, and the checks on what the agent and the table have seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.agent import Call
from tests.chaos.operations.calls import LAG_S, NOTICE_S, Absence, late_calls, repeats
from tests.chaos.operations.script import Channel, script
from tests.chaos.operations.sightings import Quiet, Sighting, Sightings
from tests.chaos.plan import Act, Plan

PLAN = Plan(seed=0, seconds=60, rows=100, workers=3, operations=True)
BATCH = "main#main"
LIMIT_S = NOTICE_S + LAG_S
RUNNING = Sighting(0.0, 0.1, "RUNNING", 1, 0, 0, is_cancelled=False)


def call(began: float, *, number: int = 1, process: int = 1, ended: float = 0.0, status: int = 200) -> Call:
    return Call(BATCH, 1, number, process, began, ended or began + 1, status)


def sightings_of(*seen: Sighting) -> Sightings:
    made = Sightings(None, [BATCH])  # type: ignore[arg-type] -- nothing is read
    made._seen[BATCH] += seen
    return made


def at(time_s: float, sighting: Sighting = RUNNING, **changes: object) -> Sighting:
    return replace(sighting, asked=time_s, seen=time_s + 0.1, **changes)  # type: ignore[arg-type]


# -- the script ------------------------------------------------------------------------------------------


def test_a_script_follows_from_its_seed() -> None:
    """Equal seeds give equal steps, in the order of their times."""
    steps = script(PLAN, PLAN.jobs())
    assert steps == script(PLAN, PLAN.jobs())
    assert steps != script(replace(PLAN, seed=5), replace(PLAN, seed=5).jobs())
    assert [step.at_s for step in steps] == sorted(step.at_s for step in steps)


def test_five_seeds_hold_every_operation_and_channel() -> None:
    """The main batch is paused, resumed, cancelled, changed and redriven; small ones are as well."""
    plans = [replace(PLAN, seed=seed) for seed in range(5)]
    steps = [step for plan in plans for step in script(plan, plan.jobs())]
    assert {step.op for step in steps if step.batch_id == BATCH} == {
        "pause", "resume", "cancel", "set", "redrive",
    }  # fmt: skip
    assert {step.op for step in steps} == {"pause", "resume", "cancel", "set", "redrive", "finish"}
    assert {step.channel for step in steps} == set(Channel)
    assert all(step.at_s <= PLAN.seconds for step in steps)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_pause_is_long_enough_to_be_judged(seed: int) -> None:
    """In three of five stories no call may begin for a while."""
    plan = replace(PLAN, seed=seed)
    times = [(step.at_s, step.op) for step in script(plan, plan.jobs()) if step.batch_id == BATCH]
    pauses = [at_s for at_s, op in times if op == "pause"]
    assert any(
        min((other for other, op in times if op != "pause" and other > at_s), default=0) - at_s > 11
        for at_s in pauses
    )


# -- quiet times -----------------------------------------------------------------------------------------


def test_the_quiet_time_of_a_pause_ends_at_its_last_sighting() -> None:
    """It begins when the pause was seen, and ends when it was asked for the last time."""
    seen = sightings_of(
        at(0), at(1, state="PAUSED", control=1), at(2, state="PAUSED", control=1), at(3, control=2)
    )
    assert list(seen.quiets()) == [Quiet(BATCH, 1.1, 2, "paused")]
    assert seen.changes(BATCH) == [1.1, 3.1]


def test_a_resume_that_nobody_saw_parts_two_pauses() -> None:
    """The generation tells two pauses apart; a cancelled batch is quiet until its next round."""
    paused = at(1, state="PAUSED")
    again = at(2, state="PAUSED", generation=1)
    cancelled = at(3, generation=1, is_cancelled=True)
    redriven = at(4, round=2, generation=2)
    found = [(quiet.since, quiet.why) for quiet in sightings_of(paused, again, cancelled, redriven).quiets()]
    assert found == [(1.1, "paused"), (2.1, "cancelled")]


# -- calls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("began", "absences", "is_late"),
    [
        (LIMIT_S - 1, [], False),
        (LIMIT_S + 1, [], True),
        (LIMIT_S + 1, [Absence(1, Act.STOP, 2, 4)], False),
        (LIMIT_S + 1, [Absence(2, Act.STOP, 2, 4)], True),
        (LIMIT_S + 1, [Absence(1, Act.KILL, 2, 2)], True),
        (99, [], False),
    ],
    ids=["in time", "late", "frozen", "another frozen", "killed", "after the pause"],
)
def test_late_calls(began: float, absences: list[Absence], is_late: bool) -> None:
    """A call is late ten seconds after the pause was seen; a frozen process has that much longer."""
    assert bool(late_calls([call(began)], [Quiet(BATCH, 0, 50, "paused")], absences)) is is_late


def test_repeated_calls_have_causes() -> None:
    """A kill, a freeze or an operation between two calls of a row is their cause; a 503 asks for another."""
    calls = [
        call(1, number=1), call(9, number=1),
        call(1, number=2, process=2), call(9, number=2),
        call(20, number=3, process=3), call(29, number=3),
        call(1, number=4, status=503), call(2, number=4),
    ]  # fmt: skip
    seen = sightings_of(at(0), at(24, control=1))
    found = {
        repeat.first.number: repeat.causes for repeat in repeats(calls, seen, [Absence(2, Act.KILL, 3, 3)])
    }
    assert found == {1: (), 2: (Act.KILL,), 3: ("operated on",)}
