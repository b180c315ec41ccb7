"""Objects in a folder: what is a file, which files stay, and where keys lead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.adapters.memory import MemoryClock
from service.adapters.sqlite import Store
from service.adapters.sqlite.objects.folder_objects import FILE_BYTES
from service.domain.errors import AccessError, SourceError, UploadGoneError
from service.domain.ports import Objects

LARGE = b"x" * FILE_BYTES
PART = 1_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def objects(folder: Path) -> AsyncIterator[Objects]:
    async with await Store.open(folder, MemoryClock(), part_bytes=PART) as store:
        yield store.objects


def files(folder: Path) -> list[bytes]:
    """The bytes of the files of objects."""
    return sorted(path.read_bytes() for path in (folder / "objects").iterdir())


async def put(objects: Objects, key: str, body: bytes) -> None:
    await objects.put("bucket", key, body, content_type="text/csv")


async def content(objects: Objects, key: str) -> bytes:
    source = await objects.head("bucket", key)
    return await objects.read(source, 0, source.size)


async def test_only_large_objects_are_files(objects: Objects, folder: Path) -> None:
    """The many small ones share the writes of the database."""
    await put(objects, "small", LARGE[1:])
    assert files(folder) == []
    await put(objects, "large", LARGE)
    assert files(folder) == [LARGE]
    assert await content(objects, "small") == LARGE[1:]
    assert await content(objects, "large") == LARGE


@pytest.mark.parametrize("size", [0, 1, FILE_BYTES])
async def test_the_file_of_an_object_goes_with_it(objects: Objects, folder: Path, size: int) -> None:
    """Once another object has its key, small or large; also by an upload."""
    body = b"y" * size
    await put(objects, "key", LARGE)
    await put(objects, "key", body)
    assert await content(objects, "key") == body
    assert files(folder) == ([body] if size == FILE_BYTES else [])
    async with objects.upload("bucket", "key", content_type="text/csv") as upload:
        await upload.write(b"z" * 2 * PART)
        await upload.complete()
    assert files(folder) == [b"z" * 2 * PART]


async def test_a_put_that_is_refused_leaves_no_file(objects: Objects, folder: Path) -> None:
    """Its bytes were written before its condition was looked at."""
    await put(objects, "key", b"other")
    assert not await objects.put_if("bucket", "key", LARGE, content_type="text/csv", etag="")
    assert files(folder) == []
    etag = (await objects.head("bucket", "key")).etag
    assert await objects.put_if("bucket", "key", LARGE, content_type="text/csv", etag=etag)
    assert files(folder) == [LARGE]


async def test_one_of_many_concurrent_conditional_puts_is_made(objects: Objects, folder: Path) -> None:
    """And the files of the others are removed."""
    bodies = [bytes([number]) * FILE_BYTES for number in range(8)]
    made = (objects.put_if("bucket", "key", body, content_type="text/csv", etag="") for body in bodies)
    assert sum(await asyncio.gather(*made)) == 1
    assert files(folder) == [await content(objects, "key")]


@pytest.mark.parametrize(
    "key", ["../../outside", "/etc/outside", "a/../../b", ".", "", "nul\0nul", "ü" * 400]
)
async def test_no_key_leaves_the_folder(objects: Objects, tmp_path: Path, key: str) -> None:
    """Keys and buckets are names, never paths."""
    for bucket in ("bucket", "../bucket", "/"):
        await objects.put(bucket, key, LARGE, content_type="text/csv")
        source = await objects.head(bucket, key)
        assert await objects.read(source, 0, source.size) == LARGE
        assert [one.key for one in (await objects.listing(bucket, "")).sources] == ([key] if key else [])
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


async def test_a_prefix_is_a_text(objects: Objects) -> None:
    """No character in it stands for others."""
    for key in ("a%c", "abc", "a_c", "a*c", "a", "b", "aü", "a\U0010ffff"):
        await put(objects, key, b"x")
    for prefix, found in (("a%", ["a%c"]), ("a_", ["a_c"]), ("a*", ["a*c"]), ("b", ["b"]), ("c", [])):
        assert [one.key for one in (await objects.listing("bucket", prefix)).sources] == found
    everything = await objects.listing("bucket", "a")
    assert [one.key for one in everything.sources] == ["a", "a%c", "a*c", "a_c", "abc", "aü", "a\U0010ffff"]


async def test_a_lost_file_is_an_error(objects: Objects, folder: Path) -> None:
    """It names the object, and the file that is missing."""
    await put(objects, "key", LARGE)
    (path,) = (folder / "objects").iterdir()
    path.unlink()
    with pytest.raises(SourceError, match=f"s3://bucket/key has lost its file {path.name}"):
        await content(objects, "key")


async def test_an_object_that_is_replaced_is_read_whole_or_refused(objects: Objects) -> None:
    """A reader may have looked it up before; with an etag it is told, without one it gets the new one."""
    await put(objects, "key", LARGE)
    old = await objects.head("bucket", "key")
    unknown = type(old)("bucket", "key")
    for number in range(20):
        body = bytes([number]) * (FILE_BYTES + number % 2 - 1)
        read, _ = await asyncio.gather(objects.read(unknown, 0, 2 * FILE_BYTES), put(objects, "key", body))
        assert len(set(read)) == 1
        assert await content(objects, "key") == body
    with pytest.raises(SourceError, match="was changed"):
        await objects.read(old, 0, 1)


async def test_a_store_that_is_read_takes_no_objects(objects: Objects, folder: Path) -> None:
    """`check_writable` says so before anything is paid for."""
    await objects.check_writable("bucket", "key")
    async with await Store.open(folder, MemoryClock(), read_only=True) as reader:
        with pytest.raises(AccessError, match="opened to read"):
            await reader.objects.check_writable("bucket", "key")


async def test_an_upload_that_has_lost_bytes_is_gone(objects: Objects, folder: Path) -> None:
    """Its file is shorter than the parts that it has had: it has to begin anew."""
    async with objects.upload("bucket", "key", content_type="text/csv") as first:
        await first.write(b"x" * 3 * PART)
        progress = first.progress
        first.leave()
    (path,) = (folder / "objects").iterdir()
    path.write_bytes(b"x" * PART)
    async with objects.upload("bucket", "key", content_type="text/csv", progress=progress) as second:
        with pytest.raises(UploadGoneError):
            await second.complete()


async def test_what_another_process_wrote_after_the_progress_is_dropped(objects: Objects) -> None:
    """The object has the bytes of the process that completes it."""
    async with objects.upload("bucket", "key", content_type="text/csv") as first:
        await first.write(b"x" * 2 * PART)
        progress = first.progress
        await first.write(b"y" * 5 * PART)
        first.leave()
    async with objects.upload("bucket", "key", content_type="text/csv", progress=progress) as second:
        await second.write(b"z")
        await second.complete()
    assert await content(objects, "key") == b"x" * 2 * PART + b"z"
