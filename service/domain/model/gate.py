"""The gate of a batch: no row beyond its sample is sent before the sample is approved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.domain.model.locations import Checkpoint

MAX_SAMPLE = 1_000
"""Most rows of a sample: their numbers are stored with the batch."""

DEFAULT_APPROVE_BY_S = 86_400


@dataclass(frozen=True, slots=True)
class SampleGate:
    """The sample that a batch asks approval for, and who has approved it.

    `size` rows are sent first: the first ones of the file, or random ones if `is_random`. A hold for approval
    lasts for `approve_by_s` seconds at most. `conditions` approve the sample by themselves
    (`domain.approval`).

    `end` is the end of the file, None until the splitter has counted its rows. From then on the batch is
    sealed with all rows of the file. `numbers` are the rows of a random sample, ascending. `opened_by` and
    `opened_at` (ISO 8601 in UTC) say who has let the other rows through, "" while the gate is closed.
    `has_lapsed`: nobody has approved in time.
    """

    size: int
    is_random: bool = False
    approve_by_s: int = DEFAULT_APPROVE_BY_S
    # `hash=False`: batches are hashable, and mappings are not.
    conditions: Mapping[str, str] = field(default_factory=dict, hash=False)
    end: Checkpoint | None = None
    numbers: tuple[int, ...] = ()
    opened_by: str = ""
    opened_at: str = ""
    has_lapsed: bool = False

    @property
    def sample(self) -> Sequence[int]:
        """The numbers of the rows of the sample, ascending; () before they are known."""
        if self.end is None:
            return ()
        return self.numbers if self.is_random else range(1, self.size + 1)

    @property
    def is_open(self) -> bool:
        """True if rows beyond the sample are sent."""
        return bool(self.opened_at)


def gate_id(identity: str, round_: int) -> str:
    """The name of the gate of a round: a sample that runs again has a new one."""
    return hashlib.sha256(f"{identity}/{round_}".encode()).hexdigest()[:8]
