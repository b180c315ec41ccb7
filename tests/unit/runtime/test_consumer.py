"""The one consuming loop: room, leases, consequences, draining."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryQueue
from service.domain.errors import (
    AccessError,
    AgentTimeoutError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
    UnreachableError,
)


class WatchedQueue(MemoryQueue):
    """Records every call; `fail` maps an operation to the error that its calls raise for now."""

    def __init__(self, clock, dead_letters=None, max_receives=5) -> None:
        super().__init__("q", clock, dead_letters=dead_letters, max_receives=max_receives)
        self.asked: list[int] = []
        self.extended: list[tuple[int, float]] = []
        self.deleted: list[int] = []
        self.fail: dict[str, Exception] = {}
        self.lost: set[str] = set()
        self.hold: asyncio.Event | None = None
        self.hold_extend: asyncio.Event | None = None
        self.polls = self.cancelled_polls = 0

    async def receive(self, limit, *, wait_s, visibility_s):
        """Receive, waiting for `hold` first where it is set."""
        self.asked.append(limit)
        if "receive" in self.fail:
            raise self.fail["receive"]
        self.polls += 1
        try:
            if self.hold is not None:
                await self.hold.wait()
            return await super().receive(limit, wait_s=wait_s, visibility_s=visibility_s)
        except asyncio.CancelledError:
            self.cancelled_polls += 1
            raise
        finally:
            self.polls -= 1

    async def extend(self, receipts, visibility_s):
        """Extend, except what is in `lost`."""
        self.extended.append((len(receipts), visibility_s))
        if self.hold_extend is not None:
            await self.hold_extend.wait()
        if "extend" in self.fail:
            raise self.fail["extend"]
        refused = set(await super().extend(receipts, visibility_s))
        return sorted(refused | {index for index, receipt in enumerate(receipts) if receipt in self.lost})

    async def delete(self, receipts):
        """Delete."""
        self.deleted.append(len(receipts))
        if "delete" in self.fail:
            raise self.fail["delete"]
        return await super().delete(receipts)


class Handler:
    """Keeps its deliveries until they are released; `error` is raised by each then."""

    def __init__(self, *, is_open=False, error=None) -> None:
        self.started = []
        self.finished = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error = error
        if is_open:
            self.gate.set()

    async def __call__(self, delivery):
        """Handle."""
        self.started.append(delivery)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        self.finished.append(delivery.message.body)


@pytest.fixture
def queue(lab):
    """A watched queue whose poisoned messages go to `lab.dead["rows"]`."""
    return WatchedQueue(lab.clock, lab.dead["rows"], max_receives=3)


async def fill(lab, queue, count):
    await lab.send(queue, *(str(number) for number in range(count)))


# -- receiving -----------------------------------------------------------------------------------------


async def test_no_more_is_started_than_there_are_places(lab, queue):
    """However much waits, at most `max_running` deliveries run; the others stay in the queue, visible."""
    await fill(lab, queue, 40)
    handler = Handler()
    async with lab.consuming(lab.consumer(queue, handler, max_running=13, pollers=3)):
        await lab.until(lambda: len(handler.started) == 13)
        await lab.pass_time(5)
        assert len(handler.started) == 13
        assert len(await queue.receive(10, wait_s=0, visibility_s=0)) == 10
        handler.gate.set()


async def test_every_message_is_handled_once_and_deleted_in_tens(lab, queue):
    """What returns is settled: deleted, ten to a call where ten are ready."""
    await fill(lab, queue, 60)
    handler = Handler(is_open=True)
    async with lab.consuming(lab.consumer(queue, handler, max_running=20, delete_linger_s=0.5)):
        await lab.until(lambda: len(handler.finished) == 60, step_s=0.1)
    assert sorted(map(int, handler.finished)) == list(range(60))
    assert await queue.depth() == 0
    assert sum(queue.deleted) == 60
    assert max(queue.deleted) == 10
    assert len(queue.deleted) <= 8
    assert lab.metrics.totals["messages_deleted"] == 60


async def test_it_waits_for_ten_places(lab, queue):
    """With a long linger, nothing is received before ten places are free: SQS takes calls of ten for one."""
    await fill(lab, queue, 40)
    gates = [asyncio.Event() for _ in range(40)]

    async def handle(delivery):
        await gates[int(delivery.message.body)].wait()

    consumer = lab.consumer(queue, handle, max_running=20, receive_linger_s=3600)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(queue.asked) == 2)
        for gate in gates[:9]:
            gate.set()
        await lab.pass_time(1)
        assert queue.asked == [10, 10]
        gates[9].set()
        await lab.until(lambda: len(queue.asked) == 3)
        assert queue.asked[2] == 10
        for gate in gates:
            gate.set()


async def test_fewer_places_are_filled_after_the_linger(real_lab):
    """A few free places are filled too, once no more came free for the linger."""
    queue = WatchedQueue(real_lab.clock)
    await fill(real_lab, queue, 13)
    handler = Handler()
    consumer = real_lab.consumer(queue, handler, max_running=13, receive_linger_s=0.02)
    async with real_lab.consuming(consumer):
        await real_lab.until(lambda: len(handler.started) == 13)
        assert queue.asked == [10, 3]
        handler.gate.set()


async def test_a_place_is_filled_as_soon_as_it_is_free(lab, queue):
    """`free()` makes room for the next message while the first is still being settled; only once."""
    await fill(lab, queue, 4)
    started = []
    gate = asyncio.Event()

    async def handle(delivery):
        started.append(delivery.message.body)
        delivery.release_slot()
        delivery.release_slot()
        await gate.wait()

    async with lab.consuming(lab.consumer(queue, handle, max_running=1, max_held=3)):
        await lab.until(lambda: len(started) == 3)
        await lab.pass_time(5)
        assert len(started) == 3, "max_held bounds what is settled as well"
        gate.set()
        await lab.until(lambda: len(started) == 4, step_s=0.1)


async def test_freeing_twice_makes_one_place(lab, queue):
    """A handler that frees its place more than once, and then returns, does not count as several."""
    await fill(lab, queue, 5)
    started = []
    gate = asyncio.Event()

    async def handle(delivery):
        started.append(delivery.message.body)
        if len(started) == 1:
            for _ in range(3):
                delivery.release_slot()
        else:
            await gate.wait()

    async with lab.consuming(lab.consumer(queue, handle, max_running=1)):
        await lab.until(lambda: len(started) == 2)
        await lab.pass_time(5)
        assert len(started) == 2
        gate.set()
        await lab.until(lambda: len(started) == 5, step_s=0.1)


async def test_deletes_wait_a_little_for_each_other(lab, queue):
    """What is settled within the linger is deleted in one call, not one by one."""
    await fill(lab, queue, 5)

    async def handle(delivery):
        await lab.clock.sleep(0.01 * (1 + int(delivery.message.body)))

    async with lab.consuming(lab.consumer(queue, handle, delete_linger_s=0.5)):
        await lab.until(lambda: queue.deleted != [], step_s=0.01)
    assert queue.deleted == [5]


class Room:
    """Places that handlers have for themselves: as many as the test says."""

    def __init__(self, room):
        self.now = room
        self.tell = None

    def free_slots(self, most):
        """How many."""
        return min(self.now, most)

    def subscribe(self, listener):
        """Remember it."""
        self.tell = listener

    def close(self):
        """Nobody waits here."""


async def test_what_handlers_have_no_room_for_is_not_fetched_but_in_time_looked_through(lab, queue):
    """As many as there is room for; without any, the whole head of the queue, after `probe_s`."""
    await fill(lab, queue, 60)
    room, handler = Room(5), Handler()

    async def handle(delivery):
        room.now = 0
        delivery.release_slot()
        await handler(delivery)

    consumer = lab.consumer(queue, handle, max_running=30, probe_s=4.0, capacity=room)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.started) == 5, step_s=0.1)
        await lab.pass_time(3.5)
        assert queue.asked == [5]
        await lab.until(lambda: len(handler.started) == 60, step_s=0.1)
        assert queue.asked[:7] == [5, 10, 10, 10, 10, 10, 10]
        room.now = 7
        room.tell()
        await lab.until(lambda: queue.asked[-1] == 7, step_s=0.5)
        handler.gate.set()


async def test_room_is_for_those_that_come_not_for_those_that_have_a_place(lab, queue):
    """Who has not got to its own place yet counts against the room; `free` says that it has."""
    await fill(lab, queue, 20)
    arrived, handler = asyncio.Event(), Handler()

    async def handle(delivery):
        await arrived.wait()
        delivery.release_slot()
        await handler(delivery)

    consumer = lab.consumer(queue, handle, max_running=30, probe_s=3600.0, capacity=Room(10))
    async with lab.consuming(consumer):
        await lab.until(lambda: queue.asked == [10])
        await lab.pass_time(5)
        assert queue.asked == [10]
        arrived.set()
        await lab.until(lambda: queue.asked[:2] == [10, 10])
        handler.gate.set()


async def test_how_long_a_message_waited_is_measured_on_its_first_delivery(lab, queue):
    """`queue_wait_ms` tells the time between sending and the first receive."""
    await fill(lab, queue, 1)
    await lab.pass_time(3)
    async with lab.consuming(lab.consumer(queue, Handler(is_open=True))):
        await lab.until(lambda: queue.deleted != [])
    assert lab.metrics._timings["queue_wait_ms"].values == [3000]


# -- what becomes of a message ---------------------------------------------------------------------------


async def test_a_retryable_error_brings_the_message_again_after_a_back_off(lab, queue):
    """Given back for 2 s at first, 4 s the next time; its lease is not held on to."""
    await fill(lab, queue, 1)
    handler = Handler(is_open=True, error=UnreachableError("no table"))
    async with lab.consuming(lab.consumer(queue, handler)):
        await lab.until(lambda: queue.extended == [(1, 2.0)])
        handler.error = None
        await lab.pass_time(1.9)
        assert len(handler.started) == 1
        await lab.until(lambda: len(handler.started) == 2, step_s=0.1)
        assert lab.clock.monotonic() < 3
    assert handler.finished == ["0"]
    assert handler.started[1].message.receives == 2


async def test_the_wish_of_the_other_side_decides_the_back_off(lab, queue):
    """`retry_after_s` is taken instead of the back-off, up to 30 s."""
    await fill(lab, queue, 1)
    handler = Handler(is_open=True, error=RetryableError("later", retry_after_s=7))
    async with lab.consuming(lab.consumer(queue, handler)):
        await lab.until(lambda: queue.extended == [(1, 7)])
        handler.error = RetryableError("much later", retry_after_s=3600)
        await lab.until(lambda: (1, 30.0) in queue.extended, step_s=0.5)


async def test_a_poison_message_is_logged_and_goes_to_the_dead_letters(lab, queue):
    """Nobody can act on it: it comes again until the queue buries it, and no other message suffers."""
    await lab.send(queue, "poison", "good")

    async def handle(delivery):
        if delivery.message.body == "poison":
            raise PoisonMessageError("not JSON")

    with capture_logs() as logs:
        async with lab.consuming(lab.consumer(queue, handle)):
            await lab.until(lambda: bool(lab.dead["rows"]._entries), step_s=0.5)
    poisoned = [line for line in logs if line["event"] == "message_poisoned"]
    assert [line["receives"] for line in poisoned] == [1, 2, 3]
    assert poisoned[0]["reason"] == "not JSON"
    assert await queue.depth() == 0
    assert await lab.waiting(lab.dead["rows"]) == ["poison"]
    assert lab.metrics.totals["messages_deleted"] == 1


async def test_poison_holds_nobody_back(lab, queue):
    """A message that is wrong says nothing about the health of the rest: receiving goes on at once."""
    await lab.send(queue, "poison")
    handler = Handler(is_open=True, error=PoisonMessageError("?"))
    consumer = lab.consumer(queue, handler)
    async with lab.consuming(consumer):
        await lab.until(lambda: queue.extended == [(1, 1.0)])
        assert consumer.problem == ""
        await lab.until(lambda: queue.polls == 1)


async def test_a_lost_lease_is_forgotten(lab, queue):
    """The message is somebody else's: it is neither deleted nor given back, and its place is free again."""
    await fill(lab, queue, 2)
    handler = Handler(is_open=True, error=LeaseLostError("gone"))
    async with lab.consuming(lab.consumer(queue, handler, max_running=1, max_held=1)):
        await lab.until(lambda: len(handler.started) == 2)
        await lab.pass_time(0)
        assert queue.deleted == []
        assert queue.extended == []


