"""Bodies of replies: JSON, streams and text, told by their bytes."""

import json

import pytest

from service.agents.wire.reply_bodies import BodyType, parse_output, parse_reply
from service.domain.errors import AgentRejectedError, AgentThrottledError, AgentUnavailableError, FailureScope
from tests.unit.agents.wire.streams.stream_texts import chunk, json_lines, sse

OLLAMA = json_lines(
    {"message": {"role": "assistant", "content": "4"}, "done": False},
    {"message": {"role": "assistant", "content": "2"}, "done": True},
)
GEMINI = [
    {"candidates": [{"content": {"parts": [{"text": "4"}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "2"}]}, "finishReason": "STOP"}]},
]


def parse(text: str, content_type: str = "", *, is_framed: bool = True) -> object:
    return parse_reply(text.encode(), BodyType.parse(content_type, is_framed=is_framed))


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/json", "application/octet-stream", "text/event-stream"],
)
def test_a_stream_under_another_media_type(content_type: str) -> None:
    """Server-sent events, JSON lines and data streams are known by their form."""
    openai = parse(sse(chunk({"content": "42"}, "stop"), done=True), content_type)
    assert openai["choices"][0]["message"]["content"] == "42"
    assert parse(OLLAMA, content_type)["message"]["content"] == "42"
    assert parse('0:"42"\nd:{"finishReason":"stop"}\n', content_type)["text"] == "42"
    with pytest.raises(AgentThrottledError):
        parse(sse({"text": "4"}, {"error": {"code": 429, "message": "slow"}}), content_type)


def test_json_lines_of_an_unknown_provider() -> None:
    """They are a list where the media type is not that of a text."""
    lines = json_lines({"a": 1}, {"a": 2})
    assert parse(lines, "application/x-ndjson") == [{"a": 1}, {"a": 2}]
    assert parse(lines, "application/json") == [{"a": 1}, {"a": 2}]
    assert parse(lines, "text/event-stream") == [{"a": 1}, {"a": 2}]
    assert parse(lines, "text/plain") == lines
    with pytest.raises(AgentUnavailableError, match="ends in the middle"):
        parse(lines + '{"a": ', "application/x-ndjson")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "application/octet-stream"])
def test_a_last_line_that_ends_in_the_middle_broke_off(content_type: str) -> None:
    """Under any media type if its provider is known, and of records if it is not that of a text."""
    with pytest.raises(AgentUnavailableError, match="ends in the middle"):
        parse(OLLAMA.splitlines()[0] + '\n{"message": {"ro', content_type)
    records = '{"a": 1}\n{"a": 2, "b'
    if content_type == "text/plain":
        assert parse(records, content_type) == records
    else:
        with pytest.raises(AgentUnavailableError, match="ends in the middle"):
            parse(records, content_type)
    assert parse('{"a": 1}\nand more {', content_type) == '{"a": 1}\nand more {'


def test_a_byte_order_mark_inside_a_stream_takes_no_event() -> None:
    """A gateway may put streams together that begin with one each."""
    assert parse("data: WHITE\n\n\ufeffdata: HALL\n\n", "text/event-stream") == "WHITEHALL"


def test_chunks_that_came_as_json() -> None:
    """A list of Gemini's is joined; a single chunk of a stream is no reply."""
    assert parse(json.dumps(GEMINI))["candidates"][0]["content"]["parts"] == [{"text": "42"}]
    assert parse(json.dumps([{"a": 1}])) == [{"a": 1}]
    for lone in ({"message": {"content": "4"}, "done": False}, chunk({"content": "4"})):
        with pytest.raises(AgentUnavailableError, match="broke off"):
            parse(json.dumps(lone), "application/json")


@pytest.mark.parametrize("text", ["", " \n", "\ufeff"])
def test_an_empty_reply_is_retryable(text: str) -> None:
    """It says so in words."""
    with pytest.raises(AgentUnavailableError, match="the reply is empty"):
        parse(text)


