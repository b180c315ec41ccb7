"""MappingFolders of mapping files in a bucket."""

import pytest

from service.adapters.memory import MemoryObjects
from service.catalog import folders
from service.catalog.folders import BucketFolder, MappingFolders
from service.domain.errors import AccessError, ConfigError, MappingError, RetryableError, SourceError
from service.domain.model import Location
from service.mapping.syntax.yaml_text import MAX_BYTES

FOLDER = Location("b", "config/mappings/")


class RecordingObjects(MemoryObjects):
    """Records the keys that are read. `before_read` runs between a listing and each read."""

    def __init__(self):
        super().__init__()
        self.reads = []
        self.before_read = None

    async def read(self, source, start, length):
        """Read after calling `before_read`."""
        self.reads.append(source.key.rpartition("/")[2])
        if self.before_read is not None:
            await self.before_read()
        return await super().read(source, start, length)


async def store(objects, name, body=b"x", folder="config/mappings/"):
    await objects.put("b", folder + name, body, content_type="text/yaml")


async def test_only_yaml_files_directly_in_the_folder_are_read():
    """`*.yaml` and `*.yml` are returned by URL, without a BOM. A missing folder is empty."""
    objects = RecordingObjects()
    for name in ("a.yaml", "b.yml", "README.md", "samples/a/x.yaml", ".yaml"):
        await store(objects, name, b"\xef\xbb\xbfhello")
    await store(objects, "c.yaml", folder="config/mappings2/")
    read = await BucketFolder(objects, FOLDER).read()
    assert read == {f"s3://b/config/mappings/{name}": "hello" for name in ("a.yaml", "b.yml")}
    assert await BucketFolder(objects, Location("b", "nothing/")).read() == {}


async def test_only_changed_files_are_read_again():
    """A file with the same etag is not downloaded again. A deleted file disappears."""
    objects = RecordingObjects()
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        await store(objects, name)
    folder = BucketFolder(objects, FOLDER)
    await folder.read()
    await store(objects, "b.yaml", b"new")
    del objects.stored["b", "config/mappings/c.yaml"]
    objects.reads.clear()
    read = await folder.read()
    assert objects.reads == ["b.yaml"]
    assert sorted(read.values()) == ["new", "x"]


async def test_a_folder_of_several_pages_is_read():
    """Listing continues after each page, up to MAX_FILES files."""
    objects = RecordingObjects()
    for number in range(folders.MAX_FILES):
        await store(objects, f"{number:04}.yaml")
    for number in range(50):
        await store(objects, f"{number:04}.txt")
    assert len(await BucketFolder(objects, FOLDER).read()) == folders.MAX_FILES
    await store(objects, "one-more.yaml")
    with pytest.raises(ConfigError, match=r"holds 1001 files, 1000 are allowed: remove some"):
        await BucketFolder(objects, FOLDER).read()


async def test_a_prefix_with_too_many_objects_is_refused():
    """Listing stops at MAX_LISTED objects. The error names the prefix and the remedy."""
    objects = RecordingObjects()
    for number in range(folders.MAX_LISTED + 1):
        await store(objects, f"{number}.csv")
    with pytest.raises(
        ConfigError, match=r"s3://b/config/mappings/ holds more than 10000 .* prefix of its own"
    ):
        await BucketFolder(objects, FOLDER).read()


async def test_the_total_size_of_files_is_bounded():
    """If the files are too large together, none of them is downloaded."""
    objects = RecordingObjects()
    for number in range(folders.MAX_TOTAL_BYTES // MAX_BYTES + 1):
        await store(objects, f"{number}.yaml", b"x" * MAX_BYTES)
    with pytest.raises(ConfigError, match="are allowed: remove some"):
        await BucketFolder(objects, FOLDER).read()
    assert objects.reads == []


async def test_a_file_too_large_or_not_utf8_is_reported():
    """Other files are read. A file that is too large is not downloaded."""
    objects = RecordingObjects()
    await store(objects, "a.yaml", b"x" * (MAX_BYTES + 1))
    await store(objects, "b.yaml", b"1\n\xff")
    await store(objects, "c.yaml")
    files = await MappingFolders(FOLDER, Location("b", "config/schemas/"), objects).read()
    assert files.mappings == {"s3://b/config/mappings/c.yaml": "x"}
    assert [(p.file.rpartition("/")[2], p.line) for p in files.problems] == [("a.yaml", 1), ("b.yaml", 2)]
    assert "larger than 256 KiB" in str(files.problems[0])
    assert "a.yaml" not in objects.reads


async def test_a_file_that_changes_while_it_is_read_is_read_again():
    """The folder is listed again. A file that changes during each attempt raises RetryableError."""
    objects = RecordingObjects()
    await store(objects, "a.yaml", b"old")

    async def change_once():
        objects.before_read = None
        await store(objects, "a.yaml", b"new")

    objects.before_read = change_once
    assert list((await BucketFolder(objects, FOLDER).read()).values()) == ["new"]

    async def change_always():
        await store(objects, "a.yaml", b"%d" % len(objects.reads))

    objects.before_read = change_always
    with pytest.raises(RetryableError, match="changed while it was read"):
        await BucketFolder(objects, FOLDER).read()


@pytest.mark.parametrize("error", [AccessError("no"), RetryableError("later")])
async def test_an_error_while_reading_is_raised_and_keeps_the_cache(error):
    """Files read before the error are not downloaded again after it."""
    objects = RecordingObjects()
    await store(objects, "a.yaml")
    folder = BucketFolder(objects, FOLDER)
    await folder.read()
    await store(objects, "b.yaml")

    async def fail():
        raise error

    objects.before_read = fail
    with pytest.raises(type(error)):
        await folder.read()
    objects.before_read = None
    objects.reads.clear()
    await folder.read()
    assert objects.reads == ["b.yaml"]


async def test_a_local_folder_and_a_bucket_folder_can_be_combined(tmp_path):
    """Mappings are local and schemas in a bucket. A missing local folder of mappings raises MappingError."""
    objects = RecordingObjects()
    await store(objects, "s.yaml", b"agent: t")
    (tmp_path / "m.yaml").write_text("x")
    files = await MappingFolders(tmp_path, FOLDER, objects).read()
    assert list(files.mappings.values()) == ["x"]
    assert list(files.schemas.values()) == ["agent: t"]
    with pytest.raises(MappingError, match="is no folder with mappings"):
        await MappingFolders(tmp_path / "none", FOLDER, objects).read()


async def test_a_forbidden_file_does_not_count_as_deleted():
    """A forbidden read fails the whole folder, so that its mapping does not disappear."""
    objects = RecordingObjects()
    await store(objects, "a.yaml")

    async def forbid():
        raise SourceError("s3://b/config/mappings/a.yaml may not be read: grant s3:GetObject")

    objects.before_read = forbid
    with pytest.raises(RetryableError, match="grant s3:GetObject"):
        await BucketFolder(objects, FOLDER).read()
