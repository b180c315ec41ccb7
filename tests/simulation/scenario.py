"""The scenario of a world: its files, agents, settings and processes, and everything that goes wrong.

`generator` draws a scenario from a seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from service.domain.model import Json
from service.steering.trials import LONGEST_PAUSE_S
from service.sweeper.target_watch import LEAST_TRIALS, TRIALS_PER_ROW
from tests.simulation.faults import Fault
from tests.simulation.mappings import MappingSpec

ROW_S = 400
"""Virtual time for each row of a world, whatever its agent does with it: most rows take none of it."""


class Behaviour(StrEnum):
    """The behaviour of the agent with one row."""

    REPLIES = "replies"
    IS_SLOW = "is slow"  # may take longer than a visibility time-out
    FAILS_FIRST = "fails first"  # a transient failure in the first two calls
    THROTTLES_FIRST = "throttles first"  # in the first call, for longer than a worker waits itself
    FAILS = "fails"  # a transient failure in each call
    REJECTS = "rejects"  # rejects the row's input
    DENIES_ACCESS = "denies access"  # refuses the credentials in each call, as by HTTP 401
    HANGS = "hangs"
    REPLIES_NONSENSE = "replies nonsense"
    CRASHES_WORKER_ONCE = "crashes worker once"  # in the first call
    CRASHES_WORKER = "crashes worker"  # in each call


def expected_answer(name: str) -> str:
    """The only right answer to a row with this name."""
    return f"re: {name}"


class ProcessFault(StrEnum):
    """A fault of a process."""

    KILLED = "killed"  # SIGKILL; started again after a while
    STOPPED = "stopped"  # SIGTERM; started again after a while
    PAUSED = "paused"  # SIGSTOP; SIGCONT after a while


@dataclass(frozen=True, slots=True)
class PlannedProcessFault:
    """A fault of the process with this index, at `at_s`; a pause lasts `for_s`."""

    at_s: float
    process: int
    fault: ProcessFault
    for_s: float


class TargetFault(StrEnum):
    """A fault of a target, which concerns all rows."""

    OUTAGE = "outage"  # every call meets an outage
    SERVER_ERRORS = "server errors"  # every call is answered by a 5xx, which may also be the row's fault
    THROTTLING = "throttling"  # most calls are throttled


@dataclass(frozen=True, slots=True)
class TargetFaultPeriod:
    """A period in which a target suffers from a fault. Periods of one target do not overlap.

    The target is known by its mapping's name. In an outage it refuses each call after `refuses_after_s`.
    """

    target: str
    fault: TargetFault
    from_s: float
    to_s: float
    refuses_after_s: float = 0.0


class StorageFault(StrEnum):
    """A fault of a service that refuses writes for minutes. Nothing that it refuses is applied."""

    COMMITS_THROTTLED = "commits throttled"
    COMMITS_DENIED = "commits denied"
    DATA_REFUSED = "data refused"  # the data of outcomes that are kept in S3
    TABLE_DENIED = "table denied"  # every call of the table


@dataclass(frozen=True, slots=True)
class StorageFaultPeriod:
    """A period in which all processes meet a fault of a service."""

    fault: StorageFault
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """An operation on the batch of a file, by its index: at `at_s`, or before that at a step of the batch.

    `step`: `delay_s` after so many of its rows were sent, asked for and stored, all added up. `is_direct`: by
    the operator's own process at `at_s`, and not by a message. `is_fatal`: this process dies between the
    transaction and what follows from it. `is_twice`: two clients make the same request.
    """

    at_s: float
    file: int
    op: str
    args: tuple[tuple[str, Json], ...] = ()
    step: int = 0
    delay_s: float = 0.0
    is_direct: bool = False
    is_fatal: bool = False
    is_twice: bool = False


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file, the agent's behaviour with each of its rows, and the jobs for it.

    `names` are the cells that the agent gets. Its job, with `options`, is sent at each of `jobs_at_s`. The
    file is in the bucket from `appears_at_s` on: an earlier job fails.
    """

    behaviours: tuple[Behaviour, ...]
    names: tuple[str, ...]
    jobs_at_s: tuple[float, ...]
    mapping: MappingSpec
    options: Mapping[str, Json]
    appears_at_s: float = 0.0

    @property
    def is_limited(self) -> bool:
        """True if the fleet has to keep a rate limit."""
        return self.mapping.limit_name != ""

    @property
    def deadline_s(self) -> int | None:
        """The deadline of its batch in seconds, if the job has one."""
        return self.options.get("deadline_s")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world. Times are in virtual seconds.

    - `is_calm`: no faults but those of storage that concern outcomes, and agents that reply.
    - `fault_rates`: the probability of each fault of a call, until `faults_end_s`.
    - `clock_skews_s`: by how much the clock of each process is wrong; `roles` has the role of each.
    - `trouble_pause_s`: the time after which a batch is held whose target serves nobody; 0 for never.
    - `checkpoint_bytes`: the bytes that end a window; small in worlds with large cells.
    - `stall_rate`: the probability that a splitter is paused for a while just before it sends rows.
    - `redelivery_rate`: the probability that a message is delivered again while its lease lives. If it is
      not 0, receipts of earlier deliveries may still work, as on SQS.
    - `message_losses_at_s`: when the rows queue loses a message or is purged.
    - `part_bytes`: size of the parts of result files; small ones are checkpoints of their aggregation.
    - `refusals`: the periods in which the bucket refuses the results.
    - `operations`: what operators do to the batches. `hold_s`: longest hold by anybody but a user; 0 for
      longer than a world lasts. Nobody lifts such a hold if `are_holds_left`.
    - `late_rate`: the probability that the first conditional write of an object is applied minutes later,
      when its caller has given it up.
    - `new_mapping_at_s`: when all mappings are replaced by others with one more output field; 0 for never.
    - `finishes_at_s`: when somebody has the results of every batch written again.
    - `next_files`: the file that is run under the id of each file's batch once that has expired, or none.
    - `max_message_bytes` of 0: each row is read from its source by its worker.
    - `max_item_bytes` of 0: each outcome is kept in S3.
    """

    seed: int
    is_calm: bool
    files: tuple[InputFile, ...]
    roles: tuple[str, ...]
    clock_skews_s: tuple[float, ...]
    fault_rates: Mapping[Fault, float]
    faults_end_s: float
    process_faults: tuple[PlannedProcessFault, ...]
    target_faults: tuple[TargetFaultPeriod, ...]
    storage_faults: tuple[StorageFaultPeriod, ...]
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
    part_bytes: int
    refusals: tuple[tuple[float, float], ...]
    finishes_at_s: tuple[float, ...]
    next_files: tuple[InputFile, ...]
    stall_rate: float = 0.0
    redelivery_rate: float = 0.0
    operations: tuple[PlannedOperation, ...] = ()
    hold_s: float = 0.0
    are_holds_left: bool = False
    late_rate: float = 0.0
    new_mapping_at_s: float = 0.0
    checkpoint_bytes: int = 4 * 2**20
    trouble_pause_s: float = 0.0

    @property
    def tells_events(self) -> bool:
        """True if others are told of the batches: in every eighth world, as it costs calls."""
        return self.seed % 8 == 7

    @property
    def has_sweeper(self) -> bool:
        """True if a sweeper runs. Without one no message may be lost for good."""
        return "sweeper" in self.roles

    @property
    def ttl_s(self) -> int:
        """The time after which batches expire; short in worlds where their ids are used again."""
        return 1_500 if self.next_files else 7 * 86_400

    @property
    def end_s(self) -> float:
        """When every batch has to have ended: after the last fault, with time for all to be slow twice.

        Rows that operations send anew get that time again (`World`): a batch that is held is resumed up to
        `PATIENCE` times, and each time the attempts of its rows begin anew.
        """
        # A deadline bounds the first round of its batch, but no later one.
        files = (*self.files, *self.next_files)
        rows = sum(len(file.behaviours) for file in files if file.deadline_s is None)
        more_rounds = (1 if self.redrive else 0) + (1 if self.operations else 0)
        rows += more_rounds * sum(len(file.behaviours) for file in files)
        # A batch that is held by its target goes on after so many trial calls, should none be served.
        trials = max(LEAST_TRIALS, TRIALS_PER_ROW * rows) if self.trouble_pause_s else 0
        sweeps_s = 12_000 if self.has_sweeper else 0
        lives_s = self.ttl_s + 1_800 if self.next_files else 0
        # A batch may be paused until the end, and resumed then.
        waits_s = lives_s + (1_000 if self.operations else 0) + 2 * self.hold_s + 12 * self.visibility_s
        return waits_s + self.faults_end_s + 1_800 + sweeps_s + rows * ROW_S + trials * (LONGEST_PAUSE_S + 20)
