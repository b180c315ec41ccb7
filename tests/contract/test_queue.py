"""Contract of the port Queue, tested in memory and on SQS (ministack, moto)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.sqs import SqsQueue
from service.adapters.memory import MemoryClock, MemoryQueue
from service.domain.errors import AccessError
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage, Queue, ReceivedMessage

MAX_RECEIVES = 2


@dataclass
class QueueUnderTest:
    """A queue with its dead-letter queue. `clock` is that of the queue in memory, None on SQS."""

    queue: Queue
    dead_letters: Queue
    clock: MemoryClock | None = None

    async def receive(
        self, limit: int = 10, *, wait_s: float = 0, visibility_s: float = 30, dead: bool = False
    ) -> Sequence[ReceivedMessage]:
        """Receive. In memory the clock is advanced until a message has come or the wait is over."""
        queue = self.dead_letters if dead else self.queue
        receiving = asyncio.create_task(queue.receive(limit, wait_s=wait_s, visibility_s=visibility_s))
        for _ in range(int(wait_s * 10)):
            if self.clock is not None:
                await self.clock.advance(0 if receiving.done() else 0.125)
        return await receiving

    async def receive_all(self, count: int, *, visibility_s: float = 30) -> list[ReceivedMessage]:
        """Receive until `count` messages have come."""
        found: list[ReceivedMessage] = []
        while len(found) < count:
            found += await self.receive(wait_s=1, visibility_s=visibility_s)
        return found


@pytest.fixture(params=["memory", "ministack", "ministack-aiobotocore", "moto"])
async def kit(
    request: pytest.FixtureRequest, names: ResourceNames, options_of: Callable[[str], AwsOptions]
) -> AsyncIterator[QueueUnderTest]:
    if request.param == "memory":
        clock = MemoryClock()
        dead = MemoryQueue("dead", clock)
        yield QueueUnderTest(
            MemoryQueue("rows", clock, dead_letters=dead, max_receives=MAX_RECEIVES), dead, clock
        )
        return
    async with open_clients(options_of(request.param)) as clients:
        yield await sqs_kit(clients, names)


async def sqs_kit(clients: Clients, names: ResourceNames) -> QueueUnderTest:
    dead_name, name = names.dead_letters("rows"), names.queue("rows")
    dead_url = (await clients.sqs.create_queue(QueueName=dead_name))["QueueUrl"]
    answer = await clients.sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": answer["Attributes"]["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    made = await clients.sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(redrive)})
    return QueueUnderTest(SqsQueue(clients, name, made["QueueUrl"]), SqsQueue(clients, dead_name, dead_url))


def bodies(messages: Sequence[ReceivedMessage]) -> list[str]:
    return sorted(message.body for message in messages)


async def test_sent_messages_are_received(kit: QueueUnderTest) -> None:
    """Messages are received with body, delivery count 1 and the time they were sent."""
    assert await kit.queue.send([OutgoingMessage('{"n":1}', "batch#1"), OutgoingMessage('{"n":2}')]) in (
        (),
        [],
    )
    found = await kit.receive_all(2)
    assert bodies(found) == ['{"n":1}', '{"n":2}']
    assert [message.receives for message in found] == [1, 1]
    assert all(message.sent_at_ms > 1_600_000_000_000 for message in found)
    assert len({message.receipt for message in found}) == len({message.id for message in found}) == 2


async def test_an_empty_queue_returns_no_messages(kit: QueueUnderTest) -> None:
    """A receive from an empty queue returns no messages, at once or after its wait."""
    assert list(await kit.receive()) == []
    assert list(await kit.receive(wait_s=1)) == []


async def test_a_receive_waits_for_the_first_message(kit: QueueUnderTest) -> None:
    """A message that is sent during the wait of a receive is returned by it."""
    receiving = asyncio.create_task(kit.queue.receive(10, wait_s=5, visibility_s=30))
    await asyncio.sleep(0)
    await kit.queue.send([OutgoingMessage("late")])
    assert bodies(await receiving) == ["late"]


async def test_a_receive_returns_at_most_its_limit(kit: QueueUnderTest) -> None:
    """A receive returns at most `limit` messages; the others stay in the queue."""
    await kit.queue.send([OutgoingMessage(str(number)) for number in range(10)])
    first = await kit.receive(3)
    assert 1 <= len(first) <= 3
    assert len(await kit.receive_all(10 - len(first))) == 10 - len(first)


async def test_a_received_message_is_hidden(kit: QueueUnderTest) -> None:
    """A received message is not delivered again while it is hidden."""
    await kit.queue.send([OutgoingMessage("one")])
    await kit.receive_all(1)
    assert list(await kit.receive()) == []


async def test_a_message_is_redelivered_when_its_visibility_ends(kit: QueueUnderTest) -> None:
    """After `visibility_s` a message is redelivered with a new receipt and a higher delivery count."""
    await kit.queue.send([OutgoingMessage("one")])
    (first,) = await kit.receive_all(1, visibility_s=1)
    (second,) = await kit.receive(wait_s=5)
    assert (second.id, second.receives) == (first.id, 2)
    assert second.receipt != first.receipt


async def test_extend_hides_for_longer(kit: QueueUnderTest) -> None:
    """An extended message is not redelivered at the end of its first visibility."""
    await kit.queue.send([OutgoingMessage("one")])
    (message,) = await kit.receive_all(1, visibility_s=1)
    assert list(await kit.queue.extend([message.receipt], 30)) == []
    assert list(await kit.receive(wait_s=2)) == []


async def test_extend_by_zero_releases_a_message(kit: QueueUnderTest) -> None:
    """A visibility of 0 makes a message available at once."""
    await kit.queue.send([OutgoingMessage("one")])
    (message,) = await kit.receive_all(1)
    assert list(await kit.queue.extend([message.receipt], 0)) == []
    (again,) = await kit.receive(wait_s=1)
    assert again.id == message.id


async def test_extend_returns_lost_leases(kit: QueueUnderTest) -> None:
    """The index of an earlier delivery's receipt is returned; the other leases of the call are extended."""
    await kit.queue.send([OutgoingMessage("lost")])
    (old,) = await kit.receive_all(1)
    await kit.queue.extend([old.receipt], 0)
    (new,) = await kit.receive(wait_s=1)
    assert list(await kit.queue.extend([old.receipt, new.receipt], 30)) == [0]


