"""Replies that become samples: written once, and read back as they are."""

import json

import pytest

from service.agents.wire.reply_bodies import parse_reply
from service.catalog.recording import RecordedSample, record_samples
from service.catalog.samples import read_samples
from service.domain.errors import UsageError
from service.domain.model import Outcome, RowError, Status


def outcome(error=""):
    """An outcome that a sample expects."""
    reason = RowError("ExtractionError", error) if error else None
    status = Status.FAILED if error else Status.SUCCESS
    return Outcome(1, 1, status, {}, {} if error else {"a": 1}, 5, "", error=reason)


def record(folder, *samples):
    """Write samples of the mapping `demo`."""
    return [path.name for path in record_samples(folder / "demo", samples, parse_reply)]


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ({"answer": "x", "n": 1.5}, "s.json"),
        ([1, None, True], "s.json"),
        ("plain words", "s.txt"),
        ('{"json": "in a text"}', "s.json"),
        ('data: {"a": 1}\n\n', "s.json"),
        ("17", "s.json"),
    ],
)
def test_a_reply_is_read_back_as_it_is(tmp_path, reply, name):
    """Text in a file of text, unless it would be taken for something else."""
    assert record(tmp_path, RecordedSample("s", reply)) == [name]
    samples, problems = read_samples(tmp_path, 10_000, parse_reply)
    assert problems == []
    assert [(sample.name, sample.reply, sample.expected) for sample in samples] == [("demo", reply, None)]


@pytest.mark.parametrize("error", ["", "no value for any of a", "x" * 1_999 + "…"])
def test_the_present_outcome_is_what_is_expected(tmp_path, error):
    """The values, or the error, of which a long one was cut."""
    assert record(tmp_path, RecordedSample("s", {"a": 1}, outcome(error))) == ["s.json", "s.expected.json"]
    [sample], problems = read_samples(tmp_path, 10_000, parse_reply)
    assert problems == []
    assert sample.expected.status is (Status.FAILED if error else Status.SUCCESS)
    assert sample.expected.output_data == (None if error else {"a": 1})
    assert sample.expected.error == (f"ExtractionError: {error}".removesuffix("…") if error else "")


def test_no_file_is_overwritten(tmp_path):
    """And nothing is written if one of several is there."""
    record(tmp_path, RecordedSample("s", {"a": 1}))
    with pytest.raises(UsageError, match=r"demo/s\.json is there and stays as it is"):
        record(tmp_path, RecordedSample("t", {"a": 2}), RecordedSample("s", {"a": 3}))
    assert json.loads((tmp_path / "demo" / "s.json").read_text("utf-8")) == {"a": 1}
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["s.json"]
