"""Streams of unknown providers."""

import pytest

from service.agents.wire.event_stream import join_events
from service.agents.wire.reply_bodies import BodyType, parse_reply
from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentUnavailableError,
)
from tests.unit.agents.wire.streams.stream_texts import json_lines, sse

THROTTLED = {"error": "ThrottlingException", "error_type": "ClientError", "message": "Too many requests"}


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (["Hel", "lo", THROTTLED], AgentThrottledError),
        ([{"text": "Hel"}, THROTTLED], AgentThrottledError),
        (["Hel", ("error", {"message": "boom"})], AgentUnavailableError),
        ([("error", "boom"), "more"], AgentUnavailableError),
        (["Hel", ("throttlingException", {"message": "slow"})], AgentThrottledError),
        ([{"text": "x"}, {"type": "error", "message": "boom"}], AgentUnavailableError),
        ([{"event": "message", "answer": "x"}, {"event": "error", "message": "boom", "status": 400}],
         AgentRejectedError),
        (["Hel", {"error": {"code": 401, "message": "who?"}}], AgentCredentialsError),
        ([{"a": 1}, {"errorType": "ValueError", "errorMessage": "bad"}], AgentRejectedError),
        (["Hel", {"status": "error", "message": "boom"}], AgentUnavailableError),
        ([{"type": "text", "content": "x"}, {"type": "error", "content": "too many requests"}],
         AgentThrottledError),
        ([{"type": "token", "text": "x"}, {"type": "error", "text": "boom"}, {"type": "done"}],
         AgentUnavailableError),
        ([{"content": "x"}, {"type": "error", "content": "too many requests"}], AgentThrottledError),
        ([{"type": "start"}, {"type": "error", "content": "too many requests"}], AgentThrottledError),
        ([{"event": "token", "data": "x"}, {"event": "error", "data": "too many requests"}],
         AgentThrottledError),
        ([{"event": "token", "data": "x"}, {"event": "error", "data": {"code": 429}}], AgentThrottledError),
        ([{"kind": "text", "text": "x"}, {"kind": "error", "text": "boom"}, {"kind": "done", "text": ""}],
         AgentUnavailableError),
        ([("data", "Hel"), ("status", {"error": "too many requests"})], AgentThrottledError),
        (["Hel", {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "QPS"}], AgentThrottledError),
        ([{"author": "a", "invocationId": "i", "partial": True, "content": {}}], AgentUnavailableError),
        ([("ping", {"type": "ping"}), ("ping", {})], AgentUnavailableError),
        ([{"type": "heartbeat", "timestamp": 1}], AgentUnavailableError),
        ([{"text": "x"}, {"status": "paused"}], AgentUnavailableError),
        ([{"text": "x"}, {"type": "end", "reason": "paused"}], AgentUnavailableError),
        ([{"text": "x"}, {"event": "run.completed", "reason": "input_required"}], AgentUnavailableError),
        (["Hel", ("end", {"reason": "suspended"})], AgentUnavailableError),
        ([{"event": "RunContent", "content": "x"}, {"event": "RunPaused"}], AgentUnavailableError),
        ([{"event": "text_chunk", "text": "x"}, {"event": "workflow_paused"}], AgentUnavailableError),
        ([{"event": "RunStarted"}, {"event": "RunContent", "content": "x"}], AgentUnavailableError),
        ([{"event": "TeamRunStarted"}, {"event": "RunStarted"}, {"event": "RunCompleted", "content": "x"}],
         AgentUnavailableError),
        ([{"event": "message", "answer": "x"}, {"event": "message_replace", "answer": "Blocked"},
          {"event": "message_end"}], AgentRejectedError),
        ([{"a": 1}, '{"b": '], AgentUnavailableError),
        (['{"a": ', '{"b": 1'], AgentUnavailableError),
    ],
)  # fmt: skip
def test_a_stream_that_ends_in_an_error_is_a_failure(events: list, error: type[Exception]) -> None:
    """Of the class that the error names, and never its text as an answer."""
    with pytest.raises(error) as raised:
        join_events(sse(*events))
    assert type(raised.value) is error


