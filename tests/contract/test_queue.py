"""Queue: one suite over memory and the real protocol (SQS as ministack speaks it)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.sqs import SqsQueue
from service.adapters.memory import MemoryClock, MemoryQueue
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from service.domain.errors import AccessError
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage, Queue, ReceivedMessage

MAX_RECEIVES = 2


@dataclass
class Kit:
    """A queue with its dead-letter queue, and a way to receive that lets the memory's time pass."""

    queue: Queue
    dead_letters: Queue
    clock: MemoryClock | None = None

    async def receive(
        self, limit: int = 10, *, wait_s: float = 0, visibility_s: float = 30, dead: bool = False
    ) -> Sequence[ReceivedMessage]:
        """Receive, in steps of time that end when something came."""
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


@pytest.fixture(params=["memory", "ministack"])
async def kit(request: pytest.FixtureRequest, names: ResourceNames) -> AsyncIterator[Kit]:
    if request.param == "memory":
        clock = MemoryClock()
        dead = MemoryQueue("dead", clock)
        yield Kit(MemoryQueue("rows", clock, dead_letters=dead, max_receives=MAX_RECEIVES), dead, clock)
        return
    options = AwsOptions(REGION, request.getfixturevalue("endpoint"), ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients:
        yield await sqs_kit(clients, names)


async def sqs_kit(clients: Clients, names: ResourceNames) -> Kit:
    dead_name, name = names.dead_letters("rows"), names.queue("rows")
    dead_url = (await clients.sqs.create_queue(QueueName=dead_name))["QueueUrl"]
    answer = await clients.sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": answer["Attributes"]["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    made = await clients.sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(redrive)})
    return Kit(SqsQueue(clients, name, made["QueueUrl"]), SqsQueue(clients, dead_name, dead_url))


def bodies(messages: Sequence[ReceivedMessage]) -> list[str]:
    return sorted(message.body for message in messages)


async def test_what_is_sent_is_received(kit: Kit) -> None:
    """Messages arrive with their bodies, a first delivery and the time they were sent."""
    assert await kit.queue.send([OutgoingMessage('{"n":1}', "batch#1"), OutgoingMessage('{"n":2}')]) in (
        (),
        [],
    )
    found = await kit.receive_all(2)
    assert bodies(found) == ['{"n":1}', '{"n":2}']
    assert [message.receives for message in found] == [1, 1]
    assert all(message.sent_at_ms > 1_600_000_000_000 for message in found)
    assert len({message.receipt for message in found}) == len({message.id for message in found}) == 2


async def test_an_empty_queue_yields_nothing(kit: Kit) -> None:
    """Receiving from an empty queue returns nothing, at once or after the wait."""
    assert list(await kit.receive()) == []
    assert list(await kit.receive(wait_s=1)) == []


async def test_a_receive_waits_for_the_first_message(kit: Kit) -> None:
    """A message that is sent while somebody waits is delivered to the waiting receive."""
    receiving = asyncio.create_task(kit.queue.receive(10, wait_s=5, visibility_s=30))
    await asyncio.sleep(0)
    await kit.queue.send([OutgoingMessage("late")])
    assert bodies(await receiving) == ["late"]


async def test_limit_bounds_a_receive(kit: Kit) -> None:
    """At most `limit` messages come at once, the others stay."""
    await kit.queue.send([OutgoingMessage(str(number)) for number in range(10)])
    first = await kit.receive(3)
    assert 1 <= len(first) <= 3
    assert len(await kit.receive_all(10 - len(first))) == 10 - len(first)


async def test_a_received_message_is_hidden(kit: Kit) -> None:
    """Nobody else gets a message while it is hidden."""
    await kit.queue.send([OutgoingMessage("one")])
    await kit.receive_all(1)
    assert list(await kit.receive()) == []


async def test_a_message_comes_back_when_its_visibility_ends(kit: Kit) -> None:
    """After `visibility_s` a message is delivered again, under a new receipt and a higher count."""
    await kit.queue.send([OutgoingMessage("one")])
    (first,) = await kit.receive_all(1, visibility_s=1)
    (second,) = await kit.receive(wait_s=5)
    assert (second.id, second.receives) == (first.id, 2)
    assert second.receipt != first.receipt


