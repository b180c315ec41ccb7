"""Purge: everything that is kept of a batch that has ended is deleted, its own item last.

The batch is marked first: with less than a day left of it no round opens on it any more. An interrupted purge
can be repeated within that time; afterwards the rest expires as it would have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from service.agents.wire.large_inputs import inputs_prefix
from service.aggregator.latest import LATEST
from service.aggregator.result_files import FAILURES, LONG_CELLS, OUTPUT
from service.batch.manifest import MANIFEST
from service.batch.role_ports import Ports
from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView
from service.domain.operation_requests import OperationRequest
from service.runtime.port_retries import RetryingCaller, retry_for
from service.steering.decisions import Decision
from service.steering.operate import decide_and_apply, read_existing

LEFT_S = 20 * 3_600
"""Time for which a batch is still there whose purge was interrupted: less than a round needs to open."""

RESULT_FILES = (OUTPUT, FAILURES, LONG_CELLS, MANIFEST)
SAMPLE_FILES = ("sample/output.csv", "sample/report.json")

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class StoredObjects:
    """Objects below a key, or the one with this key."""

    bucket: str
    key: str
    is_prefix: bool = True


@dataclass(frozen=True, slots=True)
class Purged:
    """The numbers of rows and objects that were deleted."""

    rows: int
    objects: int

    def as_json(self) -> dict[str, Any]:
        """Both numbers."""
        return {"rows": self.rows, "objects": self.objects}


def check_ended(view: BatchView) -> None:
    """Raise UsageError if the batch has not ended."""
    batch = view.batch
    if not batch.state.is_final:
        raise UsageError(
            f"{batch.batch_id} is {batch.state}: only a batch that has ended can be purged; "
            f"`rowfleet cancel {batch.batch_id}` ends it"
        )


async def purge(ports: Ports, request: OperationRequest, *, also: Sequence[StoredObjects] = ()) -> Purged:
    """Delete a batch that has ended. `request` is kept with it until it is gone.

    Deleted are its items, replies, results and all else that was stored for it, but not its source; `also`
    are further objects. Raises UsageError if there is no such batch, or if it has not ended; RetryableError
    and AccessError.
    """
    await decide_and_apply(ports, request, _decide)
    batch = (await read_existing(ports.table, request.batch_id)).batch
    retry = retry_for(_TIMEOUT_S, first_s=0.1, longest_s=5.0)
    objects = 0
    for stored in (*also, *_stored_for(ports, batch)):
        delete = partial(ports.objects.delete, stored.bucket, stored.key, is_prefix=stored.is_prefix)
        objects += await _until_none_is_left(retry, delete)
    rows = 0
    for partition in range(batch.partitions):
        rows += await _until_none_is_left(retry, partial(ports.table.delete_rows, batch, partition))
    if not await retry(ports.table.delete_batch, batch):
        await _check_gone(ports, batch)
    return Purged(rows, objects)


def _decide(view: BatchView, _request: OperationRequest, now_ms: int) -> Decision:
    """Let no round open on the batch any more."""
    check_ended(view)
    text = f"{view.batch.batch_id} is being purged"
    until = now_ms // 1000 + LEFT_S
    if view.batch.ttl and view.batch.ttl <= until:
        return Decision(text)
    return Decision(text, replace(view.batch, ttl=until))


def _stored_for(ports: Ports, batch: Batch) -> list[StoredObjects]:
    """The objects of a batch. Results have names of their own: other files may lie beside them."""
    work = ports.large_outcomes.place_of(batch)
    # without the round, which comes last
    run = work.prefix.rstrip("/").rpartition("/")[0] + "/"
    output = batch.output
    files = [f"{output.prefix}{name}" for name in (LATEST, *SAMPLE_FILES)]
    for round_ in range(1, batch.round + 1):
        files += [f"{replace(batch, round=round_).results.prefix}{name}" for name in RESULT_FILES]
    return [
        StoredObjects(work.bucket, run),
        StoredObjects(work.bucket, inputs_prefix(batch.identity)),
        *(StoredObjects(output.bucket, key, is_prefix=False) for key in files),
    ]


async def _until_none_is_left(retry: RetryingCaller, delete: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while number := await retry(delete):
        total += number
    return total


async def _check_gone(ports: Ports, batch: Batch) -> None:
    """Raise UsageError unless the batch is gone, by this call, whose answer was lost, or by another purge."""
    view = await ports.table.read(batch.batch_id)
    if view is not None and view.batch.identity == batch.identity:
        raise UsageError(f"{batch.batch_id} was changed while it was purged: run the command again")
