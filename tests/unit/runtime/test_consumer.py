"""The consumer loop: slots and capacity, leases, ends of handlers, draining."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryQueue
from service.domain.errors import (
    AccessError,
    AgentTimeoutError,
    ConflictError,
    LeaseLostError,
    PoisonMessageError,
    RetryableError,
    UnreachableError,
)
from service.runtime.releases import CONFLICT_S


class WatchedQueue(MemoryQueue):
    """Records every call. `fail` maps an operation to the error that its calls raise at present."""

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
        """Receive, after waiting for `hold` if it is set."""
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
        """Extend all receipts that are not in `lost`."""
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
    """Holds its deliveries until `gate` is set; each raises `error` then, if there is one."""

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


async def test_no_more_deliveries_run_than_there_are_slots(lab, queue):
    """At most `max_running` deliveries run, however many messages wait; the others stay visible."""
    await fill(lab, queue, 40)
    handler = Handler()
    async with lab.consuming(lab.consumer(queue, handler, max_running=13, pollers=3)):
        await lab.until(lambda: len(handler.started) == 13)
        await lab.pass_time(5)
        assert len(handler.started) == 13
        assert len(await queue.receive(10, wait_s=0, visibility_s=0)) == 10
        handler.gate.set()


async def test_every_message_is_handled_once_and_deleted_in_tens(lab, queue):
    """Messages of returned handlers are deleted, ten in a call if ten are ready."""
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


async def test_it_waits_for_ten_slots(lab, queue):
    """With a long linger nothing is received before ten slots are free, because SQS charges for calls."""
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


async def test_fewer_slots_are_filled_after_the_linger(lab, queue):
    """Fewer than ten free slots are filled once the linger is over."""
    await fill(lab, queue, 13)
    handler = Handler()
    consumer = lab.consumer(queue, handler, max_running=13, receive_linger_s=0.02)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.started) == 10)
        assert queue.asked == [10]
        await lab.until(lambda: len(handler.started) == 13, step_s=0.01)
        assert queue.asked == [10, 3]
        handler.gate.set()


async def test_a_slot_is_filled_as_soon_as_it_is_released(lab, queue):
    """After `release_slot` the next message starts while the first is still held; it works only once."""
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
        assert len(started) == 3, "max_held also counts messages without a slot"
        gate.set()
        await lab.until(lambda: len(started) == 4, step_s=0.1)


async def test_releasing_a_slot_twice_frees_one_slot(lab, queue):
    """A handler that releases its slot several times, and then returns, frees one slot."""
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
    """Messages acknowledged within the linger are deleted in one call."""
    await fill(lab, queue, 5)

    async def handle(delivery):
        await lab.clock.sleep(0.01 * (1 + int(delivery.message.body)))

    async with lab.consuming(lab.consumer(queue, handle, delete_linger_s=0.5)):
        await lab.until(lambda: queue.deleted != [], step_s=0.01)
    assert queue.deleted == [5]


class FakeCapacity:
    """Capacity of the handlers: `free` slots, set by the test."""

    def __init__(self, free):
        self.free = free
        self.notify = None

    def free_slots(self, most):
        """Set by the test."""
        return min(self.free, most)

    def subscribe(self, listener):
        """Keep the listener."""
        self.notify = listener

    def close(self):
        """No delivery waits here."""


async def test_without_capacity_nothing_is_received_except_probes(lab, queue):
    """Only messages that have capacity are received; without any the queue is probed after `probe_s`."""
    await fill(lab, queue, 60)
    capacity, handler = FakeCapacity(5), Handler()

    async def handle(delivery):
        capacity.free = 0
        delivery.release_slot()
        await handler(delivery)

    consumer = lab.consumer(queue, handle, max_running=30, probe_s=4.0, capacity=capacity)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.started) == 5, step_s=0.1)
        await lab.pass_time(3.5)
        assert queue.asked == [5]
        await lab.until(lambda: len(handler.started) == 60, step_s=0.1)
        assert queue.asked[:7] == [5, 10, 10, 10, 10, 10, 10]
        capacity.free = 7
        capacity.notify()
        await lab.until(lambda: queue.asked[-1] == 7, step_s=0.5)
        handler.gate.set()


async def test_capacity_is_shared_with_deliveries_that_hold_a_slot(lab, queue):
    """A delivery uses up capacity until `release_slot`, when its target begins to count it."""
    await fill(lab, queue, 20)
    arrived, handler = asyncio.Event(), Handler()

    async def handle(delivery):
        await arrived.wait()
        delivery.release_slot()
        await handler(delivery)

    consumer = lab.consumer(queue, handle, max_running=30, probe_s=3600.0, capacity=FakeCapacity(10))
    async with lab.consuming(consumer):
        await lab.until(lambda: queue.asked == [10])
        await lab.pass_time(5)
        assert queue.asked == [10]
        arrived.set()
        await lab.until(lambda: queue.asked[:2] == [10, 10])
        handler.gate.set()


async def test_the_wait_in_the_queue_is_measured_at_the_first_delivery(lab, queue):
    """`queue_wait_ms` is the time between sending and the first delivery."""
    await fill(lab, queue, 1)
    await lab.pass_time(3)
    async with lab.consuming(lab.consumer(queue, Handler(is_open=True))):
        await lab.until(lambda: queue.deleted != [])
    assert lab.metrics._timings["queue_wait_ms"].values == [3000]


# -- ends of handlers ------------------------------------------------------------------------------------


async def test_after_a_retryable_error_the_message_is_redelivered_with_a_back_off(lab, queue):
    """The message is released for 2 s at first, 4 s the next time; its lease ends at once."""
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


async def test_retry_after_decides_the_back_off(lab, queue):
    """`retry_after_s` replaces the back-off, up to 30 s."""
    await fill(lab, queue, 1)
    handler = Handler(is_open=True, error=RetryableError("later", retry_after_s=7))
    async with lab.consuming(lab.consumer(queue, handler)):
        await lab.until(lambda: queue.extended == [(1, 7)])
        handler.error = RetryableError("much later", retry_after_s=3600)
        await lab.until(lambda: (1, 30.0) in queue.extended, step_s=0.5)


async def test_a_poison_message_is_logged_and_goes_to_the_dead_letters(lab, queue):
    """It is redelivered until the queue moves it to the dead letters, while other messages are handled."""
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


async def test_a_poison_message_does_not_pause_the_consumer(lab, queue):
    """A malformed message says nothing about other messages: receiving goes on at once."""
    await lab.send(queue, "poison")
    handler = Handler(is_open=True, error=PoisonMessageError("?"))
    consumer = lab.consumer(queue, handler)
    async with lab.consuming(consumer):
        await lab.until(lambda: queue.extended == [(1, 1.0)])
        assert consumer.problem == ""
        await lab.until(lambda: queue.polls == 1)


async def test_a_lost_lease_is_forgotten(lab, queue):
    """Another consumer has the message: it is neither deleted nor released, and its slot is free again."""
    await fill(lab, queue, 2)
    handler = Handler(is_open=True, error=LeaseLostError("gone"))
    async with lab.consuming(lab.consumer(queue, handler, max_running=1, max_held=1)):
        await lab.until(lambda: len(handler.started) == 2)
        await lab.pass_time(0)
        assert queue.deleted == []
        assert queue.extended == []


async def test_a_bug_costs_only_its_own_message(lab, queue):
    """Any other exception is logged with its traceback and its message released; others are handled."""
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
async def test_failing_handlers_pause_the_receiving(lab, queue, error):
    """After an error that any message would meet the consumer pauses; `problem` has the reason."""
    await fill(lab, queue, 3)
    handler = Handler(is_open=True, error=error)
    consumer = lab.consumer(queue, handler, max_running=1)
    async with lab.consuming(consumer):
        await lab.until(lambda: queue.extended != [])
        assert consumer.problem == str(error)
        asked = len(queue.asked)
        await lab.pass_time(0.4)
        assert len(queue.asked) == asked
        handler.error = None
        await lab.until(lambda: len(handler.finished) == 2, step_s=0.1)
        assert consumer.problem == ""


async def test_an_empty_queue_does_not_end_the_problem_of_a_handler(lab, queue):
    """Successful receives do not show that handling works: the problem stays until a message is handled."""
    consumer = lab.consumer(queue, Handler(is_open=True, error=AccessError("denied")))
    await fill(lab, queue, 1)
    async with lab.consuming(consumer):
        await lab.until(lambda: consumer.problem == "denied")
        assert consumer.last_success is not None
        consumer._receive_backoff.succeeded()
        assert consumer.problem == "denied"


async def test_a_receive_that_hangs_is_a_problem(lab, queue):
    """Its own time-out should end it. A consumer that is full receives nothing, which is no problem."""
    queue.hold = asyncio.Event()
    consumer = lab.consumer(queue, Handler(), poll_wait_s=20)
    async with lab.consuming(consumer):
        await lab.until(lambda: queue.polls == 1)
        await lab.pass_time(70)
        assert consumer.problem == ""
        await lab.pass_time(20)
        assert consumer.problem == "a receive from q has not ended for 90 s"
        queue.hold.set()
        await lab.until(lambda: consumer.problem == "", step_s=1)


async def test_a_full_consumer_is_no_problem_however_long(lab, queue):
    """All slots are taken by a slow agent for an hour."""
    await fill(lab, queue, 3)
    handler = Handler()
    consumer = lab.consumer(queue, handler, max_running=1)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.started) == 1)
        await lab.pass_time(3_600)
        assert consumer.problem == ""
        handler.gate.set()


async def test_pauses_between_deliveries_reach_minutes_if_they_are_set_so(lab):
    """Five deliveries of a job last longer than an outage of some minutes."""
    queue, handler = lab.queue("ingest"), Handler(is_open=True, error=UnreachableError("no route"))
    await lab.send(queue, "job")
    consumer = lab.consumer(queue, handler, release_growth=4.0, longest_release_s=300.0)
    at = []
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            while len(handler.started) < 5:
                await lab.until(lambda: len(handler.started) > len(at), step_s=1)
                at.append(lab.clock.monotonic())
    waits = [line["again_in_s"] for line in logs if line["event"] == "message_given_back"]
    assert waits[:4] == [4, 16, 64, 256]
    assert at[4] >= 4 + 16 + 64 + 256


async def test_a_conflict_delays_no_message_for_minutes(lab):
    """Two writes have met, however often the message was delivered before."""
    queue, handler = lab.queue("ingest"), Handler(is_open=True, error=ConflictError("at the same moment"))
    await lab.send(queue, "job")
    consumer = lab.consumer(queue, handler, release_growth=4.0, longest_release_s=300.0)
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            await lab.until(lambda: len(handler.started) == 4, step_s=1)
    assert {line["again_in_s"] for line in logs if line["event"] == "message_given_back"} == {CONFLICT_S}


# -- failing calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AccessError("no sqs:ReceiveMessage"), UnreachableError("no route")])
async def test_failing_receives_back_off_and_recover(lab, queue, error):
    """A failed receive is repeated after 0.5 s, not at once; its recovery is logged."""
    queue.fail["receive"] = error
    consumer = lab.consumer(queue, Handler(is_open=True), poll_wait_s=0.01)
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            await lab.until(lambda: consumer.problem == str(error))
            assert consumer.last_success is None
            del queue.fail["receive"]
            await lab.pass_time(0.4)
            assert len(queue.asked) == 1
            await lab.until(lambda: consumer.problem == "", step_s=0.1)
            assert consumer.last_success is not None
    assert [line["event"] for line in logs] == ["queue_trouble", "queue_recovered"]


async def test_a_failing_queue_does_not_delay_the_stop(lab, queue):
    """Stopping does not wait for the back-off to end."""
    queue.fail["receive"] = UnreachableError("no route")
    consumer, stop = lab.consumer(queue, Handler()), asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await lab.until(lambda: consumer.problem != "")
    stop.set()
    await running
    assert lab.clock.monotonic() == 0


# -- leases --------------------------------------------------------------------------------------------


async def test_a_long_row_stays_invisible_beyond_its_visibility(lab, queue):
    """Leases of held messages are renewed, however long an agent takes."""
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


async def test_a_failed_renewal_is_repeated_in_time(lab, queue):
    """A lease survives several failed renewals, because each takes place early enough."""
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


async def test_a_released_message_is_not_hidden_again_by_a_renewal(lab, queue):
    """The release waits for the renewal's call: a renewal that arrived later would hide the message again."""
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
    """Once a renewal was refused, `check_lease` raises, and the lease is not renewed any more."""
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