async def test_a_bug_costs_only_its_own_message(lab, queue):
    """Any other exception is logged with its traceback, its message given back, and the others handled."""
    await lab.send(queue, "bug", "good")
    finished = []

    async def handle(delivery):
        if delivery.message.body == "bug":
            raise ZeroDivisionError("oops")
        finished.append(delivery.message.body)

    consumer = lab.consumer(queue, handle)
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            await lab.until(lambda: queue.deleted == [1] and queue.extended == [(1, 2.0)], step_s=0.01)
            assert consumer.problem == ""
    assert finished == ["good"]
    assert [line["exc_info"].args for line in logs if line["event"] == "handler_crashed"] == [("oops",)]
    assert lab.metrics.totals["handler_crashes"] == 1


@pytest.mark.parametrize("error", [AccessError("kms:Decrypt"), AgentTimeoutError("no answer")])
async def test_handlers_in_trouble_hold_the_receiving_back(real_lab, error):
    """After an error that any message would meet, nothing is received for a while; the reason is told."""
    queue = WatchedQueue(real_lab.clock)
    await fill(real_lab, queue, 3)
    handler = Handler(is_open=True, error=error)
    consumer = real_lab.consumer(queue, handler, max_running=1)
    async with real_lab.consuming(consumer):
        await real_lab.until(lambda: queue.extended != [])
        assert consumer.problem == str(error)
        asked = len(queue.asked)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(queue.asked) == asked
        handler.error = None
        await real_lab.until(lambda: len(handler.finished) == 2)
        assert consumer.problem == ""


