import base64
import copy
import json
from pathlib import Path

import pytest

from service.mapping import Catalog
from service.mapping.replies.normalise import ReplyView, normalise
from service.mapping.replies.transcript import ToolCall, ToolResult, Transcript, Usage

FOLDER = Path(__file__).parents[3] / "fixtures" / "replies"
REPLIES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
PLAIN = {"plain_json", "plain_text"}
ONE_MODEL_CALL = {
    "bedrock_converse_response",
    "cohere_v2_chat",
    "gemini_generate_content",
    "gemini_stream_as_list",
    "ollama_chat",
    "openai_chat_completion",
}
"""Replies of one model call. They have tool calls, but not the results of these."""

WITHOUT_CALLS = {"a2a_task", "mcp_call_tool"}
"""Replies of protocols that show the results of an agent or a tool, and no calls."""

WITHOUT_USAGE = {
    "langchain_agent_executor",
    "vercel_ui_messages",
    "anthropic_messages",
    "anthropic_retried_list",
    "lambda_invoke",
    "lambda_invoke_twice",
    "lambda_task",
    "lambda_url_base64",
    "openai_responses_items",
}
STRUCTURED = {"stepfunctions_agent", "stepfunctions_execution", "stepfunctions_task", "langgraph_state"}

TEXT = (
    "Exchange: WHITEHALL\nCabinet: Direct Exchange\n"
    "Download Speed: 50.0-330.0 Mbps\nUpload Speed: 3.0-50.0 Mbps"
)
ARGUMENTS = {
    "exchange": "WHITEHALL",
    "cabinet": "Direct Exchange",
    "speeds": {"download": "50.0-330.0 Mbps", "upload": "3.0-50.0 Mbps"},
}
FOUND = {"exchange": "WHITEHALL", "cabinet": "Direct Exchange"}

DESIGN = (Path(__file__).parents[4] / "mappings" / "examples.yaml").read_text("utf-8")
"""The example of the original design, verbatim."""

BROADBAND = Catalog.load({"design.yaml": DESIGN}, {}).extractor("broadband-agent-rust")


def extractor(*methods):
    return Catalog.load(
        {"e.yaml": json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})}, {}
    ).extractor("e")


SPEEDS = extractor(
    {
        "method": "structured_output",
        "tool_name": "print_output",
        "field_mappings": {"download": "$.speeds.download", "upload": "$.speeds.upload"},
    }
)


def names(kind):
    return sorted(REPLIES.keys() - kind)


def calling(*calls):
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": i, "name": n, "input": {}} for i, n in calls],
    }


def answering(*answers, **more):
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": i, "content": c, **more} for i, c in answers],
    }


@pytest.mark.parametrize("name", names(PLAIN | ONE_MODEL_CALL | WITHOUT_CALLS))
def test_the_design_finds_the_tool_result_in_every_reply_shape(name):
    """The design's mapping finds the same values in every provider's reply shape."""
    found = BROADBAND.extract(REPLIES[name])
    assert found.values == FOUND
    assert {path.partition("[")[0] for path in found.provenance.values()} == {"tool_result"}


@pytest.mark.parametrize("name", sorted(ONE_MODEL_CALL))
def test_without_results_the_design_reads_the_call(name):
    """If a reply has no tool results, the values come from the arguments of print_output."""
    found = BROADBAND.extract(REPLIES[name])
    assert found.values == FOUND
    assert {path.partition("[")[0] for path in found.provenance.values()} == {"structured_output"}


