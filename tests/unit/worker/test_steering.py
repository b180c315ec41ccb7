"""Workers notice operations: no call begins in a batch that is held, and calls are cut only if asked for."""

import asyncio
from dataclasses import replace

import pytest

from service.batch.row_checks import VIEW_AGE_S
from service.domain.errors import AgentThrottledError, AgentUnavailableError, UnreachableError
from service.domain.model import State, Status
from service.domain.operation_requests import OperationRequest
from service.mapping.replies.transcript import Usage
from service.steering.cancellation import NOTICE_S
from service.steering.operate import operate
from service.worker.batch_cache import BatchCache
from service.worker.rate_limit.limiter import Permit


async def do(lab, op, batch_id="demo#e1", **args):
    control = (await lab.view(batch_id)).batch.control
    await operate(lab.ports, OperationRequest(op, batch_id, f"r{control}", "ada", args))


@pytest.fixture
def slow(define, demo_yaml):
    """A mapping whose calls may take ten minutes."""
    return define(demo_yaml.replace("timeout_seconds: 10", "timeout_seconds: 600"))


class HeldAgent:
    """Replies once it is told to."""

    def __init__(self, lab):
        self.go_on = asyncio.Event()
        self.begun_at = []
        self._lab = lab
        lab.agent.script = self

    async def __call__(self, invocation):
        """Wait, and reply."""
        self.begun_at.append(self._lab.clock.monotonic())
        await self.go_on.wait()
        return {"answer": "late"}


def start(lab, worker, batch, numbers, **more):
    return [
        asyncio.create_task(worker.handle(lab.delivery(lab.row(number, batch, **more).encode())))
        for number in numbers
    ]


async def settle(lab, seconds=0.0):
    """Let tasks run, and time pass."""
    for _ in range(20):
        await lab.clock.advance(0)
    if seconds:
        await lab.clock.advance(seconds)
        await settle(lab)


async def settle_for_notice(lab):
    """Let the time pass in which a worker with calls under way notices an operation."""
    for _ in range(NOTICE_S - 1):
        await settle(lab, 1)


async def statuses(lab, batch):
    return {number: outcome.status for number, outcome in (await lab.outcomes(batch)).items()}


# -- pause ---------------------------------------------------------------------------------------------------


async def test_calls_under_way_end_and_are_kept(lab):
    """They are paid for."""
    batch = await lab.batch(3)
    agent = HeldAgent(lab)
    async with lab.working() as worker:
        tasks = start(lab, worker, batch, [1, 2])
        await settle(lab)
        await do(lab, "pause")
        await settle(lab, 9)
        agent.go_on.set()
        await asyncio.gather(*tasks)
    assert await statuses(lab, batch) == {1: Status.SUCCESS, 2: Status.SUCCESS}
    assert (await lab.view()).batch.state is State.PAUSED


async def test_no_call_begins_for_a_row_that_waits_for_a_slot(lab):
    """The rows in the gate's queue are dropped once their turn comes; a resume sends them again."""
    batch = await lab.batch(6)
    agent = HeldAgent(lab)
    cache = lab.batch_cache(max_in_flight=2)
    async with lab.working(cache) as worker:
        tasks = start(lab, worker, batch, range(1, 5))
        await settle(lab)
        assert len(agent.begun_at) == 2
        await do(lab, "pause")
        await settle(lab, NOTICE_S)
        agent.go_on.set()
        await asyncio.gather(*tasks)
    assert len(agent.begun_at) == 2
    assert await statuses(lab, batch) == {1: Status.SUCCESS, 2: Status.SUCCESS}
    assert await lab.sent_rows() == []


@pytest.mark.parametrize("error", [AgentUnavailableError, AgentThrottledError])
async def test_no_call_begins_after_a_wait_for_another_attempt(lab, error):
    """A row in a short retry wait, within its worker."""
    batch = await lab.batch(3)
    lab.agent.script = lambda _: error("later", retry_after_s=20)
    async with lab.working(inline_wait_s=60.0) as worker:
        (task,) = start(lab, worker, batch, [1])
        await settle(lab)
        assert len(lab.agent.calls) == 1
        await do(lab, "pause")
        await lab.until(task.done, step_s=1.0)
        await task
    assert len(lab.agent.calls) == 1
    assert await statuses(lab, batch) == {}
    assert await lab.sent_rows() == []


