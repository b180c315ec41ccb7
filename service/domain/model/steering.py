"""Operations on batches, and the parts of a batch that they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.model.values import Json

MAX_CONTROL = 10**9
"""Largest number of operations on a batch, and so its largest generation."""


class HoldReason(StrEnum):
    """Reasons for which a batch is held. A hold of each lasts until something else lifts it."""

    USER = "user"
    APPROVAL = "approval"
    BUDGET = "budget"
    FAILURES = "failures"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Hold:
    """A reason why a batch is PAUSED: who holds it (`by`), since when (ISO 8601 in UTC), and facts."""

    reason: str
    by: str
    at: str
    # `hash=False`: batches are hashable, and mappings are not.
    detail: Mapping[str, Json] = field(default_factory=dict, hash=False)


class OnExceeded(StrEnum):
    """The consequence if more rows fail than are tolerated."""

    PAUSE = "pause"
    CANCEL = "cancel"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of failed rows, or a share of the rows that are due, in hundredths of a percent."""

    rows: int | None = None
    share: int | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The failures that a round may have.

    `first`: so many first outcomes that are all FAILED for the same cause hold the batch; 0 never does.
    `limits`: the most failed rows of a class, or of `any` class.
    """

    first: int = 0
    limits: Mapping[str, Limit] = field(default_factory=dict, hash=False)
    on_exceeded: OnExceeded = OnExceeded.PAUSE


class WorkKind(StrEnum):
    """Long work after an operation, done by the fleet."""

    SEND = "send"  # every row that is due and has no outcome gets a message
    CANCEL = "cancel"  # every row that is due and has no outcome is FAILED as cancelled
    REMAP = "remap"  # every row that is due and has no outcome gets one from its kept reply


@dataclass(frozen=True, slots=True)
class Work:
    """Long work that operation `control` began. The rows up to number `after` are done."""

    kind: WorkKind
    control: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on a batch, as its log keeps it: the `control` that it gave the batch, and its answer.

    `args` are named as the long options of the command. `by`: AWS identity or system user. `request_id`: the
    same request is carried out once, and has the same answer. `control` is 0 if it changed nothing.
    """

    op: str
    request_id: str
    by: str
    at: str
    control: int = 0
    args: Mapping[str, Json] = field(default_factory=dict)
    answer: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """The operation in `status --json` and the manifest."""
        return {
            "control": self.control,
            "op": self.op,
            "args": dict(self.args),
            "by": self.by,
            "at": self.at,
            "request_id": self.request_id,
        }
