"""The runs of a store, and the files that they have written."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.app.laptop.run_book import MAX_WRITTEN, RunBook, RunRecord, WrittenFile


def book(lab) -> RunBook:
    """The book in the bucket of the laboratory."""
    return RunBook(lab.objects, "out")


RECORD = RunRecord("demo#e1", "in.csv", "out.csv", key="k1", sending_key="s1", whole_key="w1", records=3)


async def test_a_run_is_found_by_its_keys(lab):
    """By its batch, its command, the calls that it makes and its file; the newest run of a key counts."""
    runs = book(lab)
    assert await runs.of_command("k1") is None
    await runs.add(RECORD)
    newer = replace(RECORD, batch_id="demo#e2")
    await runs.add(newer)
    assert await runs.of_batch("demo#e1") == RECORD
    assert [await runs.of_command("k1"), await runs.of_calls("s1"), await runs.of_file("w1")] == [newer] * 3


async def test_the_run_of_an_estimate_is_found_by_its_sample(lab):
    """By the rows that it has called for; a run without an estimate is not."""
    runs = book(lab)
    await runs.add(RECORD)
    assert await runs.of_sample("m1") is None
    estimated = replace(RECORD, batch_id="demo#e2", sampling_key="m1")
    await runs.add(estimated)
    assert await runs.of_sample("m1") == estimated


async def test_facts_of_a_run_may_change(lab):
    """The place of the results is that of the last command; the keys stay those of the newest run."""
    runs = book(lab)
    await runs.add(RECORD)
    await runs.keep(replace(RECORD, out="other.csv"))
    assert (await runs.of_command("k1")).out == "other.csv"


async def test_names_of_files_may_be_any_bytes(lab):
    """A path that is no UTF-8 is kept as it is."""
    runs = book(lab)
    odd = replace(RECORD, source="caf\udce9.csv")
    await runs.add(odd)
    assert await runs.of_batch("demo#e1") == odd


async def test_written_files_are_known_by_their_place(lab, tmp_path):
    """The newest is last, also if it was written before; only so many are kept."""
    runs = book(lab)
    place = tmp_path / "out.csv"
    files = [WrittenFile(f"{n:064d}", f"demo#{n}", 1) for n in range(MAX_WRITTEN + 5)]
    for file in files:
        await runs.write(place, file)
    assert await runs.written(place) == files[5:]
    await runs.write(place, files[7])
    assert (await runs.written(place))[-1] == files[7]
    assert await runs.written(Path(tmp_path, "other.csv")) == []


@pytest.mark.parametrize(
    ("out", "here", "elsewhere"),
    [("out.csv", "out.csv", "{}/out.csv"), ("-", "-", "-"), ("/tmp/out.csv", "/tmp/out.csv", "/tmp/out.csv")],
)
def test_a_place_is_that_of_the_folder_of_the_run(tmp_path, monkeypatch, out, here, elsewhere):
    """From any folder the same file is meant; stdout is stdout."""
    record = RunRecord("demo#e1", "in.csv", out, "k", "k", folder=str(tmp_path))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (record.place, record.source_place) == (here, "in.csv")
    monkeypatch.chdir("other")
    assert (record.place, record.source_place) == (elsewhere.format(tmp_path), f"{tmp_path}/in.csv")


def test_a_record_without_a_folder(tmp_path, monkeypatch):
    """One of an earlier version is taken as it is."""
    monkeypatch.chdir(tmp_path)
    assert RunRecord("demo#e1", "in.csv", "out.csv", "k", "k").place == "out.csv"
