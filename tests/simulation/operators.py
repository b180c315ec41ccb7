"""Operators: people and programs that pause, resume, cancel, set and finish batches at any step.

A request may be made by two clients at once, and several splitters carry out requests at the same time. Where
a sweeper runs, one operator is a process with faults of its own, as the command line is: it may die between
the transaction and the messages that follow from it. Batches that are still paused at the end are resumed,
except for holds that are left to expire.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.domain.model import Batch, Hold, HoldReason, Json, State
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from service.steering.target_hold import is_tried
from tests.simulation.loop import VirtualLoop
from tests.simulation.samples import decision_of, waits_for_approval

if TYPE_CHECKING:
    from tests.simulation.process import SharedWorld
    from tests.simulation.scenario import PlannedOperation

_TWICE_S = (0.0, 0.0, 0.05, 20.0)
"""Times between a request and its repetition by another client."""


class DirectRequests:
    """The requests that the operator's own process makes: one after the other, each by one of its lives."""

    def __init__(self) -> None:
        self._requests: deque[tuple[PlannedOperation, OperationRequest]] = deque()
        self._arrivals: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, operation: PlannedOperation, request: OperationRequest) -> None:
        """Have a request made."""
        self._requests.append((operation, request))
        # A process that was killed has left its future behind, so all are told.
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            if not arrival.done():
                arrival.set_result(None)

    async def next(self, loop: VirtualLoop) -> tuple[PlannedOperation, OperationRequest]:
        """Take the next request, and wait until there is one."""
        while not self._requests:
            arrival = loop.create_future()
            self._arrivals.append(arrival)
            await arrival
        return self._requests.popleft()


PATIENCE = 40
"""Operations on a batch after which the world has it go on, whatever fails."""


class Operators:
    """Sends the planned requests of a world as messages, and resumes what is left paused.

    `pending` is the number of requests that are still to be made.
    """

    def __init__(self, shared: SharedWorld, draws: random.Random, batch_ids: Sequence[str]) -> None:
        self._shared = shared
        self._table = shared.table
        self._queues = shared.queues
        self._loop = shared.loop
        self._happened = shared.faults.happened
        self._are_holds_left = shared.scenario.are_holds_left
        self._random = draws
        self._batch_ids = batch_ids
        self._resumed: set[tuple[str, int]] = set()
        self._steps: Counter[str] = Counter()
        # The requests that wait for a step, with their numbers, by batch.
        self._waiting: dict[str, list[tuple[int, PlannedOperation]]] = defaultdict(list)
        self.pending = 0

    def schedule(self, planned: Sequence[PlannedOperation]) -> None:
        """Schedule the requests; the operator's own process makes some of them."""
        for number, operation in enumerate(planned):
            self.pending += 1
            self._waiting[self._batch_of(operation)].append((number, operation))
            self._loop.at(operation.at_s, self._begin_at_last, number, operation)

    def step(self, batch_id: str) -> None:
        """A row of the batch was sent, asked for or stored: make the requests that wait for that."""
        self._steps[batch_id] += 1
        waiting = self._waiting.get(batch_id, ())
        for number, operation in [planned for planned in waiting if planned[1].step <= self._steps[batch_id]]:
            self._waiting[batch_id].remove((number, operation))
            self._loop.at(self._loop.time() + operation.delay_s, self._begin, number, operation)

    def _begin_at_last(self, number: int, operation: PlannedOperation) -> None:
        """Make a request unless the step that it waits for has come."""
        waiting = self._waiting[self._batch_of(operation)]
        if (number, operation) in waiting:
            waiting.remove((number, operation))
            self._begin(number, operation)

    def _begin(self, number: int, operation: PlannedOperation) -> None:
        """Send a request, or leave it to the operator's own process, or both."""
        self.pending -= 1
        request = request_of(operation, self._batch_ids, f"request {number}")
        # A request for a batch that is not there would stay a dead letter.
        if self._table.batch(request.batch_id) is None:
            return
        if operation.is_direct:
            self._shared.direct.add(operation, request)
        else:
            self._request(request, 0.0)
        if operation.is_twice:
            self._request(request, self._random.choice(_TWICE_S))

    def _batch_of(self, operation: PlannedOperation) -> str:
        return self._batch_ids[operation.file % len(self._batch_ids)]

    def resume_rest(self) -> None:
        """Resume each batch that is held, some time after that, once no request is planned."""
        if self.pending:
            return
        for batch_id in self._batch_ids:
            batch = self._table.batch(batch_id)
            # A target lifts its hold itself.
            if batch is None or batch.state is not State.PAUSED or is_tried(batch) or self._is_left(batch):
                continue
            key = (batch.identity, batch.control)
            if key not in self._resumed:
                self._resumed.add(key)
                self.pending += 1
                delay_s = self._random.choice((0.0, 1.0, 12.0, 200.0))
                self._loop.at(self._loop.time() + delay_s, self._resume, batch_id, batch.control)

    def _is_left(self, batch: Batch) -> bool:
        """True if the batch has a hold that is left to expire."""
        return self._are_holds_left and any(hold.reason != HoldReason.USER for hold in batch.holds)

    def _resume(self, batch_id: str, control: int) -> None:
        self.pending -= 1
        batch = self._table.batch(batch_id)
        if batch is not None and waits_for_approval(batch):
            is_kept = bool(self._shared.scenario.next_files) or batch.is_remap
            op, given = decision_of(self._random, may_open_round=control <= PATIENCE and not is_kept)
            id_ = f"{op}{' now' if given else ''} after {control}"
            self._request(OperationRequest(op, batch_id, id_, "the world", given), 0.0)
            if given:
                # Refused if every row of the sample has succeeded: it is decided on again.
                self._resumed.discard((batch.identity, control))
            return
        # A round is refused whose items expire in less than a day, and a remap keeps its mapping.
        is_kept = self._shared.scenario.next_files or (batch is not None and batch.is_remap)
        is_new = self._random.random() < 0.2 and not is_kept
        args: dict[str, Json] = {"mapping_now": True} if is_new else {}
        held = self._table.batch(batch_id)
        hold = None if held is None else held.hold(HoldReason.BUDGET)
        if held is not None and hold is not None:
            args = self._raise(held, hold, is_late=control > PATIENCE)
        if control > PATIENCE:
            lenient: dict[str, Json] = {"tolerate": "on_exceeded=finish"}
            self._request(
                OperationRequest("set", batch_id, f"set after {control}", "the world", lenient), 0.0
            )
        request = OperationRequest("resume", batch_id, f"resume after {control}", "the world", args)
        self._request(request, 0.0)

    def _raise(self, batch: Batch, hold: Hold, *, is_late: bool) -> dict[str, Json]:
        """The arguments with which a batch goes on whose budget is used up."""
        if hold.detail["budget"] == "day":
            return {"mapping_now": True}
        more = 1_000_000 if is_late else self._random.choice((0, 0, 2, 10, 1_000))
        return {"max_calls": max(int(str(hold.detail["least"])), batch.budgets.own.calls or 0) + more}

    def _request(self, request: OperationRequest, delay_s: float) -> None:
        self._queues["ingest"].duplicate(OutgoingMessage(request.encode()), delay_s)
        self._happened[f"world: {request.op}"] += 1
        if request.args.get("mapping_now"):
            self._happened["world: present mapping"] += 1


def request_of(operation: PlannedOperation, batch_ids: Sequence[str], request_id: str) -> OperationRequest:
    """The request of a planned operation."""
    batch_id = batch_ids[operation.file % len(batch_ids)]
    return OperationRequest(operation.op, batch_id, request_id, "an operator", dict(operation.args))
