"""The five protocols between the stages and the world: Queue, Table, Objects, Agent, Clock.

`aws/` and `agents/` implement them against the real thing and `memory.py` in memory; one contract suite
(`tests/contract`) holds both to the same behaviour. Every method may raise `RetryableError` (a throttle,
a lost connection, an answer that did not come) and `AccessError`; what else it raises is written there.
A method makes one attempt as far as its caller can tell: adapters repeat only what is harmless to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from service.domain.model import Batch, BatchView, Commit, Json, Outcome, Source, State

SEND_LIMIT = 10
"""Entries in one SendMessageBatch, ChangeMessageVisibilityBatch or DeleteMessageBatch (SQS quota)."""

MESSAGE_BYTES = 1_048_576
"""Largest message, and largest sum of the messages in one batch call (SQS quota since August 2025: 1 MiB)."""

COMMIT_LIMIT = 99
"""Outcomes in one commit: a DynamoDB transaction takes 100 items, one of which is the counter."""

COMMIT_BYTES = 4_000_000
"""Largest sum of item sizes in one transaction (DynamoDB quota: 4 MB)."""

ITEM_BYTES = 400_000
"""Largest item (DynamoDB quota: 400 KB, attribute names included), rounded down from 409,600."""

ITEM_DEPTH = 32
"""Levels of nesting in one attribute (DynamoDB quota), a scalar's own being the first."""

LISTING_LIMIT = 1_000
"""Keys in one answer of ListObjectsV2 (S3 quota)."""

