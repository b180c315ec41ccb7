"""Streams of Gemini, Ollama, LangGraph, Vercel's AI SDK, A2A, MCP, Converse and AG-UI."""

import json

import pytest

from service.agents.wire.event_stream import join_data_stream, join_events, join_json_lines
from service.domain.errors import AgentRejectedError, AgentThrottledError, AgentUnavailableError
from tests.unit.agents.wire.streams.stream_texts import json_lines, sse


def gemini(text: str, **more: object) -> dict:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    return {"candidates": [candidate | more], "usageMetadata": {"totalTokenCount": 3}, "modelVersion": "g"}


def test_gemini() -> None:
    """Texts are joined, thoughts apart; calls, finish reason and usage are kept."""
    thought = gemini("hm")
    thought["candidates"][0]["content"]["parts"][0]["thought"] = True
    call = {"functionCall": {"name": "find", "args": {"q": 1}}}
    last = {"candidates": [{"content": {"parts": [call]}, "finishReason": "STOP", "index": 0}]}
    whole = join_events(sse(thought, gemini("4"), gemini("2"), last))
    assert whole["candidates"] == [
        {
            "content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "42"}, call]},
            "index": 0,
            "finishReason": "STOP",
        }
    ]
    assert whole["usageMetadata"] == {"totalTokenCount": 3}


def test_gemini_that_is_cut_or_blocked() -> None:
    """Without a finish reason it broke off, unless the prompt was blocked, which the reply says."""
    with pytest.raises(AgentUnavailableError, match="finish reason"):
        join_events(sse(gemini("4")))
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    assert join_events(sse(blocked)) == {**blocked, "candidates": []}
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}
    with pytest.raises(AgentThrottledError):
        join_events(sse(gemini("4"), error))


def test_ollama() -> None:
    """Content, thinking and calls are joined; the last line has the counts."""
    call = {"function": {"name": "find", "arguments": {"q": 1}}}
    lines = json_lines(
        {"model": "m", "message": {"role": "assistant", "content": "4", "thinking": "hm"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "2", "tool_calls": [call]}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
         "eval_count": 2},
    )  # fmt: skip
    assert join_json_lines(lines) == {
        "model": "m",
        "message": {"role": "assistant", "content": "42", "thinking": "hm", "tool_calls": [call]},
        "done": True,
        "done_reason": "stop",
        "eval_count": 2,
    }
    generated = json_lines({"response": "4", "done": False}, {"response": "2", "done": True})
    assert join_json_lines(generated) == {"response": "42", "done": True}


@pytest.mark.parametrize(
    "lines",
    [
        [{"message": {"content": "4"}, "done": False}],
        [
            {"message": {"content": "4"}, "done": False},
            {"error": "an error was encountered while running the model"},
        ],
    ],
)
def test_ollama_that_breaks_off(lines: list) -> None:
    """Its last line says `done: true`, or states the error."""
    with pytest.raises(AgentUnavailableError):
        join_json_lines(json_lines(*lines))


METADATA = ("metadata", {"run_id": "r"})


def test_langgraph_values() -> None:
    """The last state is the reply, whatever other modes are streamed; subgraphs do not count."""
    states = [("values", {"messages": [{"type": "human", "content": "q"}]}), ("values|sub:1", {"other": 1})]
    last = {"messages": [{"type": "ai", "content": "42"}], "answer": 42}
    assert join_events(sse(METADATA, *states, ("messages", [{"id": "1"}, {}]), ("values", last))) == last


def test_langgraph_messages() -> None:
    """Pieces of a message are joined by id, with the arguments of its calls."""
    parts = [
        {"id": "1", "type": "AIMessageChunk", "content": "4", "tool_call_chunks": []},
        {"id": "1", "type": "AIMessageChunk", "content": [{"type": "text", "text": "2"}]},
        {"id": "1", "type": "AIMessageChunk", "content": "", "tool_call_chunks": [
            {"name": "find", "args": "", "id": "c", "index": 0}]},
        {"id": "1", "type": "AIMessageChunk", "content": "", "tool_call_chunks": [
            {"name": None, "args": '{"q": 1}', "id": None, "index": 0}],
         "usage_metadata": {"input_tokens": 1, "output_tokens": 2}},
        {"id": "2", "type": "tool", "content": "found", "name": "find", "tool_call_id": "c"},
    ]  # fmt: skip
    ai, tool = join_events(sse(METADATA, *(("messages", [part, {"langgraph_node": "a"}]) for part in parts)))[
        "messages"
    ]
    assert (ai["type"], ai["content"], ai["usage_metadata"]["output_tokens"]) == ("ai", "42", 2)
    assert ai["tool_calls"] == [{"type": "tool_call", "id": "c", "name": "find", "args": {"q": 1}}]
    assert tool == parts[-1]
    partial = [
        ("messages/partial", [{"id": "1", "content": "4"}]),
        ("messages/complete", [{"id": "1", "content": "42"}]),
    ]
    assert join_events(sse(METADATA, *partial)) == {"messages": [{"id": "1", "content": "42"}]}


