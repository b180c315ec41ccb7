"""Claim check for outcomes: data too large for an item goes to S3, and the item keeps a reference.

The object's key holds a digest of its content, and the object is written before the commit. If two workers
process one row, the loser of the commit cannot overwrite the winner's data. The loser's object is garbage
under `work/`, which a lifecycle rule expires. Only data is offloaded: the counts are part of the commit.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from service.batch.outcomes import shorten
from service.domain import exact_json
from service.domain.errors import (
    BatchRejectedError,
    RowRejectedError,
    RowTooLargeError,
    SourceError,
)
from service.domain.item_size import depth, outcome_bytes
from service.domain.model import Batch, Location, Outcome, Source, Status, StoredPayload, row_id
from service.domain.ports import ITEM_BYTES, ITEM_DEPTH, Objects
from service.runtime.port_retries import retry_for

AHEAD_ROWS = 64
"""Most outcomes that are read ahead of the one being written."""

AHEAD_BYTES = 32 * 2**20
"""Most bytes that are read ahead; a single larger payload is read alone."""


@dataclass(frozen=True, slots=True)
class LargeOutcomeLimits:
    """An outcome above `max_item_bytes` is offloaded to `bucket`, as JSON of at most `max_outcome_bytes`.

    `timeout_s` bounds the write or read of one object with its retries.
    """

    bucket: str = "rowfleet"
    max_item_bytes: int = ITEM_BYTES
    max_outcome_bytes: int = 16 * 2**20
    timeout_s: float = 60.0


class LargeOutcomes:
    """Offloads the data of outcomes that are too large for the table, and loads it again."""

    def __init__(self, objects: Objects, limits: LargeOutcomeLimits) -> None:
        self._objects = objects
        self._limits = limits
        self._retry = retry_for(limits.timeout_s, first_s=0.05, longest_s=5.0)

    async def offload(self, batch: Batch, outcome: Outcome) -> Outcome:
        """An outcome that fits an item: the outcome itself, or one with a reference to its stored data.

        Raises RowTooLargeError for a success above `max_outcome_bytes`, and RowRejectedError for one that is
        no JSON; a failure is cut instead. Raises RetryableError and AccessError if S3 does not accept the
        data.
        """
        if self.fits_item(outcome):
            return outcome
        try:
            body = self._encode(outcome)
        except RowRejectedError:
            if outcome.status is Status.SUCCESS:
                raise
            return shorten(outcome, self._limits.max_item_bytes)
        stored = await self._put(batch, outcome, body)
        return replace(outcome, input_data={}, output_data={}, provenance={}, stored=stored)

    def place_of(self, batch: Batch, round_: int | None = None) -> Location:
        """The place of data that a round of `batch` needs while it lives; of the present one by default."""
        run = "/".join(filter(None, (batch.execution_id, batch.incarnation)))
        number = batch.round if round_ is None else round_
        return Location(self._limits.bucket, f"work/{batch.tool_name}/{run}/{number}/")

    async def load(self, outcome: Outcome) -> Outcome:
        """The outcome with its data.

        Raises BatchRejectedError if the data is gone or was changed, RetryableError and AccessError if S3
        cannot be read now.
        """
        stored = outcome.stored
        if stored is None:
            return outcome
        data = await self.read(outcome, stored)
        # an earlier version kept the text of a failed row's reply with its data
        if text := data.pop("raw_reply", ""):
            data["reply"] = exact_json.dumps(text)
        return replace(outcome, **data, stored=None)

    async def _put(self, batch: Batch, outcome: Outcome, body: bytes) -> StoredPayload:
        digest = hashlib.sha256(body).hexdigest()
        place = self.place_of(batch)
        key = f"{place.prefix}{row_id(outcome.number)}-{digest[:16]}.json"
        await self._retry(self._objects.put, place.bucket, key, body, content_type="application/json")
        return StoredPayload(place.bucket, key, len(body), digest)

    async def read(self, outcome: Outcome, stored: StoredPayload) -> dict[str, Any]:
        """The members of an object that holds data of a row. Raises as `load` does."""
        body = await self.read_bytes(outcome, stored)
        if hashlib.sha256(body).hexdigest() != stored.sha256:
            raise BatchRejectedError(
                f"the data of row {outcome.number} in {stored.url} is not what was stored there: its sha256 "
                f"is no longer {stored.sha256}"
            )
        data: dict[str, Any] = exact_json.loads(body)
        return data

    async def read_bytes(self, outcome: Outcome, stored: StoredPayload) -> bytes:
        """The bytes of an object that holds data of a row. Raises as `load` does."""
        source = Source(stored.bucket, stored.key, size=stored.size)
        try:
            return await self._retry(self._objects.read, source, 0, stored.size)
        except SourceError as error:
            raise BatchRejectedError(
                f"the data of row {outcome.number} is kept in {stored.url}, which cannot be read ({error}); "
                "does a lifecycle rule expire work/ before ROWFLEET_TTL_DAYS are over?"
            ) from error

    async def load_all(
        self, runs: AsyncIterator[Sequence[Outcome]]
    ) -> AsyncGenerator[Sequence[Outcome], None]:
        """The outcomes in their order, each with its data. Some are read ahead.

        Close the generator (`aclosing`): that ends the reads in progress.
        """
        ahead: deque[tuple[int, asyncio.Future[Outcome]]] = deque()
        ahead_bytes = 0
        try:
            async for run in runs:
                if not ahead and not any(outcome.stored for outcome in run):
                    # The usual case: small outcomes need no task.
                    yield run
                    continue
                for outcome in run:
                    size = outcome.stored.size if outcome.stored else 0
                    while ahead and (len(ahead) >= AHEAD_ROWS or ahead_bytes + size > AHEAD_BYTES):
                        loaded_bytes, reading = ahead.popleft()
                        ahead_bytes -= loaded_bytes
                        yield [await reading]
                    if not size and not ahead:
                        yield [outcome]
                        continue
                    ahead.append((size, asyncio.ensure_future(self.load(outcome))))
                    ahead_bytes += size
            while ahead:
                _, reading = ahead.popleft()
                yield [await reading]
        finally:
            # Reads are left if one of them failed, or if the caller closed the generator early.
            for _, reading in ahead:
                reading.cancel()
            for _, reading in ahead:
                with suppress(asyncio.CancelledError, Exception):
                    await reading

    def fits_item(self, outcome: Outcome) -> bool:
        """True for an outcome that the table takes as it is."""
        if outcome.stored is not None:
            return True  # its data is in S3; another object would have none
        if max(depth(outcome.input_data), depth(outcome.output_data)) > ITEM_DEPTH:
            return False
        return outcome_bytes(outcome) <= self._limits.max_item_bytes

    def _encode(self, outcome: Outcome) -> bytes:
        data = {
            "input_data": outcome.input_data,
            "output_data": outcome.output_data,
            "provenance": outcome.provenance,
        }
        try:
            text = exact_json.dumps(data)
        except (ValueError, TypeError) as error:
            raise RowRejectedError(f"row {outcome.number} cannot be stored: {error}") from None
        except RecursionError:
            raise RowTooLargeError(f"row {outcome.number} is nested too deeply") from None
        body = exact_json.utf8(text)
        if len(body) > self._limits.max_outcome_bytes:
            raise RowTooLargeError(
                f"row {outcome.number} with its input and output takes {len(body):,} bytes, "
                f"{self._limits.max_outcome_bytes:,} are allowed (ROWFLEET_COMMIT__MAX_OUTCOME_BYTES)"
            )
        return body
