"""A batch that an earlier process has left is gone on with.

The queues of that process ended with it. One operation on the batch takes all messages that it had sent out
of use, and has every row without an outcome sent again, as a resume after a pause does. Nothing waits: no
other process can have sent a message of the new generation.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace

from service.batch.ending import send_trigger
from service.batch.role_ports import Ports
from service.domain.model import BatchView, Json, State
from service.domain.operation_requests import OperationRequest
from service.steering.budgets.limits import raised
from service.steering.decisions import Decision, restarted, resume
from service.steering.operate import decide_and_apply, follow_up

WHO_ENDED = "the process that ran it had ended"


async def go_on(ports: Ports, view: BatchView, by: str, args: Mapping[str, Json] | None = None) -> None:
    """Have the batch gone on with by this process, which is the only one of its store.

    `args` are those of a resume, which may raise its budget. Holds that a resume lifts are lifted. Raises
    UsageError, saying what stands there, if another one is left, and if the batch has ended; RetryableError
    and AccessError.
    """
    batch = view.batch
    if batch.lease_owner:
        # Its holder was killed: the split or the results need not wait until the lease ends by itself.
        await ports.table.release(batch.batch_id, owner=batch.lease_owner)
    if batch.state is State.AGGREGATING:
        if batch.trouble is not None:
            await ports.table.set_trouble(batch, None)
        await send_trigger(ports, batch)
        return
    request = OperationRequest(
        "resume", batch.batch_id, f"run-{uuid.uuid4().hex}", by, {"reason": WHO_ENDED} | dict(args or {})
    )
    operation = await decide_and_apply(ports, request, _decide)
    if not operation.control:
        await follow_up(ports, batch)


def _decide(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    batch = view.batch
    if batch.state is State.PAUSED:
        decision = resume(view, request, now_ms)
        after = decision.after
        return decision if after is None else replace(decision, after=replace(after, sender=""))
    if batch.cancelled_at or batch.state.is_final:
        # The work that the cancel has left goes on.
        return Decision(f"{batch.batch_id} goes on")
    after = restarted(raised(view, request.args))
    return Decision(f"{batch.batch_id} goes on", replace(after, sender=""))
