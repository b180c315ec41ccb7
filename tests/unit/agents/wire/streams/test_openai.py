"""Streams of OpenAI's form, as OpenAI and other servers send them."""

import json

import pytest

from service.agents.wire.event_stream import join_events
from service.domain.errors import AgentRejectedError, AgentThrottledError, AgentUnavailableError
from tests.unit.agents.wire.streams.stream_texts import chunk, sse


def joined(*chunks: object, done: bool = True) -> dict:
    return join_events(sse(*chunks, done=done))["choices"][0]


def arguments(choice: dict) -> list[tuple]:
    calls = choice["message"]["tool_calls"]
    return [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]


def call(name: str | None, text: str, index: object = 0, id_: str | None = None) -> dict:
    function = {"arguments": text} | ({"name": name} if name else {})
    entry = (
        {"function": function} | ({"id": id_} if id_ else {}) | ({} if index is None else {"index": index})
    )
    return chunk({"tool_calls": [entry]})


def test_an_error_that_is_null_says_nothing() -> None:
    """Many servers send it in every chunk."""
    choice = joined(chunk({"content": "42"}, error=None), chunk({}, "stop", error={}))
    assert choice["message"]["content"] == "42"


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (
            [chunk({"content": "4"}), {"object": "error", "message": "CUDA", "code": 500}],
            AgentUnavailableError,
        ),
        ([chunk({"content": "4"}), {"error": {"code": 429, "message": "slow down"}}], AgentThrottledError),
        (
            [{"error": {"type": "invalid_request_error", "message": "no"}}, chunk({"content": "4"}, "stop")],
            AgentRejectedError,
        ),
        ([chunk({"content": "4"}, "error")], AgentUnavailableError),
        (
            [chunk({"content": ""}, "error", error={"code": 502, "message": "Provider disconnected"})],
            AgentUnavailableError,
        ),
        (
            [{"choices": [{"index": 0, "delta": {}, "error": {"code": 429, "message": "x"}}]}],
            AgentThrottledError,
        ),
        ([chunk({"content": "4"}), {"detail": "boom", "error": "x"}], AgentUnavailableError),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_an_error_in_any_chunk_is_the_failure(events: list, error: type[Exception], done: bool) -> None:
    """Of the class that it names, with or without [DONE] after it."""
    with pytest.raises(error) as raised:
        join_events(sse(*events, done=done))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (sse(chunk({"content": "4"}), done=True), "without a finish reason"),
        (sse(chunk({"content": "4"})), "without a finish reason"),
        (sse({"object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 1}}), "no chunk"),
        (sse(done=True), "nothing but"),
        (": keep-alive\n\n: keep-alive\n\n", "without an event"),
        ("", "without an event"),
    ],
)
def test_a_stream_without_its_end_is_retryable(text: str, reason: str) -> None:
    """[DONE] is no end: proxies send it after a stream that broke off."""
    with pytest.raises(AgentUnavailableError, match=reason):
        join_events(text)


def test_the_finish_reason_is_kept() -> None:
    """So that a cut answer is told from a whole one, as without streaming."""
    assert joined(chunk({"content": "4"}), chunk({}, "length"))["finish_reason"] == "length"


def test_names_that_are_repeated_in_every_chunk() -> None:
    """The name counts once."""
    choice = joined(
        call("find", '{"q"', id_="a"),
        call("find", ": 1}", id_="a"),
        call("find", ""),
        chunk({}, "tool_calls"),
    )
    assert arguments(choice) == [("a", "find", {"q": 1})]


def test_names_in_pieces() -> None:
    """They are joined."""
    assert arguments(joined(call("fi", "", id_="a"), call("nd", "{}"), chunk({}, "stop"))) == [
        ("a", "find", {})
    ]


@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("ids", [("a", "b"), (None, None)])
def test_calls_that_share_an_index(index: object, ids: tuple) -> None:
    """A new id begins a call; without ids, a name after complete arguments does."""
    choice = joined(
        call("find", '{"q": 1}', index, ids[0]),
        call("find", '{"q": 2}', index, ids[1]),
        chunk({}, "tool_calls"),
    )
    assert arguments(choice) == [(ids[0] or "", "find", {"q": 1}), (ids[1] or "", "find", {"q": 2})]


def test_a_legacy_function_call() -> None:
    """Its arguments come in pieces."""
    choice = joined(
        chunk({"function_call": {"name": "find", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"q"'}}),
        chunk({"function_call": {"name": "find", "arguments": ": 1}"}}),
        chunk({}, "function_call"),
    )
    assert choice["message"]["function_call"] == {"name": "find", "arguments": '{"q": 1}'}


def test_content_that_is_a_list() -> None:
    """Texts are joined to a text; beside other blocks they stay blocks (Mistral)."""
    block = {"type": "text", "text": "4"}
    choice = joined(chunk({"content": [block]}), chunk({"content": "2"}), chunk({"content": [block]}, "stop"))
    assert choice["message"]["content"] == "424"
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    choice = joined(
        chunk({"content": [thinking]}), chunk({"content": [thinking]}), chunk({"content": "42"}, "stop")
    )
    assert choice["message"]["content"] == [
        {"type": "thinking", "thinking": [*thinking["thinking"], *thinking["thinking"]]},
        {"type": "text", "text": "42"},
    ]


def test_halves_of_a_character() -> None:
    """An emoji whose UTF-16 halves come in two chunks is one character."""
    text = sse(chunk({"content": "A"}, "stop"), done=True)
    halves = text.replace('"A"', '"\\ud83d"').replace("stop", "").replace("data: [DONE]\n\n", "")
    assert join_events(halves + text.replace('"A"', '"\\ude00"'))["choices"][0]["message"]["content"] == "😀"


def test_legacy_completions() -> None:
    """`text` is joined."""
    chunks = [{"object": "text_completion", "choices": [{"index": 0, "text": t, "finish_reason": f}]}
              for t, f in (("4", None), ("2", "stop"))]  # fmt: skip
    whole = join_events(sse(*chunks, done=True))
    assert whole["choices"] == [{"index": 0, "text": "42", "finish_reason": "stop"}]


def test_responses_whose_last_event_has_no_output() -> None:
    """Some gateways send the items only in events of their own."""
    item = {"type": "message", "content": [{"type": "output_text", "text": "42"}]}
    text = sse(
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": {"output": [], "status": "completed"}},
    )
    assert join_events(text) == {"output": [item], "status": "completed"}
    with pytest.raises(AgentUnavailableError, match=r"response\.failed"):
        join_events(sse({"type": "response.failed", "response": {"error": None}}))


def test_a_finish_reason_that_is_the_text_null_is_none():
    """DashScope writes `"null"` in the chunks before the last one."""
    chunks = [
        chunk({"content": text}, reason)
        for text, reason in (("WHITE", "null"), ("HALL", "null"), ("", "stop"))
    ]
    assert joined(*chunks)["finish_reason"] == "stop"
    with pytest.raises(AgentUnavailableError, match="without a finish reason"):
        joined(*chunks[:2])
