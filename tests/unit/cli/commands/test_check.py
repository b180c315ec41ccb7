"""`rowfleet try`: a saved reply is read as a worker reads it."""

import json

import pytest
from typer.testing import CliRunner

from service.cli.commands.check import app

MAPPING = """output_mappings:
  t:
    extraction_methods: [{method: direct, field_mappings: {a: $.a}}]
  chat:
    extraction_methods: [{method: direct, field_mappings: {a: "choices[0].message.content"}}]
  text:
    extraction_methods: [{method: direct, field_mappings: {a: $.content}}]
"""
STREAM = b"""data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "WHITE"}}]}

data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "HALL"}, "finish_reason": "stop"}]}

data: [DONE]

"""  # noqa: E501


@pytest.fixture
def try_reply(tmp_path, monkeypatch):
    """The verdict on a reply with these bytes."""
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "m.yaml").write_text(MAPPING)
    monkeypatch.chdir(tmp_path)

    def verdict(data, name="t"):
        (tmp_path / "reply").write_bytes(data)
        result = CliRunner().invoke(app, ["try", name, "reply", "--json"])
        return result.exit_code, json.loads(result.stdout)

    return verdict


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        (b'{"a": "\xc3\xa9"}', "t", "\u00e9"),
        (b'\xef\xbb\xbf{"a": 1}', "t", 1),
        ('{"a": "\u00e9"}'.encode("utf-16"), "t", "\u00e9"),
        (b"plain", "text", "plain"),
        (STREAM, "chat", "WHITEHALL"),
    ],
)
def test_a_reply_is_read_as_by_a_worker(try_reply, data, name, value):
    """JSON in UTF-8 or by its byte order mark, a stream, or text."""
    code, verdict = try_reply(data, name)
    assert (code, verdict["output_data"]) == (0, {"a": value})


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"a": "caf\xe9"}', "AgentRejectedError: the reply cannot be decoded"),
        (b'event: error\ndata: {"type": "overloaded_error"}\n\n', "AgentThrottledError: the stream"),
        (b"", "ExtractionError: the reply is an empty text"),
    ],
)
def test_a_reply_that_a_worker_refuses_fails(try_reply, data, error):
    """With the error that the row would have, and no value."""
    code, verdict = try_reply(data)
    assert (code, verdict["status"], verdict["output_data"]) == (3, "FAILED", {})
    assert verdict["error"].startswith(error)
