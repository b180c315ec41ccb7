"""Downloads of results."""

import os

import pytest

from service.adapters.memory import MemoryObjects
from service.app.download import download_object, download_results
from service.domain.errors import SourceError, UnreachableError
from service.domain.model import BatchView, Counts


async def test_an_object_is_downloaded(lab, tmp_path):
    """The file has the object's bytes and default permissions, and no other file is left."""
    body = os.urandom(20 * 2**20)
    await lab.objects.put("b", "k", body, content_type="text/csv")
    path = tmp_path / "out.csv"
    assert await download_object(lab.objects, "b", "k", path) == len(body)
    assert path.read_bytes() == body
    probe = tmp_path / "probe"
    probe.touch()
    assert path.stat().st_mode == probe.stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "probe"]


async def test_a_failed_download_changes_nothing(lab, tmp_path):
    """After a failed download the earlier file is unchanged, and no part of the new one is left."""

    class Breaks(MemoryObjects):
        async def read(self, source, start, length):
            if start > 0:
                raise UnreachableError("reset by peer")
            return await super().read(source, start, length)

    objects = Breaks()
    await objects.put("b", "k", bytes(20 * 2**20), content_type="text/csv")
    path = tmp_path / "out.csv"
    path.write_text("earlier")
    with pytest.raises(UnreachableError):
        await download_object(objects, "b", "k", path)
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


async def test_a_missing_object_creates_no_file(lab, tmp_path):
    """The download of a missing object raises SourceError and creates no file."""
    with pytest.raises(SourceError):
        await download_object(lab.objects, "b", "none", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


async def store_results(lab, *names):
    batch = await lab.batch(2)
    for name in names:
        await lab.objects.put(
            batch.results.bucket, batch.results.prefix + name, name.encode(), content_type="text/plain"
        )
    return batch


async def test_results_replace_those_of_an_earlier_run(lab, tmp_path):
    """If no row failed, the failures of an earlier run are deleted, as they do not belong to this run."""
    batch = await store_results(lab, "output.csv", "manifest.json")
    (tmp_path / "x.failures.csv").write_text("earlier")
    (tmp_path / "x.manifest.json").write_text("earlier")
    view = BatchView(batch, Counts(succeeded=2))
    files = await download_results(lab.objects, view, tmp_path / "x.csv")
    assert files == {"output.csv": tmp_path / "x.csv", "manifest.json": tmp_path / "x.manifest.json"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "x.csv": "output.csv",
        "x.manifest.json": "manifest.json",
    }


async def test_a_failed_download_keeps_the_results_of_an_earlier_run(lab, tmp_path):
    """If one file cannot be downloaded, all files of an earlier run are unchanged."""
    batch = await store_results(lab, "output.csv", "failures.csv")
    earlier = {"x.csv", "x.failures.csv", "x.manifest.json"}
    for name in earlier:
        (tmp_path / name).write_text("earlier")
    view = BatchView(batch, Counts(succeeded=1, failed=1))
    with pytest.raises(SourceError):
        await download_results(lab.objects, view, tmp_path / "x.csv")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(earlier, "earlier")