async def test_an_empty_queue_does_not_recover_a_handler_in_trouble(lab, queue):
    """Receiving well does not mean that handling works: the trouble stays until a message is handled."""
    consumer = lab.consumer(queue, Handler(is_open=True, error=AccessError("denied")))
    await fill(lab, queue, 1)
    async with lab.consuming(consumer):
        await lab.until(lambda: consumer.problem == "denied")
        assert consumer.last_success is not None
        consumer._receive_backoff.succeeded()
        assert consumer.problem == "denied"


# -- trouble -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AccessError("no sqs:ReceiveMessage"), UnreachableError("no route")])
async def test_failing_receives_back_off_and_recover(real_lab, error):
    """A queue that cannot be read is asked again after 0.5 s, not at once; its recovery is noticed."""
    queue = WatchedQueue(real_lab.clock)
    queue.fail["receive"] = error
    consumer = real_lab.consumer(queue, Handler(is_open=True), poll_wait_s=0.01)
    with capture_logs() as logs:
        async with real_lab.consuming(consumer):
            await real_lab.until(lambda: consumer.problem == str(error))
            assert consumer.last_success is None
            del queue.fail["receive"]
            for _ in range(200):
                await asyncio.sleep(0)
            assert len(queue.asked) == 1
            await real_lab.until(lambda: consumer.problem == "")
            assert consumer.last_success is not None
    assert [line["event"] for line in logs] == ["queue_trouble", "queue_recovered"]


