"""Roles that are told to stop in the middle of their work: another process goes on at once."""

import asyncio

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryUpload
from service.domain.model import State


class HeldQueue(MemoryQueue):
    """Sends only the first ten calls of messages until it is `open`."""

    def __init__(self, lab) -> None:
        super().__init__("rows", lab.clock)
        self.open = asyncio.Event()
        self.calls = 0

    async def send(self, messages):
        """Send, or wait."""
        self.calls += 1
        if self.calls > 10:
            await self.open.wait()
        return await super().send(messages)


class HeldObjects(MemoryObjects):
    """Completes no upload until it is `open`."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.is_reached = False

    def upload(self, bucket, key, *, content_type, progress=None):
        """An upload whose end waits."""
        return HeldUpload(self, bucket, key, content_type, progress)


class HeldUpload(MemoryUpload):
    """Is completed once its bucket is `open`."""

    async def complete(self):
        """Complete, or wait."""
        self._objects.is_reached = True
        await self._objects.open.wait()
        return await super().complete()


async def test_a_split_is_resumed_at_once(lab):
    """Its job is visible to the next splitter, which goes on at the checkpoint."""
    lab.rows = HeldQueue(lab)
    await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 301)))
    await lab.send(lab.ingest, lab.job())
    limits = {"can_resume": True, "drain_s": 3600.0, "visibility_s": 3600.0}
    async with lab.consuming(lab.consumer(lab.ingest, lab.splitter().handle, **limits)):
        await lab.until(lambda: lab.rows.calls > 10)
    assert lab.clock.monotonic() < 5
    split = (await lab.view()).batch
    assert (split.state, split.checkpoint.rows > 0) == (State.SPLITTING, True)

    lab.rows.open.set()
    async with lab.consuming(lab.consumer(lab.ingest, lab.splitter().handle, **limits)):
        await lab.until(lambda: not lab.ingest._entries, step_s=0.1)
    assert lab.clock.monotonic() < 10
    batch = (await lab.view()).batch
    assert (batch.state, batch.total) == (State.RUNNING, 300)
    rows = await lab.sent_rows()
    assert {row.number for row in rows} == set(range(1, 301))
    assert all(row.replay for row in rows if split.checkpoint.rows < row.number <= 100)


async def test_an_aggregation_is_resumed_at_once(lab):
    """It releases its lease, and leaves no upload behind; the next aggregator writes the results."""
    lab.objects = HeldObjects()
    batch = await lab.batch(2)
    async with lab.committer() as committer:
        for number in (1, 2):
            await committer.commit(batch, number, lab.outcome(number))
    limits = {"can_resume": True, "drain_s": 3600.0, "visibility_s": 3600.0}
    async with lab.consuming(lab.consumer(lab.aggregate, lab.aggregator().handle, **limits)):
        await lab.until(lambda: lab.objects.is_reached)
    assert lab.clock.monotonic() < 5
    assert lab.objects.unfinished == []

    lab.objects.open.set()
    async with lab.consuming(lab.consumer(lab.aggregate, lab.aggregator().handle, **limits)):
        await lab.until(lambda: not lab.aggregate._entries, step_s=0.1)
    assert lab.clock.monotonic() < 10
    assert (await lab.view()).batch.state is State.SUCCEEDED
