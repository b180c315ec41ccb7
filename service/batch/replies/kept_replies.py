"""Kept replies: the reply of a committed row, as the mapping had it, wherever it is kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from service.batch.replies.pack import pack_key, reply_in, unpacked
from service.batch.role_ports import Ports
from service.domain import exact_json
from service.domain.errors import BatchRejectedError
from service.domain.model import Batch, Json, Outcome, PackedReply, Status, StoredPayload, row_number
from service.runtime.port_retries import retry_for

CACHED_BYTES = 64 * 2**20
"""Uncompressed packs that stay in memory; the pack that is being read comes on top."""

MAX_SOURCE_ROWS = 1_000
"""Rows whose replies other rows took, and that stay in memory."""

_TABLE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class KeptReply:
    """A kept reply: `value` is what the mapping was given, parsed JSON or a str.

    Values of secrets are masked in it. A reply that an earlier version kept is a str, cut if it was long.
    """

    value: Json

    @property
    def text(self) -> str:
        """The reply for people, in full: a str as it is, JSON compact."""
        return self.value if isinstance(self.value, str) else exact_json.dumps(self.value)


class KeptReplies:
    """Loads the replies that were kept with outcomes.

    The last packs stay in memory, so a pass over the rows in their order reads each pack about once. Calls
    may run side by side: one of them reads a pack that several wait for.
    """

    def __init__(self, ports: Ports, *, cached_bytes: int = CACHED_BYTES) -> None:
        self._table = ports.table
        self._large = ports.large_outcomes
        self._retry = retry_for(_TABLE_TIMEOUT_S, first_s=0.05, longest_s=5.0)
        self._cached_bytes = cached_bytes
        self._packs: OrderedDict[str, bytes] = OrderedDict()
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sources: OrderedDict[tuple[str, str, int], tuple[Batch, Outcome]] = OrderedDict()

    async def load(self, batch: Batch, outcome: Outcome) -> KeptReply | None:
        """The reply kept with an outcome of `batch`, of any of its rounds; None if none was kept.

        A row that took the reply of another row has that reply, while the other row has it: it may belong to
        another batch, which may be gone. Raises BatchRejectedError if the reply is gone or was changed,
        RetryableError and AccessError if it cannot be read now.
        """
        if not outcome.reused_from or outcome.reply or outcome.reply_at:
            return await self._own(batch, outcome)
        source = await self._source_of(batch, outcome)
        return None if source is None else await self._own(*source)

    async def _own(self, batch: Batch, outcome: Outcome) -> KeptReply | None:
        """The reply that was kept with this outcome."""
        if outcome.reply:
            return _parsed(outcome, outcome.reply)
        place = outcome.reply_at
        if isinstance(place, PackedReply):
            return _parsed(outcome, await self._packed(batch, outcome, place))
        if isinstance(place, StoredPayload):
            return KeptReply((await self._large.read(outcome, place))["raw_reply"])
        if outcome.stored is not None and outcome.status is Status.FAILED:
            # an earlier version kept a reply with the other data of a large outcome
            loaded = await self._large.load(outcome)
            return _parsed(outcome, loaded.reply) if loaded.reply else None
        return None

    # -- packs

    async def _packed(self, batch: Batch, outcome: Outcome, packed: PackedReply) -> bytes:
        place = self._large.place_of(batch, round_of_reply(outcome))
        stored = StoredPayload(place.bucket, pack_key(place, packed.pack), packed.size, "")
        try:
            return reply_in(await self._pack(outcome, stored), packed)
        except ValueError as error:
            raise BatchRejectedError(
                f"the reply of row {outcome.number} in {stored.url} is not what was stored there: {error}"
            ) from None

    async def _pack(self, outcome: Outcome, stored: StoredPayload) -> bytes:
        """The uncompressed bytes of a pack. Raises ValueError if it is no pack."""
        if (known := self._packs.get(stored.url)) is not None:
            self._packs.move_to_end(stored.url)
            return known
        lock = self._reading.setdefault(stored.url, asyncio.Lock())
        async with lock:
            if (pack := self._packs.get(stored.url)) is None:
                pack = unpacked(await self._large.read_bytes(outcome, stored))
                self._packs[stored.url] = pack
                while len(self._packs) > 1 and sum(map(len, self._packs.values())) > self._cached_bytes:
                    self._packs.popitem(last=False)
            self._packs.move_to_end(stored.url)
            return pack

    # -- replies of other rows

    async def _source_of(self, batch: Batch, outcome: Outcome) -> tuple[Batch, Outcome] | None:
        """The row whose reply this row took, with its batch; None if it does not have that reply."""
        key = (outcome.reused_from, batch.incarnation, round_of_reply(outcome))
        if (source := self._sources.get(key)) is None:
            source = await self._read_source(batch, outcome)
            if source is None:
                return None
            self._sources[key] = source
            if len(self._sources) > MAX_SOURCE_ROWS:
                self._sources.popitem(last=False)
        return source

    async def _read_source(self, batch: Batch, outcome: Outcome) -> tuple[Batch, Outcome] | None:
        batch_id, _, row = outcome.reused_from.rpartition("/")
        is_same_batch = batch_id == batch.batch_id
        if not is_same_batch:
            view = await self._retry(self._table.read, batch_id)
            if view is None:
                return None
            batch = view.batch
        source = await self._retry(self._table.outcome, batch, row_number(row))
        if source is None or source.reused_from:
            return None
        if is_same_batch:
            # It may have run again, and had another reply.
            has_it = round_of_reply(source) <= round_of_reply(outcome)
        else:
            # The id of that batch may have been used again. A row that takes a reply has the values as well.
            values = [(await self._large.load(one)).output_data for one in (source, outcome)]
            has_it = values[0] == values[1]
        # no data but the reply: many sources stay in memory
        without_data = replace(source, input_data={}, output_data={}, provenance={}, stored=None)
        return (batch, without_data) if has_it else None


def round_of_reply(outcome: Outcome) -> int:
    """The round of the call that gave the reply of an outcome."""
    return outcome.reply_round or outcome.round


def _parsed(outcome: Outcome, text: str | bytes) -> KeptReply:
    try:
        return KeptReply(exact_json.loads(text))
    except ValueError as error:
        raise BatchRejectedError(f"the reply kept with row {outcome.number} is no JSON: {error}") from None
