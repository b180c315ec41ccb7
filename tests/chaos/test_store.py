"""The store on a laptop: killed at any moment, on a full disk, and wanted by two processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from service.adapters.sqlite import Store, StoreError
from service.adapters.sqlite.errors import StoreFullError
from service.runtime.clock import SystemClock
from tests.chaos.small_disk import small_disk
from tests.chaos.store_writer import BATCH, commit, stored_numbers

ROOT = Path(__file__).parents[2]


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that commits until it is killed, at the end at the latest."""
    command = [sys.executable, "-m", "tests.chaos.store_writer", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def killed_after(folder: Path, commits: int) -> list[tuple[int, int]]:
    """The first and last rows of the commits that a process has said are made; it was killed then."""
    with writer(folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        lines = [process.stdout.readline() for _ in range(commits)]
        process.kill()
        lines += process.stdout.readlines()
    # the last line may be cut
    ends = [line.split() for line in lines if line.endswith("\n")]
    return [(int(first), int(last)) for first, last in ends]


async def check(folder: Path, acknowledged: list[tuple[int, int]]) -> None:
    """All that was said to be committed is there, and the counters are those of the outcomes."""
    async with await Store.open(folder, SystemClock()) as store:
        numbers = await stored_numbers(store)
        said = {number for first, last in acknowledged for number in range(first, last + 1)}
        assert said <= set(numbers)
        view = await store.table.read(BATCH.batch_id)
        assert view is not None
        failed = sum(number % 10 == 0 for number in numbers)
        assert (view.counts.succeeded, view.counts.failed) == (len(numbers) - failed, failed)
        assert view.counts.agent_ms == 7 * len(numbers)
        checks = await store._connection.run(lambda one: one.execute("PRAGMA integrity_check").fetchall())
        assert checks == [("ok",)]


@pytest.mark.parametrize(
    "kills", [range(0, 12, 4), pytest.param(range(0, 240, 8), marks=pytest.mark.verify)], ids=["few", "many"]
)
async def test_a_killed_process_loses_nothing_that_was_committed(tmp_path: Path, kills: range) -> None:
    """However often it is killed, between commits and in the middle of them; the next one goes on."""
    acknowledged: list[tuple[int, int]] = []
    for commits in kills:
        before = len(acknowledged)
        acknowledged += killed_after(tmp_path / "store", commits)
        assert len(acknowledged) - before >= commits
        await check(tmp_path / "store", acknowledged)


async def test_two_processes_at_once(tmp_path: Path) -> None:
    """The second is told the pid of the first, and reads beside it; the store is free once that is killed."""
    folder = tmp_path / "store"
    with writer(folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.stdout.readline()
        with pytest.raises(StoreError, match=f"{folder} is in use by process {process.pid}: wait"):
            await Store.open(folder, SystemClock())
        async with await Store.open(folder, SystemClock(), read_only=True) as reader:
            assert await stored_numbers(reader)
            view = await reader.table.read(BATCH.batch_id)
            assert view is not None
            assert view.counts.done > 0
    await check(folder, [])


async def commit_for_ever(store: Store, committed: list[int]) -> None:
    """Commit rows until it fails; the numbers of those that are committed are added."""
    while True:
        first = len(committed) + 1
        await store.table.commit(commit(first, first + 49))
        committed += range(first, first + 50)


@pytest.mark.verify
async def test_a_full_disk(tmp_path: Path) -> None:
    """The error names the folder and what to do. What was committed is kept, and with room it goes on."""
    with small_disk(tmp_path / "disk", 24_000) as disk:
        folder, ballast = disk / "store", disk / "ballast"
        ballast.write_bytes(b"x" * 12_000_000)
        committed: list[int] = []
        async with await Store.open(folder, SystemClock()) as store:
            await store.table.open(BATCH, "{}")
            with pytest.raises(StoreFullError, match=f"{folder} is full: free some space"):
                await commit_for_ever(store, committed)
            assert await stored_numbers(store) == committed
        rows = len(committed)
        assert rows > 200
        ballast.unlink()
        await check(folder, [(1, rows)])
        async with await Store.open(folder, SystemClock()) as store:
            await store.table.commit(commit(rows + 1, rows + 50))
        await check(folder, [(1, rows + 50)])


@pytest.mark.verify
async def test_a_store_is_opened_on_a_full_disk(tmp_path: Path) -> None:
    """The error is that of a full disk, and the store is whole once there is room."""
    with small_disk(tmp_path / "disk", 4_000) as disk:
        folder, ballast = disk / "store", disk / "ballast"
        async with await Store.open(folder, SystemClock()) as store:
            await store.table.open(BATCH, "{}")
            await store.table.commit(commit(1, 50))
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4_096):
                pass
        for read_only in (False, True):
            with pytest.raises(StoreFullError, match=f"{folder} is full: free some space"):
                await Store.open(folder, SystemClock(), read_only=read_only)
        ballast.unlink()
        await check(folder, [(1, 50)])


@pytest.mark.verify
async def test_a_large_object_on_a_full_disk(tmp_path: Path) -> None:
    """Nothing of it stays, and its place can be used again."""
    with small_disk(tmp_path / "disk", 4_000) as disk:
        async with await Store.open(disk / "store", SystemClock(), part_bytes=1_000_000) as store:
            with pytest.raises(StoreFullError):
                await store.objects.put("bucket", "key", b"x" * 5_000_000, content_type="text/csv")
            with pytest.raises(StoreFullError):
                async with store.objects.upload("bucket", "key", content_type="text/csv") as upload:
                    await upload.write(b"x" * 5_000_000)
            assert not list((disk / "store" / "objects").iterdir())
            await store.objects.put("bucket", "key", b"x" * 1_000_000, content_type="text/csv")
