"""The rows of a later round that keep their outcome: a bitmap, frozen before the round opens.

The bitmap lies under `work/`, as large outcomes do, and the batch item has its sha256. Rows beyond its end,
which nobody had read when the round opened, are due.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Iterator

from service.domain.errors import BatchRejectedError, SourceError
from service.domain.model import Batch, Location, Source, StoredPayload
from service.domain.ports import Objects
from service.runtime.port_retries import retry_for

TIMEOUT_S = 60.0
"""Longest time that the write or read of a bitmap is retried."""

REMEMBERED = 8
"""Bitmaps that a process keeps in memory; a million rows take 125 KB."""

_ALL_KEPT = 0xFF


class KeptRows:
    """A set of row numbers, as a bitmap: bit *n* mod 8 of byte *n* div 8 stands for row *n*."""

    def __init__(self, bits: bytes = b"") -> None:
        self._bits = bytearray(bits)

    def keep(self, number: int) -> None:
        """Add a row."""
        index, bit = divmod(number, 8)
        if index >= len(self._bits):
            # Doubled, so that the rows of a large batch are not copied for each of them.
            self._bits.extend(bytes(max(index + 1 - len(self._bits), len(self._bits))))
        self._bits[index] |= 1 << bit

    def is_due(self, number: int) -> bool:
        """True unless the row keeps its outcome."""
        index, bit = divmod(number, 8)
        return index >= len(self._bits) or not self._bits[index] >> bit & 1

    def due(self, after: int, last: int) -> Iterator[int]:
        """The numbers above `after` of the rows up to `last` that are due, ascending."""
        number, bits = after + 1, self._bits
        while number <= last:
            index, bit = divmod(number, 8)
            if index < len(bits) and bits[index] == _ALL_KEPT:
                number += 8 - bit
                continue
            if index >= len(bits) or not bits[index] >> bit & 1:
                yield number
            number += 1

    def __len__(self) -> int:
        return int.from_bytes(self._bits).bit_count()

    @property
    def bits(self) -> bytes:
        """The bitmap without zero bytes at its end."""
        return bytes(self._bits).rstrip(b"\0")


NONE_KEPT = KeptRows()
"""The first round, and any later one in which every row runs again."""


class KeptSelections:
    """Stores bitmaps, and loads them again."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._retry = retry_for(TIMEOUT_S, first_s=0.05, longest_s=5.0)
        self._loaded: OrderedDict[str, KeptRows] = OrderedDict()

    async def store(self, place: Location, kept: KeptRows) -> StoredPayload | None:
        """Store a bitmap below `place`; None for an empty one. Raises RetryableError and AccessError."""
        if not len(kept):
            return None
        body = zlib.compress(kept.bits)
        digest = hashlib.sha256(body).hexdigest()
        # The name follows from the content: of two redrives at once, neither overwrites the other's.
        key = f"{place.prefix}kept-{digest[:16]}.bin"
        await self._retry(self._objects.put, place.bucket, key, body, content_type="application/octet-stream")
        return StoredPayload(place.bucket, key, len(body), digest)

    async def load(self, batch: Batch) -> KeptRows:
        """The rows of the batch that keep their outcome in its round.

        Raises BatchRejectedError if the bitmap is gone or was changed, RetryableError and AccessError.
        """
        stored = batch.kept
        if stored is None:
            return NONE_KEPT
        kept = self._loaded.get(stored.sha256)
        if kept is None:
            kept = self._loaded[stored.sha256] = KeptRows(zlib.decompress(await self._read(stored)))
            if len(self._loaded) > REMEMBERED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(stored.sha256)
        return kept

    async def _read(self, stored: StoredPayload) -> bytes:
        source = Source(stored.bucket, stored.key, size=stored.size)
        try:
            body = await self._retry(self._objects.read, source, 0, stored.size)
        except SourceError as error:
            raise BatchRejectedError(
                f"the rows of this round are listed in {stored.url}, which cannot be read ({error}); does a "
                "lifecycle rule expire work/ before ROWFLEET_TTL_DAYS are over?"
            ) from error
        if hashlib.sha256(body).hexdigest() != stored.sha256:
            raise BatchRejectedError(
                f"the rows of this round in {stored.url} are not those that were stored there: the sha256 is "
                f"no longer {stored.sha256}"
            )
        return body
