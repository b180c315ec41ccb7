"""Locks and replies of `reuse`: the `RequestCoalescer` of several workers on one table."""

import asyncio
import random

import pytest

from service.adapters.memory import MemoryTable
from service.batch.reuse_records import (
    MAX_CACHED_REPLY_BYTES,
    CachedReply,
    InFlight,
    RequestKey,
    Uncacheable,
    parse_record,
)
from service.domain.errors import AnswerPendingError, UnknownResultError, UnreachableError
from service.worker.reuse import RequestCoalescer, ReuseLimits

REQUEST_KEY = RequestKey("answer#demo#e1/1#00", "demo#e1/row_0000000001", 0, 2_000_000_000)


class FaultyTable(MemoryTable):
    """Each swap raises the next error of `faults`. UnreachableError replaces the write, others follow it."""

    def __init__(self):
        super().__init__()
        self.faults = []

    async def swap(self, key, text, *, version, ttl):
        """Swap, with the next fault."""
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, UnreachableError):
            raise fault
        stored = await super().swap(key, text, version=version, ttl=ttl)
        if fault is not None:
            raise fault
        return stored


class Ask:
    """Stands for a row's call of the agent: takes `seconds`, and returns or raises its outcomes in turn."""

    def __init__(self, lab, *outcomes, seconds=1.0):
        self._lab = lab
        self._outcomes = iter(outcomes)
        self._seconds = seconds
        self.times = 0

    async def __call__(self):
        """Ask."""
        self.times += 1
        await self._lab.clock.sleep(self._seconds)
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def lab(make_lab):
    """A laboratory whose table can fail."""
    return make_lab(table=FaultyTable())


def coalescer(lab, worker="w1", **limits):
    return RequestCoalescer(
        lab.table, lab.clock, worker=worker, rng=random.Random(worker), limits=ReuseLimits(**limits)
    )


async def stored_record(lab):
    return parse_record((await lab.table.record(REQUEST_KEY.key)).text, lab.clock.now_ms())


async def results(lab, *tasks, step_s=0.25):
    await lab.until(lambda: all(task.done() for task in tasks), step_s=step_s)
    return [task.result() for task in tasks]


def start(coalescer, ask, request_key=REQUEST_KEY, patience_s=1_000.0):
    return asyncio.create_task(coalescer.get_or_ask(request_key, ask, patience_s=patience_s))


async def test_rows_of_one_process_share_one_read_and_one_call(lab):
    """The leader reads the table and asks. The others take its reply without reading the table."""
    worker, ask = coalescer(lab), Ask(lab, lab.outcome(1))
    reads = []
    record = lab.table.record

    async def read(key):
        reads.append(key)
        return await record(key)

    lab.table.record = read
    first, *others = await results(lab, *(start(worker, ask) for _ in range(50)))
    assert first == lab.outcome(1)
    assert all(isinstance(found, CachedReply) and found.values == first.output_data for found in others)
    assert (ask.times, len(reads)) == (1, 1)


async def test_processes_share_one_call(lab):
    """A worker that finds a lock polls the record until the reply is there."""
    ask = Ask(lab, lab.outcome(1), seconds=3)
    found = await results(lab, *(start(coalescer(lab, f"w{n}"), ask) for n in range(8)))
    assert ask.times == 1
    assert sum(isinstance(one, CachedReply) for one in found) == 7


async def test_a_lock_is_renewed_as_long_as_its_row_is_at_work(lab):
    """During a call of ten minutes no other row asks. The others give up waiting after a bounded time."""
    asking = start(coalescer(lab, "w1"), Ask(lab, lab.outcome(1), seconds=600))
    await lab.clock.advance(500)
    waiting = start(coalescer(lab, "w2"), Ask(lab))
    began = lab.clock.monotonic()
    await lab.until(waiting.done, step_s=0.25)
    with pytest.raises(AnswerPendingError, match="another worker"):
        waiting.result()
    assert 10 <= lab.clock.monotonic() - began < 11
    await results(lab, asking, step_s=10)
    assert isinstance(await stored_record(lab), CachedReply)


async def test_waiting_for_the_leader_is_bounded_too(lab):
    """Two bounds hold: the limit, and the time that the row has left."""
    worker = coalescer(lab)
    asking = start(worker, Ask(lab, lab.outcome(1), seconds=60))
    await lab.clock.advance(1)
    short, long = start(worker, Ask(lab), patience_s=2), start(worker, Ask(lab))
    await lab.clock.advance(5)
    assert (short.done(), long.done()) == (True, False)
    await lab.clock.advance(6)
    for waiting in (short, long):
        with pytest.raises(AnswerPendingError, match="of this worker"):
            waiting.result()
    await results(lab, asking, step_s=10)


async def test_without_renewals_a_lock_expires(lab):
    """Its process has crashed. The next row takes the lock over."""
    lock = InFlight("dead/1", REQUEST_KEY.row, lab.clock.now_ms() + 5_000)
    await lab.table.swap(REQUEST_KEY.key, lock.text, version=0, ttl=1)
    ask = Ask(lab, lab.outcome(1))
    await results(lab, start(coalescer(lab), ask))
    assert ask.times == 1
    assert isinstance(await stored_record(lab), CachedReply)


