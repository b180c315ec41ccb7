"""A second round, opened as the protocol describes, while messages of the first round are still around."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from service.domain.messages import AggregateMessage
from service.domain.model import Batch, Counts, State, Status
from service.domain.ports import OutgoingMessage
from tests.simulation.process import SharedWorld
from tests.simulation.sequels import Sequel

_REDRIVABLE = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS})


class Redrives(Sequel):
    """Opens a second round of each batch with failed rows, some time after its first round has ended.

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
                self._loop.at(self._loop.time() + delay, self._open, batch_id, failed)

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

    def _open(self, batch_id: str, failed: Sequence[int]) -> None:
        """Open the second round: rows that succeeded are counted already, rows that failed are sent again."""
        batch = self._table.batch(batch_id)
        assert batch is not None
        assert batch.total is not None
        if batch.state not in _REDRIVABLE:  # somebody has its results written again
            self._loop.at(self._loop.time() + 5.0, self._open, batch_id, failed)
            return
        carried_over = batch.total - len(failed)
        self._monitor.carried_over[batch.identity, 2] = carried_over
        # Written past the port.
        self._table._batches[batch_id] = replace(
            batch, round=2, state=State.RUNNING, finished_at="", carried=Counts(succeeded=carried_over)
        )
        self.pending -= 1
        self._happened["world: second round"] += 1
        for number in failed:
            message = self._message(batch, 2, number)
            self._queues["rows"].duplicate(OutgoingMessage(message.encode(), batch_id), 0)
