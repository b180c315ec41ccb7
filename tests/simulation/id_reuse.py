"""The same batch ids again: after the expiry of a batch, while its items and messages are still around."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from service.domain.jobs import Job
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, partition_key
from service.domain.ports import OutgoingMessage
from tests.simulation.process import SharedWorld
from tests.simulation.scenario import InputFile
from tests.simulation.sequels import Sequel

SETTLED_AFTER_S = 400.0
"""Least time between the end of a batch and its expiry: every late write of its processes is over then."""

DELETED_WITHIN_S = 120.0
"""Time in which DynamoDB deletes items that have expired, in no order, if it deletes them in this world."""


class IdReuse(Sequel):
    """Deletes the items of batches that have expired, and sends jobs with their ids for other files.

    `next_files` has the second file of each batch, by batch id; `submit` puts it into the bucket and sends
    its job. `pending` are the ids that are not opened again yet.
    """

    def __init__(
        self,
        shared: SharedWorld,
        draws: random.Random,
        next_files: Mapping[str, InputFile],
        submit: Callable[[str, InputFile], None],
    ) -> None:
        super().__init__(shared, draws)
        self._waiting = dict(next_files)
        self._submit = submit
        self._expired: dict[str, Batch] = {}
        if self._waiting:
            self._loop.at(SETTLED_AFTER_S / 2, self._prolong)

    @property
    def pending(self) -> Sequence[str]:
        """The ids whose second batch is not opened yet. A job may stay a dead letter for ever."""
        if self._queues["ingest-dlq"]:
            return list(self._waiting)
        return [
            *self._waiting,
            *(id_ for id_, old in self._expired.items() if not self._is_reopened(id_, old)),
        ]

    def schedule_due(self) -> None:
        """Schedule the expiry of each batch that has ended now."""
        for batch_id in sorted(self._waiting):
            batch = self._table.batch(batch_id)
            if batch is None or not batch.state.is_final:
                continue
            file = self._waiting.pop(batch_id)
            left_s = batch.ttl - self._table.now_ms() / 1000
            if left_s >= SETTLED_AFTER_S:
                self._expired[batch_id] = batch
                self._loop.at(self._loop.time() + left_s, self._expire, batch_id, file)

    def _prolong(self) -> None:
        """Keep batches that still run from expiring: they would be lost, and this world is not about that."""
        for batch_id in sorted({*self._waiting, *self._expired}):
            batch = self._table.batch(batch_id)
            if batch is None or batch.state.is_final:
                continue
            left_s = batch.ttl - self._table.now_ms() / 1000
            if 0 < left_s < 2 * SETTLED_AFTER_S:
                later = batch.ttl + round(4 * SETTLED_AFTER_S)
                self._table._batches[batch_id] = replace(batch, ttl=later)
        self._loop.at(self._loop.time() + SETTLED_AFTER_S / 2, self._prolong)

    def _is_reopened(self, batch_id: str, old: Batch) -> bool:
        batch = self._table.batch(batch_id)
        return batch is not None and batch.created_at != old.created_at

    def _expire(self, batch_id: str, file: InputFile) -> None:
        """Plan what comes after the expiry of the batch."""
        batch = self._table.batch(batch_id)
        assert batch is not None
        self._happened["world: id reused"] += 1
        now = self._loop.time()
        delay = self._random.choice((0.5, 20.0, DELETED_WITHIN_S))
        self._loop.at(now + delay, self._submit, batch_id, file)
        if self._random.random() < 0.7:
            share = self._random.choice((0.3, 0.7, 1.0))
            for delete in self._deletions(batch):
                if self._random.random() < share:
                    self._loop.at(now + self._random.random() * DELETED_WITHIN_S, delete)
        for queue, message in self._late_messages(batch):
            if self._random.random() < 0.5:
                self._queues[queue].duplicate(message, self._random.random() * 2 * delay)

    def _deletions(self, batch: Batch) -> Iterator[Callable[[], None]]:
        """The deletion of each item of the batch. An item that was written anew is not deleted."""
        table, batch_id = self._table, batch.batch_id
        old = table.batch(batch_id)

        def delete_batch() -> None:
            if table.batch(batch_id) == old:
                del table._batches[batch_id]

        def delete_definition() -> None:
            if table.batch(batch_id) in (None, old):
                table._definitions.pop((batch_id, batch.mapping_digest), None)

        yield delete_batch
        yield delete_definition
        for key, counter in list(table._counters[batch_id].items()):
            yield lambda key=key, ttl=counter.ttl: table.delete_counter(batch_id, key, ttl)
        for partition in range(batch.partitions):
            name = partition_key(batch_id, partition)
            for number, row in list(table._rows[name].items()):
                yield lambda name=name, number=number, row=row: table.delete_row(name, number, row)

    def _late_messages(self, batch: Batch) -> Iterator[tuple[str, OutgoingMessage]]:
        """Duplicates of the batch's messages that SQS delivers late: rows, trigger, a job that was resent."""
        for number in range(1, len(self._monitor.files[batch.identity].names) + 1):
            row = self._message(batch, batch.round, number, replay=self._random.random() < 0.5)
            yield "rows", OutgoingMessage(row.encode(), batch.batch_id)
        yield "aggregate", OutgoingMessage(AggregateMessage.of(batch).encode())
        if batch.incarnation:
            job = Job(batch.tool_name, batch.source, batch.execution_id, incarnation=batch.incarnation)
            yield "ingest", OutgoingMessage(job.encode())
