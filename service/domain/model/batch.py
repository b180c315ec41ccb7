"""Batches: their states, settings, progress and counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.model.budget import NO_BUDGETS, BatchBudgets
from service.domain.model.counts import Counts, Recount
from service.domain.model.gate import SampleGate, gate_id
from service.domain.model.ids import batch_id, identity
from service.domain.model.locations import CHECKPOINT_ROWS, Checkpoint, Location, Source, StoredPayload
from service.domain.model.spending import NOTHING_SPENT, Spending
from service.domain.model.steering import Hold, HoldReason, Tolerance, Work
from service.domain.model.values import Json

MAX_ROUND = 999

MAX_DEADLINE_S = 10 * 366 * 86_400
"""Longest deadline of a batch or row: ten years."""

MAX_PRIORITY, DEFAULT_PRIORITY = 9, 5
"""Priorities of batches go from 1 to 9; the highest goes first."""

MAX_WEIGHT, DEFAULT_WEIGHT = 1_000, 1
"""Weights of batches go from 1 to 1,000: shares of a target's slots among batches of one priority."""


class State(StrEnum):
    """State of a batch. It is PAUSED as long as it has a hold."""

    SPLITTING = "SPLITTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    AGGREGATING = "AGGREGATING"
    SUCCEEDED = "SUCCEEDED"
    COMPLETED_WITH_ERRORS = "COMPLETED_WITH_ERRORS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """True if no further transition of this round can happen."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Dialect:
    """The format of a CSV file. `bom_bytes` is the length of its byte order mark.

    `escape` and `comment` are one character each, or "". `skip_blanks`: records of empty cells are no rows.
    `trailing` is the number of delimiters that end each data line beyond the last column. The first record
    starts at byte `first_byte` and line `first_line`; 0 if the header has to be read again to know.
    """

    encoding: str
    delimiter: str
    bom_bytes: int = 0
    escape: str = ""
    comment: str = ""
    # Off by default: the rows of batches that an earlier version opened keep their numbers.
    skip_blanks: bool = False
    trailing: int = 0
    first_byte: int = 0
    first_line: int = 0

    def as_json(self) -> dict[str, Json]:
        """The dialect as manifest and `status --json` show it."""
        facts: dict[str, Json] = {
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "bom": self.bom_bytes > 0,
        }
        for name in ("escape", "comment", "trailing"):
            if value := getattr(self, name):
                facts[name] = value
        return facts


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason why the results of a batch could not be written: the last of `tries` failures in a row.

    The first failed at `since_ms`, the next try is due at `again_at_ms`, in milliseconds since 1970.
    """

    reason: str
    since_ms: int
    tries: int
    again_at_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch item. Times are ISO 8601 in UTC, "" if there is none.

    `tool_name`: name of the mapping, as the attribute of batch items and the folders in S3 are called.
    `total`: number of rows, None until the splitter seals the batch. `window`: number of rows between
    checkpoints, fixed when the batch is opened; rows up to `checkpoint.rows + window` may have been sent.
    `deadline_at`: time after which rows without an outcome become FAILED. `bom`: output.csv begins with a
    byte order mark. `excel`: cells that Excel would cut are in a file of their own.

    `compiled_by`: version of rowfleet that compiled the mapping when the batch was opened, "" if unknown.

    `incarnation` tells this batch from an earlier one with the same id, whose items and messages may be left:
    an id can be used again once its batch has expired. It sorts by the time of the opening, and is "" in
    batches that an earlier version opened. `request_id` names the message or event that asked for the batch.
    `recount` holds in place of the counters in its round.

    `delimiter`, `encoding` and `deadline_s` are those of the job, "" or None if the mapping's hold.

    `priority` and `weight` order the batches with the same target: the highest priority goes first, batches
    of one priority share the target in proportion to their weights.

    `lease_owner` is the splitter, the sweeper that recovers rows, or the aggregator that writes the results,
    "" if there is none; its lease ends at `lease_until_ms`, in milliseconds since 1970. `sender` is the last
    lease owner that may have sent rows; a row's message names the one that has sent it. `trouble`: its
    results could not be written so far.

    `control` counts the operations on the batch (`steering`). `generation` is that of the row messages that
    count: those of an earlier one are dropped. `holds`: the reasons why it is PAUSED. `work`: rows that the
    last operation still has to send or to cancel. `cancelled_at`: after this and `grace_s` seconds, rows
    without an outcome are FAILED as cancelled; `cancel_reason` is "" if a user has cancelled the batch.
    `hold_s`: longest hold by anybody but a user; `trouble_pause_s`: time for which its target may serve
    nobody before that holds the batch; None if the setting holds. `unread_from`: number of the
    first row that was not read because the batch was cancelled, 0 if all were. `max_concurrency`: most calls
    under way at a time in each process, None if only the mapping's limit holds. `tolerate`: the failures
    after which a round is held; `tolerate_option` is that of the job as text, "" if the mapping's holds. In
    `judged_round`, a user has gone on in spite of the failures counted in `forgiven`: only later ones are
    looked at.

    In a later round, the rows in `kept` (`selection`) keep an earlier outcome. `carried` has their counts;
    all others are due. `digests` are the mapping digests of the rounds before this one. `same_id`: calls have
    the idempotency keys of the first round. `remap_round`: the last round that is a remap, 0 if none is; no
    agent is called in it, and the kept reply of each row that is due is mapped anew. With `keep_better` a row
    keeps values that are better than the new ones.
    `event_kinds`: kinds of events that others are told of. `gate`: the sample that it asks approval for, None
    if it asks for none; `sample_option` has the options of the job as text. `prices`: those
    by which its calls are paid (`Prices.as_json`), None if they are not known. `settled`: the calls that were
    counted when the last row of the round was done, or when the batch failed; None before that. `budgets`:
    those under which its calls are made.
    """

    tool_name: str
    execution_id: str
    state: State
    source: Source
    output: Location
    mapping_digest: str = ""
    round: int = 1
    total: int | None = None
    columns: tuple[str, ...] = ()
    output_fields: tuple[str, ...] = ()
    escape_formulas: bool = True
    provenance: bool = False
    bom: bool = False
    excel: bool = False
    delimiter: str = ""
    encoding: str = ""
    dialect: Dialect | None = None
    partitions: int = 1
    limit: int | None = None
    priority: int = DEFAULT_PRIORITY
    weight: int = DEFAULT_WEIGHT
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    window: int = CHECKPOINT_ROWS
    deadline_at: str = ""
    created_at: str = ""
    updated_at: str = ""
    finished_at: str = ""
    ttl: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()
    lease_owner: str = ""
    lease_until_ms: int = 0
    sender: str = ""
    incarnation: str = ""
    compiled_by: str = ""
    trouble: Trouble | None = None
    request_id: str = ""
    deadline_s: int | None = None
    recount: Recount | None = None
    control: int = 0
    event_kinds: tuple[str, ...] = ()
    generation: int = 0
    holds: tuple[Hold, ...] = ()
    work: Work | None = None
    cancelled_at: str = ""
    cancel_reason: str = ""
    hold_s: int | None = None
    trouble_pause_s: int | None = None
    grace_s: int = 0
    unread_from: int = 0
    max_concurrency: int | None = None
    tolerate: Tolerance = field(default_factory=Tolerance)
    tolerate_option: str = ""
    judged_round: int = 0
    forgiven: Counts = field(default_factory=Counts)
    kept: StoredPayload | None = None
    carried: Counts = field(default_factory=Counts)
    digests: tuple[str, ...] = ()
    same_id: bool = False
    gate: SampleGate | None = None
    sample_option: str = ""
    # `hash=False`: batches are hashable, and mappings are not.
    prices: Mapping[str, Json] | None = field(default=None, hash=False)
    settled: Spending | None = None
    budgets: BatchBudgets = NO_BUDGETS
    remap_round: int = 0
    keep_better: bool = False

    @property
    def batch_id(self) -> str:
        """`{tool_name}#{execution_id}`."""
        return batch_id(self.tool_name, self.execution_id)

    def counts_of(self, counters: Iterable[Counts]) -> Counts:
        """The counts of the batch, from the counters of its round."""
        if self.recount is not None and self.recount.round == self.round:
            return self.recount.counts
        return sum(counters, Counts())

    @property
    def identity(self) -> str:
        """`{batch_id}@{incarnation}`: unlike the batch id, no other batch ever has it."""
        return identity(self.batch_id, self.incarnation)

    def is_round(self, incarnation: str, round_: int) -> bool:
        """True if this is the batch with that incarnation, in that round."""
        return (self.incarnation, self.round) == (incarnation, round_)

    def is_round_of(self, other: Batch) -> bool:
        """True if `other` is a view of this batch in the same round, and not another batch with its id."""
        return self.batch_id == other.batch_id and self.is_round(other.incarnation, other.round)

    def owns(self, incarnation: str, ttl: int) -> bool:
        """True if an outcome or counter with this incarnation and expiry is this batch's, and no leftover.

        A process of an earlier version writes items without an incarnation, with the expiry of their batch.
        """
        return incarnation == self.incarnation or (not incarnation and ttl == self.ttl)

    def has_expired(self, now_ms: int) -> bool:
        """True if the batch counts as absent: its items are being deleted, in no order."""
        return 0 < self.ttl <= now_ms // 1000

    @property
    def is_remap(self) -> bool:
        """True if the present round maps kept replies anew, and calls no agent."""
        return self.remap_round == self.round

    @property
    def sample(self) -> Sequence[int]:
        """The numbers of the only rows that may be called, ascending, while the gate of the batch is closed.

        () if there is no such limit: also before the splitter has reached the gate, and in a cancelled batch.
        """
        gate = self.gate
        return () if gate is None or gate.is_open or self.cancelled_at else gate.sample

    @property
    def gate_id(self) -> str:
        """The name of the gate in this round."""
        return gate_id(self.identity, self.round)

    @property
    def due(self) -> int | None:
        """The rows that need an outcome of this round, or of its sample; None until the batch is sealed."""
        if self.total is None:
            return None
        return (len(self.sample) or self.total) - self.carried.done

    def hold(self, reason: str) -> Hold | None:
        """The hold with this reason, if the batch has it."""
        return next((hold for hold in self.holds if hold.reason == reason), None)

    def digest_of(self, round_: int) -> str:
        """The digest of the mapping by which the rows of a round were served."""
        return self.digests[round_ - 1] if round_ <= len(self.digests) else self.mapping_digest

    def is_as_read(self, read: Batch) -> bool:
        """True if this is the batch that was read as `read`, and no operation has changed it since."""
        mine = (self.identity, self.state, self.round, self.control)
        return mine == (read.identity, read.state, read.round, read.control)

    @property
    def results(self) -> Location:
        """The place of this round's files: `output`, or a folder in it for each later round."""
        if self.round == 1:
            return self.output
        # A folder of its own: a late write by an aggregator of an earlier round cannot reach these files.
        return Location(self.output.bucket, f"{self.output.prefix}round-{self.round:03d}/")


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch, the counters of its round, and the calls of all its rounds, from one consistent read."""

    batch: Batch
    counts: Counts
    spending: Spending = NOTHING_SPENT

    @property
    def all_counts(self) -> Counts:
        """The counts of all rows: those of this round, and of the rows that keep an earlier outcome."""
        return self.batch.carried + self.counts

    @property
    def judged_counts(self) -> Counts:
        """The counts of this round since a user has last gone on in spite of failures."""
        batch = self.batch
        return self.counts - batch.forgiven if batch.judged_round == batch.round else self.counts

    @property
    def has_its_sample(self) -> bool:
        """True if every row of its sample has an outcome, and nobody was asked to approve it."""
        batch = self.batch
        is_open = batch.state in (State.RUNNING, State.PAUSED) and batch.hold(HoldReason.APPROVAL) is None
        return is_open and bool(batch.sample) and self.is_complete

    @property
    def has_all_rows(self) -> bool:
        """True if every row of the batch has an outcome, so that its results can be written."""
        return self.is_complete and not self.batch.sample

    @property
    def is_complete(self) -> bool:
        """True if the batch is sealed and every row that is due in the round has an outcome of it."""
        # Before the seal the rows sent so far may all be done, while more are to come.
        due = self.batch.due
        return due is not None and self.counts.done >= due
