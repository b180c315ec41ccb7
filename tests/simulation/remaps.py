"""Remaps of batches that have ended, by mappings that find more, nothing or the same in the kept replies.

Each may have a rival while its rows are mapped: a pause, cancel, finish or redrive, or another remap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from service.domain.model import Batch, Json, State, Status
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from tests.simulation.mappings import definition_of
from tests.simulation.process import SharedWorld
from tests.simulation.sequels import Sequel

_REMAPPABLE = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.CANCELLED})

_SHARE = 0.25
"""The share of worlds in which batches are remapped."""

MOST_REMAPS = 3
"""Remaps of a batch."""

_RIVALS = ("pause", "pause", "cancel", "cancel", "redrive", "remap")
_LONGEST_WORK_S = 1.0
"""Most remaps are done after this."""


class Remaps(Sequel):
    """Asks for remaps of each batch some time after it has ended.

    `pending` is the number of rounds that are about to be opened.
    """

    def __init__(self, shared: SharedWorld, batch_ids: Sequence[str]) -> None:
        # Draws of its own, so that other worlds stay the same.
        super().__init__(shared, random.Random(f"remaps of {shared.scenario.seed}"))
        scenario = shared.scenario
        # A round is refused whose items expire in less than a day.
        is_remapped = self._random.random() < _SHARE and not (scenario.next_files or scenario.is_calm)
        self._left = dict.fromkeys(batch_ids if is_remapped else (), MOST_REMAPS)
        self._specs = dict(zip(batch_ids, (file.mapping for file in scenario.files), strict=True))
        self._waiting: set[str] = set()
        self._monitor.remaps.on_open = self._rival
        self._numbers = 0
        self.pending = 0

    def schedule_due(self) -> None:
        """Schedule the next remap of each batch that has ended."""
        for batch_id, left in sorted(self._left.items()):
            batch = self._table.batch(batch_id)
            if not left or batch_id in self._waiting or batch is None or batch.state not in _REMAPPABLE:
                continue
            self._left[batch_id] = left - 1 if self._random.random() < 0.6 else 0
            self._waiting.add(batch_id)
            self.pending += 1
            delay_s = self._random.choice((0.5, 3.0, 20.0))
            self._loop.at(self._loop.time() + delay_s, self._ask, batch_id)

    def _ask(self, batch_id: str) -> None:
        """Ask for a remap, and perhaps for something else at about the same time."""
        self._waiting.discard(batch_id)
        self.pending -= 1
        batch = self._table.batch(batch_id)
        if batch is None or batch.state not in _REMAPPABLE:
            return
        self._duplicate_old_messages(batch)
        self._request(batch_id, "remap", self._arguments(batch_id), 0.0)
        self._happened["world: remap"] += 1

    def _rival(self, batch: Batch) -> None:
        """A remap has opened a round: perhaps ask for something else while its work is done."""
        if self._random.random() >= 0.7:
            return
        rival = self._random.choice(_RIVALS)
        args = self._arguments(batch.batch_id) if rival == "remap" else {}
        delay_s = self._random.random() * _LONGEST_WORK_S
        self._request(batch.batch_id, rival, args, delay_s)
        if rival == "pause":
            after_s = delay_s + self._random.choice((0.3, 12.0))
            self._request(batch.batch_id, self._random.choice(("resume", "cancel")), {}, after_s)

    def _arguments(self, batch_id: str) -> dict[str, Json]:
        """The arguments of a remap, by one of the mappings of the batch."""
        args: dict[str, Json] = {"allow_missing": True}
        for name in ("only_failed", "keep_better"):
            if self._random.random() < 0.25:
                args[name] = True
        spec = self._specs[batch_id]
        same, new, strict = (
            definition_of(spec),
            definition_of(spec, is_new=True),
            definition_of(spec, is_strict=True),
        )
        definition = self._random.choice((same, new, new, strict, strict, None))
        return args | ({"mapping_now": True} if definition is None else {"mapping": definition.text})

    def _duplicate_old_messages(self, batch: Batch) -> None:
        """Duplicate messages of rows that failed in the last round, which arrive about then."""
        if batch.is_remap:
            return  # it had no messages
        statuses = self._monitor.outcomes[batch.identity, batch.round]
        failed = [number for number, status in statuses.items() if status is Status.FAILED]
        for number in sorted(failed)[:3]:
            message = self._message(batch, batch.round, number)
            self._monitor.copied.add((batch.identity, batch.round, number))
            when = self._random.uniform(0.0, 5.0)
            self._queues["rows"].duplicate(OutgoingMessage(message.encode(), batch.batch_id), when)

    def _request(self, batch_id: str, op: str, args: dict[str, Json], delay_s: float) -> None:
        self._numbers += 1
        request = OperationRequest(op, batch_id, f"sequel {self._numbers}", "an analyst", args)
        self._queues["ingest"].duplicate(OutgoingMessage(request.encode()), delay_s)
        if self._random.random() < 0.2:
            self._queues["ingest"].duplicate(OutgoingMessage(request.encode()), delay_s + 0.1)
