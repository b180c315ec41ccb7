"""Sending in packed batches."""

import asyncio
import json

import pytest
import stamina

from service.adapters.memory import MemoryClock, MemoryQueue
from service.domain.errors import (
    AccessError,
    LeaseLostError,
    RetryableError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.runtime.byte_budget import ByteBudget
from service.runtime.sender import BatchingSender, pack, send_all


class RefusingQueue(MemoryQueue):
    """Refuses entries or fails by a script, a function of the call's number and its bodies."""

    def __init__(self, script) -> None:
        super().__init__("q", MemoryClock())
        self.script = script
        self.calls: list[list[str]] = []

    async def send(self, messages):
        """Send the entries that the script accepts."""
        self.calls.append([message.body for message in messages])
        refused = self.script(len(self.calls), self.calls[-1])
        if isinstance(refused, Exception):
            raise refused
        await super().send([m for index, m in enumerate(messages) if index not in refused])
        return refused

    async def bodies(self) -> list[str]:
        """Bodies of the messages that were sent."""
        found = []
        while messages := await self.receive(10, wait_s=0, visibility_s=60):
            found += [message.body for message in messages]
        return found


def outgoing(count, size=1):
    return [OutgoingMessage(json.dumps(number).ljust(size)) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (25, [10, 10, 5])]
)
def test_messages_are_packed_by_ten_in_order(count, sizes):
    """A batch call holds at most ten messages; all messages are packed once, in order."""
    messages = outgoing(count)
    batches = list(pack(messages))
    assert [len(batch) for batch in batches] == sizes
    assert [message for batch in batches for message in batch] == messages


def test_messages_are_packed_by_a_mebibyte():
    """The messages of one call add up to at most 1 MiB; exactly 1 MiB fits in one call."""
    half = MESSAGE_BYTES // 2
    assert [len(batch) for batch in pack(outgoing(4, half))] == [2, 2]
    assert [len(batch) for batch in pack(outgoing(3, half + 1))] == [1, 1, 1]
    assert [len(batch) for batch in pack(outgoing(2, MESSAGE_BYTES))] == [1, 1]


async def test_only_refused_entries_are_sent_again():
    """Entries refused under HTTP 200 are repeated alone, so that the others arrive once."""
    queue = RefusingQueue(lambda call, _: (1, 3) if call == 1 else (0,) if call == 2 else ())
    await send_all(queue, outgoing(5))
    assert queue.calls == [["0", "1", "2", "3", "4"], ["1", "3"], ["1"]]
    assert sorted(await queue.bodies()) == ["0", "1", "2", "3", "4"]


async def test_after_an_error_only_the_rest_of_its_batch_is_sent_again():
    """A failed call is repeated without the entries that an earlier call accepted."""
    script = {1: (2,), 2: ThrottledError("slow down"), 3: UnreachableError("gone")}
    queue = RefusingQueue(lambda call, _: script.get(call, ()))
    await send_all(queue, outgoing(13))
    assert queue.calls[:4] == [[str(n) for n in range(10)], ["2"], ["2"], ["2"]]
    assert sorted(map(int, await queue.bodies())) == list(range(13))


async def test_a_queue_that_refuses_for_good_is_a_retryable_error():
    """A batch that cannot be sent in time fails its sender with the queue's name."""
    queue = RefusingQueue(lambda *_: (0,))
    with pytest.raises(RetryableError, match="q refused 1 of 2"):
        await send_all(queue, outgoing(2), concurrency=4)
    assert len(queue.calls) == 20


async def test_partial_progress_is_kept_by_an_error():
    """When a later batch fails, the earlier ones have been sent, once."""
    queue = RefusingQueue(lambda _, bodies: UnreachableError("gone") if "10" in bodies else ())
    with pytest.raises(UnreachableError):
        await send_all(queue, outgoing(15))
    assert sorted(map(int, await queue.bodies())) == list(range(10))


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_missing_permission_is_raised_at_once(concurrency):
    """AccessError is not retried."""
    queue = RefusingQueue(lambda *_: AccessError("sqs:SendMessage is not allowed"))
    with pytest.raises(AccessError, match="sqs:SendMessage"):
        await send_all(queue, outgoing(2), concurrency=concurrency)
    assert len(queue.calls) == 1


async def test_concurrent_sending_sends_each_message_once():
    """Several senders take batches from one stream; each message is sent once."""
    queue = RefusingQueue(lambda call, _: (0,) if call % 3 == 0 else ())
    await send_all(queue, outgoing(207), concurrency=16)
    assert sorted(map(int, await queue.bodies())) == list(range(207))


async def test_nothing_to_send_calls_nothing():
    """An empty stream makes no call."""
    queue = RefusingQueue(lambda *_: ())
    await send_all(queue, [], concurrency=3)
    assert queue.calls == []


async def test_a_refused_entry_is_sent_again_after_a_pause():
    """With real pauses the second call succeeds."""
    queue = RefusingQueue(lambda call, _: (0,) if call == 1 else ())
    with stamina.set_testing(False):
        await send_all(queue, outgoing(1))
    assert await queue.bodies() == ["0"]


# -- many senders --------------------------------------------------------------------------------------


