"""MappingFolders of mapping files in a bucket."""

import pytest

from service.adapters.memory import MemoryObjects
from service.catalog import folders
from service.catalog.folders import BucketFolder, MappingFolders
from service.domain.errors import AccessError, ConfigError, MappingError, RetryableError, SourceError
from service.domain.model import Location
from service.mapping.syntax.yaml_text import MAX_BYTES

FOLDER = Location("b", "config/mappings/")


class Watched(MemoryObjects):
    """Counts reads; `before_read` may change the world between a listing and a read."""

    def __init__(self):
        super().__init__()
        self.reads = []
        self.before_read = None

    async def read(self, source, start, length):
        """Read, after the world has changed."""
        self.reads.append(source.key.rpartition("/")[2])
        if self.before_read is not None:
            await self.before_read()
        return await super().read(source, start, length)


async def store(objects, name, body=b"x", folder="config/mappings/"):
    await objects.put("b", folder + name, body, content_type="text/yaml")


async def test_files_directly_in_the_folder_are_read():
    """`*.yaml` and `*.yml`, by their URLs, without a BOM; nothing else."""
    objects = Watched()
    for name in ("a.yaml", "b.yml", "README.md", "samples/a/x.yaml", ".yaml"):
        await store(objects, name, b"\xef\xbb\xbfhello")
    await store(objects, "c.yaml", folder="config/mappings2/")
    read = await BucketFolder(objects, FOLDER).read()
    assert read == {f"s3://b/config/mappings/{name}": "hello" for name in ("a.yaml", "b.yml")}
    assert await BucketFolder(objects, Location("b", "nothing/")).read() == {}


async def test_only_what_changed_is_read_again():
    """A file whose etag is the same is not read; one that is gone is forgotten."""
    objects = Watched()
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


async def test_many_pages_are_read():
    """A listing goes on where its page ended."""
    objects = Watched()
    for number in range(folders.MAX_FILES):
        await store(objects, f"{number:04}.yaml")
    for number in range(50):
        await store(objects, f"{number:04}.txt")
    assert len(await BucketFolder(objects, FOLDER).read()) == folders.MAX_FILES
    await store(objects, "one-more.yaml")
    with pytest.raises(ConfigError, match=r"holds 1001 files, 1000 are allowed: remove some"):
        await BucketFolder(objects, FOLDER).read()


async def test_a_prefix_with_too_much_in_it_is_refused():
    """A wrong prefix is said, with the remedy, before a listing of a whole bucket."""
    objects = Watched()
    for number in range(folders.MAX_LISTED + 1):
        await store(objects, f"{number}.csv")
    with pytest.raises(
        ConfigError, match=r"s3://b/config/mappings/ holds more than 10000 .* prefix of its own"
    ):
        await BucketFolder(objects, FOLDER).read()


async def test_the_sum_of_all_files_is_bounded():
    """Files that are too large together are not read at all."""
    objects = Watched()
    for number in range(folders.MAX_TOTAL_BYTES // MAX_BYTES + 1):
        await store(objects, f"{number}.yaml", b"x" * MAX_BYTES)
    with pytest.raises(ConfigError, match="are allowed: remove some"):
        await BucketFolder(objects, FOLDER).read()
    assert objects.reads == []


async def test_a_file_that_is_too_large_or_no_text_is_a_problem_of_its_own():
    """The other files are read."""
    objects = Watched()
    await store(objects, "a.yaml", b"x" * (MAX_BYTES + 1))
    await store(objects, "b.yaml", b"1\n\xff")
    await store(objects, "c.yaml")
    sources = await MappingFolders(FOLDER, Location("b", "config/schemas/"), objects).read()
    assert sources.mappings == {"s3://b/config/mappings/c.yaml": "x"}
    assert [(p.file.rpartition("/")[2], p.line) for p in sources.problems] == [("a.yaml", 1), ("b.yaml", 2)]
    assert "larger than 256 KiB" in str(sources.problems[0])
    assert "a.yaml" not in objects.reads


async def test_a_file_that_changes_while_it_is_read_is_read_again():
    """The listing is taken anew; a file that never holds still is tried again later."""
    objects = Watched()
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
async def test_what_keeps_the_folder_from_being_read_comes_through(error):
    """Nothing is forgotten by a failure: what was read before is not read again after it."""
    objects = Watched()
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


async def test_a_local_folder_and_one_in_a_bucket_go_together(tmp_path):
    """Each of the two may be here or there; a missing local folder of mappings is said."""
    objects = Watched()
    await store(objects, "s.yaml", b"agent: t")
    (tmp_path / "m.yaml").write_text("x")
    sources = await MappingFolders(tmp_path, FOLDER, objects).read()
    assert list(sources.mappings.values()) == ["x"]
    assert list(sources.schemas.values()) == ["agent: t"]
    with pytest.raises(MappingError, match="is no folder with mappings"):
        await MappingFolders(tmp_path / "none", FOLDER, objects).read()


async def test_a_forbidden_file_is_not_taken_for_a_missing_one():
    """A read that is refused fails the whole look, so that the file is not thought deleted."""
    objects = Watched()
    await store(objects, "a.yaml")

    async def forbid():
        raise SourceError("s3://b/config/mappings/a.yaml may not be read: grant s3:GetObject")

    objects.before_read = forbid
    with pytest.raises(RetryableError, match="grant s3:GetObject"):
        await BucketFolder(objects, FOLDER).read()
