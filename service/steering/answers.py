"""Answers to requests that travel as messages: the fleet keeps them, and who has asked reads them."""

from __future__ import annotations

from service.batch.role_ports import Ports
from service.domain.errors import UsageError
from service.domain.model import Operation
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from service.runtime.sender import send_all
from service.steering.operate import read_existing

POLL_S = 0.5

ANSWER_S = 60.0
"""Longest wait of a command for the answer; the fleet carries out the request in any case."""


async def ask(ports: Ports, request: OperationRequest, *, wait_s: float = ANSWER_S) -> Operation | None:
    """Have the fleet carry out a request; return the answer, None if there is none within `wait_s`.

    Raises UsageError if there is no such batch or the request is refused, RetryableError and AccessError.
    """
    batch = (await read_existing(ports.table, request.batch_id)).batch
    await send_all(ports.queues.ingest, [OutgoingMessage(request.encode())])
    until = ports.clock.monotonic() + wait_s
    while True:
        answer = await ports.table.operation(batch, request.request_id)
        if answer is not None:
            if answer.answer.get("refused"):
                raise UsageError(str(answer.answer["text"]))
            return answer
        if ports.clock.monotonic() >= until:
            return None
        await ports.clock.sleep(POLL_S)