@pytest.mark.parametrize("name", names(PLAIN | WITHOUT_CALLS))
def test_every_reply_shape_has_the_same_transcript(name):
    """Tool result, arguments as an object, final text, and usage if the shape reports it, are equal."""
    transcript = normalise(REPLIES[name])
    result = transcript.last_result("browser_broadband")
    assert (result is None) if name in ONE_MODEL_CALL else (result.text == TEXT)
    assert [call.arguments for call in transcript.calls if call.name == "print_output"] == [ARGUMENTS]
    assert transcript.text == "The exchange is WHITEHALL, served from the Direct Exchange cabinet."
    tokens = (transcript.usage.input_tokens, transcript.usage.output_tokens)
    assert tokens == ((0, 0) if name in WITHOUT_USAGE else (1200, 345))
    assert transcript.structured == (ARGUMENTS if name in STRUCTURED else None)
    assert SPEEDS.extract(REPLIES[name]).values == {"download": "50.0-330.0 Mbps", "upload": "3.0-50.0 Mbps"}


@pytest.mark.parametrize("name", names(set()))
def test_a_transcript_is_its_own_normal_form(name):
    """A transcript's JSON normalises to an equal transcript. The reply itself is not changed."""
    reply = copy.deepcopy(REPLIES[name])
    transcript = normalise(reply)
    assert reply == REPLIES[name]
    assert normalise(transcript.as_json()) == transcript
    assert normalise(json.loads(json.dumps(transcript.as_json()))) == transcript


def test_a_task_of_an_agent_has_text_and_data():
    """Of an A2A task, the artifacts give the final text, and a single data part the structured output."""
    transcript = normalise(REPLIES["a2a_task"])
    assert transcript.text.startswith("The exchange is WHITEHALL")
    assert transcript.structured == ARGUMENTS
    assert [message.role for message in transcript.messages] == ["user", "assistant"]


def test_a_result_of_an_mcp_tool_is_a_tool_result():
    """The result of an MCP tool is a tool result without a name, and its structured content is found."""
    transcript = normalise(REPLIES["mcp_call_tool"])
    assert transcript.last_result("").blocks == (TEXT, json.dumps(ARGUMENTS))
    assert transcript.structured == ARGUMENTS
    assert BROADBAND.extract(REPLIES["mcp_call_tool"]).values == FOUND


def test_plain_replies_have_no_transcript():
    """Any other JSON is the root, unchanged. The root of a text is `{content: text}`."""
    assert ReplyView.of(REPLIES["plain_json"]) == ReplyView(ARGUMENTS, Transcript(), ARGUMENTS)
    assert ReplyView.of(TEXT) == ReplyView({"content": TEXT}, Transcript(), TEXT)
    for reply in (None, 1, [], {}, [{"title": "t", "content": "snippet"}], {"content": "x"}, {"role": 1}):
        assert ReplyView.of(reply) == ReplyView(reply, Transcript(), reply)


# --- names -------------------------------------------------------------------------------------------


def test_a_result_is_named_after_its_call():
    """A result's own name counts only if no call has its id.

    A result without a name matches no tool's name.
    """
    reply = [
        calling(("1", "a")),
        answering(("1", "A"), name="ignored"),
        answering(("2", "B"), name="b"),
        answering(("3", "C")),
    ]
    transcript = normalise(reply)
    assert [result.name for result in transcript.results] == ["a", "b", ""]
    assert transcript.last_result("").text == "C"
    assert transcript.last_result("c") is None


def test_call_ids_may_be_reused():
    """Ids may be reused in later messages: a result belongs to the last call with its id before it."""
    reply = [
        answering(("1", "early")),
        calling(("1", "a")),
        answering(("1", "A")),
        calling(("1", "b")),
        answering(("1", "B")),
    ]
    assert [(r.name, r.text) for r in normalise(reply).results] == [("a", "early"), ("a", "A"), ("b", "B")]


def linked(*messages):
    return [(result.name, result.text) for result in normalise(list(messages)).results]


