"""Sending: packs messages into batch calls, and repeats only the entries that were refused.

SendMessageBatch may refuse single entries under HTTP 200. Sending the whole batch call again would deliver
the other messages twice.

A call without an answer may have been accepted. Its repetition may make messages twice, so the sender of rows
marks them first (`Remake`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack

from service.domain.errors import (
    AccessError,
    RetryableError,
    ThrottledError,
    UnknownResultError,
)
from service.domain.ports import BATCH_CALL_ENTRIES, MESSAGE_BYTES, OutgoingMessage, Queue
from service.runtime.byte_budget import ByteBudget
from service.runtime.port_retries import retry_for
from service.runtime.tasks import task_group

SEND_TIMEOUT_S = 60.0
"""Time after which a batch call fails for good. The sender's own message is redelivered then."""

_retry_send = retry_for(SEND_TIMEOUT_S, first_s=0.05, longest_s=5.0, jitter_s=0.5)


Remake = Callable[[Sequence[OutgoingMessage]], Awaitable[Sequence[OutgoingMessage]]]
"""Returns messages of a call without an answer as they are to be sent again, none of them larger."""


def pack(messages: Iterable[OutgoingMessage]) -> Iterator[list[OutgoingMessage]]:
    """Batches of at most 10 messages and 1 MiB, in order."""
    batch: list[OutgoingMessage] = []
    size = 0
    for message in messages:
        length = len(message.body)  # bytes, since bodies are ASCII
        if batch and (len(batch) == BATCH_CALL_ENTRIES or size + length > MESSAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def _nothing() -> None:
    pass


async def _unchanged(messages: Sequence[OutgoingMessage]) -> Sequence[OutgoingMessage]:
    return messages


async def send_batch(
    queue: Queue,
    batch: Sequence[OutgoingMessage],
    before_call: Callable[[], None] = _nothing,
    remake: Remake = _unchanged,
) -> None:
    """Send all messages of one packed batch. Raises AccessError, and RetryableError after the time-out.

    `before_call` is called before each attempt; an error that it raises ends the sending. `remake` is called
    before messages are sent again that may have been accepted; if it raises a RetryableError, it is called
    again.
    """
    rest = list(batch)
    may_be_accepted = False

    async def send_rest() -> None:
        nonlocal rest, may_be_accepted
        before_call()
        if may_be_accepted:
            rest = list(await remake(rest))
            may_be_accepted = False
        try:
            refused = await queue.send(rest)
        except UnknownResultError:
            may_be_accepted = True
            raise
        rest = [rest[index] for index in refused]
        if rest:
            raise ThrottledError(f"{queue.name} refused {len(rest)} of {len(batch)} messages")

    await _retry_send(send_rest)


async def send_all(
    queue: Queue,
    messages: Iterable[OutgoingMessage],
    *,
    concurrency: int = 1,
    before_call: Callable[[], None] = _nothing,
    remake: Remake = _unchanged,
    budget: ByteBudget | None = None,
) -> None:
    """Send all messages, in order if `concurrency` is 1. Messages are taken only when they can be sent.

    A `budget` bounds the bytes that are being sent, together with others that share it. `before_call` and
    `remake` are those of `send_batch`. Raises RetryableError, AccessError, or the LeaseLostError of either;
    some messages may be sent then.
    """
    budget = budget or ByteBudget(concurrency * MESSAGE_BYTES)
    batches = pack(messages)
    taking = asyncio.Lock()

    async def send_batches() -> None:
        while True:
            async with AsyncExitStack() as reserved:
                # One batch at a time waits for its share of the budget.
                async with taking:
                    batch = next(batches, None)
                    if batch is None:
                        return
                    size = sum(len(message.body) for message in batch)
                    await reserved.enter_async_context(budget.reserve(size))
                await send_batch(queue, batch, before_call, remake)

    async with task_group() as group:
        for _ in range(concurrency):
            group.create_task(send_batches())


class BatchingSender:
    """Sends the messages of many tasks, one message each, in few calls.

    Messages that arrive during a call go with the next one. No message waits for others to arrive.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._sending = asyncio.Lock()
        # in the order of arrival
        self._waiting: dict[asyncio.Future[Exception | None], OutgoingMessage] = {}

    async def send(self, message: OutgoingMessage) -> None:
        """Send a message and return once it is sent.

        Raises RetryableError or AccessError; the message may be sent nevertheless. If the calling task is
        cancelled, its message may be sent too, and the other messages of its batch call may be sent twice.
        """
        result = asyncio.get_running_loop().create_future()
        self._waiting[result] = message
        try:
            async with self._sending:
                while not result.done():
                    await self._send_oldest()
        finally:
            self._waiting.pop(result, None)
        if (error := result.result()) is not None:
            raise error

    async def _send_oldest(self) -> None:
        """Send the batch of messages that have waited longest, and give their senders the result."""
        batch = next(pack(self._waiting.values()))
        results = list(self._waiting)[: len(batch)]
        error = None
        try:
            await send_batch(self._queue, batch)
        except (RetryableError, AccessError) as problem:
            error = problem
        for result in results:
            self._waiting.pop(result, None)
            if not result.done():
                result.set_result(error)
