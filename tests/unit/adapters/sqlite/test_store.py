"""Store: opened, locked, read by others, moved, and refused in words."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
from pathlib import Path

import pytest

from service.adapters.memory import MemoryClock
from service.adapters.sqlite import Store, StoreError
from service.adapters.sqlite.errors import StoreInUseError
from service.adapters.sqlite.lock import StoreLock
from service.adapters.sqlite.schema import MIGRATIONS
from service.domain.model import Batch, Location, Source, State
from service.domain.ports import SharedRecord

BATCH = Batch("demo", "e1", State.SPLITTING, Source("bucket", "key"), Location("bucket", "out/"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".rowfleet"


async def opened(folder: Path, *, read_only: bool = False) -> Store:
    return await Store.open(folder, MemoryClock(), read_only=read_only)


async def test_a_store_keeps_what_it_was_given(folder: Path) -> None:
    """Batches, records and objects, small and large, are there when it is opened again."""
    large = bytes(range(256)) * 1_000
    async with await opened(folder) as store:
        await store.table.open(BATCH, "{}")
        await store.table.swap("limit", "text", version=0, ttl=1_900_000_000)
        await store.objects.put("bucket", "small", b"x", content_type="text/csv")
        await store.objects.put("bucket", "large", large, content_type="text/csv")
    async with await opened(folder) as store:
        assert (await store.table.read(BATCH.batch_id)).batch == BATCH  # type: ignore[union-attr]
        assert await store.table.record("limit") == SharedRecord("text", 1)
        listed = await store.objects.listing("bucket", "")
        assert [await store.objects.read(one, 0, one.size) for one in listed.sources] == [large, b"x"]


async def test_only_its_owner_reads_a_store(folder: Path) -> None:
    """Replies may be private; and no repository takes them by mistake."""
    async with await opened(folder) as store:
        await store.objects.put("bucket", "large", b"x" * 100_000, content_type="text/csv")
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert len(modes) > 6
    public = {path.name for path, mode in modes.items() if mode & 0o077}
    assert public == {".gitignore"}
    assert (folder / ".gitignore").read_text() == "*\n"


async def test_one_process_writes(folder: Path) -> None:
    """Whoever comes second is told who has the store, and gets it once that has ended."""
    async with await opened(folder):
        with pytest.raises(StoreError, match=f"{folder} is in use by process {os.getpid()}: wait"):
            await opened(folder)
    async with await opened(folder) as store:
        assert await store.table.record("x") == SharedRecord()


async def test_a_store_of_another_machine_is_opened(folder: Path, tmp_path: Path) -> None:
    """It was copied while a process there had it: neither the name in the lock nor its old place matters."""
    copy = tmp_path / "elsewhere" / "store"
    async with await opened(folder) as store:
        await store.table.open(BATCH, "{}")
        await store.objects.put("bucket", "large", b"x" * 100_000, content_type="text/csv")
        (folder / "lock").write_text("4711 another-machine\n")
        shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    async with await opened(copy) as store:
        assert await store.table.read(BATCH.batch_id) is not None
        source = await store.objects.head("bucket", "large")
        assert await store.objects.read(source, 99_990, 100) == b"x" * 10
        assert (copy / "lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"


async def test_others_read_while_one_writes(folder: Path) -> None:
    """They see each change that is committed, and change nothing themselves."""
    async with await opened(folder) as store, await opened(folder, read_only=True) as reader:
        assert await reader.table.read(BATCH.batch_id) is None
        await store.table.open(BATCH, "{}")
        await store.objects.put("bucket", "one", b"x" * 100_000, content_type="text/csv")
        assert (await reader.table.read(BATCH.batch_id)).batch == BATCH  # type: ignore[union-attr]
        source = await reader.objects.head("bucket", "one")
        assert await reader.objects.read(source, 0, 2) == b"xx"
        with pytest.raises(StoreError, match="cannot be written"):
            await reader.table.swap("x", "y", version=0, ttl=1)
        assert await store.table.record("x") == SharedRecord()


async def test_nobody_reads_a_store_that_is_not_there(folder: Path) -> None:
    """The error names the folder, and nothing is made."""
    with pytest.raises(StoreError, match=f"no store in {folder}"):
        await opened(folder, read_only=True)
    assert not folder.exists()


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_newer_store_is_refused(folder: Path, read_only: bool) -> None:
    """It may hold what this version would lose. It stays as it is."""
    async with await opened(folder):
        pass
    newer = len(MIGRATIONS) + 1
    connection = sqlite3.connect(folder / "rowfleet.db")
    connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    with pytest.raises(StoreError, match=f"newer rowfleet .its format is {newer}, this one knows"):
        await opened(folder, read_only=read_only)
    with pytest.raises(StoreError, match="upgrade rowfleet"):
        await opened(folder)


async def test_a_reader_brings_an_older_store_up_to_date(folder: Path) -> None:
    """If nobody has it, which may be a process of the older version; the oldest store is an empty file."""
    folder.mkdir()
    (folder / "rowfleet.db").touch()
    lock = StoreLock.acquire(folder)
    with pytest.raises(StoreInUseError, match=f"is in use by process {os.getpid()}"):
        await opened(folder, read_only=True)
    lock.release()
    async with await opened(folder, read_only=True) as reader, await opened(folder) as store:
        await store.table.open(BATCH, "{}")
        assert await reader.table.read(BATCH.batch_id) is not None


async def test_a_file_that_is_no_store_is_refused(folder: Path) -> None:
    """The error says that it is damaged, and what to do; the next one may take the folder."""
    folder.mkdir()
    (folder / "rowfleet.db").write_bytes(b"no database" * 1_000)
    for _ in range(2):
        with pytest.raises(StoreError, match=f"{folder} is damaged .*: bring it back from a copy"):
            await opened(folder)


async def test_a_damaged_store_is_an_error(folder: Path) -> None:
    """A page of it was lost: the call that needs it says so, and nothing wrong is returned."""
    async with await opened(folder) as store:
        for number in range(40):
            await store.table.swap(f"name {number}", "x" * 5_000, version=0, ttl=1_900_000_000)
    path = folder / "rowfleet.db"
    content = path.read_bytes()
    path.write_bytes(content[:8_192] + bytes(len(content) - 8_192))
    with pytest.raises(StoreError, match=f"{folder} is damaged .*: bring it back from a copy"):
        await opened(folder)


async def test_a_place_where_nothing_may_be_written(tmp_path: Path) -> None:
    """A file is in the way of the folder, as any other refusal: the error names folder and variable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written .*ROWFLEET_HOME"):
        await opened(tmp_path / "file" / "store")


async def test_a_store_that_is_closed_takes_no_calls(folder: Path) -> None:
    """It may be closed again."""
    store = await opened(folder)
    await store.close()
    await store.close()
    with pytest.raises(RuntimeError, match="is closed"):
        await store.table.record("x")


async def test_files_that_belong_to_nobody_are_removed(folder: Path) -> None:
    """A process was killed before it could say whose they are; an unfinished upload keeps its file."""
    store = await Store.open(folder, MemoryClock(), part_bytes=1_000)
    upload = store.objects.upload("bucket", "big", content_type="text/csv")
    await upload.write(b"x" * 2_500)
    progress = upload.progress
    await store.close()
    (folder / "objects" / "stray").write_bytes(b"x")
    async with (
        await Store.open(folder, MemoryClock(), part_bytes=1_000) as again,
        again.objects.upload("bucket", "big", content_type="text/csv", progress=progress) as upload,
    ):
        assert [path.name for path in (folder / "objects").iterdir()] == [progress.id]
        await upload.complete()
        source = await again.objects.head("bucket", "big")
        assert await again.objects.read(source, 0, 5_000) == b"x" * 2_500
