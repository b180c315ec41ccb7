"""Deletion of a batch from the table in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from service.domain.model import Batch, partition_key

DELETED_ROWS = 1_000
"""Rows that one call deletes."""


class MemoryDeletion:
    """The part of `MemoryTable` that deletes."""

    _batches: dict[str, Batch]
    _definitions: dict[tuple[str, str], str]
    _counters: dict[str, Any]
    _rows: dict[str, dict[int, Any]]
    _numbers: dict[str, list[int]]
    _operations: dict[tuple[str, str], Any]
    _outbox: dict[Any, Any]

    async def delete_rows(self, batch: Batch, partition: int) -> int:
        """Delete some rows of a partition; return their number."""
        await asyncio.sleep(0)
        key = partition_key(batch.batch_id, partition)
        gone, self._numbers[key] = self._numbers[key][:DELETED_ROWS], self._numbers[key][DELETED_ROWS:]
        for number in gone:
            del self._rows[key][number]
        return len(gone)

    async def delete_batch(self, batch: Batch) -> bool:
        """Delete all else that the batch has, and the batch at last. False if it has changed."""
        await asyncio.sleep(0)
        stored, id_ = self._batches.get(batch.batch_id), batch.batch_id
        if stored is None or not stored.is_as_read(batch):
            return False
        self._counters.pop(id_, None)
        for of_batch in (self._definitions, self._operations):
            for key in [key for key in of_batch if key[0] == id_]:
                del of_batch[key]
        for record in [record for record in self._outbox if record[1] == id_]:
            del self._outbox[record]
        del self._batches[id_]
        return True
