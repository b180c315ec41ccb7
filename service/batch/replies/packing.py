"""Packing: the long replies of a commit go to the object store before its transaction.

If the process dies between the two, the pack is garbage under `work/`. The other way round, an outcome would
be committed whose reply is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol

from service.batch.completion import Repeat
from service.batch.large_outcomes import LargeOutcomes
from service.batch.replies.pack import CONTENT_TYPE, pack_key, packs_of
from service.domain.item_size import has_long_reply
from service.domain.model import Batch, Outcome, PackedReply
from service.domain.ports import Objects


class _HasOutcome(Protocol):
    """A row that waits for its commit, perhaps without an outcome."""

    outcome: Outcome | None


class ReplyPacker:
    """Puts packs into the place of a batch's large outcomes."""

    def __init__(self, objects: Objects, large_outcomes: LargeOutcomes) -> None:
        self._objects = objects
        self._place_of = large_outcomes.place_of

    async def pack(self, batch: Batch, rows: Iterable[_HasOutcome], repeat: Repeat) -> None:
        """Put long replies of one round into packs, and their places into the outcomes of the rows.

        One pack is in memory at a time. `repeat` repeats a put that fails; its last error is raised.
        """
        long = [(row, row.outcome) for row in rows if row.outcome and has_long_reply(row.outcome)]
        place = self._place_of(batch)
        places: list[PackedReply] = []
        for pack in packs_of(outcome.reply for _, outcome in long):
            key = pack_key(place, pack.name)
            put = partial(self._objects.put, place.bucket, key, pack.body, content_type=CONTENT_TYPE)
            await repeat(put)
            places += pack.places
        for (row, outcome), packed_at in zip(long, places, strict=True):
            row.outcome = replace(outcome, reply="", reply_at=packed_at)
