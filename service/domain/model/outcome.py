"""Outcomes of rows, and the transaction that commits them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.model.counts import FAILURE_COUNTS, Counts
from service.domain.model.locations import StoredPayload
from service.domain.model.spending import NOTHING_SPENT, Spending
from service.domain.model.values import Json

ERROR_COLUMN = "_error"
"""The column of results for the reason why a row failed."""

ROW_COLUMN = "_row"
"""The column of results for the number of the record in the input, from 1."""

OWN_COLUMNS = frozenset({ERROR_COLUMN, ROW_COLUMN, f"input_{ERROR_COLUMN}"})
"""Columns of our result files that are no input if such a file is submitted again."""

REFUSED = "BadRecordError"
"""Kind of error of a refused record. A row of a failures.csv with it is refused until `_error` is cleared."""

CUT_NOTE = "characters are cut in the results"
"""Part of the error of a row whose cells are not complete in the results."""


_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\b[\w-]*\d[\w-]*")
"""Parts of a message that differ from row to row: quotations, and words with a digit, as numbers and ids."""


class Status(StrEnum):
    """Status of a row with an outcome."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class RowError:
    """The reason why a row FAILED: class name of the error, text for users, and `errors.FailureClass`.

    `failure_class` is "" in outcomes that an earlier version committed without one.
    """

    type: str
    message: str
    failure_class: str = ""

    @property
    def cause(self) -> tuple[str, str, str]:
        """Class, type, and the message without numbers, ids and quotations: equal for rows with one cause."""
        return self.failure_class, self.type, _VARIABLE.sub("…", self.message)


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """An outcome of an earlier round, in short: the row ran again afterwards."""

    round: int
    status: Status
    timestamp: str
    attempts: int
    error: RowError | None = None

    def as_json(self) -> dict[str, Json]:
        """The outcome as row items, messages and `errors --row` have it."""
        error = self.error
        return {
            "round": self.round,
            "status": str(self.status),
            "at": self.timestamp,
            "attempts": self.attempts,
            "error": {"type": error.type, "message": error.message, "class": error.failure_class}
            if error
            else None,
        }

    @classmethod
    def of_json(cls, value: dict[str, Json]) -> PastOutcome:
        """The outcome that `as_json` wrote. Raises KeyError, TypeError and ValueError for anything else."""
        error = value["error"]
        return cls(
            round=int(value["round"]),
            status=Status(value["status"]),
            timestamp=str(value["at"]),
            attempts=int(value["attempts"]),
            error=RowError(error["type"], error["message"], error["class"]) if error else None,
        )


MAX_HISTORY = 10
"""Past outcomes that a row keeps."""


@dataclass(frozen=True, slots=True)
class PackedReply:
    """Place of a kept reply in a pack, an object that holds the replies of one commit.

    `pack` is the name of the object below `replies/` of the reply's round, `size` its bytes. The reply has
    `length` bytes from `offset` of the uncompressed pack; `sha256` is the digest of these bytes in Base64, of
    43 characters, since each KB of an item costs two write units.
    """

    pack: str
    size: int
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The committed result of a row: exactly one per row and round.

    `execution_time_ms`: time of the agent's call. `provenance`: method and path that gave each field, if the
    batch wants it. `reply`: the agent's reply as exact JSON text, "" if none is kept or if it is elsewhere;
    `reply_at`: its place in a pack, or the object in which an earlier version kept its text; `reply_round`:
    the round of the call that gave it, 0 for the round of the outcome. `reused_from`:
    `batch_id/row_id` of the row whose reply this row took, "" if the agent was called for this row. `stored`:
    object that holds `input_data`, `output_data` and `provenance` if they are too large for an item; they are
    empty here then. `history`: the outcomes of earlier rounds that this one replaces, the latest last.
    `cost`: the price of the call that gave a SUCCESS its reply, in units of `money`; 0 if it is unknown. A
    row that took the reply of another has the price that this has saved.
    `values_round`: the round whose mapping gave the values, 0 for the outcome's own; a remap may keep earlier
    ones.
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
    reply: str = ""
    reused_from: str = ""
    stored: StoredPayload | None = None
    reply_at: PackedReply | StoredPayload | None = None
    reply_round: int = 0
    history: tuple[PastOutcome, ...] = ()
    cost: int = 0
    values_round: int = 0

    @property
    def mapped_in(self) -> int:
        """The round whose mapping gave the values."""
        return self.values_round or self.round

    @property
    def counts(self) -> Counts:
        """The amounts that this outcome adds to its round's counter."""
        return counts_of((self,))


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: outcomes of one batch and round (at most 99, distinct rows) and their counter slot.

    `spent`: calls that were made for the batch, beside the outcomes. Without outcomes only these are counted.

    `token` makes it harmless to repeat the same commit (DynamoDB's ClientRequestToken, 36 characters); a
    commit with other outcomes needs another token. `incarnation` and `ttl` are the batch's.
    """

    batch_id: str
    round: int
    partitions: int
    slot: int
    outcomes: tuple[Outcome, ...]
    token: str
    ttl: int
    incarnation: str = ""
    spent: Spending = NOTHING_SPENT

    def leaves(self, round_: int, incarnation: str, ttl: int) -> bool:
        """True if a stored outcome with these attributes stays: the commit may not replace it."""
        is_of_round = round_ >= self.round
        if not self.incarnation or incarnation == self.incarnation:
            return is_of_round
        if incarnation:
            return incarnation > self.incarnation
        # a worker of an earlier version has written it, without an incarnation
        return ttl > self.ttl or (ttl == self.ttl and is_of_round)

    @property
    def counts(self) -> Counts:
        """The amounts that the commit adds to the counter slot."""
        return counts_of(self.outcomes)


def counts_of(outcomes: Iterable[Outcome]) -> Counts:
    """The sum of the amounts of the outcomes."""
    # plain numbers: a `Counts` for each row would take longer than its commit
    succeeded = failed = agent_ms = input_tokens = output_tokens = reused = cost = saved = 0
    by_class = dict.fromkeys(FAILURE_COUNTS, 0)
    for outcome in outcomes:
        if outcome.status is Status.SUCCESS:
            succeeded += 1
        else:
            failed += 1
        agent_ms += outcome.execution_time_ms
        input_tokens += outcome.input_tokens
        output_tokens += outcome.output_tokens
        if outcome.reused_from:
            reused += 1
            saved += outcome.cost
        else:
            cost += outcome.cost
        if outcome.error is not None and outcome.error.failure_class in by_class:
            by_class[outcome.error.failure_class] += 1
    return Counts(
        succeeded, failed, agent_ms, input_tokens, output_tokens, reused, **by_class, cost=cost, saved=saved
    )