@pytest.mark.parametrize(
    "text", ['{"a": "b', '{"a": [1, 2', '{"a": {"b": 1}', '["x", {"y": "}"', '{"a": "\\"', '"abc', '{"a": 1,']
)
def test_truncated_json_is_retryable(text: str) -> None:
    """If the media type is JSON's, or if the server states no length, so that nothing else shows the cut."""
    for content_type, is_framed in (("application/json", True), ("", False), ("text/plain", False)):
        with pytest.raises(AgentUnavailableError, match="broke off") as raised:
            parse(text, content_type, is_framed=is_framed)
        assert raised.value.scope is FailureScope.UNCLEAR


@pytest.mark.parametrize(
    "text",
    [
        "[note] 5 results (see below)",
        "{unclosed by choice",
        "data: 5\nevent: party",
        "event: party\n\ndata: tomorrow",
        "9:30",
        "0:1\n9:2",
        "plain words",
    ],
)
def test_text_is_text(text: str) -> None:
    """It only looks a little like JSON or a stream."""
    assert parse(text, "text/plain") == text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_numbers_that_json_does_not_have_are_null(number: str, content_type: str) -> None:
    """Servers in Python write them; the rest of their reply is JSON."""
    text = f'{{"score": {number}, "category": "NaN", "scores": [1, {number}]}}'
    assert parse(text, content_type) == {"score": None, "category": "NaN", "scores": [1, None]}


def test_json_under_the_media_type_of_a_stream() -> None:
    """Some servers state the type and send a plain reply."""
    assert parse('{"a": 1}', "text/event-stream") == {"a": 1}


def test_the_type_of_a_body() -> None:
    """Media type and charset are read from the header."""
    type_ = BodyType.parse('Application/Problem+JSON; profile=x; Charset="ISO-8859-1"')
    assert (type_.media_type, type_.charset, type_.is_json) == (
        "application/problem+json",
        "ISO-8859-1",
        True,
    )


def test_outputs_of_functions_and_programs() -> None:
    """They may be empty, and are never joined; bytes that are no text are a failure."""
    assert parse_output(b"", "a") == ""
    assert parse_output(b'{"done": false, "response": "x"}', "a") == {"done": False, "response": "x"}
    assert parse_output(b"data: x", "a") == "data: x"
    with pytest.raises(AgentRejectedError, match=r"^a: the reply cannot be decoded"):
        parse_output(b"\xff\xfe\xfd", "a")


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/event-stream"])
def test_a_stream_of_texts_under_another_media_type(content_type: str) -> None:
    assert parse('data: "WHITE"\n\ndata: "HALL"\n\n', content_type) == "WHITEHALL"
    assert parse("data: WHITE\n\ndata: HALL\n\n", content_type) == "WHITEHALL"
    with pytest.raises(AgentUnavailableError, match="it broke"):
        parse('data: "WHITE"\n\nevent: error\ndata: it broke\n\n', content_type)
    with pytest.raises(AgentThrottledError, match="rate limit exceeded"):
        parse("event: error\ndata: rate limit exceeded\n\n", content_type)
    with pytest.raises(AgentUnavailableError, match="ended without an event"):
        parse(": ping\n\n: ping\n\n", content_type)


@pytest.mark.parametrize(
    "text",
    [
        "data: 5",
        "data: 5\n\n",
        "data: 5\ndata: 6\n\n",
        "id: 5\n\ndata: 6",
        "data: 5\n\nid: 6\n\n",
        ":)\n\n",
        "event: fair\ndata: 5 May",
    ],
)
def test_prose_like_a_stream_is_text(text: str) -> None:
    assert parse(text) == text


def test_a_whole_completion_with_empty_deltas_is_no_chunk() -> None:
    """Perplexity sends both."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "42"}, "delta": {"content": ""}}
    reply = {"object": "chat.completion", "choices": [choice]}
    assert parse(json.dumps(reply)) == reply
    assert parse('{"object": {"city": "Oslo"}, "choices": []}') == {"object": {"city": "Oslo"}, "choices": []}
