"""Dead letters as an operator handles them: count, list, retry, drop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from service.batch.role_ports import Queues
from service.domain.errors import (
    AccessError,
    ConfigError,
    RetryableError,
    UsageError,
)
from service.domain.message_format import shown_body
from service.domain.model import iso_time
from service.domain.ports import BATCH_CALL_ENTRIES, Queue, ReceivedMessage, Table
from service.runtime.leases import batch_calls
from service.runtime.sender import send_all
from service.runtime.tasks import task_group
from service.sweeper.letters import KINDS, describe, retry_of

WAIT_S = 1.0
"""Wait of a receive. A shorter one asks only some of SQS's servers, and may miss messages."""

HIDDEN_S = 30.0
"""Time for which a listed message is hidden from others if the command dies before it shows it again."""

BODY_CHARS = 200
MAX_LETTERS = 1_000
"""Messages of one queue that a command looks at."""

WAITS = "the sweeper handles it at its next pass; `/readyz` or its logs say why it does not"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue of `kind`. `batch_id` is "" if the message names no batch."""

    kind: str
    message: ReceivedMessage
    reason: str
    batch_id: str

    def as_json(self, *, whole: bool = False) -> dict[str, Any]:
        """The letter in `dead-letters list --json`; with the `whole` body in `dead-letters show --json`."""
        message = self.message
        first_ms = message.first_received_ms or message.sent_at_ms
        return {
            "queue": self.kind,
            "id": message.id,
            "reason": self.reason,
            "batch_id": self.batch_id or None,
            "first_received": iso_time(first_ms) if first_ms else None,
            "body": shown_body(message.body, None if whole else BODY_CHARS),
        }


class DeadLetterQueues:
    """The dead-letter queues of an installation, each beside the queue that its messages come from."""

    def __init__(self, queues: Queues, table: Table, incoming_prefix: str, *, wait_s: float = WAIT_S) -> None:
        self._table = table
        self._wait_s = wait_s
        self._incoming_prefix = incoming_prefix
        self._dead: Mapping[str, Queue] = dict(
            zip(KINDS, (queues.dead_ingest, queues.dead_rows, queues.dead_aggregate), strict=True)
        )
        self._sources: Mapping[str, Queue] = dict(
            zip(KINDS, (queues.ingest, queues.rows, queues.aggregate), strict=True)
        )

    async def count(self) -> dict[str, int]:
        """Approximate numbers of messages by queue, hidden ones included. The queues are asked at once.

        Raises AccessError and RetryableError.
        """
        async with task_group() as group:
            depths = {kind: group.create_task(queue.depth()) for kind, queue in self._dead.items()}
        return {kind: depth.result() for kind, depth in depths.items()}

    @asynccontextmanager
    async def opened(self, kinds: Collection[str] = KINDS) -> AsyncIterator[list[DeadLetter]]:
        """The letters that are visible now, hidden from others inside the block and shown again after it."""
        held: dict[str, list[ReceivedMessage]] = {}
        try:
            letters: list[DeadLetter] = []
            for kind in kinds:
                held[kind] = []
                async for message in self._received(kind, held[kind]):
                    reason, batch_id = await describe(kind, message, self._table, self._incoming_prefix)
                    letters.append(DeadLetter(kind, message, reason or WAITS, batch_id))
            yield letters
        finally:
            for kind, messages in held.items():
                for group in batch_calls([message.receipt for message in messages]):
                    await self._dead[kind].extend(group, 0)

    async def retry(self, letters: Sequence[DeadLetter]) -> int:
        """Send the letters to the queues they came from, and delete them. Return their number.

        Sent before it is deleted: a crash in between leaves a repetition, which the receivers recognise.
        """
        for letter in letters:
            again = retry_of(letter.kind, letter.message, self._incoming_prefix)
            await send_all(self._sources[letter.kind], [again])
            await self._delete(letter)
        return len(letters)

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """Delete the letters for good. Return their number."""
        for letter in letters:
            await self._delete(letter)
        return len(letters)

    async def _received(self, kind: str, held: list[ReceivedMessage]) -> AsyncIterator[ReceivedMessage]:
        """The messages that are visible now, each once; every received one is added to `held`."""
        seen: set[str] = set()
        while len(seen) < MAX_LETTERS:
            messages = await self._dead[kind].receive(
                BATCH_CALL_ENTRIES, wait_s=self._wait_s, visibility_s=HIDDEN_S
            )
            held += messages
            fresh = [message for message in messages if message.id not in seen]
            if not fresh:
                return
            for message in fresh:
                seen.add(message.id)
                yield message

    async def _delete(self, letter: DeadLetter) -> None:
        if await self._dead[letter.kind].delete([letter.message.receipt]):
            raise RetryableError(
                f"message {letter.message.id} was not deleted: somebody else has received it; try again"
            )


async def count_or_none(found: Awaitable[None], letters: DeadLetterQueues) -> dict[str, int] | None:
    """The numbers of dead letters once their queues are `found`.

    None if they cannot be counted, by a missing permission for example: a status must not fail for it.
    """
    try:
        await found
        return await letters.count()
    except (AccessError, ConfigError, RetryableError):
        return None


def chosen(letters: Sequence[DeadLetter], ids: Collection[str]) -> list[DeadLetter]:
    """The letters with these message ids, in the order of the queues. Raises UsageError for an unknown id."""
    found = [letter for letter in letters if letter.message.id in ids]
    if missing := sorted(set(ids) - {letter.message.id for letter in found}):
        raise UsageError(
            f"no dead letter {missing[0]!r} can be seen now: `rowfleet dead-letters list` shows them; the "
            "sweeper hides one for seconds while it looks at it"
        )
    return found
