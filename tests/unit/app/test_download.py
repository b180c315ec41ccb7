"""Downloads of objects."""

import hashlib
import os

import pytest

from service.adapters.memory import MemoryObjects
from service.app.download import download_object
from service.domain.errors import SourceError, UnreachableError


async def test_an_object_is_downloaded(lab, tmp_path):
    """The file has the object's bytes and default permissions, and no other file is left."""
    body = os.urandom(20 * 2**20)
    await lab.objects.put("b", "k", body, content_type="text/csv")
    path = tmp_path / "out.csv"
    stored = await download_object(lab.objects, "b", "k", path)
    assert stored.size == len(body)
    assert stored.sha256 == hashlib.sha256(body).hexdigest()
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
