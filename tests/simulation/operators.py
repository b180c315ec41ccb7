"""Operators: people and programs that pause, resume, cancel, set and finish batches at any time.

A job message may come twice, and several splitters carry out requests at the same time. Where a sweeper runs,
one operator is a process with faults of its own, as the command line is: it may die between the transaction
and the messages that follow from it. Batches that are still paused at the end are resumed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.domain.model import State
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from service.steering.target_hold import is_tried

if TYPE_CHECKING:
    from tests.simulation.process import SharedWorld
    from tests.simulation.scenario import PlannedOperation


class Operators:
    """Sends the planned requests of a world as messages, and resumes what is left paused.

    `pending` is the number of requests that are still to be made.
    """

    def __init__(self, shared: SharedWorld, draws: random.Random, batch_ids: Sequence[str]) -> None:
        self._table = shared.table
        self._queues = shared.queues
        self._loop = shared.loop
        self._happened = shared.faults.happened
        self._random = draws
        self._batch_ids = batch_ids
        self._resumed: set[tuple[str, int]] = set()
        self.pending = 0

    def schedule(self, planned: Sequence[PlannedOperation]) -> None:
        """Schedule the requests that come as messages."""
        for number, operation in enumerate(planned):
            if not operation.is_direct:
                self.pending += 1
                self._loop.at(operation.at_s, self._send, f"request {number}", operation)

    def resume_rest(self) -> None:
        """Resume each batch that is held, some time after that, once no request is planned."""
        if self.pending:
            return
        for batch_id in self._batch_ids:
            batch = self._table.batch(batch_id)
            # A target lifts its hold itself.
            if batch is None or batch.state is not State.PAUSED or is_tried(batch):
                continue
            key = (batch.identity, batch.control)
            if key not in self._resumed:
                self._resumed.add(key)
                self.pending += 1
                delay_s = self._random.choice((0.0, 1.0, 12.0, 200.0))
                self._loop.at(self._loop.time() + delay_s, self._resume, batch_id, batch.control)

    def _resume(self, batch_id: str, control: int) -> None:
        self.pending -= 1
        self._request(OperationRequest("resume", batch_id, f"resume after {control}", "the world"), 0.0)

    def _send(self, request_id: str, operation: PlannedOperation) -> None:
        self.pending -= 1
        request = request_of(operation, self._batch_ids, request_id)
        # A request for a batch that is not there would stay a dead letter.
        if self._table.batch(request.batch_id) is None:
            return
        self._request(request, 0.0)
        if operation.is_twice:
            self._request(request, self._random.choice((0.0, 0.05, 20.0)))

    def _request(self, request: OperationRequest, delay_s: float) -> None:
        self._queues["ingest"].duplicate(OutgoingMessage(request.encode()), delay_s)
        self._happened[f"world: {request.op}"] += 1


def request_of(operation: PlannedOperation, batch_ids: Sequence[str], request_id: str) -> OperationRequest:
    """The request of a planned operation."""
    batch_id = batch_ids[operation.file % len(batch_ids)]
    return OperationRequest(operation.op, batch_id, request_id, "an operator", dict(operation.args))
