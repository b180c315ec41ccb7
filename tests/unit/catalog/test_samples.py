"""Samples: reading recorded replies and their expectations."""

import json

import pytest

from service.agents.wire.reply_bodies import parse_reply
from service.catalog.sample_check import check_samples, dry_run
from service.catalog.samples import read_samples
from service.domain.model import Status
from tests.unit.catalog.sample_files import CATALOG, write_samples


def test_samples_are_optional(tmp_path):
    """A missing folder has no samples and no problems."""
    assert read_samples(tmp_path / "samples", 1_000, parse_reply) == ([], [])


def test_a_txt_file_is_parsed_like_a_workers_reply(tmp_path):
    """X.txt is text, unless it is JSON."""
    write_samples(tmp_path, a_txt="Price: 12\n", b_txt='{"price": 12}')
    samples, found = read_samples(tmp_path, 1_000, parse_reply)
    assert [sample.reply for sample in samples] == ["Price: 12\n", {"price": 12}]
    assert found == []


STREAM = (
    'data: {"price": 12}\n\n',
    'data: {"a": 1}\n\ndata: {"error": "boom"}\n\ndata: {"done": true}\n\n',
    'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n',
)


def test_a_stream_in_a_txt_file_is_joined_like_a_workers_reply(tmp_path):
    """One that states an error, or breaks off, is the failure that a row would have."""
    write_samples(tmp_path, a_txt=STREAM[0], b_txt=STREAM[1], c_txt=STREAM[2])
    samples, found = read_samples(tmp_path, 1_000, parse_reply)
    assert found == []
    assert [sample.reply for sample in samples] == [{"price": 12}, None, None]
    b, c = (dry_run(CATALOG.extractor("price"), sample) for sample in samples[1:])
    assert b.status is c.status is Status.FAILED
    assert "boom" in b.error
    assert "finish reason" in c.error


def test_chunks_in_a_json_file_are_joined_like_a_workers_reply(tmp_path):
    """Gemini without `alt=sse` sends its chunks as a list."""
    chunks = [
        {"candidates": [{"content": {"parts": [{"text": text}]}, **end}]}
        for text, end in (("1", {}), ("2", {"finishReason": "STOP"}))
    ]
    write_samples(tmp_path, a_json=json.dumps(chunks))
    (sample,), _ = read_samples(tmp_path, 1_000, parse_reply)
    assert sample.reply["candidates"][0]["content"]["parts"] == [{"text": "12"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a_json", '{\n"price": 1,\n"b" 2}', "a.json:3: not JSON:"),
        ("a_json", "x" * 1_001, "a.json:1: has more than the 1000 bytes"),
        ("a_yaml", "price: 1", "a.yaml:1: is no sample — a reply is X.json or X.txt"),
    ],
)
def test_files_that_are_no_samples(problems, name, content, words):
    """The problem says what a sample looks like."""
    assert words in "\n".join(problems(**{name: content}))


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ([], "an expectation is an object"),
        ({}, "an expectation that expects nothing"),
        ({"output": {}}, "unknown key 'output' in an expectation"),
        ({"status": "OK"}, "'status' must be SUCCESS or FAILED"),
        ({"status": []}, "'status' must be SUCCESS or FAILED"),
        ({"output_data": []}, "'output_data' must be an object"),
        ({"error": {}, "status": "FAILED"}, "'error' must be a text"),
        ({"status": "SUCCESS", "error": "a"}, "a row that succeeds has no 'error'"),
        ("{", "not JSON"),
    ],
)
def test_malformed_expectations(problems, expected, words):
    """The problem names the file and what is wrong with it."""
    wrong = "\n".join(problems(a_json={"price": 1}, a_expected_json=expected))
    assert words in wrong
    assert wrong.startswith("price/a.expected.json:1: ")


def test_an_expectation_without_reply_is_reported(problems):
    """The problem says how to name the reply."""
    (wrong,) = problems(a_expected_json={"status": "FAILED"})
    assert wrong == (
        "price/a.expected.json:1: there is no reply for it — save the reply as a.json, or delete this file"
    )


def test_stray_files_and_folders_are_reported(tmp_path):
    """A file outside the folders, or a folder without a mapping. Markdown and hidden files are ignored."""
    write_samples(tmp_path, a_json={"price": 1})
    for name in ("README.md", ".DS_Store", "stray.json", "price/notes.md"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "prize").mkdir()
    (tmp_path / "prize" / "a.json").write_text("{}")
    samples, found = read_samples(tmp_path, 1_000, parse_reply)
    assert [problem.message for problem in found] == ["is no folder"]
    (wrong,) = check_samples(CATALOG, samples, [])
    assert wrong.file == (tmp_path / "prize").as_posix()
    assert wrong.message == "samples of 'prize', and no mapping is called so"
    assert wrong.hint == "did you mean 'price'?"