def test_langgraph_that_waits_for_input() -> None:
    """The interrupt stays in the reply, in each mode, so that the mapping can judge it."""
    waits = [{"value": "approve?", "id": "i"}]
    interrupt = ("updates", {"__interrupt__": waits})
    message = {"type": "ai", "content": "4", "id": "m"}
    for events in (
        [("updates", {"agent": {"messages": [message]}})],
        [("values", {"messages": [message]})],
        [("messages", [message, {"langgraph_node": "a"}])],
        [("messages/complete", [message])],
    ):
        reply = join_events(sse(METADATA, *events, interrupt))
        assert reply == {"messages": [message], "__interrupt__": waits}
    assert join_events(sse(METADATA, ("updates", {"agent": {"n": 4}}), interrupt))[-1] == interrupt[1]
    resumed = [interrupt, ("updates", {"agent": {"messages": [message]}})]
    assert join_events(sse(METADATA, *resumed)) == {"messages": [message]}


def test_langgraph_updates_and_errors() -> None:
    """Messages of all nodes are listed; the event `error` is a failure."""
    updates = [
        ("updates", {"agent": {"messages": [{"type": "ai", "content": "4"}]}}),
        ("updates", {"end": None}),
    ]
    assert join_events(sse(METADATA, *updates)) == {"messages": [{"type": "ai", "content": "4"}]}
    with pytest.raises(AgentUnavailableError, match="GraphRecursionError"):
        join_events(sse(METADATA, *updates, ("error", {"error": "GraphRecursionError", "message": "25"})))


def test_vercel_ui_stream() -> None:
    """The text of the last step is the reply's; calls and results become model messages."""
    text = sse(
        {"type": "start", "messageId": "m"},
        {"type": "start-step"},
        {"type": "tool-input-start", "toolCallId": "c", "toolName": "find"},
        {"type": "tool-input-available", "toolCallId": "c", "toolName": "find", "input": {"q": 1}},
        {"type": "tool-output-available", "toolCallId": "c", "output": {"n": 42}},
        {"type": "finish-step"},
        {"type": "start-step"},
        {"type": "text-start", "id": "t"},
        {"type": "text-delta", "id": "t", "delta": "It is "},
        {"type": "text-delta", "id": "t", "delta": "42"},
        {"type": "text-end", "id": "t"},
        {"type": "finish", "finishReason": "stop"},
        done=True,
    )
    call = {"type": "tool-call", "toolCallId": "c", "toolName": "find", "input": {"q": 1}}
    result = {"type": "tool-result", "toolCallId": "c", "toolName": "find", "output": {"n": 42}}
    assert join_events(text) == {
        "text": "It is 42",
        "finishReason": "stop",
        "messages": [
            {"role": "assistant", "content": [call]},
            {"role": "tool", "content": [result]},
            {"role": "assistant", "content": [{"type": "text", "text": "It is 42"}]},
        ],
    }


@pytest.mark.parametrize(
    "end",
    [[], [{"type": "error", "errorText": "boom"}], [{"type": "abort"}], [{"type": "text-end", "id": "t"}]],
)
def test_vercel_ui_stream_that_breaks_off(end: list) -> None:
    """It ends with `finish`."""
    with pytest.raises(AgentUnavailableError):
        join_events(sse({"type": "start"}, {"type": "text-delta", "id": "t", "delta": "4"}, *end))


def test_vercel_data_stream() -> None:
    """Lines of a code and JSON (AI SDK 4)."""
    lines = [
        ("f", {"messageId": "m"}), ("0", "It is "), ("0", "42"),
        ("9", {"toolCallId": "c", "toolName": "find", "args": {"q": 1}}),
        ("a", {"toolCallId": "c", "result": 42}),
        ("e", {"finishReason": "stop", "isContinued": False}),
        ("d", {"finishReason": "stop", "usage": {"promptTokens": 1, "completionTokens": 2}}),
    ]  # fmt: skip
    text = "".join(f"{code}:{json.dumps(value)}\n" for code, value in lines)
    whole = join_data_stream(text)
    assert (whole["text"], whole["finishReason"]) == ("It is 42", "stop")
    assert whole["usage"] == {"promptTokens": 1, "completionTokens": 2}
    assert [part["type"] for message in whole["messages"] for part in message["content"]] == [
        "text", "tool-call", "tool-result",
    ]  # fmt: skip
    with pytest.raises(AgentUnavailableError, match="broke off"):
        join_data_stream('0:"It is"\n')
    with pytest.raises(AgentUnavailableError, match="boom"):
        join_data_stream('0:"It is"\n3:"boom"\n')