async def test_a_deleted_message_is_not_renewed(lab, queue):
    """Renewals end with the message."""
    await fill(lab, queue, 1)
    async with lab.consuming(lab.consumer(queue, Handler(is_open=True))):
        await lab.until(lambda: queue.deleted == [1])
        await lab.pass_time(300)
    assert queue.extended == []


@pytest.mark.parametrize("error", [UnreachableError("no route"), AccessError("denied")])
async def test_a_failed_delete_is_harmless(lab, queue, error):
    """There is one attempt: the message is redelivered, and receiving goes on."""
    await fill(lab, queue, 12)
    queue.fail["delete"] = error
    handler = Handler(is_open=True)
    async with lab.consuming(lab.consumer(queue, handler, max_held=6, max_running=6)):
        await lab.until(lambda: len(handler.finished) == 12, step_s=0.01)
        del queue.fail["delete"]
        await lab.until(lambda: len(handler.finished) == 24, step_s=1)
    assert await queue.depth() == 0


async def test_a_message_that_cannot_be_released_is_redelivered_later(lab, queue):
    """If the release fails, the visibility time-out redelivers the message; it is not held meanwhile."""
    await fill(lab, queue, 1)
    queue.fail["extend"] = UnreachableError("no route")
    handler = Handler(is_open=True, error=RetryableError("later"))
    async with lab.consuming(lab.consumer(queue, handler, visibility_s=60)):
        await lab.until(lambda: queue.extended != [])
        handler.error = None
        await lab.until(lambda: len(handler.started) == 2, step_s=1)
        assert lab.clock.monotonic() >= 59


