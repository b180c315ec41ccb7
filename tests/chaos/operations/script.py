"""The operations of a chaos run, made of its seed: what operators do to the batches, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.plan import Job, Plan

LONG_S = 13.0
"""A pause after which no call may begin any more."""

LATEST = 0.95
"""Share of the run after which no step is planned, except those that wait for the end of a batch."""


class Channel(StrEnum):
    """The way in which a request reaches the service."""

    COMMAND = "command"
    MESSAGE = "message"
    TWICE = "message twice"  # the same request in two messages
    BOTH = "two operators"  # a command and a message at once, with request ids of their own


@dataclass(frozen=True)
class Step:
    """One operation on a batch, `at_s` seconds after the start, or later: once the batch has been opened.

    With `at_end` it waits until the batch has ended.
    """

    at_s: float
    batch_id: str
    op: str
    args: Mapping[str, object] = field(default_factory=dict)
    channel: Channel = Channel.COMMAND
    at_end: bool = False


Sketch = tuple[float, str, Mapping[str, object], bool]
"""Time, operation, arguments and `at_end` of a step."""


def script(plan: Plan, jobs: list[Job]) -> list[Step]:
    """All steps of a run in the order of their times. The kinds of the main batch's steps go by the seed."""
    rng = random.Random(f"operations {plan.seed}")
    main, *small = jobs
    sketches = [(main, sketch) for sketch in _main(rng, plan)]
    for job in small:
        if rng.random() < 0.6:
            sketches += [(job, sketch) for sketch in _small(rng, job)]
    ended = [job for job in jobs if rng.random() < 0.5]
    sketches += [(job, (plan.seconds, "redrive", {"unread": True}, True)) for job in ended]
    steps = [
        Step(at_s, job.batch_id, op, args, rng.choice(list(Channel)), at_end)
        for job, (at_s, op, args, at_end) in sketches
    ]
    return sorted(steps, key=lambda step: step.at_s)


def _main(rng: random.Random, plan: Plan) -> Iterator[Sketch]:
    """One of five stories, so that each operation meets a large batch in five runs."""
    long_s = min(LONG_S, plan.seconds / 4)
    story = plan.seed % 5
    at_s = plan.seconds * rng.uniform(0.1, 0.3)

    def later(seconds: float) -> float:
        nonlocal at_s
        at_s += seconds * rng.uniform(0.9, 1.2)
        return at_s

    if story == 0:  # paused for long, changed, cut and resumed
        yield later(0), "pause", {}, False
        yield later(long_s), "resume", {}, False
        yield later(2), "set", {"max_concurrency": rng.randint(2, 20), "priority": rng.randint(1, 9)}, False
        yield later(6), "pause", {"now": True}, False
        yield later(3), "resume", {}, False
    elif story == 1:  # cancelled while it is paused
        yield later(0), "pause", {}, False
        yield later(3), "cancel", {"grace": rng.randint(0, 5)}, False
        yield at_s, "redrive", {"unread": True}, True
        yield later(20), "pause", {}, False
        yield later(long_s), "resume", {}, False
    elif story == 2:  # cancelled under way, and its failures again in a third round
        yield later(3), "cancel", {"grace": rng.randint(0, 5)}, False
        yield at_s, "redrive", {"class": ["cancelled"]}, True
        yield plan.seconds, "redrive", {}, True
    elif story == 3:  # the next round begins while rows of the first are open
        yield later(0), "pause", {}, False
        yield later(5), "resume", {"mapping_now": True}, False
        yield later(6), "pause", {}, False
        yield later(long_s), "resume", {}, False
    else:  # paused and resumed in quick succession
        for _ in range(4):
            yield later(0.5), "pause", {"now": True} if rng.random() < 0.3 else {}, False
            yield later(1.5), "resume", {}, False
        yield later(4), "cancel", {}, False
        yield at_s, "redrive", {"unread": True}, True


def _small(rng: random.Random, job: Job) -> Iterator[Sketch]:
    """An operation or two around the short life of a small batch."""
    at_s = job.at_s + rng.uniform(0.2, 4)
    kind = rng.randrange(5)
    if kind == 0:
        yield at_s, "pause", {}, False
        yield at_s + rng.uniform(0.5, 4), "resume", {}, False
    elif kind == 1:
        yield at_s, "cancel", {"grace": 0}, False
        yield at_s, "redrive", {"unread": True}, True
    elif kind == 2:
        yield at_s, "set", {"weight": rng.randint(1, 9), "tolerate": "any=50%"}, False
        yield at_s, "redrive", {"class": ["rejected"]}, True
    elif kind == 3 and job.rows > 1:
        rows = f"1-{job.rows // 2 or 1}"
        yield at_s, "redrive", {"rows": rows, "succeeded": True, "mapping_now": True}, True
        yield at_s + 2, "redrive", {"error": ["RowRejectedError", "AgentRejectedError"]}, True
    else:
        yield at_s, "finish", {}, True
