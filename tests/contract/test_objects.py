"""Contract of the port Objects, tested in memory, in a folder and on S3 (ministack)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.s3 import GROWTH_PARTS, PART_BYTES, S3Objects
from service.adapters.memory import MemoryObjects
from service.adapters.sqlite import Store
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from service.domain.errors import AccessError, SourceError, UnknownResultError, UploadGoneError
from service.domain.ports import Listing, Objects, StoredFile, Upload

PART = 5 * 1024 * 1024


@dataclass
class ObjectsUnderTest:
    """The port, and a bucket."""

    objects: Objects
    bucket: str

    async def put(self, key: str, body: bytes) -> StoredFile:
        """Store an object."""
        return await self.objects.put(self.bucket, key, body, content_type="text/csv")

    async def content(self, key: str) -> bytes:
        """Read an object."""
        source = await self.objects.head(self.bucket, key)
        return await self.objects.read(source, 0, source.size)


@pytest.fixture(params=["memory", "sqlite", "ministack"])
async def kit(
    request: pytest.FixtureRequest, names: ResourceNames, open_store: Callable[[], Awaitable[Store]]
) -> AsyncIterator[ObjectsUnderTest]:
    if request.param == "memory":
        yield ObjectsUnderTest(MemoryObjects(), names.bucket)
        return
    if request.param == "sqlite":
        async with await open_store() as store:
            yield ObjectsUnderTest(store.objects, names.bucket)
        return
    options = AwsOptions(REGION, request.getfixturevalue("endpoint"), ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients:
        await clients.s3.create_bucket(Bucket=names.bucket)
        yield ObjectsUnderTest(S3Objects(clients, part_bytes=PART), names.bucket)


async def test_put_stores_a_whole_object(kit: ObjectsUnderTest) -> None:
    """`put` stores the bytes and returns size and SHA-256."""
    stored = await kit.put("a/b ü.csv", b"x,y\n")
    assert stored == StoredFile(kit.bucket, "a/b ü.csv", 4, hashlib.sha256(b"x,y\n").hexdigest())
    assert await kit.content("a/b ü.csv") == b"x,y\n"


@pytest.fixture(params=["memory", "sqlite", "moto"])
async def conditional(
    request: pytest.FixtureRequest, names: ResourceNames, open_store: Callable[[], Awaitable[Store]]
) -> AsyncIterator[ObjectsUnderTest]:
    """Ports that keep the conditions of writes; ministack ignores them."""
    if request.param == "memory":
        yield ObjectsUnderTest(MemoryObjects(), names.bucket)
        return
    if request.param == "sqlite":
        async with await open_store() as store:
            yield ObjectsUnderTest(store.objects, names.bucket)
        return
    options = AwsOptions(REGION, request.getfixturevalue("moto_endpoint"), ACCESS_KEY, SECRET_KEY)
    async with open_clients(options) as clients:
        await clients.s3.create_bucket(Bucket=names.bucket)
        yield ObjectsUnderTest(S3Objects(clients), names.bucket)


async def test_a_conditional_put_replaces_only_what_it_names(conditional: ObjectsUnderTest) -> None:
    """An object is written in the place of none, or of the one with that ETag, and else not at all."""
    kit = conditional

    async def put_if(body: bytes, etag: str) -> bool:
        return await kit.objects.put_if(kit.bucket, "m", body, content_type="text/plain", etag=etag)

    assert await put_if(b"one", "")
    assert not await put_if(b"two", "")
    assert await kit.content("m") == b"one"
    etag = (await kit.objects.head(kit.bucket, "m")).etag
    assert await put_if(b"three", etag)
    assert not await put_if(b"four", etag)
    assert await kit.content("m") == b"three"
    assert not await kit.objects.put_if(kit.bucket, "n", b"x", content_type="text/plain", etag=etag)


async def test_head_returns_size_and_unquoted_etag(kit: ObjectsUnderTest) -> None:
    """`head` returns bucket, key, size, version and the ETag without quotes."""
    await kit.put("one", b"12345")
    source = await kit.objects.head(kit.bucket, "one")
    assert (source.bucket, source.key, source.size, source.version) == (kit.bucket, "one", 5, "")
    assert source.etag == hashlib.md5(b"12345").hexdigest()


async def test_listing_pages_through_a_prefix(kit: ObjectsUnderTest) -> None:
    """Objects under a prefix are listed in key order with size and ETag, `limit` at a time."""
    for key in ("c/b ü+&.yaml", "c/a.yaml", "c/sub/x.yaml", "other", "c", "c/z.yaml"):
        await kit.put(key, key.encode())
    first = await kit.objects.listing(kit.bucket, "c/", limit=2)
    assert [source.key for source in first.sources] == ["c/a.yaml", "c/b ü+&.yaml"]
    assert first.after == "c/b ü+&.yaml"
    rest = await kit.objects.listing(kit.bucket, "c/", after=first.after, limit=2)
    assert ([source.key for source in rest.sources], rest.after) == (["c/sub/x.yaml", "c/z.yaml"], None)
    assert first.sources[0] == await kit.objects.head(kit.bucket, "c/a.yaml")
    assert await kit.objects.read(first.sources[1], 0, 100) == "c/b ü+&.yaml".encode()


async def test_listing_shows_a_changed_object_by_its_etag(kit: ObjectsUnderTest) -> None:
    """An overwritten object has another ETag at once; an empty prefix lists no objects."""
    assert (await kit.objects.listing(kit.bucket, "c/")) == Listing([], None)
    await kit.put("c/a", b"1")
    (old,) = (await kit.objects.listing(kit.bucket, "c/")).sources
    await kit.put("c/a", b"2")
    (new,) = (await kit.objects.listing(kit.bucket, "c/")).sources
    assert old.etag != new.etag
    assert (await kit.objects.listing(kit.bucket, "", limit=1)).after is None


async def test_objects_below_a_prefix_are_deleted(kit: ObjectsUnderTest) -> None:
    """Or one alone, if only it is meant; where nothing is left, 0."""
    for key in ("a/1", "a/2", "a/2.old", "ab", "b/1"):
        await kit.put(key, b"x")
    assert await kit.objects.delete(kit.bucket, "a/2", is_prefix=False) == 1
    assert await kit.objects.delete(kit.bucket, "a/2", is_prefix=False) == 0
    assert await kit.objects.delete(kit.bucket, "a/") == 2
    assert await kit.objects.delete(kit.bucket, "a/") == 0
    left = await kit.objects.listing(kit.bucket, "")
    assert [source.key for source in left.sources] == ["ab", "b/1"]


async def test_large_objects_are_deleted(kit: ObjectsUnderTest) -> None:
    """On this machine they are files."""
    await kit.put("a/large", b"x" * 200_000)
    assert await kit.objects.delete(kit.bucket, "a/") == 1
    with pytest.raises(SourceError, match="does not exist"):
        await kit.objects.head(kit.bucket, "a/large")


async def test_all_versions_are_deleted(moto_endpoint: str, names: ResourceNames) -> None:
    """In a bucket with versions nothing is left of an object, not even the mark of an earlier deletion."""
    async with open_clients(AwsOptions(REGION, moto_endpoint, ACCESS_KEY, SECRET_KEY)) as clients:
        await clients.s3.create_bucket(Bucket=names.bucket)
        await clients.s3.put_bucket_versioning(
            Bucket=names.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        kit = ObjectsUnderTest(S3Objects(clients), names.bucket)
        for body in (b"1", b"2"):
            await kit.put("a", body)
        await clients.s3.delete_object(Bucket=names.bucket, Key="a")
        assert await kit.objects.delete(names.bucket, "a") == 3
        page = await clients.s3.list_object_versions(Bucket=names.bucket)
        assert not page.get("Versions")
        assert not page.get("DeleteMarkers")


async def test_listing_a_missing_bucket_is_an_error(clients: Clients, names: ResourceNames) -> None:
    """On S3 a missing bucket raises AccessError that names it, instead of an empty listing."""
    with pytest.raises(AccessError, match=f"s3://{names.bucket}/config/ does not exist"):
        await S3Objects(clients).listing(names.bucket, "config/")


async def test_reads_of_ranges(kit: ObjectsUnderTest) -> None:
    """A read returns the range, fewer bytes at the end, and none past the end or of an empty object."""
    await kit.put("one", b"0123456789")
    source = await kit.objects.head(kit.bucket, "one")
    assert await kit.objects.read(source, 2, 3) == b"234"
    assert await kit.objects.read(source, 8, 100) == b"89"
    assert await kit.objects.read(source, 10, 5) == b""
    assert await kit.objects.read(source, 3, 0) == b""
    await kit.put("empty", b"")
    assert await kit.objects.read(await kit.objects.head(kit.bucket, "empty"), 0, 100) == b""


async def test_a_missing_object_is_a_source_error(kit: ObjectsUnderTest) -> None:
    """`head` and `read` raise SourceError that names the missing object."""
    await kit.put("one", b"1")
    source = await kit.objects.head(kit.bucket, "one")
    with pytest.raises(SourceError, match=r"nothing\.csv does not exist"):
        await kit.objects.head(kit.bucket, "nothing.csv")
    with pytest.raises(SourceError, match="does not exist"):
        await kit.objects.head(kit.bucket + "-other", "nothing.csv")
    missing = type(source)(kit.bucket, "two", source.etag)
    with pytest.raises(SourceError, match="does not exist"):
        await kit.objects.read(missing, 0, 1)


async def test_a_changed_object_is_a_source_error(kit: ObjectsUnderTest) -> None:
    """A read with an earlier ETag of the object raises SourceError."""
    await kit.put("one", b"old")
    source = await kit.objects.head(kit.bucket, "one")
    await kit.put("one", b"new")
    with pytest.raises(SourceError, match="changed while it was read"):
        await kit.objects.read(source, 0, 3)


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART + 5])
async def test_an_upload_stores_the_whole_object(kit: ObjectsUnderTest, size: int) -> None:
    """Bytes written in pieces are read back as one object, from no, one or several parts."""
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    async with kit.objects.upload(kit.bucket, "big.csv", content_type="text/csv") as upload:
        for start in range(0, size, 1_000_003):
            await upload.write(body[start : start + 1_000_003])
        stored = await upload.complete()
    assert stored == StoredFile(kit.bucket, "big.csv", size, hashlib.sha256(body).hexdigest())
    assert await kit.content("big.csv") == body


@pytest.mark.parametrize("size", [10, PART + 1])
async def test_an_upload_is_invisible_until_completed(kit: ObjectsUnderTest, size: int) -> None:
    """An object does not exist during its upload, nor after an upload that was not completed."""
    async with kit.objects.upload(kit.bucket, "big.csv", content_type="text/csv") as upload:
        await upload.write(b"x" * size)
        with pytest.raises(SourceError):
            await kit.objects.head(kit.bucket, "big.csv")
    with pytest.raises(SourceError):
        await kit.objects.head(kit.bucket, "big.csv")


async def test_an_error_aborts_the_upload(kit: ObjectsUnderTest) -> None:
    """After an exception inside the context the earlier object is unchanged."""
    await kit.put("big.csv", b"old")

    async def fail() -> None:
        async with kit.objects.upload(kit.bucket, "big.csv", content_type="text/csv") as upload:
            await upload.write(b"x" * (PART + 1))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await fail()
    assert await kit.content("big.csv") == b"old"


async def test_a_closed_upload_refuses_calls(kit: ObjectsUnderTest) -> None:
    """`write` and `complete` after completion raise RuntimeError."""
    async with kit.objects.upload(kit.bucket, "one", content_type="text/csv") as upload:
        await upload.complete()
        with pytest.raises(RuntimeError, match="closed"):
            await upload.write(b"more")
        with pytest.raises(RuntimeError, match="closed"):
            await upload.complete()


async def test_an_abandoned_multipart_upload_leaves_no_parts(endpoint: str, names: ResourceNames) -> None:
    """On S3 the parts of an aborted upload are removed, because they cost money."""
    async with open_clients(AwsOptions(REGION, endpoint, ACCESS_KEY, SECRET_KEY)) as clients:
        await clients.s3.create_bucket(Bucket=names.bucket)
        objects = S3Objects(clients, part_bytes=PART)
        async with objects.upload(names.bucket, "big.csv", content_type="text/csv") as upload:
            await upload.write(b"x" * (PART + 1))
            listed = await clients.s3.list_multipart_uploads(Bucket=names.bucket)
            assert len(listed["Uploads"]) == 1
        listed = await clients.s3.list_multipart_uploads(Bucket=names.bucket)
        assert not listed.get("Uploads")


async def begin(kit: ObjectsUnderTest, key: str) -> Upload:
    """Begin an upload of more than one part and leave it unfinished, as a crashed process does."""
    upload = kit.objects.upload(kit.bucket, key, content_type="text/csv")
    await upload.write(b"x" * (PART + 1))
    return upload


async def test_unfinished_uploads_of_a_key_are_aborted(kit: ObjectsUnderTest) -> None:
    """All unfinished uploads of exactly this key are aborted, and cannot be completed any more."""
    uploads = [await begin(kit, "results/output.csv") for _ in range(2)]
    similar = await begin(kit, "results/output.csv.old")
    assert await kit.objects.abort_uploads(kit.bucket, "results/output.csv") == 2
    assert await kit.objects.abort_uploads(kit.bucket, "results/output.csv") == 0
    for upload in uploads:
        with pytest.raises(UnknownResultError):
            await upload.complete()
    with pytest.raises(SourceError):
        await kit.objects.head(kit.bucket, "results/output.csv")
    await similar.complete()
    assert await kit.content("results/output.csv.old") == b"x" * (PART + 1)


async def test_an_upload_that_another_process_has_aborted_is_left_in_peace(kit: ObjectsUnderTest) -> None:
    """Leaving it early asks for no more than what has happened."""
    async with await begin(kit, "taken over"):
        assert await kit.objects.abort_uploads(kit.bucket, "taken over") == 1


async def test_a_finished_upload_is_not_aborted(kit: ObjectsUnderTest) -> None:
    """An upload that was completed or left is not among the unfinished ones."""
    async with await begin(kit, "done") as upload:
        await upload.complete()
    async with await begin(kit, "left"):
        pass
    assert await kit.objects.abort_uploads(kit.bucket, "done") == 0
    assert await kit.objects.abort_uploads(kit.bucket, "left") == 0
    assert await kit.content("done") == b"x" * (PART + 1)


async def test_a_look_at_a_place_leaves_nothing(kit: ObjectsUnderTest) -> None:
    """`check_writable` returns where objects may be written, and leaves neither object nor upload."""
    await kit.objects.check_writable(kit.bucket, "out/manifest.json")
    assert (await kit.objects.listing(kit.bucket, "out/")).sources == []
    assert await kit.objects.abort_uploads(kit.bucket, "out/manifest.json") == 0


@pytest.mark.parametrize("kit", ["memory", "ministack"], indirect=True)  # a folder needs no buckets
async def test_a_look_at_a_bucket_that_does_not_exist_is_refused(kit: ObjectsUnderTest) -> None:
    """The error names the bucket."""
    if isinstance(kit.objects, MemoryObjects):
        kit.objects.refused.add("no-such-bucket")
    with pytest.raises(AccessError, match="no-such-bucket"):
        await kit.objects.check_writable("no-such-bucket", "out/manifest.json")


async def test_an_upload_goes_on_in_another_process(kit: ObjectsUnderTest) -> None:
    """What is in parts is not written again; the object is the same, and its sha256 is unknown."""
    if isinstance(kit.objects, MemoryObjects):
        kit.objects.part_bytes = PART
    body = bytes(range(251)) * (2 * PART // 251 + 99)
    async with kit.objects.upload(kit.bucket, "big.csv", content_type="text/csv") as first:
        await first.write(body[: PART + 7])
        progress = first.progress
        first.leave()
    assert (len(progress.parts), progress.size, progress.tail) == (1, PART + 7, body[PART : PART + 7])
    assert first.stored_bytes == PART
    async with kit.objects.upload(
        kit.bucket, "big.csv", content_type="text/csv", progress=progress
    ) as second:
        await second.write(body[PART + 7 :])
        stored = await second.complete()
    assert stored == StoredFile(kit.bucket, "big.csv", len(body), "")
    assert await kit.content("big.csv") == body
    assert await kit.objects.abort_uploads(kit.bucket, "big.csv") == 0


async def test_an_upload_that_is_to_go_on_is_kept(kit: ObjectsUnderTest) -> None:
    """`keep` names the one upload that is not aborted; one that is gone raises UploadGoneError."""
    if isinstance(kit.objects, MemoryObjects):
        kit.objects.part_bytes = PART
    kept, _ = [await begin(kit, "big.csv") for _ in range(2)]
    progress = kept.progress
    assert await kit.objects.abort_uploads(kit.bucket, "big.csv", keep=progress.id) == 1
    assert await kit.objects.abort_uploads(kit.bucket, "big.csv") == 1
    async with kit.objects.upload(
        kit.bucket, "big.csv", content_type="text/csv", progress=progress
    ) as upload:
        with pytest.raises(UploadGoneError):
            await upload.complete()
        upload.leave()


async def test_an_upload_without_parts_goes_on_with_its_sha256(kit: ObjectsUnderTest) -> None:
    """All its bytes are in the progress."""
    async with kit.objects.upload(kit.bucket, "small.csv", content_type="text/csv") as first:
        await first.write(b"ab")
        progress = first.progress
    assert (progress.id, progress.parts, progress.tail) == ("", (), b"ab")
    async with kit.objects.upload(
        kit.bucket, "small.csv", content_type="text/csv", progress=progress
    ) as second:
        await second.write(b"c")
        stored = await second.complete()
    assert stored.sha256 == hashlib.sha256(b"abc").hexdigest()


def test_ten_thousand_parts_hold_the_largest_object() -> None:
    """Parts grow with the offset: 10,000 hold S3's 5 TiB, none is above 5 GiB; at 100 GB they have 70 MiB."""
    size = parts = largest = 0
    at_100_gb = 0
    while size < 5 * 2**40:
        largest = max(PART_BYTES, size // GROWTH_PARTS)
        at_100_gb = at_100_gb or (largest if size >= 100 * 10**9 else 0)
        size, parts = size + largest, parts + 1
    assert parts <= 10_000
    assert largest <= 5 * 2**30
    assert at_100_gb <= 70 * 2**20