def test_an_error_event_without_data() -> None:
    """Its name is enough."""
    with pytest.raises(AgentUnavailableError, match="no reason"):
        join_events("data: Hel\n\nevent: error\n\n")


@pytest.mark.parametrize(
    "beginning", ["data: Hel\n\n", 'data: {"content": "Hel", "stop": false}\n\n', "data: Hel\n"]
)
def test_a_field_called_error_is_an_error_event(beginning: str) -> None:
    """As servers write it that take `error` for a name of a field."""
    with pytest.raises(AgentUnavailableError, match="slot unavailable"):
        join_events(beginning + 'error: {"code": 500, "message": "slot unavailable"}\n\n')


def test_pieces_none_of_which_is_the_last_are_half_an_answer() -> None:
    """llama.cpp's server ends its own streams with `stop: true`."""
    pieces = [{"content": "Pa", "stop": False}, {"content": "ris", "stop": False}]
    with pytest.raises(AgentUnavailableError, match="broke off"):
        join_events(sse(*pieces))
    whole = [*pieces, {"content": "", "stop": True}]
    assert join_events(sse(*whole)) == whole
    tasks = [{"content": "buy milk", "done": False}, {"content": "sleep", "done": False}]
    assert join_events(sse(*tasks)) == tasks


def test_a_field_called_error_that_says_nothing_is_passed_over() -> None:
    """As an `error` that is null in a chunk."""
    assert join_events("data: Hel\nerror: null\n\ndata: lo\n\n") == join_events("data: Hel\n\ndata: lo\n\n")


PART = {"type": "chunk", "content": "Hel"}


@pytest.mark.parametrize(
    "end",
    [
        {"done": True},
        {"type": "end"},
        {"event": "end"},
        {"event": "end", "data": "[DONE]"},
        {"type": "done", "content": ""},
        {"type": "end", "metadata": {}},
        {"type": "usage", "tokens": 3},
        {"type": "stream_end"},
        None,
    ],
)
@pytest.mark.parametrize(
    "events",
    [
        [PART, {"error": "boom"}],
        [PART, {"error": {"message": "boom"}}],
        [PART, {"type": "chunk", "error": "boom"}],
        [PART, {"type": "chunk", "error": "boom", "content": ""}],
        [PART, {"type": "error", "data": "boom"}],
        [PART, {"event": "error", "message": "boom"}],
        [PART, {"detail": "boom", "status_code": 500}],
        [
            PART,
            {"event": "workflow_finished", "data": {"status": "failed", "outputs": None, "error": "boom"}},
        ],
        [PART, {"type": "failed", "reason": "boom"}],
        [PART, {"type": "agent_error", "message": "boom"}],
        [PART, {"type": "complete", "success": False, "message": "boom"}],
        [PART, {"event": "RunError", "content": "boom"}],
        [{"status": "running", "message": "one"}, {"status": "failed", "message": "boom"}],
        [{"event": "token", "data": "Hel"}, {"event": "error", "data": "boom"}],
        [
            {"type": "begin", "metadata": {}},
            {"type": "item", "content": "Hel"},
            {"type": "error", "content": "boom"},
        ],
    ],
)
def test_an_error_before_the_end_of_a_stream_is_a_failure(events: list, end: object) -> None:
    """With the text that it states, whatever marks the end; also one document a line, as text."""
    found = [*events, end] if end else events
    with pytest.raises(AgentUnavailableError, match="boom"):
        join_events(sse(*found))
    for media_type in ("application/json", "text/plain"):
        with pytest.raises(AgentUnavailableError, match="boom"):
            parse_reply(json_lines(*found).encode(), BodyType(media_type))


