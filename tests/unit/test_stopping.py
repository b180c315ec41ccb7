"""Roles that are told to stop in the middle of their work: another process goes on at once."""

import asyncio

from service.adapters.memory import MemoryQueue
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