def rpc(result: object) -> dict:
    return {"jsonrpc": "2.0", "id": 1, "result": result}


def test_mcp() -> None:
    """The response is the reply, without the notifications before it."""
    note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
    answer = rpc({"content": [{"type": "text", "text": "42"}]})
    assert join_events(sse(("message", note), ("message", answer))) == answer
    with pytest.raises(AgentUnavailableError, match="before the response"):
        join_events(sse(note))
    with pytest.raises(AgentRejectedError, match="Invalid params"):
        join_events(sse({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Invalid params"}}))


def artifact(text: str, *, append: bool) -> dict:
    update = {"artifactId": "a", "parts": [{"kind": "text", "text": text}]}
    return rpc({"kind": "artifact-update", "taskId": "t", "append": append, "artifact": update})


def status(state: str, *, final: bool = False) -> dict:
    return rpc(
        {"kind": "status-update", "taskId": "t", "contextId": "x", "status": {"state": state}, "final": final}
    )


def test_a2a() -> None:
    """Status and artifacts are put into the task."""
    task = {"kind": "task", "id": "t", "contextId": "x", "status": {"state": "submitted"}}
    updates = [status("working"), artifact("4", append=False), artifact("2", append=True)]
    whole = join_events(sse(rpc(task), *updates, status("completed", final=True)))
    assert whole == rpc(
        {
            **task,
            "status": {"state": "completed"},
            "artifacts": [{"artifactId": "a", "parts": [{"kind": "text", "text": "42"}]}],
        }
    )
    with pytest.raises(AgentUnavailableError, match="still working"):
        join_events(sse(rpc(task), *updates))
    assert join_events(sse(rpc(task), status("failed")))["result"]["status"] == {"state": "failed"}


def test_converse_events() -> None:
    """As Strands agents pass them on: the reply is Converse's."""
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "4"}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "2"}, "contentBlockIndex": 0}},
        {
            "contentBlockStart": {
                "start": {"toolUse": {"toolUseId": "c", "name": "find"}},
                "contentBlockIndex": 1,
            }
        },
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"q": 1}'}}, "contentBlockIndex": 1}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}}},
    ]
    call = {"toolUse": {"toolUseId": "c", "name": "find", "input": {"q": 1}}}
    whole = {
        "output": {"message": {"role": "assistant", "content": [{"text": "42"}, call]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 2},
    }
    assert join_events(sse({"init_event_loop": True}, *({"event": event} for event in events))) == whole
    with pytest.raises(AgentUnavailableError):
        join_events(sse(*events[:3]))


def test_an_error_among_converse_events() -> None:
    """AgentCore ends the stream with its own error; Converse has exceptions among its events."""
    events = [
        {"event": {"messageStart": {"role": "assistant"}}},
        {"event": {"contentBlockDelta": {"delta": {"text": "4"}, "contentBlockIndex": 0}}},
    ]
    throttled = {"error": "Too many requests", "error_type": "ThrottlingException", "message": "m"}
    with pytest.raises(AgentThrottledError, match="ThrottlingException"):
        join_events(sse(*events, throttled))
    invalid = {"error": "bad input", "error_type": "ValidationException", "message": "m"}
    with pytest.raises(AgentRejectedError, match="ValidationException"):
        join_events(sse(*events, {"event": {"messageStop": {"stopReason": "end_turn"}}}, invalid))
    exception = {"event": {"modelStreamErrorException": {"message": "the model stopped"}}}
    with pytest.raises(AgentUnavailableError, match="the model stopped"):
        join_events(sse(*events, exception))


def ag_ui(kind: str, **fields: object) -> dict:
    return {"type": kind, **fields}


AG_UI_TEXT = [
    ag_ui("TEXT_MESSAGE_START", messageId="m", role="assistant"),
    ag_ui("TEXT_MESSAGE_CONTENT", messageId="m", delta="4"),
    ag_ui("TEXT_MESSAGE_CONTENT", messageId="m", delta="2"),
    ag_ui("TEXT_MESSAGE_END", messageId="m"),
]
AG_UI_CALL = [
    ag_ui("TOOL_CALL_START", toolCallId="c", toolCallName="find", parentMessageId="p"),
    ag_ui("TOOL_CALL_ARGS", toolCallId="c", delta='{"q": '),
    ag_ui("TOOL_CALL_ARGS", toolCallId="c", delta="1}"),
    ag_ui("TOOL_CALL_END", toolCallId="c"),
    ag_ui("TOOL_CALL_RESULT", messageId="r", toolCallId="c", content="here"),
]


def test_ag_ui() -> None:
    """Texts and calls are joined to messages; the state and the result of the run are kept."""
    start, end = ag_ui("RUN_STARTED", runId="r"), ag_ui("RUN_FINISHED", runId="r", result={"n": 1})
    state = ag_ui("STATE_SNAPSHOT", snapshot={"step": 2})
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
    assert join_events(sse(start, *AG_UI_CALL, *AG_UI_TEXT, state, end)) == {
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "here"},
            {"id": "m", "role": "assistant", "content": "42"},
        ],
        "state": {"step": 2},
        "result": {"n": 1},
    }
    delta = ag_ui("STATE_DELTA", delta=[{"op": "replace", "path": "/step", "value": 3}])
    assert "state" not in join_events(sse(start, *AG_UI_TEXT, state, delta, end))


