"""A sequel of a batch: what happens to it after its end, while its messages are still around."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from service.domain.messages import RowMessage
from service.domain.model import Batch

if TYPE_CHECKING:
    from tests.simulation.process import SharedWorld


class Sequel:
    """The parts of the world that sequels change, past the ports of its processes, and their own `draws`."""

    def __init__(self, shared: SharedWorld, draws: random.Random) -> None:
        self._table = shared.table
        self._queues = shared.queues
        self._monitor = shared.monitor
        self._loop = shared.loop
        self._happened = shared.faults.happened
        self._random = draws

    def _message(self, batch: Batch, round_: int, number: int, *, replay: bool = False) -> RowMessage:
        """The message of a row, as the splitter sent it: a worker takes it by what it knows of the batch."""
        cells = (str(number), self._monitor.files[batch.identity].names[number - 1])
        return RowMessage(
            batch.batch_id, round_, number, cells,
            replay=replay, generation=batch.generation, incarnation=batch.incarnation, sender=batch.sender,
        )  # fmt: skip