@pytest.mark.parametrize("end", ["failed", "sent again", "crashed"])
async def test_only_a_success_is_shared(lab, end):
    """After any other end the lock is released at once, and the next row asks."""
    first = {
        "failed": lab.outcome(1, failed="no"), "sent again": None, "crashed": UnreachableError("no queue"),
    }[end]  # fmt: skip
    worker, ask = coalescer(lab), Ask(lab, first, lab.outcome(1))
    one, other = start(worker, ask), start(worker, ask)
    await lab.until(lambda: one.done() and other.done(), step_s=0.5)
    assert ask.times == 2
    assert other.result() == lab.outcome(1)
    if end == "crashed":
        assert isinstance(one.exception(), UnreachableError)
    else:
        assert one.result() == first


async def test_a_cancelled_leader_releases_its_lock(lab):
    """One of the rows that wait asks next."""
    worker, ask = coalescer(lab), Ask(lab, lab.outcome(1), lab.outcome(1))
    asking = start(worker, ask)
    await lab.until(lambda: ask.times == 1)
    waiting = start(worker, ask)
    asking.cancel()
    assert (await results(lab, waiting)) == [lab.outcome(1)]


async def test_a_cancelled_waiter_does_not_disturb_others(lab):
    """The leader and the other waiting rows go on."""
    worker, ask = coalescer(lab), Ask(lab, lab.outcome(1))
    asking, leaving, staying = (start(worker, ask) for _ in range(3))
    await lab.until(lambda: ask.times == 1)
    leaving.cancel()
    first, other = await results(lab, asking, staying)
    assert first == lab.outcome(1)
    assert isinstance(other, CachedReply)


async def test_a_large_reply_is_waited_for_once(lab):
    """Its record says that it is not shared. From then on all rows ask side by side."""
    large = lab.outcome(1)
    large.output_data["answer"] = "x" * MAX_CACHED_REPLY_BYTES
    worker, ask = coalescer(lab), Ask(lab, *[large] * 10, seconds=4)
    began = lab.clock.monotonic()
    assert await results(lab, *(start(worker, ask) for _ in range(10))) == [large] * 10
    assert ask.times == 10
    assert lab.clock.monotonic() - began < 9
    assert isinstance(await stored_record(lab), Uncacheable)


# -- errors of the table -------------------------------------------------------------------------------


async def test_a_lock_whose_response_was_lost_is_recognised(lab):
    """The lock was written. The repeated write finds its own text."""
    lab.table.faults = [UnknownResultError("time-out")] * 2
    ask = Ask(lab, lab.outcome(1))
    await results(lab, start(coalescer(lab), ask))
    assert ask.times == 1
    assert isinstance(await stored_record(lab), CachedReply)


async def test_a_renewal_whose_response_was_lost_costs_nothing(lab):
    """The next write finds an unknown version that is our own lock, and goes on from there."""
    asking = start(coalescer(lab), Ask(lab, lab.outcome(1), seconds=100))
    await lab.clock.advance(1)
    lab.table.faults = [UnknownResultError("time-out")]
    await lab.clock.advance(90)
    assert isinstance(await stored_record(lab), InFlight)
    await results(lab, asking, step_s=5)
    assert isinstance(await stored_record(lab), CachedReply)


async def test_renewals_that_fail_do_not_stop_the_row(lab):
    """The lock expires and another row asks too. The first reply is kept."""
    first = start(coalescer(lab, "w1"), Ask(lab, lab.outcome(1), seconds=80))
    await lab.clock.advance(1)
    lab.table.faults = [UnreachableError("no table")] * 3
    await lab.clock.advance(61)
    second = start(coalescer(lab, "w2"), Ask(lab, lab.outcome(2), seconds=60))
    found = await results(lab, first, second, step_s=5)
    assert found == [lab.outcome(1), lab.outcome(2)]
    assert (await stored_record(lab)).values == lab.outcome(1).output_data


async def test_a_reply_that_cannot_be_published_is_still_used(lab):
    """The row has its outcome, and the waiting rows of the process have its reply."""
    worker, ask = coalescer(lab), Ask(lab, lab.outcome(1))
    asking, waiting = start(worker, ask), start(worker, ask)
    await lab.until(lambda: ask.times == 1)
    lab.table.faults = [UnreachableError("no table")] * 20
    first, other = await results(lab, asking, waiting)
    assert first == lab.outcome(1)
    assert isinstance(other, CachedReply)
    assert isinstance(await stored_record(lab), InFlight)


async def test_a_row_does_not_ask_while_the_table_is_unreachable(lab):
    """The error is raised, so the row is redelivered."""
    lab.table.faults = [UnreachableError("no table")] * 20
    ask = Ask(lab, lab.outcome(1))
    asking = start(coalescer(lab), ask)
    await lab.until(asking.done)
    with pytest.raises(UnreachableError):
        asking.result()
    assert ask.times == 0
    assert await results(lab, start(coalescer(lab), ask, patience_s=5)) == [lab.outcome(1)]
