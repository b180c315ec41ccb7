"""The renewal of leases."""

import asyncio

from service.adapters.memory import MemoryClock, MemoryQueue
from service.domain.ports import OutgoingMessage
from service.runtime.leases import Leases
from service.runtime.metrics import Metrics


class SlowDeletes(MemoryQueue):
    """A queue that deletes at once and responds when `respond` is set."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__("rows", clock)
        self.respond = asyncio.Event()

    async def delete(self, receipts):
        """Delete, and respond later."""
        refused = await super().delete(receipts)
        await self.respond.wait()
        return refused


async def test_a_renewal_during_a_deletion_is_no_lost_lease():
    """SQS refuses to renew a deleted message before the deletion's response is here; no lease is lost."""
    clock, metrics = MemoryClock(), Metrics()
    queue = SlowDeletes(clock)
    leases = Leases(queue, clock, metrics, lambda: None, visibility_s=60.0, delete_linger_s=0.0)
    await queue.send([OutgoingMessage("{}")])
    (message,) = await queue.receive(1, wait_s=0, visibility_s=60.0)
    lease = leases.hold(message)
    async with asyncio.TaskGroup() as group:
        helpers = [group.create_task(leases.keep_renewing()), group.create_task(leases.keep_deleting())]
        leases.acknowledge(lease)
        await clock.advance(10.0)

        assert await queue.depth() == 0
        assert not lease.is_lost
        assert metrics.totals["leases_lost"] == 0

        queue.respond.set()
        await clock.advance(1.0)
        for helper in helpers:
            helper.cancel()
    assert len(leases) == 0


class CountingQueue(MemoryQueue):
    """A queue that notes when leases are renewed."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__("rows", clock)
        self.renewed_at: list[float] = []

    async def extend(self, receipts, visibility_s):
        """Renew, and note it."""
        self.renewed_at.append(self._clock.monotonic())
        return await super().extend(receipts, visibility_s)


async def test_leases_are_renewed_after_a_sixth_of_their_time_and_not_without_any():
    """Nothing wakes a process that holds no message; one that it holds later is renewed in time."""
    clock = MemoryClock()
    queue = CountingQueue(clock)
    leases = Leases(queue, clock, Metrics(), lambda: None, visibility_s=60.0, delete_linger_s=0.0)
    async with asyncio.TaskGroup() as group:
        helper = group.create_task(leases.keep_renewing())
        await clock.advance(1_000.0)
        assert not clock._sleepers

        for begins in (1_000.0, 2_000.0):
            await queue.send([OutgoingMessage("{}")])
            (message,) = await queue.receive(1, wait_s=0, visibility_s=60.0)
            lease = leases.hold(message)
            await clock.advance(25.0)
            assert queue.renewed_at == [begins + 10.0, begins + 20.0]

            queue.renewed_at.clear()
            leases.forget(lease)
            await clock.advance(975.0)
            assert queue.renewed_at == []
        helper.cancel()
