"""Later rounds, which the fleet opens while messages of earlier rounds are still around."""

from __future__ import annotations

import random
from collections.abc import Sequence

from service.domain.messages import AggregateMessage
from service.domain.model import Batch, Json, State, Status
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from tests.simulation.process import SharedWorld
from tests.simulation.sequels import Sequel

_REDRIVABLE = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.CANCELLED})

_FILTERS: tuple[dict[str, Json], ...] = (
    {}, {}, {"class": ["transient"]}, {"class": ["rejected", "cancelled"]}, {"error": ["AgentRejectedError"]},
    {"rows": "1-3,7"}, {"rows": "1,2", "succeeded": True}, {"deadline": 300},
)  # fmt: skip
"""What a first request asks for. If nothing matches, the next one asks for all failed rows."""

ROUND_OF_ASKING_AGAIN = 2
"""Some batches are redriven once more after this round."""


class Redrives(Sequel):
    """Asks for another round of each batch with failed rows, some time after its last round has ended.

    `pending` is the number of rounds that are about to be opened.
    """

    def __init__(self, shared: SharedWorld, draws: random.Random, batch_ids: Sequence[str]) -> None:
        super().__init__(shared, draws)
        self._waiting = set(batch_ids)
        # Draws of its own, so that other draws of the world stay the same.
        self._more = random.Random(f"redrives of {shared.scenario.seed}")
        self.pending = 0

    def schedule_due(self) -> None:
        """Schedule the next round of each batch that can be redriven now."""
        for batch_id in sorted(self._waiting):
            batch = self._table.batch(batch_id)
            if batch is None or batch.state not in _REDRIVABLE:
                continue
            self._waiting.discard(batch_id)
            statuses = self._monitor.statuses(batch)
            failed = [number for number, status in sorted(statuses.items()) if status is Status.FAILED]
            if failed:
                self.pending += 1
                delay = self._random.choice((0.5, 0.5, 2.0, 5.0, 60.0))
                self._duplicate_old_messages(batch, failed, delay)
                self._loop.at(self._loop.time() + delay, self._ask, batch_id, batch.round, 1)

    def _duplicate_old_messages(self, batch: Batch, failed: Sequence[int], delay: float) -> None:
        """Duplicate messages of the round, which arrive about the time of the redrive or later."""
        for number in failed:
            if self._random.random() < 0.7:
                message = self._message(batch, batch.round, number)
                self._monitor.copied.add((batch.identity, batch.round, number))
                # Half of them meet the messages of the next round, and workers that do not know of it.
                spread = self._random.choice(((-1.0, 1.0), (-5.0, 15.0)))
                when = max(0.0, delay + self._random.uniform(*spread))
                self._queues["rows"].duplicate(OutgoingMessage(message.encode(), batch.batch_id), when)
        trigger = AggregateMessage(batch.batch_id, batch.round, batch.incarnation).encode()
        self._queues["aggregate"].duplicate(OutgoingMessage(trigger), self._random.uniform(0, 2 * delay))

    def _ask(self, batch_id: str, round_: int, number: int) -> None:
        """Ask for the next round until it is open: messages are lost, and results written once more."""
        batch = self._table.batch(batch_id)
        if batch is None or batch.round > round_:
            self.pending -= 1
            if round_ < ROUND_OF_ASKING_AGAIN and self._more.random() < 0.3:
                self._waiting.add(batch_id)
            return
        if batch.state in _REDRIVABLE:
            self._request(batch, number)
            self._happened["world: second round"] += 1
        self._loop.at(self._loop.time() + 120.0, self._ask, batch_id, round_, number + 1)

    def _request(self, batch: Batch, number: int) -> None:
        """Send a request, perhaps twice, or beside one of another client."""
        args: dict[str, Json] = {"unread": True} if batch.unread_from else {}
        if number == 1:
            args |= self._more.choice(_FILTERS)
        if self._more.random() < 0.3:
            args["mapping_now"] = True
        id_ = f"redrive {batch.round}.{number}"
        request = OperationRequest("redrive", batch.batch_id, id_, "an operator", args)
        other = OperationRequest("redrive", batch.batch_id, f"other {id_}", "another", args)
        self._queues["ingest"].duplicate(OutgoingMessage(request.encode()), 0)
        if self._random.random() < 0.3:
            again = self._random.choice((request, other))
            self._queues["ingest"].duplicate(OutgoingMessage(again.encode()), self._random.choice((0.0, 5.0)))
