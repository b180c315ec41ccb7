"""The one way in which a batch fails: its state, its metric and its log line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from service.batch.role_ports import Ports
from service.domain.model import Batch, State, iso_time
from service.runtime.metrics import Metrics

log = structlog.get_logger(__name__)


async def fail_batch(ports: Ports, batch: Batch, problem: str, *, expected: Sequence[State]) -> Batch:
    """Move the batch from one of the `expected` states to FAILED; return the batch as it stands afterwards.

    The states are tried in the order given, which is the order in which a batch goes through them: one that
    is moved on in between is caught in its next state. A batch in another state or round is left alone and
    not counted. Raises RetryableError and AccessError.
    """
    now = iso_time(ports.clock.now_ms())
    for state in expected:
        if await ports.table.move(
            batch.batch_id, expected=state, round=batch.round, to=State.FAILED, now=now, error=problem
        ):
            report_failed_batch(ports.metrics, batch, problem)
            return replace(batch, state=State.FAILED, error=problem, updated_at=now, finished_at=now)
    view = await ports.table.read(batch.batch_id)
    stands = batch if view is None else view.batch
    # The table's reply to a successful move may have been lost; botocore then repeats the call in vain.
    is_ours = (stands.state, stands.error, stands.finished_at) == (State.FAILED, problem, now)
    report_failed_batch(ports.metrics, batch, problem, moved=is_ours)
    return stands


def report_failed_batch(metrics: Metrics, batch: Batch, problem: str, *, moved: bool = True) -> None:
    """Log that a batch fails, and count it unless another process has `moved` it to its state.

    The alarm `batches-failed` watches the metric `batches_failed`.
    """
    if moved:
        metrics.count("batches_failed")
    log.warning("batch_failed", batch_id=batch.batch_id, reason=problem, moved=moved)
