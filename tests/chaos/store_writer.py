"""A process that commits outcomes to a store until it is killed, and says which are committed.

`python -m tests.chaos.store_writer FOLDER`: it goes on after the last stored row, in several tasks, and
writes the first and the last row of each commit to stdout once that has returned.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import uuid
from pathlib import Path

from service.adapters.sqlite import Store
from service.domain.model import Batch, Commit, Location, Outcome, Source, State, Status
from service.runtime.clock import SystemClock

BATCH = Batch("demo", "e1", State.RUNNING, Source("bucket", "key"), Location("bucket", "out/"))
TASKS = 5
PAGE = 1_000


def outcome(number: int) -> Outcome:
    """An outcome of about 2 KB, every tenth of them FAILED."""
    status = Status.SUCCESS if number % 10 else Status.FAILED
    return Outcome(
        number, 1, status, {"id": str(number)}, {"text": "x" * 2_000}, 7, "2026-11-18T10:00:00.000Z"
    )


def commit(first: int, last: int) -> Commit:
    """The commit of the rows from `first` to `last`."""
    rows = tuple(outcome(number) for number in range(first, last + 1))
    return Commit(BATCH.batch_id, 1, 1, 0, rows, str(uuid.uuid4()), 0)


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def stored_numbers(store: Store) -> list[int]:
    """The rows that have an outcome."""
    numbers: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await store.table.done_numbers(BATCH, 0, after=after, limit=PAGE)
        numbers += page.numbers
        after = page.after
    return numbers


async def write(folder: Path) -> None:
    """Commit for ever."""
    async with await Store.open(folder, SystemClock()) as store:
        await store.table.open(BATCH, "{}")
        numbers = await stored_numbers(store)
        next_row = numbers[-1] + 1 if numbers else 1
        sizes = itertools.cycle((1, 2, 99, 7, 40))
        say("open")

        async def commit_rows() -> None:
            nonlocal next_row
            while True:
                first, size = next_row, next(sizes)
                next_row += size
                await store.table.commit(commit(first, first + size - 1))
                say(f"{first} {first + size - 1}")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(TASKS):
                tasks.create_task(commit_rows())


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
