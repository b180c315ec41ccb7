"""The checks of operations at every event: they come in order, once each, and hold within seconds.

The docstring of a method that checks invariants names them. Some are exact only while nothing fails: a
worker that cannot read its batch notices an operation later. They are checked only if no fault has happened
since.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.domain.model import (
    Batch,
    BatchView,
    HoldReason,
    OnExceeded,
    Operation,
    Outcome,
    State,
    Status,
)
from service.domain.tolerance import JUDGED_CLASSES, excess
from service.recovery.kept import KeptRows
from service.steering.cancellation import NOTICE_S
from tests.simulation.samples import is_behind_gate

if TYPE_CHECKING:
    from tests.simulation.monitor import Monitor
    from tests.simulation.observed_ports import RowKey

_OPEN = (State.SPLITTING, State.RUNNING)


@dataclass(frozen=True, slots=True)
class _Since:
    """An instant, and the number of faults until then."""

    at_s: float
    faults: int


class SteeringChecks:
    """Judges operations by what `monitor` knows of the world. `faults` returns their number so far."""

    def __init__(self, monitor: Monitor) -> None:
        self.faults: Callable[[], int] = lambda: 0
        self._monitor = monitor
        self._requests: set[tuple[str, str]] = set()
        # The last operation on each batch, by its identity.
        self._last: dict[str, Operation] = {}
        # By identity: the instant at which each generation of row messages began.
        self._generations: dict[str, dict[int, float]] = defaultdict(dict)
        # The newest generation of a row's messages that a worker has received.
        self._received: dict[tuple[str, RowKey], int] = {}
        # The last row of a cancelled batch that may be sent, by its identity and round.
        self._last_sent: dict[tuple[str, int], int] = {}
        # By identity and control: since when the failures of a batch are too many.
        self._exceeded: dict[tuple[str, int], _Since] = {}
        # By identity: since when calls under way are to end.
        self._cut: dict[str, _Since] = {}

    # -- the batch

    def operated(self, before: Batch, after: Batch, operation: Operation) -> None:
        """An operation was made. Checks carried_out_once, operations_in_order and carried_are_kept."""
        name = f"{operation.op} of {after.batch_id} (request {operation.request_id!r})"
        request = (after.identity, operation.request_id)
        if request in self._requests:
            self._monitor.violated("carried_out_once", f"{name} was made again as operation {after.control}")
        self._requests.add(request)
        if not before.control + 1 == after.control == operation.control:
            text = f"{name} is operation {operation.control}, and the last one was {before.control}"
            self._monitor.violated("operations_in_order", text)
        self._last[after.identity] = operation
        if after.round > before.round:
            self._check_carried(before, after)

    def is_finished_anew(self, batch: Batch) -> bool:
        """True if the last operation has the results of the batch written again."""
        last = self._last.get(batch.identity)
        return last is not None and last.op == "finish" and last.control == batch.control

    def _check_carried(self, before: Batch, after: Batch) -> None:
        """Check carried_are_kept."""
        kept = _kept_rows(after, self._monitor.objects.stored)
        statuses = self._monitor.statuses(before)
        carried = [status for number, status in statuses.items() if not kept.is_due(number)]
        succeeded = carried.count(Status.SUCCESS)
        counts = (after.carried.succeeded, after.carried.failed)
        if counts != (succeeded, len(carried) - succeeded) or len(carried) != len(kept):
            text = f"round {after.round} of {after.batch_id} carries {counts}, and keeps {len(kept)} rows, "
            text += f"{succeeded} of {len(carried)} of which succeeded"
            self._monitor.violated("carried_are_kept", text)

    def batch_changed(self, before: Batch, batch: Batch) -> None:
        """A batch item was written over one of the same batch. Checks stays_cancelled."""
        self._generations[batch.identity].setdefault(batch.generation, self._monitor.now())
        if before.round == batch.round and before.cancelled_at:
            if batch.cancelled_at != before.cancelled_at or batch.state is State.PAUSED:
                text = f"{batch.batch_id} was cancelled, and is {batch.state} by operation {batch.control}"
                self._monitor.violated("stays_cancelled", text)
        elif batch.cancelled_at:
            # The window that may have been sent, and the one that ends beyond it.
            total = batch.total
            last = batch.checkpoint.rows + 2 * batch.window if total is None else total
            self._last_sent[batch.identity, batch.round] = last
        self._note_cut(batch)

    def _note_cut(self, batch: Batch) -> None:
        held = batch.hold(HoldReason.USER)
        if batch.cancelled_at or (held is not None and held.detail.get("now")):
            self._cut.setdefault(batch.identity, self._since())
        else:
            self._cut.pop(batch.identity, None)

    # -- messages

    def sent(self, who: str, key: RowKey) -> None:
        """`who` sends a row. Checks not_read_on_when_cancelled."""
        last = self._last_sent.get(key[:2])
        if last is not None and key[2] > last:
            text = f"{who} sent row {key}, and the cancelled batch was read to row {last} at most"
            self._monitor.violated("not_read_on_when_cancelled", text)

    def received(self, who: str, key: RowKey, generation: int) -> None:
        """`who` received a message of a row."""
        self._received[who, key] = max(generation, self._received.get((who, key), 0))

    # -- calls

    def called(self, who: str, key: RowKey) -> None:
        """`who` calls the agent. Checks only_newest_is_served, held_in_time and no_call_behind_the_gate."""
        batch = self._monitor.standing(key[0])
        rows = len(self._monitor.files[key[0]].behaviours)
        if batch is not None and batch.round == key[1] and is_behind_gate(batch, rows, key[2]):
            text = f"{who} asked for row {key}, and the sample of {batch.batch_id} is not approved"
            self._monitor.violated("no_call_behind_the_gate", text)
        if batch is None or self._monitor.pauses:
            return
        now, generation = self._monitor.now(), self._received.get((who, key), 0)
        newer = [at_s for number, at_s in self._generations[key[0]].items() if number > generation]
        if newer and now > min(newer) + NOTICE_S:
            text = f"{who} asked for row {key} by a message of generation {generation}"
            self._monitor.violated("only_newest_is_served", f"{text} {now - min(newer):.1f} s after its end")
        exceeded = self._exceeded.get((key[0], batch.control))
        if exceeded is not None and self._is_late(exceeded, NOTICE_S):
            text = f"{who} asked for row {key} {now - exceeded.at_s:.1f} s after too many rows had failed"
            self._monitor.violated("held_in_time", text)

    def call_ended(self, who: str, key: RowKey) -> None:
        """A call of the agent by `who` has ended. Checks cut_in_time."""
        since, batch = self._cut.get(key[0]), self._monitor.standing(key[0])
        if since is None or batch is None:
            return
        grace_s = batch.grace_s + self._monitor.clocks_differ_s if batch.cancelled_at else 0.0
        if self._is_late(since, grace_s + NOTICE_S):
            late_s = self._monitor.now() - since.at_s
            text = f"the call of {who} for row {key} ended {late_s:.1f} s after its batch was stopped"
            self._monitor.violated("cut_in_time", text)

    # -- tolerated failures

    def committed(self, view: BatchView, outcomes: Mapping[int, Outcome]) -> None:
        """A commit was applied: note since when the failures of the batch are too many.

        `outcomes` are those of the round.
        """
        batch = view.batch
        key = (batch.identity, batch.control)
        if not _is_judged(view) or batch.deadline_at:
            self._exceeded.pop(key, None)
        elif excess(view) or _begins_badly(batch, list(outcomes.values())):
            self._exceeded.setdefault(key, self._since())
        else:
            self._exceeded.pop(key, None)

    # -- time

    def _since(self) -> _Since:
        return _Since(self._monitor.now(), self.faults())

    def _is_late(self, since: _Since, after_s: float) -> bool:
        """True if more than `after_s` have passed since then, without a fault."""
        return self._monitor.now() - since.at_s > after_s and self.faults() == since.faults


def _is_judged(view: BatchView) -> bool:
    """True if failures have to hold the batch, or cancel it."""
    batch = view.batch
    is_open = batch.state in _OPEN and not batch.cancelled_at and not view.is_complete
    return is_open and batch.tolerate.on_exceeded is not OnExceeded.FINISH


def _begins_badly(batch: Batch, outcomes: list[Outcome]) -> bool:
    """True if so many first outcomes of the round as are judged, and all of them, failed for one cause."""
    first = batch.tolerate.first
    if not first or batch.judged_round == batch.round or len(outcomes) < first:
        return False
    errors = [outcome.error for outcome in outcomes]
    return len({error.cause for error in errors if error}) == 1 and all(
        error is not None and error.failure_class in JUDGED_CLASSES for error in errors
    )


def _kept_rows(batch: Batch, stored: Mapping[tuple[str, str], Any]) -> KeptRows:
    """The rows that keep their outcome in the round of a batch, as they are stored for it."""
    place = batch.kept
    return KeptRows() if place is None else KeptRows(zlib.decompress(stored[place.bucket, place.key].body))