def test_the_back_off_doubles_to_thirty_seconds(lab):
    """0.5 s, doubling up to 30 s; a burst of failures within one pause counts as one; success starts over."""
    from service.runtime.backoff import Backoff

    backoff, now, pauses = Backoff(), 100.0, []
    for _ in range(9):
        backoff.failed(AccessError("denied"), now)
        backoff.failed(AccessError("denied again"), now)
        pauses.append(backoff.until - now)
        now = backoff.until
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.reason == "denied again"
    assert backoff.succeeded()
    assert not backoff.succeeded()
    backoff.failed(AccessError("denied"), now)
    assert backoff.until - now == 0.5


async def test_a_queue_in_trouble_still_stops(real_lab):
    """Stopping does not wait for the back-off to end."""
    queue = WatchedQueue(real_lab.clock)
    queue.fail["receive"] = UnreachableError("no route")
    consumer = real_lab.consumer(queue, Handler())
    started = real_lab.clock.monotonic()
    async with real_lab.consuming(consumer):
        await real_lab.until(lambda: consumer.problem != "")
    assert real_lab.clock.monotonic() - started < 0.4


# -- leases --------------------------------------------------------------------------------------------


async def test_a_long_row_stays_invisible_beyond_its_visibility(lab, queue):
    """Heartbeats keep what is held, so an agent may take as long as it takes."""
    await fill(lab, queue, 25)
    handler = Handler()
    async with lab.consuming(lab.consumer(queue, handler, visibility_s=60)):
        await lab.until(lambda: len(handler.started) == 25)
        for _ in range(10):
            await lab.pass_time(60)
            assert await queue.receive(10, wait_s=0, visibility_s=0) == []
        assert len(handler.started) == 25
        assert max(count for count, _ in queue.extended) == 10
        handler.gate.set()
        await lab.until(lambda: sum(queue.deleted) == 25, step_s=1)
    assert all(delivery.message.receives == 1 for delivery in handler.started)


