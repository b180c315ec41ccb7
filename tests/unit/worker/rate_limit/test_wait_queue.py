"""The queue of coroutines that wait for a value each."""

from __future__ import annotations

import asyncio

import pytest

from service.worker.rate_limit.wait_queue import WaitQueue


def start_waiting(queue: WaitQueue[int], released: list[int], *, at_front: bool = False) -> asyncio.Task[int]:
    """A task that waits; a value that it cannot use goes to `released`."""
    return asyncio.create_task(queue.wait(queue.join(at_front=at_front), released.append))


async def test_waiters_are_served_in_order() -> None:
    """One that joined at the front comes first."""
    queue: WaitQueue[int] = WaitQueue()
    tasks = [start_waiting(queue, []), start_waiting(queue, []), start_waiting(queue, [], at_front=True)]
    assert len(queue) == 3
    for value in (1, 2, 3):
        assert queue.serve(value)
    assert not queue.serve(4)
    assert await asyncio.gather(*tasks) == [2, 3, 1]


async def test_a_cancelled_waiter_is_passed_over() -> None:
    """It does not count any more, and the value goes to the next one."""
    queue: WaitQueue[int] = WaitQueue()
    released: list[int] = []
    first, second = start_waiting(queue, released), start_waiting(queue, released)
    await asyncio.sleep(0)
    first.cancel()
    assert len(queue) == 1
    assert queue.serve(1)
    assert await second == 1
    assert released == []


async def test_a_value_for_a_task_that_is_cancelled_is_released() -> None:
    """The task was served, and cancelled before it ran again: the value is not lost."""
    queue: WaitQueue[int] = WaitQueue()
    released: list[int] = []
    task = start_waiting(queue, released)
    await asyncio.sleep(0)
    assert queue.serve(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert released == [1]


async def test_all_waiters_fail_with_an_error_of_their_own() -> None:
    """Two tasks never share an exception and its traceback."""
    queue: WaitQueue[int] = WaitQueue()
    tasks = [start_waiting(queue, []) for _ in range(2)]
    await asyncio.sleep(0)
    queue.fail_all(lambda: RuntimeError("no"))
    assert len(queue) == 0
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert errors[0] is not errors[1]
    for error in errors:
        with pytest.raises(RuntimeError, match="no"):
            raise error