def test_calls_with_one_id_are_told_apart():
    """Of two calls with one id, a result's own name counts, else the order."""
    calls = calling(("1", "a"), ("1", "b"))
    assert linked(calls, answering(("1", "A"), ("1", "B"))) == [("a", "A"), ("b", "B")]
    results = [answering(("1", "B"), name="b"), answering(("1", "A"), name="a")]
    assert linked(calls, *results) == [("b", "B"), ("a", "A")]
    mixed = [answering(("1", "B"), name="b"), answering(("1", "A"))]
    assert linked(calls, *mixed) == [("b", "B"), ("a", "A")]
    separate = [{"type": "function_call", "call_id": "1", "name": name, "arguments": "{}"} for name in "ab"]
    outputs = [{"type": "function_call_output", "call_id": "1", "output": text} for text in "AB"]
    assert linked(*separate, *outputs) == [("a", "A"), ("b", "B")]


def test_without_ids_the_order_links():
    """Calls and results without ids belong together in their order, unless a result has a name."""
    calls = calling(("", "a"), ("", "b"))
    assert linked(calls, answering(("", "A"), ("", "B"))) == [("a", "A"), ("b", "B")]
    assert linked(calls, {"role": "tool", "tool_name": "b", "content": "B"}, answering(("", "A"))) == [
        ("b", "B"),
        ("a", "A"),
    ]
    assert linked(calling(("7", "a")), {"role": "tool", "content": "A"}) == [("a", "A")]
    made_up = [{"role": "tool", "tool_call_id": "made-up", "content": text} for text in "AB"]
    assert linked(calls, *made_up) == [("a", "A"), ("b", "B")]
    assert linked(answering(("", "A"))) == [("", "A")]


# --- features of single reply shapes -------------------------------------------------------------------


def block(kind, **more):
    return {"role": "assistant", "content": [{"type": kind, "tool_use_id": "1", **more}]}


HITS = [{"type": "web_search_result", "url": "https://example.org", "title": "Example", "page_age": None}]
PAGE = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "City: Oslo"}}


