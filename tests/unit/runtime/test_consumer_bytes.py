"""The bound on the bytes that a consumer holds."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.domain.errors import LeaseLostError, PoisonMessageError, RetryableError

KIB = 1024


class Holding:
    """Reports `size` bytes for each delivery and waits for `gate`."""

    def __init__(self, size=0, error=None) -> None:
        self.size = size
        self.error = error
        self.held: list[object] = []
        self.gate = asyncio.Event()

    async def __call__(self, delivery):
        """Hold a message."""
        self.held.append(delivery)
        if self.size:
            delivery.report_bytes(self.size // 2)
            delivery.report_bytes(self.size)
        await self.gate.wait()
        if self.error:
            raise self.error


async def fill(lab, count, size=KIB):
    await lab.send(lab.rows, *("x" * size for _ in range(count)))


async def test_nothing_is_received_above_the_bound(lab):
    """Messages count with their length; polls in flight may exceed the bound by ten messages each."""
    await fill(lab, 100)
    handler = Holding()
    consumer = lab.consumer(lab.rows, handler, max_running=64, max_held_bytes=25 * KIB, pollers=2)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.held) >= 25)
        await lab.pass_time(5)
        assert 25 <= len(handler.held) <= 25 + 2 * 10
        handler.gate.set()
        await lab.until(lambda: len(handler.held) == 100, step_s=0.1)


async def test_bytes_reported_by_handlers_count(lab):
    """The last report of a handler replaces earlier ones."""
    await fill(lab, 100, 10)
    handler = Holding(size=10 * KIB)
    consumer = lab.consumer(lab.rows, handler, max_running=64, max_held_bytes=100 * KIB)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.held) >= 10)
        await lab.pass_time(5)
        assert 10 <= len(handler.held) <= 20
        handler.gate.set()
        await lab.until(lambda: len(handler.held) == 100, step_s=0.1)


async def test_a_smaller_report_lets_messages_in_at_once(lab):
    """No delivery has to end first."""
    await fill(lab, 30, 10)
    handler = Holding(size=10 * KIB)
    consumer = lab.consumer(lab.rows, handler, max_running=64, max_held_bytes=50 * KIB)
    async with lab.consuming(consumer):
        await lab.until(lambda: len(handler.held) >= 10)
        await lab.pass_time(5)
        assert len(handler.held) <= 20
        for delivery in handler.held:
            delivery.report_bytes(0)
        handler.size = 0
        await lab.until(lambda: len(handler.held) == 30)
        handler.gate.set()


async def test_one_message_above_the_bound_is_handled(lab):
    """A bound below the size of one message lets messages go one by one."""
    await lab.send(lab.rows, "x" * 5_000, "y" * 5_000)
    handler = Holding()
    handler.gate.set()
    async with lab.consuming(lab.consumer(lab.rows, handler, max_held_bytes=1_000)):
        await lab.until(lambda: len(handler.held) == 2, step_s=0.1)


@pytest.mark.parametrize(
    "error",
    [None, RetryableError("later"), PoisonMessageError("no"), LeaseLostError("gone"), KeyError("bug")],
)
async def test_every_end_of_a_delivery_frees_its_bytes(lab, error):
    """No bytes are held after a delivery was deleted, released, poisoned, lost or has crashed."""
    await fill(lab, 20)
    handler = Holding(size=KIB, error=error)
    handler.gate.set()
    consumer = lab.consumer(lab.rows, handler, max_held_bytes=64 * KIB)
    with capture_logs():  # a crash's traceback is long
        async with lab.consuming(consumer):
            await lab.until(lambda: len(handler.held) >= 20, step_s=0.1)
    assert consumer.held_bytes == 0
    for delivery in handler.held:
        delivery.report_bytes(99)
    assert consumer.held_bytes == 0, "reports of ended deliveries are ignored"
