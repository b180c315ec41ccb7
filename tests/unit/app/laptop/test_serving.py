"""A batch served by one process: to its end, until it is held, or until the user stops it."""

import asyncio

from service.app.laptop.pipeline import Stop
from service.domain.model import State
from tests.unit.app.laptop.conftest import people


async def output(laptop, view) -> str:
    """The result file in the store."""
    place = view.batch.results
    source = await laptop.store.objects.head(place.bucket, place.prefix + "output.csv")
    return (await laptop.store.objects.read(source, 0, source.size)).decode()


async def test_a_file_is_run_to_its_end(laptop):
    """Every row has its outcome, and the results are in the store."""
    command = laptop.command(laptop.write(people("ann", "bad bob", "cid")))
    served = await laptop.run(command)
    assert served.view.batch.state is State.COMPLETED_WITH_ERRORS
    assert not served.was_stopped
    lines = (await output(laptop, served.view)).splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["ann", "ANN"], ["bad bob", ""], ["cid", "CID"]]
    assert sorted(laptop.agent.calls) == ["ann", "bad bob", "cid"]


async def test_the_same_command_goes_on_after_an_interrupt(laptop):
    """An interrupt lets the calls under way end; the next process calls for the other rows only."""
    names = [f"person {n}" for n in range(40)]
    command = laptop.command(laptop.write(people(*names)))
    laptop.agent.held = asyncio.Event()

    async def asked_then_released():
        await laptop.agent.asked.wait()
        asyncio.get_running_loop().call_soon(laptop.agent.held.set)

    stopped = await laptop.run(command, when=asked_then_released())
    first = list(laptop.agent.calls)
    assert stopped.was_stopped
    assert 0 < len(first) < len(names)
    assert stopped.view.all_counts.done == len(first)

    served = await laptop.run(command)
    assert served.view.batch.batch_id == stopped.view.batch.batch_id
    assert served.view.batch.state is State.SUCCEEDED
    assert sorted(laptop.agent.calls) == sorted(names)


async def test_a_second_interrupt_cuts_the_calls(laptop):
    """Calls that do not end are cut; their rows run again in the next process, and no others do."""
    names = [f"person {n}" for n in range(10)]
    command = laptop.command(laptop.write(people(*names)))
    laptop.agent.held = asyncio.Event()
    stop = Stop()

    async def asked_twice():
        await laptop.agent.asked.wait()
        stop.signal()

    stopped = await laptop.run(command, stop=stop, when=asked_twice())
    assert stopped.was_stopped
    cut = list(laptop.agent.calls)
    assert stopped.view.all_counts.done == 0
    laptop.agent.held = None
    served = await laptop.run(command)
    assert served.view.batch.state is State.SUCCEEDED
    assert sorted(laptop.agent.calls) == sorted([*names, *cut])


async def test_the_batches_of_other_commands_are_left_alone(laptop):
    """A process serves the batch that it was asked for: the rows of another one are not called for."""
    laptop.agent.held = asyncio.Event()
    other = laptop.command(laptop.write(people("one", "two"), "other.csv"))
    stop = Stop()

    async def asked_twice():
        await laptop.agent.asked.wait()
        stop.signal()

    await laptop.run(other, stop=stop, when=asked_twice())
    laptop.agent.held = None
    laptop.agent.calls.clear()
    laptop.settings = laptop.settings.model_copy(
        update={"sweep": laptop.settings.sweep.model_copy(update={"interval_s": 0.01, "stuck_after_s": 0.01})}
    )
    served = await laptop.run(laptop.command(laptop.write(people("ann"))))
    assert served.view.batch.state is State.SUCCEEDED
    assert laptop.agent.calls == ["ann"]