@pytest.mark.parametrize(
    ("message", "text", "is_error"),
    [
        (block("web_search_tool_result", content=HITS), json.dumps(HITS, separators=(",", ":")), False),
        (
            block(
                "web_search_tool_result",
                content={"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
            ),
            '{"type":"web_search_tool_result_error","error_code":"max_uses_exceeded"}',
            True,
        ),
        (
            block("web_fetch_tool_result", content={"type": "web_fetch_result", "content": PAGE}),
            "City: Oslo",
            False,
        ),
        (block("mcp_tool_result", content=[{"type": "text", "text": "x"}], is_error=True), "x", True),
        (block("tool_result", content=[{"type": "image", "source": {}}]), "", False),
        (block("tool_result", content={"a": 1}), '{"a":1}', False),
        (block("tool_result", content=[{"a": 1}]), '[{"a":1}]', False),
        (block("tool_result"), "", False),
        ({"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x"}]}, "x", False),
        ({"role": "function", "name": "f", "content": "x"}, "x", False),
        ({"role": "tool", "tool_name": "f", "content": "x"}, "x", False),
        (
            block(
                "tool_result",
                content=[{"type": "resource", "resource": {"uri": "file:///a", "text": "x"}}],
            ),
            "x",
            False,
        ),
        (
            block("tool_result", content=[{"type": "resource", "resource": {"uri": "u", "blob": "eA=="}}]),
            "",
            False,
        ),
        (
            block(
                "tool_result",
                content=[
                    {
                        "type": "search_result",
                        "source": "https://example.org",
                        "title": "t",
                        "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}],
                    }
                ],
            ),
            "x\ny",
            False,
        ),
        (
            block(
                "tool_result",
                content=[
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
                ],
            ),
            "x",
            False,
        ),
        (
            block(
                "tool_result",
                content=[
                    {
                        "type": "document",
                        "source": {"type": "content", "content": [{"type": "text", "text": "x"}]},
                    },
                    {"type": "document", "source": {"type": "base64", "data": "eA=="}},
                ],
            ),
            "x",
            False,
        ),
        (
            {
                "role": "tool",
                "content": [
                    {"type": "document", "document": {"id": "1", "data": {"a": 1}}},
                    {"type": "document", "document": {"data": "x"}},
                ],
            },
            '{"a":1}\nx',
            False,
        ),
        (
            {
                "role": "user",
                "content": [
                    {
                        "toolResult": {
                            "content": [
                                {"document": {"name": "d", "format": "txt", "source": {"text": "x"}}},
                                {
                                    "searchResult": {
                                        "source": "https://example.org",
                                        "title": "t",
                                        "content": [{"text": "y"}],
                                    }
                                },
                            ]
                        }
                    }
                ],
            },
            "x\ny",
            False,
        ),
        ({"role": "user", "parts": [{"functionResponse": {"response": {"a": 1}}}]}, '{"a":1}', False),
        ({"role": "user", "parts": [{"function_response": {"response": {"error": "x"}}}]}, "x", True),
        (
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"response": {"content": [{"type": "text", "text": "x"}]}}},
                ],
            },
            "x",
            False,
        ),
        (
            {
                "role": "tool",
                "content": [{"type": "tool-result", "output": {"type": "error-text", "value": "x"}}],
            },
            "x",
            True,
        ),
        ({"role": "tool", "content": [{"type": "tool-result", "result": {"a": 1}}]}, '{"a":1}', False),
        (
            {"kind": "request", "parts": [{"part_kind": "retry-prompt", "tool_name": "f", "content": "x"}]},
            "x",
            True,
        ),
        ({"type": "tool", "tool_call_id": "1", "content": "x", "status": "error"}, "x", True),
        ({"type": "tool", "content": [{"type": "json", "json": {"a": 1}}]}, '{"a":1}', False),
        ({"type": "function_call_output", "call_id": "1", "output": "x"}, "x", False),
        ({"type": "custom_tool_call_output", "call_id": "1", "output": "x"}, "x", False),
        ({"type": "mcp_call", "id": "1", "name": "f", "arguments": "{}", "output": "x"}, "x", False),
        (
            {"type": "mcp_call", "id": "1", "name": "f", "arguments": "{}", "output": None, "error": "no"},
            "no",
            True,
        ),
        (
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "1", "content": [{"json": {"a": 1}}]}}],
            },
            '{"a":1}',
            False,
        ),
        (
            {
                "role": "user",
                "content": [{"toolResult": {"content": [{"text": "x"}, {"text": "y"}], "status": "error"}}],
            },
            "x\ny",
            True,
        ),
    ],
)
def test_results_of_every_kind(message, text, is_error):
    """Text stays text, data of server tools and of Converse becomes JSON, and errors are flagged."""
    (result,) = normalise({"messages": [message]}).results
    assert (result.text, result.is_error) == (text, is_error)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            {
                "role": "assistant",
                "content": [{"type": "server_tool_use", "id": "1", "name": "f", "input": {}}],
            },
            ToolCall("1", "f", {}),
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            ToolCall("1", "f", {"a": 1}),
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":'}}]},
            ToolCall("", "f", '{"a":'),
        ),
        (
            {"tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": "free text"}}]},
            ToolCall("1", "f", "free text"),
        ),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            ToolCall("", "f", {}),
        ),
        (
            {"type": "function_call", "id": "fc", "call_id": "1", "name": "f", "arguments": "[1]"},
            ToolCall("1", "f", [1]),
        ),
        (
            {"type": "custom_tool_call", "call_id": "1", "name": "f", "input": "free text"},
            ToolCall("1", "f", "free text"),
        ),
        (
            {
                "type": "AIMessageChunk",
                "content": "",
                "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "1"}],
            },
            ToolCall("1", "f", {"a": 1}),
        ),
        (
            {
                "type": "ai",
                "content": "",
                "additional_kwargs": {
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
                },
            },
            ToolCall("1", "f", {}),
        ),
        (
            {
                "role": "assistant",
                "content": [{"toolUse": {"toolUseId": "1", "name": "f", "input": {"a": 1}}}],
            },
            ToolCall("1", "f", {"a": 1}),
        ),
    ],
)
def test_calls_of_every_kind(message, call):
    """Arguments that are JSON in a string become an object. Other text stays text."""
    assert normalise({"messages": [message]}).calls == (call,)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            {"choices": [{"message": {"role": "assistant", "content": None, "refusal": "I cannot."}}]},
            "I cannot.",
        ),
        (
            {
                "output": [
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "refusal", "refusal": "No."}],
                    }
                ]
            },
            "No.",
        ),
        ({"output": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}]}, ""),
        (
            [{"role": "assistant", "content": "said"}, calling(("1", "f")), {"role": "user", "content": "q"}],
            "said",
        ),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"message": {"role": "assistant", "content": "x"}, "done": True}, "x"),
        ([{"type": "assistant", "message": {"role": "assistant", "content": "x"}}], "x"),
    ],
)
def test_the_final_text_is_the_last_text_of_the_agent(reply, text):
    """A refusal is text of the agent. Reasoning, calls and messages of others are not."""
    assert normalise(reply).text == text