@pytest.mark.parametrize("name", ["failed", "failure", "run_failed"])
def test_an_event_called_failed_at_the_end_is_a_failure(name: str) -> None:
    """Its data are the reason."""
    for events in (
        [("delta", "Hel"), (name, {"reason": "boom"})],
        [("delta", "Hel"), (name, "boom"), ("end", {})],
    ):
        with pytest.raises(AgentUnavailableError, match="boom"):
            join_events(sse(*events))


@pytest.mark.parametrize(
    "events",
    [
        [{"error": "tool failed"}, {"answer": "x"}, {"done": True}],
        [{"id": 1, "status": "passed", "message": "a"}, {"id": 2, "status": "failed", "message": "b"}],
        [{"id": 1, "code": 200, "message": "a"}, {"id": 2, "code": 404, "message": "b"}],
        [{"url": "a", "status": 404, "message": "b"}, {"type": "end"}],
        [{"name": "a", "success": True, "message": "x"}, {"name": "b", "success": False, "message": "y"}],
        [{"type": "chunk", "content": "a"}, {"type": "final", "content": "b"}],
        [{"type": "chunk", "content": "a"}, {"type": "complete", "success": True, "message": "done"}],
        [{"type": "warning", "content": "hot"}, {"type": "error", "content": "smoke"}],
        [{"answer": "x"}, {"type": "end", "content": "error: none"}],
        [{"type": "spelling_error", "message": "teh"}, {"type": "grammar_error", "message": "is"}],
    ],
)
def test_an_error_among_records_is_data(events: list) -> None:
    """Records of a log or of a list, and an error before an answer."""
    assert join_events(sse(*events)) == events


@pytest.mark.parametrize("reason", ["canceled", "error", "timeout"])
def test_an_end_that_gives_a_failure_as_its_reason(reason: str) -> None:
    """Replicate ends a stream so that was canceled: its text is a part of the answer."""
    with pytest.raises(AgentRetryableError, match=reason):
        join_events(f'event: output\ndata: Hel\n\nevent: done\ndata: {{"reason": "{reason}"}}\n\n')


@pytest.mark.parametrize("end", ["{}", '{"reason": "stop"}', '{"reason": "error", "answer": "x"}'])
def test_an_end_with_another_reason_is_an_end(end: str) -> None:
    """A reason beside other keys is data."""
    reply = join_events(
        f"event: output\ndata: Hel\n\nevent: output\ndata: lo\n\nevent: done\ndata: {end}\n\n"
    )
    assert reply == "Hello"


def test_a_run_that_failed_in_part_is_an_answer() -> None:
    """Outputs beside an error, and a node among others that failed."""
    node = {"event": "node_finished", "data": {"status": "failed", "error": "x"}}
    end = {
        "event": "workflow_finished",
        "data": {"status": "failed", "error": "x", "outputs": {"text": "42"}},
    }
    assert join_events(sse(node, end)) == [node, end]


def test_an_event_called_failed_among_others_is_data() -> None:
    """A test that failed, and one that passed after it."""
    events = [("failed", {"test": 1}), ("passed", {"test": 2})]
    assert join_events(sse(*events)) == [{"test": 1}, {"test": 2}]


@pytest.mark.parametrize(
    ("events", "reply"),
    [
        ([THROTTLED], THROTTLED),
        ([{"answer": "x", "error": None}], {"answer": "x", "error": None}),
        ([{"answer": "x", "error": "low confidence"}], {"answer": "x", "error": "low confidence"}),
        ([{"error": "tool failed"}, {"answer": "x"}], [{"error": "tool failed"}, {"answer": "x"}]),
        (["error: none", " found"], "error: none found"),
        ([{"type": "text", "text": "the error was fixed"}], {"type": "text", "text": "the error was fixed"}),
        ([{"a": 1}, "odd", {"b": 2}], [{"a": 1}, "odd", {"b": 2}]),
        (['"4"', {"step": 1}, '"2"', '"0"'], ["4", {"step": 1}, "2", "0"]),
        (['"4"', '"2"'], 42),
        (["{", '"a": ', "{}", "}"], {"a": {}}),
        (["He said ", '"Hi"', " to", " me"], 'He said "Hi" to me'),
        (['{"a": ', '""', ', "b"', ": 1}"], {"a": "", "b": 1}),
        ([{"status": "done", "message": "42"}], {"status": "done", "message": "42"}),
    ],
)
def test_an_answer_about_an_error_is_an_answer(events: list, reply: object) -> None:
    """Also an empty `error`, one beside an answer, and an odd event among events.

    An object alone is judged as a complete reply is, where the mapping may take `error` as data.
    """
    assert join_events(sse(*events)) == reply


