"""The event loop in virtual time, on which all worlds run."""

import asyncio
import random

import pytest

from tests.simulation.loop import DeadlockError, Owner, StepLimitError, VirtualLoop


def run(loop: VirtualLoop, *coroutines, owner: Owner | None = None) -> None:
    """Run coroutines side by side until all have ended."""

    async def main() -> None:
        await asyncio.gather(*coroutines)
        loop.stop()

    loop.spawn(owner or loop.world, main())
    loop.run()


def test_time_jumps_to_the_next_timer_and_no_further() -> None:
    """Sleeping tasks wake in the order of their times, at exactly these times, and no real time passes."""
    loop = VirtualLoop(random.Random(1))
    woken = []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((seconds, loop.time()))

    run(loop, sleeper(3_600.0), sleeper(1.5), sleeper(86_400.0))

    assert woken == [(1.5, 1.5), (3_600.0, 3_600.0), (86_400.0, 86_400.0)]


def order_of(seed: int) -> list[int]:
    """The order in which ten tasks run that are always ready."""
    loop = VirtualLoop(random.Random(seed))
    turns: list[int] = []

    async def task(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            turns.append(number)

    run(loop, *(task(number) for number in range(10)))
    return turns


def test_the_seed_decides_the_order_of_ready_tasks() -> None:
    """The same seed gives the same order, and another seed another one."""
    assert order_of(1) == order_of(1)
    assert order_of(1) != order_of(2)


def test_tasks_of_a_frozen_owner_wait_until_it_thaws() -> None:
    """A timer that is due while its owner is frozen fires when it thaws, and not before."""
    loop = VirtualLoop(random.Random(1))
    owner = Owner("frozen")
    woken = []

    async def sleeper() -> None:
        await asyncio.sleep(1.0)
        woken.append(loop.time())
        loop.stop()

    loop.spawn(owner, sleeper())
    loop.at(0.5, setattr, owner, "is_frozen", True)
    loop.at(7.0, loop.thaw, owner)
    loop.run()

    assert woken == [7.0]


def test_a_world_without_a_timer_is_a_deadlock() -> None:
    """If every task waits and no timer is set, the loop ends with an error at once."""
    loop = VirtualLoop(random.Random(1))
    with pytest.raises(DeadlockError):
        run(loop, asyncio.Event().wait())
    loop.cancel_all([])


def test_an_endless_loop_ends_at_the_step_limit() -> None:
    """Tasks that go on for ever at one instant end the loop with an error."""
    loop = VirtualLoop(random.Random(1), max_steps=100)

    async def circle() -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)

    with pytest.raises(StepLimitError):
        run(loop, circle())
    loop.cancel_all([])


def test_cancelling_all_ends_also_the_tasks_of_frozen_owners() -> None:
    """Every task ends, and its finally block runs."""
    loop = VirtualLoop(random.Random(1))
    owner = Owner("dead")
    ended = []

    async def waits() -> None:
        try:
            await loop.create_future()
        finally:
            ended.append(True)

    loop.spawn(owner, waits())
    loop.at(1.0, setattr, owner, "is_frozen", True)
    loop.at(2.0, loop.stop)
    loop.run()
    loop.cancel_all([owner])

    assert ended == [True]
    assert loop.errors == []
