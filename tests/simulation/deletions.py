"""The invariant acknowledged_when_durable: a message is deleted only when its work is done or handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from service.domain.events import decode_ingest
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, State, WorkKind
from service.steering.expiry import is_overdue

if TYPE_CHECKING:
    from tests.simulation.monitor import Monitor
    from tests.simulation.observed_ports import ObservedQueue


class DeletedMessages:
    """Judges the deletion of messages by what `monitor` knows of the world."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def problem(self, queue: ObservedQueue, body: str) -> str:
        """The reason why this message must not be deleted yet; "" if it may be."""
        kind, _, dead_letter = queue.name.partition("-")
        # A dead job or trigger may be left to the sweeper, which finds the batch in the table.
        if dead_letter and kind != "rows" and self._has_batch(body):
            return ""
        checks = {"rows": self._row_problem, "ingest": self._job_problem, "aggregate": self._trigger_problem}
        return checks[kind](body)

    def _has_batch(self, body: str) -> bool:
        data = orjson.loads(body)
        batch_id = data.get("batch") or data.get("batch_id") or f"{data['mapping']}#{data['execution_id']}"
        return self._monitor.present(batch_id) is not None

    def _row_problem(self, body: str) -> str:
        monitor = self._monitor
        key = monitor.queues["rows"].key(body)
        assert key is not None
        identity, round_, _ = key
        has_message = any(queue.messages_of.get(key) for queue in monitor.queues.values())
        if monitor.has_outcome(key) or has_message or key in monitor.lost_rows:
            return ""
        batch = monitor.standing(identity)
        # The rows of a batch that is over, or that another one has replaced, are nobody's.
        if batch is None or batch.state.is_final or batch.round > round_:
            return ""
        # An operation has taken the message out of use: the row is sent again, or cancelled, by its work.
        is_superseded = orjson.loads(body).get("generation", 0) < batch.generation
        if batch.state is State.PAUSED or (is_superseded and self._is_sent_later(batch, key[2])):
            return ""
        # Rows that are overdue, by the clock of any process, are failed by the sweeper, without a message.
        latest_ms = monitor.table.now_ms() + round(monitor.clocks_differ_s * 1000)
        if is_superseded and is_overdue(batch, latest_ms):
            return ""
        # A row that was dropped during a pause is cancelled with the others.
        if batch.cancelled_at and batch.work is not None and batch.work.kind is WorkKind.CANCEL:
            return ""
        return f"row {key} was deleted: it has no outcome and no other message"

    def _is_sent_later(self, batch: Batch, number: int) -> bool:
        """True if work or the split is still to send the row."""
        sends = batch.work is not None and batch.work.kind is WorkKind.SEND and number > batch.work.after
        return sends or (batch.state is State.SPLITTING and number > batch.checkpoint.rows)

    def _job_problem(self, body: str) -> str:
        for job in decode_ingest(body).jobs:
            batch = self._monitor.present(f"{job.mapping}#{job.execution_id}")
            if job.incarnation and (batch is None or batch.incarnation != job.incarnation):
                continue
            if batch is not None and batch.work is not None:
                continue  # an operation has the split go on by a job of its own
            if batch is not None and self._is_of_dead_job(batch):
                continue
            if (batch is None or batch.state is State.SPLITTING) and not self._has_copy("ingest", body):
                return f"the job was deleted while its batch is {batch.state if batch else 'not there'}"
        return ""

    def _is_of_dead_job(self, batch: Batch) -> bool:
        """True if the batch may be that of a job that is a dead letter, and so left to the sweeper.

        The jobs before ended with the failed batch that was there then.
        """
        return batch.identity in self._monitor.opened_anew and self._monitor.dead_lettered["ingest"] > 0

    def _trigger_problem(self, body: str) -> str:
        trigger = AggregateMessage.decode(body)
        batch = self._monitor.present(trigger.batch_id)
        if batch is None or not trigger.is_for(batch) or batch.state.is_final:
            return ""
        # What goes on after a pause checks the batch again.
        if batch.state is State.PAUSED or batch.work is not None or self._has_copy("aggregate", body):
            return ""
        # The trigger of a sample is deleted some time later, when its batch may go on.
        if batch.gate is not None and self._is_checked_later(batch):
            return ""
        if batch.state is State.AGGREGATING and self._is_finish_followed_up(batch):
            return ""
        return f"the trigger of {trigger.batch_id} was deleted while it is {batch.state}"

    def _is_checked_later(self, batch: Batch) -> bool:
        """True if rows are left, or a message of one whose receiver checks whether the batch is complete."""
        monitor = self._monitor
        if batch.total is None or len(monitor.statuses(batch)) < batch.total:
            return True
        round_ = (batch.identity, batch.round)
        left = (
            key
            for name in ("rows", "rows-dlq")
            for key, count in monitor.queues[name].messages_of.items()
            if count
        )
        return any(key[:2] == round_ for key in left)

    def _is_finish_followed_up(self, batch: Batch) -> bool:
        """True if a request has its trigger still to be sent: its message, or its maker, is there until then.

        An aggregator that has just ended the batch deletes its own trigger. If the maker of the request dies,
        the sweeper sends the trigger.
        """
        monitor = self._monitor
        if not monitor.steering.is_finished_anew(batch):
            return False
        if monitor.has_operator:
            return True
        jobs = (
            orjson.loads(body) for name in ("ingest", "ingest-dlq") for body in monitor.queues[name].bodies
        )
        return any(job.get("op") == "finish" and job["batch_id"] == batch.batch_id for job in jobs)

    def _has_copy(self, name: str, body: str) -> bool:
        """True if another message asks for the same: one that was sent again, or a duplicate."""
        wanted = orjson.loads(body)
        queues = self._monitor.queues
        found = (orjson.loads(other) for queue in (name, f"{name}-dlq") for other in queues[queue].bodies)
        same = ("batch", "round", "incarnation", "mapping", "execution_id")
        # The job of an operation or sweeper has the incarnation, which the first job has not.
        if "incarnation" not in wanted:
            same = same[:2] + same[3:]
        return any(all(data.get(key) == wanted.get(key) for key in same) for data in found)