async def test_extend_hides_for_longer(kit: Kit) -> None:
    """An extended message is not delivered at the end of its first visibility."""
    await kit.queue.send([OutgoingMessage("one")])
    (message,) = await kit.receive_all(1, visibility_s=1)
    assert list(await kit.queue.extend([message.receipt], 30)) == []
    assert list(await kit.receive(wait_s=2)) == []


async def test_extend_by_zero_gives_back(kit: Kit) -> None:
    """A visibility of 0 makes the message available at once."""
    await kit.queue.send([OutgoingMessage("one")])
    (message,) = await kit.receive_all(1)
    assert list(await kit.queue.extend([message.receipt], 0)) == []
    (again,) = await kit.receive(wait_s=1)
    assert again.id == message.id


async def test_extend_names_lost_leases(kit: Kit) -> None:
    """The receipt of an earlier delivery has lost its lease; others in the call are extended."""
    await kit.queue.send([OutgoingMessage("lost")])
    (old,) = await kit.receive_all(1)
    await kit.queue.extend([old.receipt], 0)
    (new,) = await kit.receive(wait_s=1)
    assert list(await kit.queue.extend([old.receipt, new.receipt], 30)) == [0]


async def test_deleted_messages_are_gone(kit: Kit) -> None:
    """What is deleted is not delivered again."""
    await kit.queue.send([OutgoingMessage("one"), OutgoingMessage("two")])
    found = await kit.receive_all(2, visibility_s=1)
    assert list(await kit.queue.delete([message.receipt for message in found])) == []
    assert list(await kit.receive(wait_s=2)) == []
    assert await kit.queue.depth() == 0


async def test_a_stale_receipt_deletes_nothing(kit: Kit) -> None:
    """Deleting with the receipt of an earlier delivery is refused or ignored: the message stays."""
    await kit.queue.send([OutgoingMessage("one")])
    (old,) = await kit.receive_all(1)
    await kit.queue.extend([old.receipt], 0)
    await kit.receive(wait_s=1)
    assert list(await kit.queue.delete([old.receipt])) in ([], [0])
    assert await kit.queue.depth() == 1


async def test_a_delayed_message_comes_later(kit: Kit) -> None:
    """A message with a delay is not delivered before it, and counts as waiting."""
    await kit.queue.send([OutgoingMessage("later", delay_s=1)])
    assert list(await kit.receive()) == []
    assert await kit.queue.depth() == 1
    assert bodies(await kit.receive(wait_s=5)) == ["later"]


async def test_depth_counts_waiting_and_in_flight(kit: Kit) -> None:
    """Depth counts messages whether they wait or are being worked on."""
    await kit.queue.send([OutgoingMessage(str(number)) for number in range(5)])
    await kit.receive(2)
    assert await kit.queue.depth() == 5


async def test_too_many_deliveries_go_to_the_dead_letter_queue(kit: Kit) -> None:
    """A message that was delivered as often as allowed moves to the dead-letter queue, body intact."""
    await kit.queue.send([OutgoingMessage("poison")])
    for _ in range(MAX_RECEIVES):
        (message,) = await kit.receive(wait_s=5)
        await kit.queue.extend([message.receipt], 0)
    assert list(await kit.receive(wait_s=1)) == []
    assert bodies(await kit.receive(wait_s=5, dead=True)) == ["poison"]


async def test_a_long_batch_id_is_a_valid_group(kit: Kit) -> None:
    """Groups may be longer than SQS's own limit of 128 characters: batch ids are."""
    assert list(await kit.queue.send([OutgoingMessage("one", group="t" * 128 + "#" + "e" * 128)])) == []
    assert bodies(await kit.receive(wait_s=1)) == ["one"]


async def test_empty_calls_do_nothing(kit: Kit) -> None:
    """Sending, extending and deleting nothing is allowed."""
    assert list(await kit.queue.send([])) == []
    assert list(await kit.queue.extend([], 5)) == []
    assert list(await kit.queue.delete([])) == []


async def test_limits_of_a_call_are_enforced(kit: Kit) -> None:
    """More than ten entries are a bug of the caller; more than 1 MiB is refused in words."""
    with pytest.raises(ValueError, match="11 entries"):
        await kit.queue.send([OutgoingMessage("x")] * 11)
    with pytest.raises(AccessError, match=str(MESSAGE_BYTES)):
        await kit.queue.send([OutgoingMessage("x" * 600_000), OutgoingMessage("y" * 600_000)])


async def test_a_queue_has_a_name(kit: Kit) -> None:
    """The name is there for logs."""
    assert kit.queue.name.endswith("rows")