MAX_DELAY_S = 900
"""Longest delay of a message (SQS quota: 15 minutes)."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to send. `body` is ASCII; `group` is the batch id where fair queueing is wanted."""

    body: str
    group: str = ""
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message received. `receipt` names this delivery; `receives` counts deliveries, this one included."""

    id: str
    body: str
    receipt: str
    receives: int = 1
    sent_at_ms: int = 0


class Queue(Protocol):
    """At-least-once messages with a visibility time-out. All sequences take at most `SEND_LIMIT` entries."""

    @property
    def name(self) -> str:
        """The queue's name, for logs."""
        ...

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send, and return the indices of the entries that were refused and have to be sent again."""
        ...

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Up to `limit` messages, hidden from others for `visibility_s`; waits `wait_s` for the first."""
        ...

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Hide for `visibility_s` from now (0 gives back at once); return the indices whose lease is lost."""
        ...

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete; return the indices that were refused. An expired receipt is refused or ignored."""
        ...

    async def depth(self) -> int:
        """About how many messages wait, are in flight or are delayed."""
        ...


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Batches in one state; `after`, a batch id, continues behind them, "" at the end."""

    batches: Sequence[Batch]
    after: str


@dataclass(frozen=True, slots=True)
class NumberPage:
    """Row numbers, ascending; `after` continues behind them, None at the end."""

    numbers: Sequence[int]
    after: int | None


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """Whether an aggregation lease is ours now, and whose it was before ("" where nobody's).

    Where it is not: `until_ms` says when the other's ends; 0 where the batch is not to be aggregated.
    """

    is_ours: bool
    predecessor: str = ""
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """A small text that workers share; `version` counts its changes and is 0 where there is none."""

    text: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class OutcomePage:
    """Outcomes in ascending row order; `after` continues behind them, None at the end."""

    outcomes: Sequence[Outcome]
    after: int | None


class Table(Protocol):
    """Batches, counters and outcomes.

    Every read is strongly consistent except `recent`, `failed` and `batches`, which read an index.
    """

    async def open(self, batch: Batch, definition: str) -> Batch:
        """Store batch and definition (the mapping's JSON text) unless the id is taken; what stands then."""
        ...

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch and the sum of its counters of its current round, in one consistent read."""
        ...

    async def definition(self, batch_id: str, digest: str) -> str | None:
        """The definition that `open` stored with the batch."""
        ...

    async def checkpoint(self, batch: Batch) -> bool:
        """Store `batch.checkpoint`, `columns`, `dialect` and `notes` of a batch that is still SPLITTING.

        False where it is not SPLITTING any more, or holds a later checkpoint.
        """
        ...

    async def seal(self, batch_id: str, total: int, now: str) -> bool:
        """SPLITTING -> RUNNING with `total` rows. False where it is not SPLITTING any more."""
        ...

    async def move(
        self,
        batch_id: str,
        *,
        expected: State,
        round: int,  # noqa: A002 -- the protocol's word
        to: State,
        now: str,
        error: str = "",
    ) -> bool:
        """Change the state, and set `finished_at` where `to` is final. False unless state and round match."""
        ...

    async def lease(
        self,
        batch_id: str,
        *,
        round: int,  # noqa: A002 -- the protocol's word
        owner: str,
        now_ms: int,
        until_ms: int,
    ) -> LeaseGrant:
        """Take or extend the aggregation lease, where the batch is AGGREGATING in this round.

        It is given where nobody has it, where the other's has ended by `now_ms`, and where it is `owner`'s.
        With a `now_ms` of 0 no lease has ended: that extends one's own and never takes another's.
        """
        ...

    async def release(self, batch_id: str, *, owner: str) -> bool:
        """Give the aggregation lease back, whatever the batch's state. False where it is not `owner`'s."""
        ...

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Store all outcomes and add their counts, atomically, where no row has an outcome of this round yet.

        Returns () when applied (now, or before under the same token). Otherwise nothing was applied, and the
        indices of the outcomes whose rows are already committed for this round or a later one come back.
        Raises ConflictError or ThrottledError (nothing applied), UnknownResultError (repeat under the same
        token), and RowTooLargeError when an item or the whole transaction is too large.
        """
        ...

    async def outcome(self, batch: Batch, number: int) -> Outcome | None:
        """The committed outcome of a row."""
        ...

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """Up to `limit` outcomes of a partition with numbers above `after`, ascending; about 1 MB at most."""
        ...

    async def failed(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:
        """Like `outcomes`, only FAILED rows, from the sparse index `by_status`: eventually consistent."""
        ...

    async def numbers(self, batch: Batch, partition: int, *, after: int, limit: int) -> NumberPage:
        """The rows of a partition that need no outcome any more, like `outcomes` but without their data.

        They have one of the batch's round or a later one, or succeeded in an earlier round: a redrive runs
        failed rows only. A page may be empty and not the last.
        """
        ...

    async def batches(self, state: State, *, after: str, limit: int) -> BatchPage:
        """Batches in a state, in no particular order, from the index `by_status`: eventually consistent."""
        ...

    async def recent(self, limit: int) -> Sequence[Batch]:
        """The latest batches, newest first, from the index `by_timestamp`: eventually consistent."""
        ...

    async def record(self, key: str) -> SharedRecord:
        """What workers share under `key`; a record of version 0 where there is nothing."""
        ...

    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Replace the record `version` (0: there must be none) by `text`, and say what stands then.

        Where that is another text, somebody was faster. An answer that was lost makes one's own success look
        like that too: a text names its writer. After `ttl`, seconds since 1970, it may be gone. Raises
        RowTooLargeError for a text that no item holds.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What an upload left behind. `sha256` is the hex digest of the bytes."""

    bucket: str
    key: str
    size: int
    sha256: str


class Upload(Protocol):
    """One object being written, invisible until `complete`. Leaving the context without it aborts."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def write(self, data: bytes) -> None:
        """Append. Holds at most one part (8 MiB unless set otherwise) in memory."""
        ...

    async def complete(self) -> StoredFile:
        """Make the object visible, whole."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects by key, without versions; `after` continues behind them, None at the end."""

    sources: Sequence[Source]
    after: str | None


class Objects(Protocol):
    """Whole objects, ranged reads and streaming writes. Missing or changed objects raise SourceError."""

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size, etag (unquoted) and version of an object."""
        ...

    async def listing(
        self, bucket: str, prefix: str, *, after: str = "", limit: int = LISTING_LIMIT
    ) -> Listing:
        """Up to `limit` objects whose keys begin with `prefix` and come behind `after` (UTF-8 order)."""
        ...

    async def read(self, source: Source, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end; SourceError if the etag is not `source.etag`."""
        ...

    def upload(self, bucket: str, key: str, *, content_type: str) -> Upload:
        """Start writing an object; nothing is visible until the upload is completed."""
        ...

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write a small object in one call."""
        ...

    async def abort_uploads(self, bucket: str, key: str) -> int:
        """Abort every unfinished upload of exactly this key, whoever began it; how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of an agent. `body` is the JSON to send; `id` is the same for every attempt at a row."""

    id: str
    body: Json
    attempt: int = 1
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent answered: parsed JSON, or a str where it was no JSON; `size` in bytes as received."""

    body: Json
    size: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Agent(Protocol):
    """Something that answers one input. Safe to call from many tasks at once."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Ask once. Raises AgentRetryableError or AgentRejectedError (and nothing else)."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Clock(Protocol):
    """Time, and the only source of waiting in stages."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        ...