# -- stopping --------------------------------------------------------------------------------------------


async def test_a_poll_in_flight_is_awaited_and_its_messages_released(lab, queue):
    """A cancelled poll would hide the messages that it was about to deliver for a visibility time-out."""
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


async def test_stopping_finishes_held_messages(lab, queue):
    """After the stop no delivery starts; running ones end, and their messages are deleted."""
    await fill(lab, queue, 20)
    handler = Handler()
    consumer = lab.consumer(queue, handler, max_running=10, delete_linger_s=0.5)
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await lab.until(lambda: len(handler.started) == 10)
    stop.set()
    await lab.pass_time(300)
    assert not running.done(), "leases are renewed while it drains"
    handler.gate.set()
    await lab.until(running.done, step_s=0.1)
    await running
    assert len(handler.finished) == 10
    assert sum(queue.deleted) == 10
    assert await queue.depth() == 10


async def test_a_handler_can_see_that_the_process_stops(lab, queue):
    """From the stop on, and not before: what may wait for hours ends then."""
    await fill(lab, queue, 1)
    handler = Handler()
    async with lab.consuming(lab.consumer(queue, handler)) as stop:
        await lab.until(lambda: len(handler.started) == 1)
        (delivery,) = handler.started
        assert not delivery.is_draining
        stop.set()
        await lab.pass_time(0)
        assert delivery.is_draining
        handler.gate.set()


