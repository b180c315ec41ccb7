"""Records of runs."""

import pytest

from service.app.laptop.run_book import RunRecord


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