@pytest.mark.parametrize(
    ("reply", "usage"),
    [
        (
            {"usage": {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": None}},
            (8, 0),
        ),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 2, "cache_read_input_tokens": 5}}, (8, 2)),
        ({"usage": {"inputTokens": 3, "outputTokens": 2, "cacheWriteInputTokens": 5}}, (8, 2)),
        ({"usage_metadata": {"input_tokens": 8, "output_tokens": 2}}, (8, 2)),
        ({"output": json.dumps({"usage": {"input_tokens": 8}})}, (8, 0)),
        ({"usage": {"input_tokens": 10**12, "cache_read_input_tokens": 10**12}}, (10**12, 0)),
        ({"usage": {"inputTokens": {"total": 8, "cacheRead": 5}, "outputTokens": {"total": 2}}}, (8, 2)),
        ({"models_usage": {"prompt_tokens": 8, "completion_tokens": 2}}, (8, 2)),
        ({"meta": {"billed_units": {"input_tokens": 3}, "tokens": {"input_tokens": 8}}}, (8, 0)),
        ({"metadata": {"usage": {"prompt_tokens": 8, "completion_tokens": 2}}}, (8, 2)),
        ({"usage": {"request_tokens": 8, "response_tokens": 2}}, (8, 2)),
        ({"usage": {"prompt_tokens": 1.5, "completion_tokens": "2"}}, (0, 0)),
    ],
)
def test_input_tokens_are_all_that_the_model_was_given(reply, usage):
    """Cached tokens count as input: Anthropic and Converse report them separately, others include them."""
    found = normalise(reply).usage
    assert (found.input_tokens, found.output_tokens) == usage


# --- wrappers ------------------------------------------------------------------------------------------

INNER = {"category": "x"}
JSON = json.dumps(INNER)


