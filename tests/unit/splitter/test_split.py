"""One splitter at a time works on a batch, under its lease."""

import asyncio
import json
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.batch.row_checks import REPEAT_DELAY_S
from service.domain.errors import LeaseLostError, UnknownResultError, UnreachableError
from service.domain.messages import RowMessage
from service.domain.model import State
from service.domain.ports import LeaseGrant
from tests.unit.splitter.splitting import FailingQueue, batch_of, postponed, s3_event, split, table_of


class WatchedTable(MemoryTable):
    """Runs `before_lease` and `after_lease` once; refuses a lease if `refused`.

    Records releases and owners of leases.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before_lease = None
        self.after_lease = None
        self.refused = False
        self.releases = []
        self.owners = []

    async def lease(self, batch_id, **asked):
        """Lease."""
        self.owners.append(asked["owner"])
        if self.before_lease:
            action, self.before_lease = self.before_lease, None
            await action()
        if self.refused:
            self.refused = False
            return LeaseGrant(is_ours=False, until_ms=asked["until_ms"])
        grant = await super().lease(batch_id, **asked)
        if self.after_lease:
            action, self.after_lease = self.after_lease, None
            await action()
        return grant

    async def release(self, batch_id, *, owner):
        """Release."""
        self.releases.append(owner)
        return await super().release(batch_id, owner=owner)


@pytest.fixture
def lab(make_lab):
    return make_lab(table=WatchedTable())


async def lease_to(lab, owner, *, seconds):
    """Take the lease of the batch for another splitter."""
    now_ms = lab.clock.now_ms()
    return await lab.table.lease(
        await batch_of(lab),
        state=State.SPLITTING,
        owner=owner,
        now_ms=now_ms,
        until_ms=now_ms + round(seconds * 1000),
    )


class GatedQueue(MemoryQueue):
    """A queue that waits in the first call after `gate_at` rows, until `go_on` is set."""

    gate_at = 0

    def __init__(self, *args, **named) -> None:
        super().__init__(*args, **named)
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()
        self.sent = 0

    async def send(self, messages):
        """Send, once the gate is open."""
        if self.sent >= self.gate_at and not self.go_on.is_set():
            self.waiting.set()
            await self.go_on.wait()
        self.sent += len(messages)
        return await super().send(messages)


async def stopped_after(lab, rows, **limits):
    """A split that waits in the next call after it has sent so many rows."""
    lab.rows = GatedQueue("rows", lab.clock)
    lab.rows.gate_at = rows
    task = asyncio.create_task(split(lab, lab.job(), **{"send_concurrency": 1} | limits))
    await lab.rows.waiting.wait()
    return task


async def test_the_same_job_twice_sends_every_row_once(lab):
    """Of several deliveries at once one splits; for the others jobs are sent for the end of its lease."""
    await lab.put(table_of(95))
    await asyncio.gather(*(split(lab, lab.job(), receives=n, lease_s=40.0) for n in (1, 2, 3)))
    assert postponed(lab) == [41, 41]
    rows = await lab.sent_rows()
    assert [row.number for row in rows] == list(range(1, 96))
    assert not any(row.replay for row in rows)
    assert (await batch_of(lab)).total == 95


async def test_the_same_job_after_the_split_sends_nothing(lab):
    """A job message for a sealed batch is done at once."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    await lab.sent_rows()
    await split(lab, lab.job())
    assert await lab.sent_rows() == []


async def test_other_jobs_of_a_message_do_not_wait_for_a_lease(lab):
    """A job whose batch is leased does not keep the others of its message."""
    for name in ("a", "b"):
        await lab.put(table_of(5), key=f"incoming/demo/{name}.csv")
    body = json.dumps(
        {"Records": [json.loads(s3_event(f"incoming/demo/{name}.csv"))["Records"][0] for name in "ab"]}
    )
    lab.table.refused = True
    await split(lab, body)
    assert len(postponed(lab)) == 1
    assert sorted(batch.state for batch in await lab.table.recent(10)) == [State.RUNNING, State.SPLITTING]


async def test_a_splitter_reads_the_checkpoint_after_it_has_the_lease(lab):
    """The former holder checkpoints until the lease is taken: what was read before may be out of date."""
    await lab.put(table_of(35))
    lab.rows = FailingQueue("rows", lab.clock)

    async def split_by_another():
        lab.rows.left = 25
        with pytest.raises(UnreachableError):
            await split(lab, lab.job(), send_concurrency=1)
        lab.rows.left = 10**9

    lab.table.before_lease = split_by_another
    await split(lab, lab.job())
    rows = [(row.number, row.replay) for row in await lab.sent_rows()]
    assert sorted(rows) == [
        *((n, False) for n in range(1, 21)),
        *((n, True) for n in range(21, 31)),
        *((n, False) for n in range(31, 36)),
    ]


