"""The plan of a chaos run, made of one seed: its files, and the acts against its processes."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

NASTY = ("plain", 'quo"ted', "com,ma", "line\nbreak", " spaces ", "ünïcödé 漢字 🚀", "=1+1", "")
MULTIPART_BYTES = 6 * 2**20
"""Approximate size of the main batch's result: more than one part of 5 MiB."""


class Act(StrEnum):
    """An act against one process, or against all calls at once."""

    KILL = "killed"  # SIGKILL, and a new process
    TERM = "terminated"  # SIGTERM, exit 0 within the drain, and a new process
    STOP = "stopped"  # SIGSTOP, SIGCONT after longer than the visibility time-out
    STORM = "storms"  # for two seconds nearly every call fails


_WEIGHTS = {Act.KILL: 4, Act.TERM: 3, Act.STOP: 3, Act.STORM: 1}


@dataclass(frozen=True)
class Job:
    """A file, its mapping, and the time of its submission (seconds after the start)."""

    execution_id: str
    mapping: str
    content: str = field(repr=False)
    rows: int
    at_s: float

    @property
    def batch_id(self) -> str:
        """The id of its batch."""
        return f"{self.mapping}#{self.execution_id}"

    @property
    def results(self) -> str:
        """The prefix of its result files."""
        return f"results/{self.mapping}/{self.execution_id}/"


@dataclass(frozen=True)
class Plan:
    """One run: a main batch of `rows` rows that lasts for `seconds`, and small batches meanwhile.

    With `operations` the batches are paused, resumed, cancelled, changed and redriven meanwhile. `slowness`
    lengthens time-outs and leases, for a machine that has other things to do.
    """

    seed: int
    seconds: float
    rows: int
    workers: int
    operations: bool = False
    slowness: float = 1.0

    def jobs(self) -> list[Job]:
        """The main batch at once, and small ones every few seconds: faults meet their beginnings and ends."""
        rng = random.Random(f"jobs {self.seed}")
        jobs = [self._job(rng, "main", "main", self.rows, 0.0, MULTIPART_BYTES // max(1, self.rows))]
        count = max(3, round(self.seconds / 5))
        for number in range(count):
            at_s = self.seconds * (number + rng.random()) / count * 0.95
            rows = (0, 1, rng.randint(2, 40), rng.randint(40, 120))[number % 4]
            jobs.append(self._job(rng, f"small-{number}", "small", rows, at_s, 5))
        return jobs

    def acts(self) -> Iterator[tuple[float, Act]]:
        """The acts with their times: about two in three seconds."""
        rng = random.Random(f"acts {self.seed}")
        at_s = 1.0
        while (at_s := at_s + rng.expovariate(0.65)) < self.seconds:
            yield at_s, rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]

    def _job(self, rng: random.Random, id_: str, mapping: str, rows: int, at_s: float, width: int) -> Job:
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(["name", "n", "width"])
        for n in range(1, rows + 1):
            kind = rng.choices(["row", "bad", "busy"], [90, 6, 4])[0]
            writer.writerow([f"{kind} {n} {rng.choice(NASTY)}", n, rng.randint(width // 2, width * 3 // 2)])
        return Job(id_, mapping, file.getvalue(), rows, at_s)