def test_partial_events_of_adk_are_dropped() -> None:
    """A whole event follows them. The reply is a list, as without streaming, also of one event."""
    base = {"author": "a", "invocationId": "i"}
    whole = {**base, "content": {"parts": [{"text": "42"}]}}
    partial = [{**base, "partial": True, "content": {"parts": [{"text": t}]}} for t in "42"]
    assert join_events(sse(*partial, whole)) == [whole]
    assert join_events(sse(whole)) == [whole]


def test_lines_without_blank_lines_between_them() -> None:
    """Each object is an event."""
    assert join_events('data: {"a": 1}\ndata: {"a": 2}\ndata: [DONE]\n') == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("events", "reply"),
    [
        ([("metadata", {"run_id": "r"}), ("data", '"Yo"'), ("data", '"rk"'), ("end", "")], "York"),
        ([("ping", {"time": 1}), ("data", "Yo"), ("data", "rk"), ("done", "[END]")], "York"),
        ([("data", "York"), ("end", {"tokens": 3})], "York"),
        ([("start", {"id": 1}), ("token", "Yo"), ("token", "rk"), ("usage", {"tokens": 3})], "York"),
        ([("message", "Yo"), ("message", "rk"), ("end", {"answer": "York"})], "York"),
        ([("progress", {"step": 1}), ("end", {"city": "York"})], [{"step": 1}, {"city": "York"}]),
        ([("metadata", {"city": "York"})], {"city": "York"}),
        ([("end", {"city": "York"})], {"city": "York"}),
        ([{"type": "warning", "content": "hot"}, {"type": "error", "content": "smoke"}],
         [{"type": "warning", "content": "hot"}, {"type": "error", "content": "smoke"}]),
    ],
)  # fmt: skip
def test_events_by_their_names(events: list, reply: object) -> None:
    """Metadata, heartbeats and ends carry no text of the answer; a lone event is the reply."""
    assert join_events(sse(*events)) == reply


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (({"bytes": "SGk="}, {"internalServerException": {"message": "x"}}), AgentUnavailableError),
        (({"completion": "Hi"}, {"throttlingException": {"message": "x"}}), AgentThrottledError),
        (({"completion": "Hi"}, {"validationException": {"message": "x"}}), AgentRejectedError),
        (({"generated_text": "Hi", "status": "on"}, {"status": "aborted"}), AgentUnavailableError),
    ],
)
def test_pieces_before_an_exception_are_no_answer(events: tuple[object, ...], error: type[Exception]) -> None:
    """Bedrock's agents and models end a stream with an event that has the name of an exception."""
    with pytest.raises(error) as caught:
        join_events(sse(*events))
    assert caught.value.stated_in == list(events)


def test_a_stream_that_broke_off_states_no_error() -> None:
    with pytest.raises(AgentUnavailableError) as caught:
        join_events(sse({"content": "Hi", "stop": False}, {"content": "!", "stop": False}))
    assert caught.value.stated_in is None


@pytest.mark.parametrize(
    "events",
    [
        ("Par", "is", "[ERROR] boom"),
        (("delta", "Par"), ("delta", "is"), ("aborted", "user")),
        ({"v": 5}, {"modelTimeoutException": {"message": "boom"}}),
        ({"output_text": "Par"}, {"status": "failed"}),
        ({"partial_response": "Par"}, {"status": "expired"}),
    ],
)
def test_further_ends_that_say_no(events: tuple[object, ...]) -> None:
    with pytest.raises(AgentRetryableError, match="ended with an error"):
        join_events(sse(*events))


