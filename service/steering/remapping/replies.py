"""The kept replies of a batch, as a remap reads them."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from service.batch.large_outcomes import LargeOutcomes
from service.batch.replies.kept_replies import KeptReplies
from service.domain.errors import BatchRejectedError
from service.domain.model import Batch, Json, Outcome

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RepliedRow:
    """The outcome of a row, with its data, and the reply that it came from."""

    earlier: Outcome
    reply: Json


class RepliedRows:
    """Loads rows with their kept replies."""

    def __init__(self, large_outcomes: LargeOutcomes, replies: KeptReplies) -> None:
        self._large_outcomes = large_outcomes
        self._replies = replies

    async def load(self, batch: Batch, outcome: Outcome) -> RepliedRow | None:
        """The row of an outcome; None if no reply is kept, or if its data in S3 is gone.

        Raises RetryableError and AccessError.
        """
        try:
            earlier = await self._large_outcomes.load(outcome) if outcome.stored else outcome
            reply = await self._replies.load(batch, earlier)
        except BatchRejectedError as error:
            log.info("reply_not_readable", batch_id=batch.batch_id, row=outcome.number, reason=str(error))
            return None
        return None if reply is None else RepliedRow(earlier, reply.value)
