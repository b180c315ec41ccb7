"""Outcomes that no item of the table holds: their data goes to S3, their item keeps a reference.

An object is named after its content and written before the commit, so a duplicate worker's other answer can
never take the place of the one that was committed. What lost that race is garbage under `work/`, which a
lifecycle rule expires. The count stays in the transaction: here is only data.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace

from service.batch.outcomes import shorten
from service.domain import exact_json
from service.domain.errors import (
    BatchRejectedError,
    RowRejectedError,
    RowTooLargeError,
    SourceError,
)
from service.domain.item_size import depth, outcome_bytes
from service.domain.model import Batch, Outcome, Source, Status, StoredPayload, row_id
from service.domain.ports import ITEM_BYTES, ITEM_DEPTH, Objects
from service.runtime.retrying import retry_for

AHEAD_ROWS = 64
"""Outcomes between the one being written and the furthest one being read, at most."""

AHEAD_BYTES = 32 * 2**20
"""Payloads being read ahead take no more than this together, or are one."""


@dataclass(frozen=True, slots=True)
class LargeOutcomeLimits:
    """An outcome above `max_item_bytes` is kept in `bucket`; `max_outcome_bytes` bounds it there, as JSON.

    `timeout_s` bounds one object's writing or reading with its retries.
    """

    bucket: str = "rowfleet"
    max_item_bytes: int = ITEM_BYTES
    max_outcome_bytes: int = 16 * 2**20
    timeout_s: float = 60.0


class LargeOutcomes:
    """Puts aside what is too large for the table, and brings it back."""

    def __init__(self, objects: Objects, limits: LargeOutcomeLimits) -> None:
        self._objects = objects
        self._limits = limits
        self._retry = retry_for(limits.timeout_s, first_s=0.05, longest_s=5.0)

    async def offload(self, batch: Batch, outcome: Outcome) -> Outcome:
        """The outcome as the table can hold it: itself, or with a reference to its data, which is stored.

        Raises RowTooLargeError for a success beyond every limit, RowRejectedError for one that is no JSON;
        a failure is cut instead. Raises RetryableError and AccessError where S3 does not take it.
        """
        if self._fits_item(outcome):
            return outcome
        try:
            body = self._encoded(outcome)
        except RowRejectedError:
            if outcome.status is Status.SUCCESS:
                raise
            return shorten(outcome, self._limits.max_item_bytes)
        digest = hashlib.sha256(body).hexdigest()
        name = f"{row_id(outcome.number)}-{digest[:16]}.json"
        key = f"work/{batch.tool_name}/{batch.execution_id}/{outcome.round}/{name}"
        await self._retry(self._objects.put, self._limits.bucket, key, body, content_type="application/json")
        stored = StoredPayload(self._limits.bucket, key, len(body), digest)
        return replace(outcome, input_data={}, output_data={}, provenance={}, raw_reply="", stored=stored)

    async def load(self, outcome: Outcome) -> Outcome:
        """The outcome with its data. Raises BatchRejectedError where that is not what was stored."""
        stored = outcome.stored
        if stored is None:
            return outcome
        source = Source(stored.bucket, stored.key, size=stored.size)
        try:
            body = await self._retry(self._objects.read, source, 0, stored.size)
        except SourceError as error:
            raise BatchRejectedError(
                f"the data of row {outcome.number} is kept in {stored.url}, which cannot be read ({error}); "
                "does a lifecycle rule expire work/ before ROWFLEET_TTL_DAYS are over?"
            ) from error
        if hashlib.sha256(body).hexdigest() != stored.sha256:
            raise BatchRejectedError(
                f"the data of row {outcome.number} in {stored.url} is not what was stored there: its sha256 "
                f"is no longer {stored.sha256}"
            )
        return replace(outcome, **exact_json.loads(body), stored=None)

    async def load_all(self, outcomes: AsyncIterator[Outcome]) -> AsyncGenerator[Outcome, None]:
        """The outcomes in their order, each with its data; some are read ahead. Close it (`aclosing`)."""
        ahead: deque[tuple[int, asyncio.Future[Outcome]]] = deque()
        ahead_bytes = 0
        try:
            async for outcome in outcomes:
                size = outcome.stored.size if outcome.stored else 0
                while ahead and (len(ahead) >= AHEAD_ROWS or ahead_bytes + size > AHEAD_BYTES):
                    ahead_bytes -= ahead[0][0]
                    yield await ahead.popleft()[1]
                if size or ahead:
                    ahead.append((size, asyncio.ensure_future(self.load(outcome))))
                    ahead_bytes += size
                else:
                    yield outcome
            while ahead:
                yield await ahead.popleft()[1]
        finally:
            for _, reading in ahead:
                reading.cancel()
            for _, reading in ahead:
                with suppress(asyncio.CancelledError, Exception):
                    await reading

    def _fits_item(self, outcome: Outcome) -> bool:
        if max(depth(outcome.input_data), depth(outcome.output_data)) > ITEM_DEPTH:
            return False
        return outcome_bytes(outcome) <= self._limits.max_item_bytes

    def _encoded(self, outcome: Outcome) -> bytes:
        data = {
            "input_data": outcome.input_data,
            "output_data": outcome.output_data,
            "provenance": outcome.provenance,
            "raw_reply": outcome.raw_reply,
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