async def test_no_call_begins_for_a_row_that_waits_for_the_reply_of_another(lab, define, demo_yaml):
    """The leader's call is lost; the row that would call next finds the batch held."""
    definition = define(demo_yaml + "reuse: batch\n")
    batch = await lab.batch(3, definition=definition)
    agent = HeldAgent(lab)
    async with lab.working() as worker:
        rows = [replace(lab.row(number, batch), cells=("1", "same")) for number in (1, 2)]
        tasks = [asyncio.create_task(worker.handle(lab.delivery(row.encode()))) for row in rows]
        await settle(lab)
        await do(lab, "pause", now=True)
        await lab.until(lambda: all(task.done() for task in tasks), step_s=1.0)
        await asyncio.gather(*tasks)
    assert len(agent.begun_at) == 1
    assert await statuses(lab, batch) == {}


async def test_rows_that_come_to_a_held_batch_are_dropped(lab):
    """They are not sent again while it is held."""
    batch = await lab.batch(3)
    async with lab.working() as worker:
        await worker.handle(lab.delivery(lab.row(1, batch).encode()))
        await do(lab, "pause")
        await lab.clock.advance(VIEW_AGE_S + 0.1)
        await worker.handle(lab.delivery(lab.row(2, batch).encode()))
        await worker.handle(lab.delivery(lab.row(3, batch, replay=True).encode()))
    assert len(lab.agent.calls) == 1
    assert await lab.sent_rows() == []


async def test_a_target_that_is_down_is_not_probed_for_a_held_batch(lab):
    """A row that was put back is dropped when it comes again, and no trial call begins."""
    batch = await lab.batch(30)
    lab.agent.script = lambda _: AgentUnavailableError("503")
    async with lab.working(inline_wait_s=0.0) as worker:
        await asyncio.gather(*start(lab, worker, batch, range(1, 25)))
        await do(lab, "pause")
        await lab.clock.advance(NOTICE_S)
        calls = len(lab.agent.calls)
        for _ in range(60):
            for row in await lab.sent_rows():
                await worker.handle(lab.delivery(row.encode()))
            await lab.clock.advance(10)
    assert len(lab.agent.calls) == calls
    assert await lab.rows.depth() == 24  # hidden by `sent_rows`, and none was sent anew
    assert lab.metrics.totals["rows_sent_again"] == 24


async def test_no_call_begins_while_the_batch_cannot_be_read(lab):
    """Nobody knows then whether it is held: the row goes back."""
    batch = await lab.batch(3)
    cache = lab.batch_cache()
    row = lab.row(1, batch)
    await cache.get(row)
    agent = HeldAgent(lab)

    async def refused(_):
        raise UnreachableError("no table")

    async with lab.working(cache) as worker:
        await lab.clock.advance(VIEW_AGE_S)
        read, lab.table.read = lab.table.read, refused
        await lab.clock.advance(0.1)
        with pytest.raises(UnreachableError):
            await worker.handle(lab.delivery(row.encode()))
        lab.table.read = read
    assert agent.begun_at == []


class LateTurns:
    """A rate limit whose turns last half a second, and come once views are old."""

    def __init__(self, clock):
        self.released = []
        self._clock = clock

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        pass

    def estimate(self, body_bytes):
        """Estimate nothing."""
        return Usage()

    async def admit(self, estimate):
        """Admit the call, after a while."""
        await self._clock.advance(VIEW_AGE_S + 0.1)
        return Permit(self.released.append, self._clock.monotonic() + 0.5)


@pytest.mark.parametrize(("seconds", "calls"), [(0.1, 1), (28.0, 0)])
async def test_a_call_whose_turn_passes_during_a_read_does_not_begin(lab, seconds, calls):
    """It would begin beside the calls of later turns, and exceed the limit: its row comes again."""
    batch = await lab.batch(3)
    limiter = LateTurns(lab.clock)
    cache = BatchCache(
        lab.ports, lambda _: lab.agent, lab.gates, max_in_flight=8, open_limiter=lambda _: limiter
    )
    row = lab.row(1, batch)
    await cache.get(row)
    read = lab.table.read

    async def slowly(batch_id):
        lab.table.read = read
        view = await read(batch_id)
        await lab.clock.advance(seconds)
        return view

    async with lab.working(cache) as worker:
        lab.table.read = slowly
        await worker.handle(lab.delivery(row.encode()))
    assert len(lab.agent.calls) == calls
    assert len(limiter.released) == 1
    await lab.clock.advance(2)  # the row comes again after a second
    assert len(await lab.sent_rows()) == 1 - calls


async def test_a_pause_now_cuts_the_calls_under_way(lab):
    """Soon, and their rows have no outcome: a resume runs them again."""
    batch = await lab.batch(3)
    HeldAgent(lab)
    async with lab.working() as worker:
        tasks = start(lab, worker, batch, [1, 2])
        await settle(lab)
        await do(lab, "pause", now=True)
        await settle(lab, NOTICE_S)
        assert all(task.done() for task in tasks)
        await asyncio.gather(*tasks)
    assert await statuses(lab, batch) == {}
    assert await lab.sent_rows() == []


