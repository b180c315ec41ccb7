"""Sending: packs messages into batch calls and repeats only the entries that were refused.

SendMessageBatch may refuse single entries under HTTP 200; resending the whole batch would deliver the
others twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from service.domain.errors import AccessError, RetryableError, ThrottledError, first_of
from service.domain.ports import MESSAGE_BYTES, SEND_LIMIT, OutgoingMessage, Queue
from service.runtime.retrying import retry_for

SEND_TIMEOUT_S = 60.0
"""A batch call that cannot be got through for this long fails its sender, which is redelivered itself."""

_retry_send = retry_for(SEND_TIMEOUT_S, first_s=0.05, longest_s=5.0, jitter_s=0.5)


def pack(messages: Iterable[OutgoingMessage]) -> Iterator[list[OutgoingMessage]]:
    """Batches of at most 10 messages and 1 MiB, in order."""
    batch: list[OutgoingMessage] = []
    size = 0
    for message in messages:
        length = len(message.body)
        if batch and (len(batch) == SEND_LIMIT or size + length > MESSAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


async def send_batch(queue: Queue, batch: Sequence[OutgoingMessage]) -> None:
    """Send one packed batch, whole. Raises AccessError, and RetryableError when time runs out."""
    rest = list(batch)

    async def send_rest() -> None:
        nonlocal rest
        refused = await queue.send(rest)
        rest = [rest[index] for index in refused]
        if rest:
            raise ThrottledError(f"{queue.name} refused {len(rest)} of {len(batch)} messages")

    await _retry_send(send_rest)


async def send_all(queue: Queue, messages: Iterable[OutgoingMessage], *, concurrency: int = 1) -> None:
    """Send all messages, in order where `concurrency` is 1.

    Raises RetryableError or AccessError; some may be sent then.
    """
    batches = pack(messages)

    async def drain() -> None:
        for batch in batches:
            await send_batch(queue, batch)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(drain())
    except* (RetryableError, AccessError) as errors:
        raise first_of(errors) from None


class BatchingSender:
    """Sends what many tasks have to send, one message each, in few calls.

    What comes while a call is under way goes with the next one; nobody waits for company.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._sending = asyncio.Lock()
        self._waiting: dict[asyncio.Future[Exception | None], OutgoingMessage] = {}

    async def send(self, message: OutgoingMessage) -> None:
        """Return when it is sent. Raises RetryableError or AccessError; it may be sent then.

        A message whose sender is cancelled may be sent as well, and those that were to go with it twice.
        """
        ended = asyncio.get_running_loop().create_future()
        self._waiting[ended] = message
        try:
            async with self._sending:
                while not ended.done():
                    await self._send_some()
        finally:
            self._waiting.pop(ended, None)
        if (error := ended.result()) is not None:
            raise error

    async def _send_some(self) -> None:
        """Send the batch that has waited longest, and tell its senders what came of it."""
        batch = next(pack(self._waiting.values()))
        senders = list(self._waiting)[: len(batch)]
        error = None
        try:
            await send_batch(self._queue, batch)
        except (RetryableError, AccessError) as problem:
            error = problem
        for sender in senders:
            self._waiting.pop(sender, None)
            if not sender.done():
                sender.set_result(error)
