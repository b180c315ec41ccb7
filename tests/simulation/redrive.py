"""A second round, which the fleet opens while messages of the first round are still around."""

from __future__ import annotations

import random
from collections.abc import Sequence

from service.domain.messages import AggregateMessage
from service.domain.model import Batch, State, Status
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from tests.simulation.process import SharedWorld
from tests.simulation.sequels import Sequel

_REDRIVABLE = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.CANCELLED})


class Redrives(Sequel):
    """Asks for a second round of each batch with failed rows, some time after its first round has ended.

    `pending` is the number of rounds that are about to be opened.
    """

    def __init__(self, shared: SharedWorld, draws: random.Random, batch_ids: Sequence[str]) -> None:
        super().__init__(shared, draws)
        self._waiting = set(batch_ids)
        self.pending = 0

    def schedule_due(self) -> None:
        """Schedule the second round of each batch that can be redriven now."""
        for batch_id in sorted(self._waiting):
            batch = self._table.batch(batch_id)
            if batch is None or batch.state not in _REDRIVABLE:
                continue
            self._waiting.discard(batch_id)
            statuses = self._monitor.outcomes[batch.identity, 1]
            failed = [number for number, status in sorted(statuses.items()) if status is Status.FAILED]
            if failed:
                self.pending += 1
                delay = self._random.choice((0.5, 0.5, 2.0, 5.0, 60.0))
                self._duplicate_old_messages(batch, failed, delay)
                self._loop.at(self._loop.time() + delay, self._ask, batch_id, 1)

    def _duplicate_old_messages(self, batch: Batch, failed: Sequence[int], delay: float) -> None:
        """Duplicate messages of the first round, which arrive about the time of the redrive or later."""
        for number in failed:
            if self._random.random() < 0.7:
                message = self._message(batch, 1, number)
                self._monitor.copied.add((batch.identity, 1, number))
                # Half of them meet the messages of the second round, and workers that do not know of it.
                spread = self._random.choice(((-1.0, 1.0), (-5.0, 15.0)))
                when = max(0.0, delay + self._random.uniform(*spread))
                self._queues["rows"].duplicate(OutgoingMessage(message.encode(), batch.batch_id), when)
        trigger = AggregateMessage(batch.batch_id, 1, batch.incarnation).encode()
        self._queues["aggregate"].duplicate(OutgoingMessage(trigger), self._random.uniform(0, 2 * delay))

    def _ask(self, batch_id: str, number: int) -> None:
        """Ask for the second round until it is open: messages are lost, and results written once more."""
        batch = self._table.batch(batch_id)
        if batch is None or batch.round > 1:
            self.pending -= 1
            return
        if batch.state in _REDRIVABLE:
            args = {"unread": True} if batch.unread_from else {}
            request = OperationRequest("redrive", batch_id, f"redrive {number}", "an operator", args)
            other = OperationRequest("redrive", batch_id, f"other {number}", "another", args)
            self._queues["ingest"].duplicate(OutgoingMessage(request.encode()), 0)
            if self._random.random() < 0.3:
                again = self._random.choice((request, other))
                self._queues["ingest"].duplicate(
                    OutgoingMessage(again.encode()), self._random.choice((0.0, 5.0))
                )
            self._happened["world: second round"] += 1
        self._loop.at(self._loop.time() + 120.0, self._ask, batch_id, number + 1)