async def test_a_splitter_whose_lease_another_takes_at_once_sends_nothing(lab):
    """A clock that is ahead ends a lease early; its new holder sends rows unmarked, as none was sent yet."""
    await lab.put(table_of(25))

    async def split_by_another():
        lab.clock.now_ms, now_ms = (lambda: now_ms() + 200_000), lab.clock.now_ms
        lab.rows = FailingQueue("rows", lab.clock)
        lab.rows.left = 10
        with pytest.raises(UnreachableError):
            await split(lab, lab.job(), send_concurrency=1)
        lab.rows.left = 10**9
        lab.clock.now_ms = now_ms
        (batch,) = lab.table._batches.values()
        lab.table._batches[batch.batch_id] = replace(
            batch, lease_owner="other", lease_until_ms=now_ms() + 5_000
        )

    lab.table.after_lease = split_by_another
    await split(lab, lab.job())
    assert [row.number for row in await lab.sent_rows()] == list(range(1, 11))
    assert postponed(lab) == [6]


async def test_rows_name_their_sender_and_repeats_are_delayed(lab):
    """A successor's repeats are delivered only when no worker trusts a view of before any more."""
    await lab.put(table_of(25))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 10
    with pytest.raises(UnreachableError):
        await split(lab, lab.job(), send_concurrency=1)
    first = await lab.sent_rows()
    lab.rows.left = 10**9
    await split(lab, lab.job(), receives=2)
    batch = await batch_of(lab)
    assert {row.sender for row in first} == {lab.table.owners[0]}
    assert batch.sender == lab.table.owners[1]
    at_once = [RowMessage.decode(body) for body in await lab.waiting(lab.rows)]
    assert [(row.number, row.sender) for row in at_once] == [(n, batch.sender) for n in range(21, 26)]
    await lab.clock.advance(14.9)
    assert await lab.waiting(lab.rows) == []
    await lab.clock.advance(0.1)
    later = [RowMessage.decode(body) for body in await lab.waiting(lab.rows)]
    assert [(row.number, row.replay, row.sender) for row in later] == [(n, True, "") for n in range(11, 21)]


async def test_a_late_message_of_a_former_splitter_is_not_paid_for_again(lab):
    """A splitter that wakes up sends the rest of its window; its successor's rows are committed by then."""
    await lab.put(table_of(15))
    task = await stopped_after(lab, 0, lease_s=30.0)
    lab.table.lease, real = _out_of_reach, lab.table.lease
    await lab.clock.advance(31)
    lab.table.lease = real
    paused, lab.rows = lab.rows, MemoryQueue("rows", lab.clock)
    await split(lab, lab.job(), receives=2, lease_s=30.0)
    rows = [row.encode() for row in await lab.sent_rows()]
    async with lab.working() as worker:
        for body in rows:
            await worker.handle(lab.delivery(body))
        calls = len(lab.agent.calls)
        lab.rows = paused
        paused.go_on.set()
        await task
        late = [row.encode() for row in await lab.sent_rows()]
        assert len(late) == 10
        for body in late:
            await worker.handle(lab.delivery(body))
    assert calls == 15
    assert len(lab.agent.calls) == 15


async def test_a_lease_is_renewed_while_a_call_takes_long(lab):
    """The lease is renewed for as long as the split takes; others find it held."""
    await lab.put(table_of(15))
    task = await stopped_after(lab, 10, lease_s=30.0)
    for _ in range(20):
        await lab.clock.advance(10)
        await split(lab, lab.job(), receives=2)
    assert len(postponed(lab)) == 20
    lab.rows.go_on.set()
    await task
    assert (await batch_of(lab)).total == 15
    assert [row.replay for row in await lab.sent_rows()] == [False] * 15


async def test_a_lease_is_renewed_while_a_batch_waits_for_its_rows(lab):
    """Backpressure keeps the lease: no other splitter goes on in between."""
    await lab.put(table_of(25))
    task = asyncio.create_task(split(lab, lab.job(), max_queued_rows=10, lease_s=30.0))
    for _ in range(20):
        await lab.clock.advance(10)
        await split(lab, lab.job(), receives=2)
    assert len(postponed(lab)) == 20
    assert len(await lab.waiting(lab.rows)) == 10
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await batch_of(lab)).lease_owner == ""


