"""Streams of events: joined to the reply that the provider sends without streaming, or rejected."""

import json

import pytest

from service.agents.wire.event_stream import join_events
from service.domain.errors import (
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
)


def sse(*events: object, done: bool = False) -> str:
    lines = [f"event: {e['type']}\n" if isinstance(e, dict) and "type" in e else "" for e in events]
    texts = [f"{line}data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True)]
    return "".join(texts) + ("data: [DONE]\n\n" if done else "")


def chunk(delta: dict, finish: str | None = None, **more: object) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def test_openai_text() -> None:
    """Content is joined; the last chunk has usage (platform.openai.com/docs/api-reference/chat-streaming)."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    text = sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Scat"}),
        chunk({"content": "tering."}),
        chunk({}, "stop"),
        {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": usage},
        done=True,
    )
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Scattering."},
        "finish_reason": "stop",
    }
    whole = {"id": "c1", "object": "chat.completion", "model": "m", "usage": usage, "choices": [choice]}
    assert join_events(text) == whole


def test_openai_tool_calls() -> None:
    """Chunks of two calls alternate. Ids and names come once, arguments in pieces, by index."""
    text = sse(
        chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function",
                               "function": {"name": "find", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "b", "type": "function",
                               "function": {"name": "print", "arguments": '{"x":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"q": "1"}'}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": " 2}"}}]}),
        chunk({}, "tool_calls"),
        done=True,
    )  # fmt: skip
    calls = join_events(text)["choices"][0]["message"]["tool_calls"]
    assert [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == [
        ("a", "find", {"q": "1"}),
        ("b", "print", {"x": 2}),
    ]


def test_openai_responses() -> None:
    """The last event holds the response (platform.openai.com/docs/api-reference/responses-streaming)."""
    response = {"object": "response", "output": [{"type": "message"}]}
    text = sse(
        {"type": "response.created", "response": {}},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.completed", "response": response},
    )
    assert join_events(text) == response


ANTHROPIC = (
    {"type": "message_start", "message": {"id": "m1", "type": "message", "role": "assistant", "content": [],
                                          "usage": {"input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1,
     "content_block": {"type": "tool_use", "id": "t1", "name": "find", "input": {}}},
    {"type": "content_block_delta", "index": 1,
     "delta": {"type": "input_json_delta", "partial_json": '{"q"'}},
    {"type": "content_block_delta", "index": 1,
     "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)  # fmt: skip


def test_anthropic() -> None:
    """Text, tool use and usage are joined (docs.anthropic.com/en/docs/build-with-claude/streaming)."""
    assert join_events(sse(*ANTHROPIC)) == {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 5, "output_tokens": 9},
    }


def test_a_call_without_arguments_keeps_its_empty_object() -> None:
    """A tool without arguments streams an empty piece of JSON, or none."""
    block = {"type": "tool_use", "id": "t", "name": "now", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": ""}
    for deltas in ([], [{"type": "content_block_delta", "index": 0, "delta": piece}]):
        events = [
            ANTHROPIC[0],
            {"type": "content_block_start", "index": 0, "content_block": block},
            *deltas,
            {"type": "content_block_stop", "index": 0},
            {"type": "message_stop"},
        ]
        assert join_events(sse(*events))["content"] == [block]


@pytest.mark.parametrize("length", range(1, len(ANTHROPIC)))
def test_an_incomplete_message_is_retryable(length: int) -> None:
    """Also if only its last event is missing: half an answer must not become a row's result."""
    with pytest.raises(AgentUnavailableError, match="broke off"):
        join_events(sse(*ANTHROPIC[:length]))


def test_an_incomplete_completion_is_retryable() -> None:
    """The stream ends with neither a finish reason nor [DONE]."""
    with pytest.raises(AgentUnavailableError, match="broke off"):
        join_events(sse(chunk({"content": "Scat"})))
    with pytest.raises(AgentUnavailableError, match="broke off"):
        join_events(sse({"type": "response.created", "response": {}}))


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}], AgentThrottledError),
        ([ANTHROPIC[0], {"type": "error", "error": {"type": "rate_limit_error"}}], AgentThrottledError),
        ([ANTHROPIC[0], {"type": "error", "error": {"type": "invalid_request_error"}}], AgentRejectedError),
        ([chunk({}), {"error": {"code": "insufficient_quota", "message": "pay"}}], AgentOutageError),
        (
            [{"type": "response.failed", "response": {"error": {"code": "server_error", "message": "x"}}}],
            AgentUnavailableError,
        ),
        ([ANTHROPIC[0], {"type": "content_block_delta", "index": 3, "delta": {}}], AgentUnavailableError),
    ],
)
def test_classification_of_errors_inside_a_stream(events: list, error: type[Exception]) -> None:
    """The status was 200, so the error that the provider states decides."""
    with pytest.raises(error) as raised:
        join_events(sse(*events))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("data: Scat\n\ndata: tering.\n\n", "Scattering."),
        ("data: one\ndata: two\n\n", "one\ntwo"),
        (": comment\r\nevent: x\r\nid: 1\r\ndata:tight\r\n\r\n", "tight"),
        ('data: "Scat"\n\ndata: "tering"\n\n', "Scattering"),
        ('data: {"a": 1}\n\n', {"a": 1}),
        ('data: {"a": 1}', {"a": 1}),
        ('data: {"a": 1}\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n', [{"a": 1}, {"a": 2}]),
        ('data: {"a":\n\ndata: 12345678901234567890}\n\n', {"a": 12345678901234567890}),
    ],
)
def test_streams_of_unknown_providers(text: str, reply: object) -> None:
    """Texts are joined, one object is the reply, several are a list. Fields other than data are ignored."""
    assert join_events(text) == reply
