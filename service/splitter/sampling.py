"""The splitter at the gate of a batch: it sends the sample, counts the other rows, and stops.

The first rows are sent as they are read. Random rows are drawn once all rows are counted, and nothing is sent
before: the work that reaching the gate leaves on the batch sends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from service.batch.role_ports import Ports
from service.csvio import Record
from service.domain.model import Batch, BatchView, Checkpoint, Json, SampleGate, State
from service.domain.operation_requests import OperationRequest
from service.steering.approval.gates import at_gate
from service.steering.decisions import Decision
from service.steering.operate import ROWFLEET, decide_and_apply

log = structlog.get_logger(__name__)

SAMPLE = "sample"
"""The operation by which a batch reaches its gate; nobody asks for it."""


def closed_gate(batch: Batch) -> SampleGate | None:
    """The gate at which a split of the batch stops; None if it goes on to the end of the file."""
    gate = batch.gate
    if gate is None or gate.is_open:
        return None
    if gate.is_random and batch.checkpoint.rows:
        # All rows of a shorter file were sent, and more of them are read now: the sample is the first rows.
        return replace(gate, is_random=False, size=max(gate.size, batch.checkpoint.rows))
    return gate


def sent_first(records: Sequence[Record], gate: SampleGate | None) -> Sequence[Record]:
    """Those of the records that are sent before the gate."""
    if gate is None or not records:
        return records
    if gate.is_random:
        return ()
    most = gate.size
    return records if records[-1].number <= most else [each for each in records if each.number <= most]


async def reach_gate(ports: Ports, batch: Batch, gate: SampleGate, end: Checkpoint) -> bool:
    """Seal the batch for its sample. False if it is not being split any more, or was cancelled.

    `end` is the end of the file. Raises RetryableError and AccessError, UsageError if the batch is gone.
    """

    def decide(view: BatchView, request: OperationRequest, _now_ms: int) -> Decision:
        now = view.batch
        if not now.is_round_of(batch) or now.state is not State.SPLITTING or now.cancelled_at:
            return Decision(f"{now.batch_id} has moved on")
        return Decision(str(request.args["reason"]), at_gate(now, gate, end))

    kind = "random rows" if gate.is_random else "first rows"
    args: dict[str, Json] = {"reason": f"{gate.size:,} {kind} of {end.rows:,} are the sample"}
    # Two splitters of one batch may reach its gate: it is carried out once.
    request = OperationRequest(SAMPLE, batch.batch_id, f"sample-{batch.round}", ROWFLEET, args)
    operation = await decide_and_apply(ports, request, decide)
    if operation.control:
        log.info("gate_reached", rows=gate.size, total=end.rows, is_random=gate.is_random)
    return bool(operation.control)