@pytest.mark.parametrize("survived", [0, 1, 2, 5, 9])
async def test_a_window_that_ended_by_its_bytes_is_resumed(lab, survived):
    """The checkpoint is exact, and every row that may have been sent is marked: no window has more rows."""
    text = "id,name\n" + "".join(f"{n},{'x' * (70 if n % 3 else 400)}\n" for n in range(1, 13))
    await lab.put(text)
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = survived
    limits = {"send_concurrency": 1, "checkpoint_bytes": 160, "checkpoint_rows": 4}
    with pytest.raises(UnreachableError):
        await split(lab, lab.job(), **limits)
    checkpoint = (await batch_of(lab)).checkpoint
    first = await lab.sent_rows()
    lab.rows.left = 10**9
    await split(lab, lab.job(), receives=2, **limits)
    again = await lab.sent_rows()
    assert [row.number for row in again] == list(range(checkpoint.rows + 1, 13))
    assert {row.number for row in first} | {row.number for row in again} == set(range(1, 13))
    assert [row.replay for row in again] == [row.number <= checkpoint.rows + 4 for row in again]
    assert checkpoint.rows in {0, 2, 3, 5, 6, 8, 9, 11}
    assert (await batch_of(lab)).total == 12


async def test_large_records_are_not_collected_beyond_a_window(lab):
    """With records of 300 KB, no more than `checkpoint_bytes` and a read are held before they are sent."""
    await lab.put("id,name\n" + "".join(f"{n},{'x' * 300_000}\n" for n in range(1, 41)))
    read = []

    class Watched(MemoryObjects):
        async def read(self, source, start, length):
            read.append(min(length, source.size - start))
            return await super().read(source, start, length)

    class Counted(MemoryQueue):
        sent = most = 0

        async def send(self, messages):
            self.most = max(self.most, sum(read) - self.sent * 300_000)
            self.sent += len(messages)
            return await super().send(messages)

    stored, lab.objects = lab.objects.stored, Watched()
    lab.objects.stored = stored
    lab.rows = Counted("rows", lab.clock)
    await split(lab, lab.job(), read_bytes=2**20, checkpoint_bytes=2**20, checkpoint_rows=2_000)
    assert lab.rows.sent == 40
    assert lab.rows.most <= 3 * 2**20


async def test_the_seal_gives_the_lease_up(lab):
    """The batch is RUNNING without a lease by one write."""
    await lab.put(table_of(5))
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.lease_owner, batch.lease_until_ms) == (State.RUNNING, "", 0)
    assert lab.table.releases == []


async def test_a_split_that_fails_gives_its_lease_up(lab):
    """The next delivery does not have to wait for a lease that nobody uses."""
    await lab.put(table_of(25))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 5
    with pytest.raises(UnreachableError):
        await split(lab, lab.job(), send_concurrency=1)
    assert (await batch_of(lab)).lease_owner == ""


async def test_a_splitter_that_was_overtaken_gives_up(lab):
    """A splitter that stalled beyond its lease writes no checkpoint: the batch is another's."""
    await lab.put(table_of(35))
    task = await stopped_after(lab, 10, lease_s=30.0)
    stored = lab.table._batches["demo#e1"]
    await lab.table.release("demo#e1", owner=stored.lease_owner)
    assert (await lease_to(lab, "other", seconds=1_000)).is_ours
    lab.rows.go_on.set()
    with pytest.raises(LeaseLostError, match="another splitter"):
        await task
    batch = await batch_of(lab)
    assert (batch.checkpoint.rows, batch.lease_owner) == (10, "other")


async def test_a_splitter_without_its_lease_sends_nothing_more(lab):
    """The lease is checked before every call, not once a window."""
    await lab.put(table_of(35))
    task = await stopped_after(lab, 10, lease_s=30.0, checkpoint_rows=35)
    lab.table.lease = _out_of_reach
    await lab.clock.advance(31)
    lab.rows.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    # The call that was under way, and none after it.
    assert len(await lab.sent_rows()) == 20


async def _out_of_reach(*_, **__):
    raise UnreachableError("no route")