async def test_a_row_of_an_older_generation_is_dropped(lab):
    """A resume has sent the row anew."""
    batch = await lab.batch(3)
    await do(lab, "pause")
    await do(lab, "resume")
    async with lab.working() as worker:
        await worker.handle(lab.delivery(lab.row(1, batch).encode()))
        assert lab.agent.calls == []
        await worker.handle(lab.delivery(lab.row(1, batch, generation=1).encode()))
    assert await statuses(lab, batch) == {1: Status.SUCCESS}


async def test_a_row_of_an_older_generation_that_waits_is_dropped(lab):
    """Paused and resumed while it waited for a slot: the newer message of the row is served."""
    batch = await lab.batch(3)
    agent = HeldAgent(lab)
    cache = lab.batch_cache(max_in_flight=1)
    async with lab.working(cache) as worker:
        tasks = start(lab, worker, batch, [1, 2])
        await settle(lab)
        await do(lab, "pause")
        await do(lab, "resume")
        await settle(lab, VIEW_AGE_S + 0.1)
        agent.go_on.set()
        await asyncio.gather(*tasks)
    assert await statuses(lab, batch) == {1: Status.SUCCESS}


# -- cancel --------------------------------------------------------------------------------------------------


async def test_rows_of_a_cancelled_batch_fail_without_a_call(lab):
    """Those that come, and those that wait for a slot."""
    batch = await lab.batch(3)
    agent = HeldAgent(lab)
    cache = lab.batch_cache(max_in_flight=1)
    async with lab.working(cache) as worker:
        tasks = start(lab, worker, batch, [1, 2])
        await settle(lab)
        await do(lab, "cancel")
        await settle(lab, VIEW_AGE_S + 0.1)
        agent.go_on.set()
        await asyncio.gather(*tasks, *start(lab, worker, batch, [3]))
    outcomes = await lab.outcomes(batch)
    assert len(agent.begun_at) == 1
    assert outcomes[1].status is Status.SUCCESS
    assert [outcomes[number].error.type for number in (2, 3)] == ["CancelledError"] * 2
    assert (await lab.view()).batch.state is State.AGGREGATING


@pytest.mark.parametrize("grace", [0, 30])
async def test_calls_under_way_in_a_cancelled_batch_have_its_grace(lab, slow, grace):
    """Then they are cut, and their rows fail."""
    batch = await lab.batch(1, definition=slow)
    HeldAgent(lab)
    async with lab.working() as worker:
        (task,) = start(lab, worker, batch, [1])
        await settle(lab)
        await do(lab, "cancel", grace=grace)
        for _ in range(grace):
            assert not task.done()
            await settle(lab, 1)
        await settle_for_notice(lab)
        assert task.done()
        await task
    assert (await lab.outcomes(batch))[1].error.type == "CancelledError"


# -- set -----------------------------------------------------------------------------------------------------


async def test_a_cap_holds_within_ten_seconds_and_goes_again(lab, slow):
    """Lowered, no further call begins until fewer are under way; set back, waiting rows begin."""
    batch = await lab.batch(30, definition=slow)
    agent = HeldAgent(lab)
    async with lab.working(lab.batch_cache(max_in_flight=4)) as worker:
        await do(lab, "set", max_concurrency=2)
        tasks = start(lab, worker, batch, range(1, 7))
        await settle(lab)
        assert len(agent.begun_at) == 2
        await do(lab, "set", max_concurrency=3)
        await settle_for_notice(lab)
        assert len(agent.begun_at) == 3
        await do(lab, "set", max_concurrency=0)
        await settle_for_notice(lab)
        assert len(agent.begun_at) == 4
        agent.go_on.set()
        await asyncio.gather(*tasks)
    assert len(agent.begun_at) == 6


async def test_a_deadline_that_is_set_holds_for_rows_that_wait(lab):
    """The row finds it when its turn comes."""
    batch = await lab.batch(3)
    agent = HeldAgent(lab)
    async with lab.working(lab.batch_cache(max_in_flight=1)) as worker:
        tasks = start(lab, worker, batch, [1, 2])
        await settle(lab)
        await do(lab, "set", deadline=1)
        await settle(lab, VIEW_AGE_S + 0.1)
        agent.go_on.set()
        await asyncio.gather(*tasks)
    assert len(agent.begun_at) == 1
    assert (await lab.outcomes(batch))[2].error.type == "DeadlineError"