async def test_deliveries_that_do_not_end_in_time_are_released(lab, queue):
    """After `drain_s` the rest is cancelled, its messages are visible at once, and the consumer ends."""
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
    """Without held messages only the poll in flight is awaited."""
    async with lab.consuming(lab.consumer(queue, Handler())):
        await lab.until(lambda: queue.polls == 1)
    assert lab.clock.monotonic() <= 2


async def test_errors_while_draining_release_their_messages(lab, queue):
    """Errors during the drain have the same effect as before it and do not delay the end."""
    await fill(lab, queue, 2)
    handler = Handler(error=RetryableError("later"))
    consumer = lab.consumer(queue, handler)
    async with lab.consuming(consumer) as stop:
        await lab.until(lambda: len(handler.started) == 2)
        stop.set()
        handler.gate.set()
    assert queue.extended == [(1, 2.0), (1, 2.0)]
    assert await queue.depth() == 2


async def test_work_that_can_resume_is_stopped_at_once(lab, queue):
    """Handlers are cancelled, and their messages visible to others, long before the end of the drain."""
    await fill(lab, queue, 12)
    handler = Handler()
    consumer = lab.consumer(queue, handler, can_resume=True, drain_s=3600, visibility_s=3600)
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            await lab.until(lambda: len(handler.started) == 12)
    assert lab.clock.monotonic() < 5
    assert handler.cancelled == 12
    assert len(await queue.receive(10, wait_s=0, visibility_s=60)) == 10
    assert [line["given_back"] for line in logs if line["event"] == "handlers_stopped"] == [12]


async def test_work_that_has_ended_before_the_stop_is_not_released(lab, queue):
    """Its message is deleted, although its delete was still waiting for others."""
    await fill(lab, queue, 1)
    handler = Handler(is_open=True)
    consumer = lab.consumer(queue, handler, can_resume=True, delete_linger_s=1.0)
    async with lab.consuming(consumer):
        await lab.until(lambda: handler.finished == ["0"])
    assert queue.deleted == [1]
    assert await queue.depth() == 0


@pytest.mark.parametrize("error", [asyncio.CancelledError(), asyncio.CancelledError("by a library")])
async def test_a_handler_that_cancels_itself_has_crashed(lab, queue, error):
    """Its message is released at once, and the consumer goes on."""
    await fill(lab, queue, 1)
    handler = Handler(is_open=True, error=error)
    consumer = lab.consumer(queue, handler, visibility_s=3600)
    with capture_logs() as logs:
        async with lab.consuming(consumer):
            await lab.until(lambda: queue.extended != [])
            assert consumer.held == 0
            handler.error = None
            await lab.until(lambda: handler.finished == ["0"], step_s=1.0)
    assert queue.extended[0] == (1, 2.0)
    assert [line["event"] for line in logs].count("handler_crashed") == 1
    assert lab.metrics.totals["handler_crashes"] == 1