async def test_a_source_without_a_table_does_not_fail_a_batch_of_another_splitter(lab):
    """An error that is found after the lease was lost ends the splitter, not the batch."""
    await lab.put(table_of(5_000) + '5001,"open')
    task = await stopped_after(lab, 0, lease_s=30.0)
    lab.table.lease = _out_of_reach
    await lab.clock.advance(31)
    lab.rows.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    assert (await batch_of(lab)).state is State.SPLITTING


async def test_every_split_has_an_owner_of_its_own(lab):
    """Two deliveries in one process are two holders."""
    await lab.put(table_of(15))
    splitter = lab.splitter()
    await asyncio.gather(*(splitter.handle(lab.delivery(lab.job())) for _ in range(2)))
    assert len(postponed(lab)) == 1
    assert len(set(lab.table.owners)) == 2


class MuteQueue(MemoryQueue):
    """Does not answer the calls with these numbers; those in `accepted` are carried out nevertheless."""

    def __init__(self, clock, mute, accepted=()) -> None:
        super().__init__("rows", clock)
        self.mute, self.accepted = set(mute), set(accepted)
        self.calls = 0
        self.on_call = None

    async def send(self, messages):
        """Send, perhaps without an answer."""
        self.calls += 1
        call = self.calls
        if self.on_call is not None:
            await self.on_call(messages)
        if call not in self.mute or call in self.accepted:
            await super().send(messages)
        if call in self.mute:
            raise UnknownResultError("no answer")
        return ()


async def test_rows_of_a_call_without_an_answer_are_sent_again_by_another_sender(lab):
    """The first ones are known by their sender, the others by their mark, and neither is paid for twice."""
    await lab.put(table_of(25))
    lab.rows = MuteQueue(lab.clock, mute={2}, accepted={2})
    senders = []

    async def note(messages):
        senders.append((await batch_of(lab)).sender)

    lab.rows.on_call = note
    await split(lab, lab.job(), send_concurrency=1)
    rows = await lab.sent_rows()
    twice = [row for row in rows if 11 <= row.number <= 20]
    first = [row for row in twice if not row.replay]
    assert [row.number for row in first] == list(range(11, 21))
    assert [row.number for row in twice if row.replay] == list(range(11, 21))
    before, after = senders[0], senders[2]
    assert {row.sender for row in first} == {before}
    # Stored before the rows were sent again; rows that follow are plain ones of the new sender.
    assert senders == [before, before, after, after]
    assert {row.sender for row in rows if row.number > 20} == {after}
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.sender) == (State.RUNNING, 25, after)
    async with lab.working() as worker:
        for row in (*twice, *twice):
            await worker.handle(lab.delivery(row.encode()))
    assert len(lab.agent.calls) == 10


async def test_rows_that_are_sent_again_arrive_when_no_worker_trusts_the_former_sender(lab):
    """Their delay is longer than the age of a view by which a worker decides."""
    await lab.put(table_of(5))
    lab.rows = MuteQueue(lab.clock, mute={1})
    await split(lab, lab.job())
    assert {entry.outgoing.delay_s for entry in lab.rows._entries.values()} == {REPEAT_DELAY_S}


async def test_several_calls_without_an_answer_take_one_new_sender(lab):
    """What was sent under a former sender needs no other one; what was sent under the new one does."""
    await lab.put(table_of(60))
    lab.rows = MuteQueue(lab.clock, mute={1, 2, 3})
    await split(lab, lab.job(), send_concurrency=3, checkpoint_rows=60)
    assert len(set(lab.table.owners)) == 2
    lab.rows = MuteQueue(lab.clock, mute={1, 3})
    await split(lab, lab.job("e2"), send_concurrency=1)
    assert len(set(lab.table.owners)) == 5
    rows = await lab.sent_rows()
    assert [row.number for row in rows] == list(range(1, 61))
    assert [row.number for row in rows if row.replay] == list(range(1, 21))


async def test_a_split_that_cannot_become_another_sender_sends_nothing_again(lab):
    """The next splitter sends the window again, marked, under its own name."""
    await lab.put(table_of(15))
    lab.rows = MuteQueue(lab.clock, mute={1}, accepted={1})
    task = asyncio.create_task(split(lab, lab.job(), send_concurrency=1))
    lab.rows.on_call = lambda _: _taken_by_another(lab)
    with pytest.raises(LeaseLostError):
        await task
    assert lab.rows.calls == 1


async def _taken_by_another(lab):
    stored = await batch_of(lab)
    await lab.table.release("demo#e1", owner=stored.lease_owner)
    assert (await lease_to(lab, "other", seconds=1_000)).is_ours