@pytest.mark.parametrize("events", [("[INFO] Par", "[ERROR] boom"), ("Par", "an [ERROR] mark")])
def test_such_a_mark_among_others_is_text(events: tuple[str, ...]) -> None:
    assert join_events(sse(*events)) == "".join(events)


@pytest.mark.parametrize(
    "events",
    [
        ({"event": "token", "data": "He"}, {"event": "abort", "data": "[DONE]"}),  # Flowise
        ({"is_end": False, "result": "He"}, {"error_code": 336100, "error_msg": "busy"}),  # ERNIE
        ({"content": "He"}, {"status": "requires_action"}),  # Coze
        (
            {"results": [{"generated_text": "He"}]},
            {"errors": [{"code": "x", "message": "y"}], "status_code": 500},
        ),
        ({"content": "He"}, {"message_type": "error_message", "message": "x"}),  # Letta
        ({"type": "text-delta", "payload": {"text": "He"}}, {"type": "tripwire", "payload": {}}),  # Mastra
        ({"delta": "He"}, {"is_error": True, "delta": ""}),
        ({"text": "He"}, {"interrupted": True}),
        ({"text": "He"}, {"type": "rate_limit"}),
        ({"text": "He"}, {"type": "content_filter"}),
        ({"text": "He"}, {"type": "guardrail", "action": "block"}),
        ("He", "y", ("cancelled", "")),
    ],
)
def test_ends_of_further_frameworks(events: tuple[object, ...]) -> None:
    with pytest.raises((AgentRetryableError, AgentRejectedError), match="ended with an error"):
        join_events(sse(*events))


@pytest.mark.parametrize(
    "events",
    [
        ({"is_end": False, "result": "He"}, {"is_end": False, "result": "y"}),
        ({"generation": "He", "stop_reason": None}, {"generation": "y", "stop_reason": None}),
        (
            {"token": {"text": "He"}, "generated_text": None},
            {"token": {"text": "y"}, "generated_text": None},
        ),
    ],
)
def test_pieces_without_the_mark_of_the_last_one_broke_off(events: tuple[object, ...]) -> None:
    with pytest.raises(AgentUnavailableError, match="the stream broke off"):
        join_events(sse(*events))


@pytest.mark.parametrize(
    "events",
    [
        ({"text": "He"}, {"type": "usage", "tokens": 3}),
        ({"text": "He"}, {"status": "completed"}),
        ({"text": "He"}, {"done": True, "error": None, "errors": []}),
        ({"is_end": False, "result": "He"}, {"is_end": True, "result": "y"}),
        ({"generation": "He", "stop_reason": None}, {"generation": "y", "stop_reason": "stop"}),
        ({"title": "a", "action": "block"}, {"title": "b", "action": "block"}),
        ({"name": "a", "is_last": False}, {"name": "b", "is_last": False}),
    ],
)
def test_whole_streams_of_further_frameworks(events: tuple[object, ...]) -> None:
    assert join_events(sse(*events)) == list(events)


@pytest.mark.parametrize(
    "key",
    [
        *("type", "object", "event", "kind", "status", "jsonrpc", "role", "delta", "done", "action"),
        *("message_type", "event_type", "event_kind"),
    ],
)
@pytest.mark.parametrize("value", [{"a": 1}, ["a"], 3, None])
def test_a_kind_may_be_any_value(key: str, value: object) -> None:
    """Records whose kind is an object, a list or a number are their list, as events and as lines of text."""
    events = [{key: value, "title": "x"}, {key: value, "title": "y"}]
    assert join_events(sse(*events)) == events
    assert parse_reply(json_lines(*events).encode(), BodyType.parse("application/x-ndjson")) == events
    assert parse_reply(json_lines(*events).encode(), BodyType.parse("text/plain")) == json_lines(*events)
