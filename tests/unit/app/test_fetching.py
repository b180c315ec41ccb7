"""Results of any round, fetched with their digests checked."""

import hashlib
import io
import json
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryObjects
from service.app.fetching import fetch_results, find_results, stream_results
from service.domain.errors import SourceError, UsageError
from service.domain.model import Batch, Location, Source, State

BATCH = Batch("demo", "e1", State.COMPLETED_WITH_ERRORS, Source("b", "k"), Location("b", "out/"), round=3)


@pytest.fixture
async def objects():
    """The results of rounds 1 and 2 of a batch in its third; round 1 has failures."""
    made = MemoryObjects()
    await put(made, 1, {"failures.csv": b"name\nbob\n", "output.csv": b"name\nann\nbob\n"})
    await put(made, 2, {"output.csv": b"name\nann\nbob 2\n"})
    return made


async def put(objects, round_, files):
    place = replace(BATCH, round=round_).results
    entries = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    ]
    files = files | {"manifest.json": json.dumps({"files": entries}).encode()}
    for name, data in files.items():
        await objects.put(place.bucket, place.prefix + name, data, content_type="text/csv")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_the_newest_round_that_has_results(objects, tmp_path):
    """Round 3 has none yet. Files of another result give way, a file beside them stays."""
    for name in ("out.failures.csv", "out.long_cells.csv", "mine.csv"):
        (tmp_path / name).write_text("earlier")
    results = await find_results(objects, BATCH)
    files = await fetch_results(objects, results, tmp_path / "out.csv")
    assert (results.batch_id, results.round) == ("demo#e1", 2)
    assert list(files) == ["output.csv", "manifest.json"]
    assert (tmp_path / "out.csv").read_bytes() == b"name\nann\nbob 2\n"
    assert names(tmp_path) == ["mine.csv", "out.csv", "out.manifest.json"]


async def test_an_earlier_round(objects, tmp_path):
    """With its failures; output.csv is named first, the manifest last."""
    results = await find_results(objects, BATCH, 1)
    files = await fetch_results(objects, results, tmp_path / "out.csv")
    assert list(files) == ["output.csv", "failures.csv", "manifest.json"]
    assert (tmp_path / "out.failures.csv").read_bytes() == b"name\nbob\n"


async def test_results_replace_those_of_an_earlier_run(objects, tmp_path):
    """If no row failed, the failures of an earlier run are deleted, as they do not belong to this run."""
    (tmp_path / "x.failures.csv").write_text("earlier")
    (tmp_path / "x.manifest.json").write_text("earlier")
    files = await fetch_results(objects, await find_results(objects, BATCH), tmp_path / "x.csv")
    assert files == {"output.csv": tmp_path / "x.csv", "manifest.json": tmp_path / "x.manifest.json"}
    assert names(tmp_path) == ["x.csv", "x.manifest.json"]
    assert "earlier" not in {path.read_text() for path in tmp_path.iterdir()}


async def test_a_failed_download_keeps_the_results_of_an_earlier_run(objects, tmp_path):
    """If one file cannot be downloaded, all files of an earlier run are unchanged."""
    earlier = {"x.csv", "x.failures.csv", "x.manifest.json"}
    for name in earlier:
        (tmp_path / name).write_text("earlier")
    found = await find_results(objects, BATCH, 1)
    results = replace(found, digests={**found.digests, "long_cells.csv": "of a file that is not there"})
    with pytest.raises(SourceError):
        await fetch_results(objects, results, tmp_path / "x.csv")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(earlier, "earlier")


async def test_a_stream(objects):
    """output.csv, byte for byte."""
    stream = io.BytesIO()
    await stream_results(objects, await find_results(objects, BATCH), stream)
    assert stream.getvalue() == b"name\nann\nbob 2\n"


async def test_a_file_that_was_changed_is_refused(objects, tmp_path):
    """Nothing is written: the error names the file and the way to have it written again."""
    place = replace(BATCH, round=2).results
    await objects.put(place.bucket, place.prefix + "output.csv", b"other", content_type="text/csv")
    results = await find_results(objects, BATCH)
    (tmp_path / "out.csv").write_text("earlier")
    with pytest.raises(UsageError, match=r"round-002/output.csv is not as its manifest.*finish demo#e1`"):
        await fetch_results(objects, results, tmp_path / "out.csv")
    assert (names(tmp_path), (tmp_path / "out.csv").read_text()) == (["out.csv"], "earlier")
    with pytest.raises(UsageError, match="not as its manifest"):
        await stream_results(objects, results, io.BytesIO())


@pytest.mark.parametrize(
    ("batch", "round_", "reason"),
    [
        (BATCH, 4, "has 3 rounds: there is no round 4"),
        (replace(BATCH, round=1), 2, "has 1 round: there is no round 2"),
        (
            replace(BATCH, state=State.RUNNING),
            3,
            "no results of round 3.*RUNNING, and they are written at",
        ),
        (
            replace(BATCH, execution_id="e2", output=Location("b", "no/")),
            None,
            "no results of demo#e2: it is",
        ),
    ],
)
async def test_results_that_are_not_there(objects, batch, round_, reason):
    """One sentence says which rounds there are, or in which state the batch is."""
    with pytest.raises(UsageError, match=reason):
        await find_results(objects, batch, round_)


async def test_a_place_that_cannot_be_written(objects, tmp_path):
    """The error names the file as the user knows it."""
    with pytest.raises(OSError, match="No such file") as caught:
        await fetch_results(objects, await find_results(objects, BATCH), tmp_path / "no" / "out.csv")
    assert caught.value.filename == str(tmp_path / "no" / "out.csv")