class SlowQueue(RefusingQueue):
    """Each call lasts until `go` is set."""

    def __init__(self, script) -> None:
        super().__init__(script)
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def send(self, messages):
        """Set `entered` and wait."""
        self.entered.set()
        await self.go.wait()
        await asyncio.sleep(0)
        return await super().send(messages)


async def test_messages_that_arrive_during_a_call_go_with_the_next_one():
    """The first message does not wait for others; the following ones share calls, in order, each once."""
    queue = SlowQueue(lambda *_: ())
    queue.go.set()
    sender = BatchingSender(queue)
    await asyncio.gather(*(sender.send(message) for message in outgoing(22)))
    assert [len(call) for call in queue.calls] == [1, 10, 10, 1]
    assert [json.loads(body) for call in queue.calls for body in call] == list(range(22))


async def test_a_failed_call_fails_only_its_own_senders():
    """The next message makes a new call."""
    queue = SlowQueue(lambda call, _: AccessError("not allowed") if call == 2 else ())
    queue.go.set()
    sender = BatchingSender(queue)
    ended = await asyncio.gather(*(sender.send(m) for m in outgoing(22)), return_exceptions=True)
    assert [isinstance(error, AccessError) for error in ended] == [False] + [True] * 10 + [False] * 11
    assert sorted(map(int, await queue.bodies())) == [0, *range(11, 22)]


async def test_a_cancelled_sender_does_not_affect_others():
    """Other messages are sent, whether the cancelled one was in a call already or not."""
    queue = SlowQueue(lambda *_: ())
    sender = BatchingSender(queue)
    senders = [asyncio.create_task(sender.send(message)) for message in outgoing(5)]
    await queue.entered.wait()
    senders[0].cancel()
    senders[3].cancel()
    queue.go.set()
    await asyncio.gather(*senders, return_exceptions=True)
    assert [task.cancelled() for task in senders] == [True, False, False, True, False]
    assert await queue.bodies() == ["1", "2", "4"]


async def test_a_budget_bounds_the_bytes_that_all_senders_send():
    """Messages are made only when they can be sent: one call's in each sender waits for the budget."""
    made = ended = sending = most_sending = most_held = 0

    class Slow(MemoryQueue):
        async def send(self, messages):
            nonlocal ended, sending, most_sending, most_held
            sending += len(messages)
            most_sending, most_held = max(most_sending, sending), max(most_held, made - ended)
            for _ in range(5):
                await asyncio.sleep(0)
            sending -= len(messages)
            ended += len(messages)
            return ()

    def messages():
        nonlocal made
        for _ in range(20):
            made += 1
            yield OutgoingMessage("x" * MESSAGE_BYTES)

    queue, budget = Slow("q", MemoryClock()), ByteBudget(3 * MESSAGE_BYTES)
    await asyncio.gather(*(send_all(queue, messages(), concurrency=16, budget=budget) for _ in range(2)))
    assert made == 40
    assert most_sending == 3
    # In each sender a batch that waits, and the message after it.
    assert most_held <= 3 + 2 * 2


async def test_what_must_hold_is_checked_before_every_call():
    """An error of `before_call` ends the sending, also before a repetition; nothing more is sent."""
    checks = iter([None, None, LeaseLostError("gone")])

    def check():
        if (error := next(checks)) is not None:
            raise error

    queue = RefusingQueue(lambda call, bodies: [0] if call == 2 else [])
    with pytest.raises(LeaseLostError):
        await send_all(queue, outgoing(35), before_call=check)
    assert [len(call) for call in queue.calls] == [10, 10]


async def test_messages_that_may_have_been_accepted_are_remade(remade):
    """Only a call without an answer may have been accepted, and only its messages are remade."""
    script = {1: (0,), 2: UnknownResultError("no answer"), 3: ThrottledError("slow down")}
    queue = RefusingQueue(lambda call, _: script.get(call, ()))
    await send_all(queue, outgoing(3), remake=remade)
    assert queue.calls == [["0", "1", "2"], ["0"], ["0 again"], ["0 again"]]
    assert remade.asked == [["0"]]


async def test_messages_are_not_sent_again_until_they_are_remade(remade):
    """If they cannot be remade now, that is tried again, and no call is made in between."""
    remade.errors = [ThrottledError("slow down"), UnreachableError("no route")]
    queue = RefusingQueue(lambda call, _: UnknownResultError("no answer") if call == 1 else ())
    await send_all(queue, outgoing(1), remake=remade)
    assert queue.calls == [["0"], ["0 again"]]
    assert remade.asked == [["0"]] * 3


async def test_messages_that_cannot_be_remade_end_the_sending(remade):
    """The sender has lost its lease: another process sends them, marked."""
    remade.errors = [LeaseLostError("gone")]
    queue = RefusingQueue(lambda call, _: UnknownResultError("no answer") if call == 1 else ())
    with pytest.raises(LeaseLostError):
        await send_all(queue, outgoing(1), remake=remade)
    assert queue.calls == [["0"]]


class Remaker:
    """Appends " again" to bodies, after it has raised its errors."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.asked: list[list[str]] = []

    async def __call__(self, messages):
        """Remake."""
        self.asked.append([message.body for message in messages])
        if self.errors:
            raise self.errors.pop(0)
        return [OutgoingMessage(f"{message.body} again") for message in messages]


@pytest.fixture
def remade():
    return Remaker()