async def test_a_heartbeat_that_fails_is_repeated_in_time(lab, queue):
    """An extension that fails now and then does not lose the lease: each message has several chances."""
    await fill(lab, queue, 1)
    handler = Handler()
    async with lab.consuming(lab.consumer(queue, handler, visibility_s=60)):
        await lab.until(lambda: len(handler.started) == 1)
        queue.fail["extend"] = UnreachableError("no route")
        await lab.pass_time(41)
        del queue.fail["extend"]
        await lab.pass_time(600)
        handler.started[0].check_lease()
        assert len(handler.started) == 1
        handler.gate.set()


async def test_a_message_is_not_hidden_again_by_an_extension_under_way(lab, queue):
    """Giving back waits for the heartbeat's call: the other way round nobody would see it for long."""
    await fill(lab, queue, 1)
    handler = Handler(error=RetryableError("later"))
    queue.hold_extend = asyncio.Event()
    async with lab.consuming(lab.consumer(queue, handler, visibility_s=60)):
        await lab.until(lambda: len(handler.started) == 1)
        await lab.until(lambda: queue.extended == [(1, 60)], step_s=5)
        handler.gate.set()
        await lab.pass_time(1)
        assert queue.extended == [(1, 60)]
        queue.hold_extend.set()
        await lab.until(lambda: len(queue.extended) == 2)
        assert queue.extended == [(1, 60), (1, 2.0)]


async def test_a_handler_can_see_that_its_lease_was_lost(lab, queue):
    """Once an extension was refused, `check_lease` raises, and the message is not extended any more."""
    await fill(lab, queue, 2)
    handler = Handler()
    async with lab.consuming(lab.consumer(queue, handler, visibility_s=60)):
        await lab.until(lambda: len(handler.started) == 2)
        lost, kept = handler.started
        lost.check_lease()
        queue.lost.add(lost.message.receipt)
        await lab.pass_time(20)
        with pytest.raises(LeaseLostError, match=lost.message.id):
            lost.check_lease()
        kept.check_lease()
        assert lab.metrics.totals["leases_lost"] == 1
        queue.extended.clear()
        await lab.pass_time(30)
        assert {count for count, _ in queue.extended} == {1}
        handler.gate.set()


async def test_a_message_that_is_done_is_not_extended(lab, queue):
    """Heartbeats end with the message."""
    await fill(lab, queue, 1)
    async with lab.consuming(lab.consumer(queue, Handler(is_open=True))):
        await lab.until(lambda: queue.deleted == [1])
        await lab.pass_time(300)
    assert queue.extended == []


