"""Changes of a batch at its gate: it is reached, opened, or left behind. Pure.

A splitter that has sent the sample counts the other rows and seals the batch with all of them. As long as the
gate is closed only the rows of the sample are due. Once it is open, the batch is split on at its checkpoint.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

from service.domain.model import Batch, Checkpoint, SampleGate, State, Work, WorkKind


def drawn(identity: str, size: int, total: int) -> tuple[int, ...]:
    """`size` random numbers from 1 to `total`, ascending: the same ones for the same batch."""
    seed = hashlib.sha256(identity.encode()).digest()
    numbers = range(1, total + 1)
    return tuple(sorted(random.Random(seed).sample(numbers, size)))  # noqa: S311 -- no secret


def at_gate(batch: Batch, gate: SampleGate, end: Checkpoint) -> Batch:
    """A batch that is being split as sealed for its sample, whose file has more rows and ends at `end`.

    The first rows have been sent. The rows of a random sample are still to be sent, and nobody has sent any.
    """
    after = replace(batch, state=State.RUNNING, total=end.rows, gate=replace(gate, end=end))
    if not gate.is_random:
        return after
    return replace(
        after,
        gate=replace(gate, end=end, numbers=drawn(batch.identity, gate.size, end.rows)),
        work=Work(WorkKind.SEND, batch.control + 1),
        sender="",
    )


def opened(batch: Batch, by: str, at: str) -> Batch:
    """The batch with an open gate: it is no longer sealed, and is split on at its checkpoint."""
    # Every row of the sample has an outcome, and no other row was sent.
    return replace(passed(batch, by, at), total=None, work=None, sender="")


def passed(batch: Batch, by: str, at: str) -> Batch:
    """The batch with an open gate, and otherwise as it is."""
    assert batch.gate is not None
    return replace(batch, gate=replace(batch.gate, opened_by=by, opened_at=at, has_lapsed=False))


def sealed_whole(batch: Batch) -> Batch:
    """A batch whose gate is not to be opened, sealed behind its last row: all rows are due."""
    assert batch.gate is not None
    assert batch.gate.end is not None
    return replace(batch, checkpoint=batch.gate.end)


def sealed_at_sample(batch: Batch) -> Batch:
    """A batch that is cancelled at its gate, sealed behind the first rows if these are its sample.

    Random rows lie everywhere in the file: all its rows get an outcome.
    """
    gate = batch.gate
    assert gate is not None
    if gate.is_random:
        return sealed_whole(batch)
    return replace(batch, total=gate.size, unread_from=gate.size + 1)
