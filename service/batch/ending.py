"""The one way in which a batch fails: its state, its metric, its log line and its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from service.batch.manifest import manifest_of, write_manifest
from service.batch.role_ports import Ports
from service.domain.errors import RowfleetError
from service.domain.model import Batch, State, iso_time

log = structlog.get_logger(__name__)


async def fail_batch(ports: Ports, batch: Batch, problem: str, *, expected: Sequence[State]) -> Batch:
    """Move the batch from one of the `expected` states to FAILED; return the batch as it stands afterwards.

    The states are tried in the order given, which is the order in which a batch goes through them: one that
    is moved on in between is caught in its next state. A batch in another state or round is left alone and
    not counted. Raises RetryableError and AccessError.
    """
    now = iso_time(ports.clock.now_ms())
    for state in expected:
        if await ports.table.move(batch, expected=state, to=State.FAILED, now=now, error=problem):
            await report_failed_batch(ports, batch, problem)
            return replace(batch, state=State.FAILED, error=problem, updated_at=now, finished_at=now)
    view = await ports.table.read(batch.batch_id)
    stands = batch if view is None else view.batch
    # The table's reply to a successful move may have been lost; botocore then repeats the call in vain.
    is_ours = (stands.identity, stands.state, stands.error, stands.finished_at) == (
        batch.identity, State.FAILED, problem, now,
    )  # fmt: skip
    await report_failed_batch(ports, batch, problem, moved=is_ours)
    if not is_ours and stands.identity == batch.identity and stands.state is State.FAILED:
        await restate_failed_batch(ports, stands)
    return stands


async def restate_failed_batch(ports: Ports, batch: Batch) -> None:
    """Write the manifest of a FAILED batch again: the process that failed it may have died before it did.

    Repetitions write the same manifest. An error is only logged.
    """
    await _write_manifest(ports, batch)


async def report_failed_batch(ports: Ports, batch: Batch, problem: str, *, moved: bool = True) -> None:
    """Log that a batch fails; unless another process has `moved` it to its state, count it and write why.

    The alarm `batches-failed` watches the metric `batches_failed`.
    """
    if moved:
        ports.metrics.count("batches_failed")
    log.warning("batch_failed", batch_id=batch.batch_id, reason=problem, moved=moved)
    if moved:
        await _write_manifest(ports, batch)


async def _write_manifest(ports: Ports, batch: Batch) -> None:
    """Tell readers of the bucket why the batch has failed. An error is only logged: the state stands."""
    try:
        view = await ports.table.read(batch.batch_id)
        # A later round has files of its own; a batch that is FAILED no more is not described as FAILED.
        if view is not None and (view.batch.identity, view.batch.state, view.batch.round) == (
            batch.identity, State.FAILED, batch.round,
        ):  # fmt: skip
            facts = manifest_of(view.batch, State.FAILED, view.counts)
            await write_manifest(ports.objects, view.batch, facts)
    except RowfleetError as error:
        log.warning("manifest_not_written", batch_id=batch.batch_id, reason=str(error))