@pytest.mark.parametrize("error", [UnreachableError("no route"), AccessError("denied")])
async def test_a_failed_delete_is_harmless(lab, queue, error):
    """One attempt is enough: the message comes again, and receiving goes on."""
    await fill(lab, queue, 12)
    queue.fail["delete"] = error
    handler = Handler(is_open=True)
    async with lab.consuming(lab.consumer(queue, handler, max_held=6, max_running=6)):
        await lab.until(lambda: len(handler.finished) == 12, step_s=0.01)
        del queue.fail["delete"]
        await lab.until(lambda: len(handler.finished) == 24, step_s=1)
    assert await queue.depth() == 0


async def test_a_message_that_cannot_be_given_back_comes_by_itself(lab, queue):
    """Where giving back fails, the visibility time-out does it later; nothing is held meanwhile."""
    await fill(lab, queue, 1)
    queue.fail["extend"] = UnreachableError("no route")
    handler = Handler(is_open=True, error=RetryableError("later"))
    async with lab.consuming(lab.consumer(queue, handler, visibility_s=60)):
        await lab.until(lambda: queue.extended != [])
        handler.error = None
        await lab.until(lambda: len(handler.started) == 2, step_s=1)
        assert lab.clock.monotonic() >= 59


# -- stopping --------------------------------------------------------------------------------------------


async def test_a_poll_in_flight_is_awaited_and_its_messages_given_back(lab, queue):
    """Cancelling a poll would hide what it was about to deliver for a whole visibility time-out."""
    queue.hold = asyncio.Event()
    handler = Handler()
    consumer = lab.consumer(queue, handler, visibility_s=3600)
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await lab.until(lambda: queue.polls == 1)
    await fill(lab, queue, 3)
    stop.set()
    await lab.pass_time(0)
    assert not running.done()
    queue.hold.set()
    await running
    assert queue.cancelled_polls == 0
    assert handler.started == []
    assert queue.extended == [(3, 0)]
    assert len(await queue.receive(10, wait_s=0, visibility_s=0)) == 3


async def test_stopping_finishes_what_is_held(lab, queue):
    """After the stop nothing new is started, what runs comes to its end, and its messages are deleted."""
    await fill(lab, queue, 20)
    handler = Handler()
    consumer = lab.consumer(queue, handler, max_running=10, delete_linger_s=0.5)
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await lab.until(lambda: len(handler.started) == 10)
    stop.set()
    await lab.pass_time(300)
    assert not running.done(), "heartbeats go on while it drains"
    handler.gate.set()
    await lab.until(running.done, step_s=0.1)
    await running
    assert len(handler.finished) == 10
    assert sum(queue.deleted) == 10
    assert await queue.depth() == 10


async def test_what_does_not_finish_in_time_is_given_back_at_once(lab, queue):
    """After `drain_s` the rest is cancelled and visible to others right away; the consumer ends."""
    await fill(lab, queue, 12)
    handler = Handler()
    consumer = lab.consumer(queue, handler, drain_s=0.02, visibility_s=3600)
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            await lab.until(lambda: len(handler.started) == 12)
    assert handler.cancelled == 12
    assert sorted(queue.extended) == [(2, 0), (10, 0)]
    assert queue.deleted == []
    assert len(await queue.receive(10, wait_s=0, visibility_s=60)) == 10
    assert [line["given_back"] for line in logs if line["event"] == "drain_gave_up"] == [12]


async def test_an_idle_consumer_stops_at_once(lab, queue):
    """With nothing held there is nothing to wait for but the poll."""
    async with lab.consuming(lab.consumer(queue, Handler())):
        await lab.until(lambda: queue.polls == 1)
    assert lab.clock.monotonic() <= 2


async def test_a_message_given_back_by_its_handler_while_draining_ends_the_drain(lab, queue):
    """Errors during the drain have the same consequences as ever, and do not keep the process."""
    await fill(lab, queue, 2)
    handler = Handler(error=RetryableError("later"))
    consumer = lab.consumer(queue, handler)
    async with lab.consuming(consumer) as stop:
        await lab.until(lambda: len(handler.started) == 2)
        stop.set()
        handler.gate.set()
    assert queue.extended == [(1, 2.0), (1, 2.0)]
    assert await queue.depth() == 2