@pytest.mark.parametrize(
    "reply",
    [
        {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": JSON},
        {"StatusCode": 200, "Payload": INNER},
        {"StatusCode": 200, "Payload": json.dumps({"statusCode": 200, "body": JSON})},
        {"StatusCode": 200, "Payload": json.dumps(JSON)},
        {"statusCode": 200, "headers": {}, "body": JSON},
        {"statusCode": 200, "body": base64.b64encode(JSON.encode()).decode(), "isBase64Encoded": True},
        {"executionArn": "a", "status": "SUCCEEDED", "output": JSON},
        {"ExecutionArn": "a", "Status": "SUCCEEDED", "Output": INNER},
        {
            "executionArn": "a",
            "output": json.dumps({"StatusCode": 200, "Payload": {"statusCode": 200, "body": JSON}}),
        },
        {"output": JSON},
        {"body": JSON},
        JSON,
    ],
)
def test_wrappers_are_transparent(reply):
    """`$.category` is the agent's category however it was invoked. `raw` is the reply with its wrappers."""
    view = ReplyView.of(reply)
    assert (view.root, view.raw) == (INNER, reply)
    assert extractor({"method": "direct", "field_mappings": {"c": "$.category"}}).extract(reply).values == {
        "c": "x"
    }


@pytest.mark.parametrize(
    "reply",
    [
        {"body": JSON, "title": "a page"},
        {"statusCode": 200, "body": JSON, "elapsed": 3},
        {"status": "ok", "output": JSON},
        {"output": INNER},
        {"Payload": INNER},
        {"statusCode": 200, "body": "no JSON"},
        {"statusCode": 200, "body": "cmF0", "isBase64Encoded": True},
        {"statusCode": 200, "body": "%%%", "isBase64Encoded": True},
        {"statusCode": 200, "body": "12"},
        {"executionArn": "a", "status": "FAILED", "error": "States.Timeout", "cause": JSON},
        {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": '{"errorMessage": "no"}'},
        {"output": [INNER]},
    ],
)
def test_a_wrapper_with_other_data_is_kept(reply):
    """A wrapper with other data is kept, and text that is no JSON is not unwrapped."""
    assert ReplyView.of(reply).root is reply


CALL = {"type": "ai", "content": "", "tool_calls": [{"name": "f", "args": {}, "id": "1"}]}
ANSWER = {"type": "tool", "content": "x", "tool_call_id": "1"}
REQUEST = {"kind": "response", "parts": [{"part_kind": "tool-call", "tool_name": "f", "tool_call_id": "1"}]}
RETURN = {
    "kind": "request",
    "parts": [{"part_kind": "tool-return", "tool_name": "f", "content": "x", "tool_call_id": "1"}],
}


@pytest.mark.parametrize(
    "reply",
    [
        [{"agent": {"messages": [CALL]}}, {"tools": {"messages": [ANSWER]}}],
        [{"messages": [CALL]}, {"messages": [CALL, ANSWER]}],
        {"output": {"a": 1}, "all_messages": [REQUEST, RETURN], "new_messages": [RETURN]},
        {
            "final_output": "done",
            "new_items": [
                {"raw_item": {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}},
                {"raw_item": {"type": "function_call_output", "call_id": "1", "output": "x"}},
            ],
        },
        {
            "history": [
                {"role": "model", "parts": [{"function_call": {"name": "f", "args": {}}}]},
                {
                    "role": "user",
                    "parts": [{"function_response": {"name": "f", "response": {"result": "x"}}}],
                },
            ]
        },
        [
            {
                "role": "assistant",
                "content": [{"type": "toolUseBlock", "name": "f", "toolUseId": "1", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "toolResultBlock",
                        "toolUseId": "1",
                        "content": [{"type": "textBlock", "text": "x"}],
                    }
                ],
            },
        ],
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": "done",
                    "toolInvocations": [
                        {"state": "result", "toolCallId": "1", "toolName": "f", "result": "x"}
                    ],
                }
            ]
        },
    ],
)
def test_messages_are_found_in_histories_and_states(reply):
    """Histories, updates and states of frameworks have their messages once."""
    transcript = normalise(reply)
    assert [(call.name, result.text) for call in transcript.calls for result in transcript.results] == [
        ("f", "x")
    ]


MCP_CONTENT = [{"type": "text", "text": "x"}]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(MCP_CONTENT), ("x", False)),
        (json.dumps({"content": MCP_CONTENT, "isError": True}), ("x", True)),
        (json.dumps({"content": MCP_CONTENT, "structuredContent": None, "_meta": None}), ("x", False)),
        ('{"content": "x", "title": "t"}', ('{"content": "x", "title": "t"}', False)),
        ('[{"type": "text"}]', ('[{"type": "text"}]', False)),
        ("[]", ("[]", False)),
    ],
)
def test_a_result_of_mcp_in_json_is_unwrapped(text, found):
    """If a framework wrote an MCP result as JSON, patterns see the tool's own text."""
    (result,) = normalise([{"role": "tool", "content": text}]).results
    assert (result.text, result.is_error) == found


