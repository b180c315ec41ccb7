"""Operations on batches of this machine, by the process of the store or by the one that asks."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryClock
from service.app.laptop.backend import open_laptop
from service.app.laptop.pipeline import Stop
from service.app.laptop.serving import BatchServer
from service.app.laptop.steering import cancel_here, open_round_here, operate_here, resume_here
from service.catalog.files import MappingFiles
from service.catalog.folders import fixed_files
from service.domain.errors import UsageError
from service.domain.model import Batch, Location, Source, State
from service.domain.operation_requests import OperationRequest, read_request
from service.steering.operate import carry_out
from tests.unit.app.laptop.conftest import people

BATCH = Batch(
    "demo", "e1", State.SPLITTING, Source("bucket", "key"), Location("bucket", "out/"), ttl=4_000_000_000
)
ROWS = 20
PAUSE = OperationRequest("pause", "demo#e1", "r1", "me")


@pytest.fixture
async def stored(laptop):
    """A laptop with a store on disk that has one batch, which no process serves."""
    async with open_laptop(laptop.home, laptop.settings) as backend:
        await backend.ports.table.open(BATCH, "{}")
    return laptop


class TakingClock(MemoryClock):
    """Time that passes while the command waits: then the process of the store looks into its inbox."""

    def __init__(self, take):
        super().__init__()
        self._take = take

    async def sleep(self, seconds):
        """Let the process take what is there."""
        await self.advance(seconds)
        await self._take()


@asynccontextmanager
async def taking(laptop, *, dropped=0):
    """A process that has the store and carries out requests, but for the first ones, which it drops.

    Yields the clock of the command that asks.
    """
    async with open_laptop(laptop.home, laptop.settings) as backend:
        left = dropped

        async def take():
            nonlocal left
            for path in laptop.home.inbox.glob("*.json"):
                body = path.read_text()
                path.unlink()
                if left:
                    left -= 1
                else:
                    await carry_out(backend.ports, read_request(json.loads(body)), "m1")

        yield TakingClock(take)
    assert left == 0


async def state_of(laptop, batch_id="demo#e1"):
    async with open_laptop(laptop.home, laptop.settings, read_only=True) as backend:
        return (await backend.ports.table.read(batch_id)).batch.state


async def test_without_a_process_the_command_does_it(stored):
    """And releases the store again."""
    answer = await operate_here(stored.home, stored.settings, PAUSE, MemoryClock())
    assert "demo#e1 is paused" in answer.answer["text"]
    assert await state_of(stored) is State.PAUSED
    assert stored.home.process is None


@pytest.mark.parametrize("dropped", [0, 1])
async def test_the_process_of_the_store_does_it(stored, dropped):
    """Also if it was starting, and has dropped the request as one to an earlier process."""
    async with taking(stored, dropped=dropped) as clock:
        answer = await operate_here(stored.home, stored.settings, PAUSE, clock)
        assert (answer.by, answer.op, answer.control) == ("me", "pause", 1)
    assert await state_of(stored) is State.PAUSED
    assert list(stored.home.inbox.iterdir()) == []


async def test_a_refusal_of_the_process_is_that_of_the_command(stored):
    """In the same words; a batch that is not there is refused before it is asked."""
    async with taking(stored) as clock:
        refused = replace(PAUSE, op="set", request_id="r2", args={"tolerate": "nonsense"})
        with pytest.raises(UsageError, match="--tolerate"):
            await operate_here(stored.home, stored.settings, refused, clock)
        with pytest.raises(UsageError, match="there is no batch 'demo#e2'"):
            await operate_here(stored.home, stored.settings, replace(PAUSE, batch_id="demo#e2"), clock)


async def left_behind(laptop):
    """The id of a batch whose process was stopped at its first call."""
    command = laptop.command(laptop.write(people(*(f"person {n}" for n in range(ROWS)))))
    served = await laptop.run(command, when=laptop.agent.asked.wait())
    assert served.was_stopped
    return served.view.batch.batch_id


async def serve(laptop, batch_id, begin, op, **args):
    """Serve the batch by a new process that begins with an operation; return the batch and the answer."""
    backend = laptop.process()
    read = fixed_files(MappingFiles(mappings=laptop.files))
    server = BatchServer(laptop.home, backend, laptop.settings, read, Stop(), lambda _: None)
    answers = []

    async def first():
        request = OperationRequest(op, batch_id, f"{op}-1", "me", args)
        answers.append(await begin(backend.ports, request))

    served = await server.serve(batch_id, first)
    return served.view, answers[0]


async def test_a_resume_goes_on_with_what_was_left(laptop):
    """Each row is called for once; an ended batch is refused in the words of every backend."""
    batch_id = await left_behind(laptop)
    view, _ = await serve(laptop, batch_id, resume_here, "resume")
    assert (view.batch.state, view.counts.succeeded) == (State.SUCCEEDED, ROWS)
    assert len(laptop.agent.calls) == ROWS
    with pytest.raises(UsageError, match="has ended, it is SUCCEEDED: it cannot be resumed"):
        await serve(laptop, batch_id, resume_here, "resume")


@pytest.mark.parametrize("is_leased", [True, False])
async def test_a_cancel_ends_what_was_left(laptop, is_leased):
    """No call is made and none waited for, also if the process that was killed had the batch's lease."""
    batch_id = await left_behind(laptop)
    made = len(laptop.agent.calls)
    if is_leased:
        batch = (await laptop.store.table.read(batch_id)).batch
        lease = {"state": batch.state, "owner": "killed", "now_ms": 1, "until_ms": 9_000_000_000_000}
        await laptop.store.table.lease(batch, **lease)
    view, answer = await serve(laptop, batch_id, cancel_here, "cancel", grace=30)
    assert (view.batch.state, view.batch.grace_s, answer.control > 0) == (State.CANCELLED, 0, True)
    assert len(laptop.agent.calls) == made
    assert view.all_counts.done == view.batch.total


async def test_a_round_opens_on_a_batch_that_was_left(laptop):
    """It is paused first, and every row that has not succeeded runs by the present mapping."""
    batch_id = await left_behind(laptop)
    laptop.key = "other"
    view, answer = await serve(laptop, batch_id, open_round_here, "resume", mapping_now=True)
    assert (view.batch.state, view.batch.round, view.all_counts.succeeded) == (State.SUCCEEDED, 2, ROWS)
    assert "is in round 2" in answer.answer["text"]
    assert len(laptop.agent.calls) == ROWS


async def test_a_round_that_is_refused(laptop):
    """The reason comes as the splitter has it, and nothing is served."""
    batch_id = await left_behind(laptop)
    await serve(laptop, batch_id, resume_here, "resume")
    with pytest.raises(UsageError, match="has ended, it is SUCCEEDED: `rowfleet redrive"):
        await serve(laptop, batch_id, open_round_here, "resume", mapping_now=True)