async def test_deleted_messages_are_not_redelivered(kit: QueueUnderTest) -> None:
    """Deleted messages are not redelivered and do not count in the depth."""
    await kit.queue.send([OutgoingMessage("one"), OutgoingMessage("two")])
    found = await kit.receive_all(2, visibility_s=1)
    assert list(await kit.queue.delete([message.receipt for message in found])) == []
    assert list(await kit.receive(wait_s=2)) == []
    assert await kit.queue.depth() == 0


async def test_a_stale_receipt_deletes_nothing(kit: QueueUnderTest) -> None:
    """A delete with the receipt of an earlier delivery is refused or ignored; the message stays."""
    await kit.queue.send([OutgoingMessage("one")])
    (old,) = await kit.receive_all(1)
    await kit.queue.extend([old.receipt], 0)
    await kit.receive(wait_s=1)
    assert list(await kit.queue.delete([old.receipt])) in ([], [0])
    assert await kit.queue.depth() == 1


async def test_a_delayed_message_is_delivered_after_its_delay(kit: QueueUnderTest) -> None:
    """A delayed message is not delivered before its delay is over, and counts in the depth."""
    await kit.queue.send([OutgoingMessage("later", delay_s=1)])
    assert list(await kit.receive()) == []
    assert await kit.queue.depth() == 1
    assert bodies(await kit.receive(wait_s=5)) == ["later"]


async def test_depth_counts_waiting_and_in_flight(kit: QueueUnderTest) -> None:
    """The depth counts messages that wait and messages in flight."""
    await kit.queue.send([OutgoingMessage(str(number)) for number in range(5)])
    await kit.receive(2)
    assert await kit.queue.depth() == 5


async def test_in_flight_counts_messages_that_receivers_hold(kit: QueueUnderTest) -> None:
    """Messages that wait, are delayed, were given back or deleted are not in flight."""
    await kit.queue.send([OutgoingMessage("later", delay_s=30)])
    await kit.queue.send([OutgoingMessage(str(number)) for number in range(4)])
    assert await kit.queue.in_flight() == 0
    first, second, *_ = await kit.receive_all(4)
    assert await kit.queue.in_flight() == 4
    await kit.queue.extend([first.receipt], 0)
    await kit.queue.delete([second.receipt])
    assert await kit.queue.in_flight() == 2


async def test_too_many_deliveries_go_to_the_dead_letter_queue(kit: QueueUnderTest) -> None:
    """After the maximum number of deliveries a message moves to the dead-letter queue with its body."""
    await kit.queue.send([OutgoingMessage("poison")])
    for _ in range(MAX_RECEIVES):
        (message,) = await kit.receive(wait_s=5)
        await kit.queue.extend([message.receipt], 0)
    assert list(await kit.receive(wait_s=1)) == []
    assert bodies(await kit.receive(wait_s=5, dead=True)) == ["poison"]


async def test_a_long_batch_id_is_a_valid_group(kit: QueueUnderTest) -> None:
    """A group may be longer than SQS's limit of 128 characters, as batch ids are."""
    assert list(await kit.queue.send([OutgoingMessage("one", group="t" * 128 + "#" + "e" * 128)])) == []
    assert bodies(await kit.receive(wait_s=1)) == ["one"]


async def test_empty_calls_do_nothing(kit: QueueUnderTest) -> None:
    """Send, extend and delete accept empty sequences."""
    assert list(await kit.queue.send([])) == []
    assert list(await kit.queue.extend([], 5)) == []
    assert list(await kit.queue.delete([])) == []


async def test_limits_of_a_call_are_enforced(kit: QueueUnderTest) -> None:
    """More than ten entries raise ValueError; more than 1 MiB raises AccessError that names the limit."""
    with pytest.raises(ValueError, match="11 entries"):
        await kit.queue.send([OutgoingMessage("x")] * 11)
    with pytest.raises(AccessError, match=str(MESSAGE_BYTES)):
        await kit.queue.send([OutgoingMessage("x" * 600_000), OutgoingMessage("y" * 600_000)])


async def test_a_queue_has_a_name(kit: QueueUnderTest) -> None:
    """A queue has the name that it was opened with, for logs."""
    assert kit.queue.name.endswith("rows")
