"""Batches, rows and outcomes: the words of the completion protocol as types.

Pure: no I/O, no clock, no randomness. The layout of these in DynamoDB is `aws/dynamodb.py`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

Json = Any
"""None, bool, int, float, Decimal, str, list[Json] or dict[str, Json]."""

ERROR_COLUMN = "_error"
"""The column that failures.csv adds to those of the input."""

ROW_DIGITS = 10
MAX_ROWS = 10**ROW_DIGITS - 1
MAX_ROUND = 999
MAX_DEADLINE_S = 10 * 366 * 86_400
"""Longest deadline of a batch or row: ten years."""

MAX_PRIORITY, DEFAULT_PRIORITY = 9, 5
"""Priorities of batches go from 1 to 9, the higher first."""

MAX_WEIGHT, DEFAULT_WEIGHT = 1_000, 1
"""Weights of batches go from 1 to 1,000."""

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, and of ISO 8601's four digits."""

CHECKPOINT_ROWS = 2_000
"""Rows between checkpoints of a split, unless set otherwise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class State(StrEnum):
    """Where a batch stands. `protocol.md` has the transitions."""

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
        """Whether no further transition of this round can happen."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.FAILED, State.CANCELLED})


class Status(StrEnum):
    """What became of a row."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


def is_name(text: str) -> bool:
    """Whether `text` may be a tool name or an execution id: 1-128 of letters, digits, `.`, `_`, `-`."""
    return _NAME.fullmatch(text) is not None


def batch_id(tool_name: str, execution_id: str) -> str:
    """`{tool_name}#{execution_id}`, the id users see and the table's partition key."""
    return f"{tool_name}#{execution_id}"


def row_id(number: int) -> str:
    """`row_0000000017`: zero-padded, so that sort order is file order."""
    return f"row_{number:0{ROW_DIGITS}d}"


def row_number(row_id: str) -> int:
    """The number in a `row_id`."""
    return int(row_id.removeprefix("row_"))


def partition_of(number: int, partitions: int) -> int:
    """The partition that holds row `number`; rows go round-robin: read so, they are in file order."""
    return number % partitions


def partition_key(batch_id: str, partition: int) -> str:
    """The table key of a partition: the batch id itself for 0, `{batch_id}#{p}` above."""
    return batch_id if partition == 0 else f"{batch_id}#{partition}"


def iso_time(ms: int) -> str:
    """Milliseconds since 1970 as `2026-11-23T07:14:00.250Z`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(iso: str) -> int:
    """The inverse of `iso_time`."""
    return (datetime.fromisoformat(iso) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Source:
    """The object a batch reads. `etag` is unquoted; `size` is in bytes; empty `version` means unversioned."""

    bucket: str
    key: str
    etag: str = ""
    version: str = ""
    size: int = 0

    @property
    def url(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    def is_same_object(self, other: Source) -> bool:
        """Whether both name the same bytes; an etag that is not known yet matches any."""
        same_place = (self.bucket, self.key) == (other.bucket, other.key)
        return same_place and (not self.etag or not other.etag or self.etag == other.etag)


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and a key prefix that ends in `/`."""

    bucket: str
    prefix: str

    def url(self, name: str = "") -> str:
        """`s3://bucket/prefix` plus `name`."""
        return f"s3://{self.bucket}/{self.prefix}{name}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written. `bom_bytes` is the length of its byte order mark."""

    encoding: str
    delimiter: str
    bom_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a split got: `rows` are sent for certain; at `byte_offset` and `line` the next starts."""

    rows: int = 0
    byte_offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch item. Times are ISO 8601 in UTC. `total` is None until the splitter seals the batch.

    `window` is the number of rows between checkpoints, fixed when the batch is opened: rows up to
    `checkpoint.rows + window` may have been sent. After `deadline_at`, where there is one, what has no
    outcome becomes FAILED.

    Of the batches that want the same target those of the highest `priority` go first, and those of one
    priority share it in proportion to their `weight`.

    `lease_owner` is the aggregator that writes the results, and `lease_until_ms` (ms since 1970) when its
    lease ends; "" and 0 while nobody does.
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

    @property
    def batch_id(self) -> str:
        """`{tool_name}#{execution_id}`."""
        return batch_id(self.tool_name, self.execution_id)

    @property
    def results(self) -> Location:
        """Where this round's files go: `output`, and a folder in it for each later round.

        A write that an aggregator of an earlier round left in flight cannot reach a later round's files.
        """
        if self.round == 1:
            return self.output
        return Location(self.output.bucket, f"{self.output.prefix}round-{self.round:03d}/")


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over the counter slots of one round. `reused` of those that succeeded were answered by others."""

    succeeded: int = 0
    failed: int = 0
    agent_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reused: int = 0

    @property
    def done(self) -> int:
        """Rows that have an outcome."""
        return self.succeeded + self.failed

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.agent_ms + other.agent_ms,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.reused + other.reused,
        )


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch and its counters, read consistently in one go."""

    batch: Batch
    counts: Counts

    @property
    def is_complete(self) -> bool:
        """Sealed, and every row of the round has an outcome."""
        return self.batch.total is not None and self.counts.done >= self.batch.total


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row FAILED: the error's class name, a text for people, and its `errors.FailureClass`.

    The last is "" in outcomes that were committed before there was one.
    """

    type: str
    message: str
    failure_class: str = ""


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """Where in S3 an outcome's data is that no item holds; `sha256` is the hex digest of its `size` bytes."""

    bucket: str
    key: str
    size: int
    sha256: str

    @property
    def url(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is committed for a row: exactly one per row and round. `execution_time_ms` is the agent's time.

    `provenance` says which method and path gave a field, where the batch wants it. `raw_reply` is the agent's
    reply as text, kept (cut where it is long) only where a mapping could make nothing of it. `reused_from`
    names the row that was asked instead of this one, `batch_id/row_id`; "" where this one was. Where `stored`
    is set, `input_data`, `output_data`, `provenance` and `raw_reply` are empty here and stand there.
    """

    number: int
    round: int
    status: Status
    input_data: Mapping[str, Json]
    output_data: Mapping[str, Json]
    execution_time_ms: int
    timestamp: str
    attempts: int = 1
    worker: str = ""
    error: RowError | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict)
    raw_reply: str = ""
    reused_from: str = ""
    stored: StoredPayload | None = None

    @property
    def counts(self) -> Counts:
        """What this outcome adds to its round's counter."""
        ok = self.status is Status.SUCCESS
        return Counts(
            int(ok),
            int(not ok),
            self.execution_time_ms,
            self.input_tokens,
            self.output_tokens,
            int(bool(self.reused_from)),
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: outcomes of one batch and round (at most 99, distinct rows) and their counter slot.

    `token` makes a repetition of the same commit harmless (DynamoDB's ClientRequestToken, 36 characters);
    a commit with other outcomes needs another token.
    """

    batch_id: str
    round: int
    partitions: int
    slot: int
    outcomes: tuple[Outcome, ...]
    token: str
    ttl: int

    @property
    def counts(self) -> Counts:
        """What the commit adds to the counter slot."""
        return sum((outcome.counts for outcome in self.outcomes), Counts())
