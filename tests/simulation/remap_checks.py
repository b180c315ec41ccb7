"""The checks of remaps: no call is made in one, and each outcome is what its mapping makes of the kept reply.

The docstring of a method that checks invariants names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from service.domain import exact_json
from service.domain.errors import RowfleetError
from service.domain.model import Batch, Outcome, Status, row_number
from tests.simulation.mappings import definitions_of

if TYPE_CHECKING:
    from tests.simulation.monitor import Monitor
    from tests.simulation.observed_ports import RowKey

Stored = Mapping[tuple[str, int], Mapping[int, Outcome]]
"""The outcomes of each round, by the batch's identity and round."""


class RemapChecks:
    """Judges the rounds that a remap has opened, as the log of operations has them.

    `output` returns the values of an outcome, wherever they are kept.
    """

    def __init__(self, monitor: Monitor, stored: Stored, output: Callable[[Outcome], dict[str, Any]]) -> None:
        self.on_open: Callable[[Batch], None] = lambda _: None
        self._monitor = monitor
        self._stored = stored
        self._output = output
        self._rounds: set[tuple[str, int]] = set()

    def opened(self, batch: Batch) -> None:
        """A remap has opened the present round of the batch."""
        self._rounds.add((batch.identity, batch.round))
        self.on_open(batch)

    def called(self, who: str, key: RowKey) -> None:
        """`who` calls the agent for a row. Checks no_call_in_remap."""
        if key[:2] in self._rounds:
            self._monitor.violated("no_call_in_remap", f"{who} asked for row {key}, whose reply is kept")

    def committed(self, batch: Batch, outcome: Outcome) -> None:
        """An outcome was committed. Checks remapped_from_reply."""
        if (batch.identity, outcome.round) not in self._rounds:
            return
        earlier = self._earlier(batch, outcome)
        found = outcome.status, self._output(outcome)
        if outcome.values_round:
            self._monitor.met["row: kept in a remap"] += 1
            wanted = earlier.status, self._output(earlier)
            may_keep = batch.cancelled_at or batch.keep_better or outcome.reused_from
        else:
            self._monitor.met["row: remapped"] += 1
            reply, may_keep = self._reply(batch, earlier), True
            if reply is None:
                return
            wanted = self._mapped(batch, outcome, reply)
        has_reply = (outcome.reply, outcome.reply_at) == (earlier.reply, earlier.reply_at)
        if found != wanted or not (may_keep and has_reply):
            text = f"row {(batch.identity, outcome.round, outcome.number)} is {found}, and should be {wanted}"
            self._monitor.violated("remapped_from_reply", text)

    def _earlier(self, batch: Batch, outcome: Outcome) -> Outcome:
        """The outcome of the row in the last round before."""
        rounds = (
            self._stored.get((batch.identity, number), {}) for number in range(outcome.round - 1, 0, -1)
        )
        return next(outcomes[outcome.number] for outcomes in rounds if outcome.number in outcomes)

    def _reply(self, batch: Batch, outcome: Outcome) -> str | None:
        """The JSON text of the reply; None if it is that of another batch's row, or in a pack."""
        if outcome.reply or not outcome.reused_from:
            return outcome.reply or None
        batch_id, _, row = outcome.reused_from.rpartition("/")
        if batch_id != batch.batch_id:
            return None
        rounds = (self._stored.get((batch.identity, number), {}) for number in range(1, batch.round + 1))
        others = (outcomes.get(row_number(row)) for outcomes in rounds)
        return next((other.reply for other in others if other is not None and other.reply), None)

    def _mapped(self, batch: Batch, outcome: Outcome, reply: str) -> tuple[Status, dict[str, Any]]:
        """The status and values that the mapping of the round gives."""
        spec = self._monitor.files[batch.identity].mapping
        mapping = definitions_of(spec)[batch.digest_of(outcome.round)].compile()
        try:
            return Status.SUCCESS, mapping.extract(exact_json.loads(reply)).values
        except RowfleetError:
            return Status.FAILED, {}

    def is_strict(self, key: RowKey) -> bool:
        """True if the mapping of the row's round finds nothing in any reply."""
        batch = self._monitor.batches[key[0]]
        spec = self._monitor.files[key[0]].mapping
        strict = list(definitions_of(spec))[-1]
        return batch.digest_of(key[1]) == strict