def test_ag_ui_in_chunks_and_snapshots() -> None:
    """A chunk without an id continues the message before it; a snapshot has all messages."""
    chunks = [ag_ui("TEXT_MESSAGE_CHUNK", messageId="m", delta="4"), ag_ui("TEXT_MESSAGE_CHUNK", delta="2")]
    assert join_events(sse(*chunks))["messages"] == [{"id": "m", "role": "assistant", "content": "42"}]
    calls = [{"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}]
    snapshot = [
        {"id": "1", "role": "assistant", "toolCalls": calls},
        {"id": "2", "role": "tool", "toolCallId": "c", "content": "here"},
    ]
    events = [*AG_UI_TEXT, ag_ui("MESSAGES_SNAPSHOT", messages=snapshot), ag_ui("RUN_FINISHED")]
    assert join_events(sse(*events))["messages"] == [
        {"id": "1", "role": "assistant", "tool_calls": calls},
        {"id": "2", "role": "tool", "tool_call_id": "c", "content": "here"},
    ]


def test_ag_ui_that_fails_or_is_cut() -> None:
    """The error of a run is the failure; a run without its end, or a text without its own, broke off."""
    start = ag_ui("RUN_STARTED", runId="r")
    with pytest.raises(AgentUnavailableError, match="the model crashed"):
        join_events(sse(start, *AG_UI_TEXT, ag_ui("RUN_ERROR", message="the model crashed")))
    with pytest.raises(AgentThrottledError):
        join_events(sse(start, ag_ui("RUN_ERROR", message="slow down", code="rate_limit_exceeded")))
    for events in ([start, *AG_UI_TEXT], AG_UI_TEXT[:2]):
        with pytest.raises(AgentUnavailableError, match="broke off"):
            join_events(sse(*events))
    with pytest.raises(AgentRejectedError, match="interrupt"):
        join_events(sse(start, ag_ui("RUN_FINISHED", outcome={"type": "interrupt"})))


def test_cohere() -> None:
    """Content, plan and calls are joined; in version 1 the last event holds the reply."""
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": ""}}
    events = [
        {"type": "message-start", "id": "m", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "look"}}},
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}},
        {
            "type": "tool-call-delta",
            "index": 0,
            "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}},
        },
        {
            "type": "content-start",
            "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": "4"}}},
        },
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "2"}}}},
    ]
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {}}}}
    whole = join_events(sse(*events, end))
    assert (whole["finish_reason"], whole["message"]["tool_plan"]) == ("COMPLETE", "look")
    assert whole["message"]["content"] == [{"type": "text", "text": "42"}]
    assert whole["message"]["tool_calls"][0]["function"] == {"name": "find", "arguments": "{}"}
    with pytest.raises(AgentUnavailableError, match="broke off"):
        join_events(sse(*events))
    with pytest.raises(AgentUnavailableError, match="boom"):
        join_events(
            sse(*events, {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "boom"}})
        )
    old = {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"text": "42"}}
    start = {"event_type": "stream-start", "generation_id": "g"}
    assert join_events(sse(start, old)) == {"text": "42", "finish_reason": "COMPLETE"}