@pytest.mark.parametrize(
    "wrap",
    [
        lambda reply: {"result": reply},
        lambda reply: {"values": reply, "next": []},
        lambda reply: {"data": reply, "ok": True},
        lambda reply: {"data": {"result": reply}},
        lambda reply: {"response": json.dumps(reply), "session": "s"},
        lambda reply: {"jsonrpc": "2.0", "id": 1, "result": reply},
        lambda reply: {"status": "ok", "output": {"state": reply}},
    ],
)
def test_messages_are_found_under_the_keys_of_frameworks(wrap):
    """Messages, usage and structured output are found inside other documents; `$` stays the whole reply."""
    inner = REPLIES["langgraph_state"]
    reply = wrap(inner)
    view = ReplyView.of(reply)
    assert view.root is reply
    assert view.transcript == normalise(inner)
    assert normalise(wrap({"role": "assistant", "content": "said"})).text == "said"
    assert normalise(wrap({"category": "bug"})) == Transcript()


def test_the_newest_message_of_an_assistants_list_is_the_last():
    """OpenAI's Assistants list the newest message first, and have their texts one object deeper."""
    texts = [("assistant", "said", 3), ("user", "asked", 2)]
    data = [
        {
            "object": "thread.message",
            "created_at": time,
            "role": role,
            "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        }
        for role, text, time in texts
    ]
    transcript = normalise({"object": "list", "data": data})
    assert [(message.role, message.text) for message in transcript.messages] == [
        ("user", "asked"),
        ("assistant", "said"),
    ]


def test_messages_are_found_inside_a_wrapper_that_is_kept():
    """Tool results are found inside a wrapper, also if the root keeps it for its other data."""
    inner = {"messages": [answering(("1", TEXT), name="browser_broadband")]}
    for output in (inner, json.dumps(inner)):
        reply = {"output": output, "success": True}
        assert ReplyView.of(reply).root is reply
        assert BROADBAND.extract(reply).values == FOUND


def test_the_outermost_layer_with_a_value_counts():
    """Messages, usage and structured output are each taken from the outermost layer that has them."""
    inner = {
        "messages": [{"role": "assistant", "content": "inner"}],
        "usage": {"input_tokens": 1},
        "structured_output": {"a": 1},
    }
    reply = {"output": json.dumps(inner), "usage": {"input_tokens": 2}, "structured_output": '{"a": 2}'}
    transcript = normalise(reply)
    assert (transcript.text, transcript.usage, transcript.structured) == ("inner", Usage(2, 0), {"a": 2})


def test_a_transcript_keeps_every_message():
    """A transcript keeps every message with its role.

    Tool results have the role user, as in Anthropic's API.
    """
    transcript = normalise(REPLIES["openai_chat_messages"])
    assert [message.role for message in transcript.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert transcript.messages[3].parts == (
        ToolResult("call_DdmO9pD3xa9XTPNJ32zg2hcA", "browser_broadband", TEXT),
    )


def test_calls_and_results_in_camel_case():
    """AG-UI and the SDKs in TypeScript write `toolCalls` and `toolCallId`."""
    call = {"id": "c", "type": "function", "function": {"name": "lookup", "arguments": '{"q": 1}'}}
    messages = [
        {"id": "1", "role": "assistant", "toolCalls": [call]},
        {"id": "2", "role": "tool", "toolCallId": "c", "content": "4"},
    ]
    transcript = normalise({"messages": messages})
    assert transcript.calls == (ToolCall("c", "lookup", {"q": 1}),)
    assert transcript.results == (ToolResult("c", "lookup", "4"),)
