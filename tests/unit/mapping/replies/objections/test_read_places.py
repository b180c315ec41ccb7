"""Finish reasons beside the texts that a mapping reads, in wrappers of any kind."""

import json

import pytest

from service.domain.errors import (
    AgentUnavailableError,
    ReplyRejectedError,
    ReplyTruncatedError,
    RowfleetError,
)
from service.mapping import Catalog
from service.mapping.replies.objections.read_places import places_on_paths, snake_case


def extract(path, reply, **keys):
    methods = [{"method": "direct", "field_mappings": {"a": path, "not_there": "$.nothing.of_this"}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})
    return Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply).values["a"]


def chat(finish_reason, content="WHI"):
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


def letta(reason):
    stop = {"message_type": "stop_reason", "stop_reason": reason}
    return [
        {"message_type": "assistant_message", "content": "WHI"},
        stop,
        {"message_type": "usage_statistics"},
    ]


WRAPPED = [
    (
        "outputs[0].outputs[0].results.message.text",
        {"outputs": [{"outputs": [{"results": {"message": {"text": "Error: 500", "error": True}}}]}]},
        AgentUnavailableError,
    ),
    ("[?message_type=='assistant_message'] | [0].content", letta("error"), AgentUnavailableError),
    ("[0].chunk", [{"chunk": "WHI"}, {"done": True, "stop_reason": "max_tokens"}], ReplyTruncatedError),
    (
        "messages[0].content",
        {"messages": letta("x")[:1], "stop_reason": letta("llm_api_error")[1], "usage": {}},
        AgentUnavailableError,
    ),
    ("[0].choices[0].message.content", [chat("length")], ReplyTruncatedError),
    (
        "orchestration_result.choices[0].message.content",
        {"request_id": "r", "orchestration_result": chat("length")},
        ReplyTruncatedError,
    ),
    (
        "generations[0][0].text",
        {
            "generations": [[{"text": "WHI", "generation_info": {"finish_reason": "length"}}]],
            "llm_output": {},
        },
        ReplyTruncatedError,
    ),
    (
        "chatResponse.text",
        {
            "modelId": "c",
            "chatResponse": {"apiFormat": "COHERE", "text": "WHI", "finishReason": "MAX_TOKENS"},
        },
        ReplyTruncatedError,
    ),
    (
        "completions[0].completion",
        {"completions": [{"completion": "WHI", "finish_reason": "maximum_tokens"}], "model_version": "x"},
        ReplyTruncatedError,
    ),
    (
        "Response.Choices[0].Message.Content",
        {"Response": {"Choices": [{"FinishReason": "sensitive", "Message": {"Content": "WHI"}}]}},
        ReplyRejectedError,
    ),
    (
        "result.output.text",
        {"result": {"output": {"text": "WHI"}, "metadata": {"finishReason": "LENGTH"}}},
        ReplyTruncatedError,
    ),
    (
        "responses[0].message.content",
        {"id": "1", "responses": [{"finish_reason": "length", "message": {"content": "WHI"}}]},
        ReplyTruncatedError,
    ),
    (
        "[*].results[0].generated_text | join('')",
        [
            {"results": [{"generated_text": "WHI", "stop_reason": "not_finished"}]},
            {"results": [{"generated_text": "T", "stop_reason": "max_tokens"}]},
        ],
        ReplyTruncatedError,
    ),
    ("response", {"response": "WHI", "raw": chat("length")}, ReplyTruncatedError),
    (
        "[0].Content",
        [{"Role": {"Label": "Assistant"}, "Content": "WHI", "Metadata": {"FinishReason": "Length"}}],
        ReplyTruncatedError,
    ),
    ("aiMessage.text", {"aiMessage": {"text": "WHI"}, "finishReason": "LENGTH"}, ReplyTruncatedError),
    (
        "my.own.answer | lower()",
        {"my": {"own": {"answer": "WHI", "finish_reason": "length"}}},
        ReplyTruncatedError,
    ),
    (
        "candidates[0].content.parts[0].text",
        {"candidates": [{"content": {"parts": [{"text": "WHI"}]}, "finishReason": 2, "index": 0}]},
        ReplyTruncatedError,
    ),
    (
        "candidates[0].content.parts[0].text",
        {"candidates": [{"content": {"parts": [{"text": "WHI"}]}, "finishReason": 8}]},
        ReplyRejectedError,
    ),
    ("choices[0].message.content", chat("null"), AgentUnavailableError),
    ("choices[0].message.content", chat("blacklist"), ReplyRejectedError),
    (
        "llm.replies[0]",
        {"llm": {"replies": ["WHI"], "meta": [{"model": "m", "index": 0, "finish_reason": "length"}]}},
        ReplyTruncatedError,
    ),
    (
        "data.outputs.answer",
        {"workflow_run_id": "w", "data": {"status": "stopped", "outputs": {"answer": "WHI"}, "error": ""}},
        ReplyRejectedError,
    ),
    (
        "output.text",
        {"output": {"text": "Sorry."}, "citations": [], "guardrailAction": "INTERVENED", "sessionId": "s"},
        ReplyRejectedError,
    ),
    (
        "content",
        {"content": "WHI", "stop": True, "stop_type": "eos", "truncated": True, "tokens_predicted": 3},
        ReplyTruncatedError,
    ),
    ("translation", {"translation": "WHI", "finishReason": "SAFETY"}, ReplyRejectedError),
    ("translation", {"translation": "WHI", "finish_reason": "refusal"}, ReplyRejectedError),
    (
        "response.text",
        {"response": {"text": "WHI", "candidates": [{"finishReason": "MAX_TOKENS"}]}},
        ReplyTruncatedError,
    ),
    (
        "artifacts[0].base64",
        {
            "artifacts": [
                {"base64": "aGk=", "finishReason": "ERROR"},
                {"base64": "aGo=", "finishReason": "SUCCESS"},
            ]
        },
        AgentUnavailableError,
    ),
]


@pytest.mark.parametrize(("path", "reply", "kind"), WRAPPED, ids=[path for path, _, _ in WRAPPED])
def test_a_cut_off_or_filtered_answer_in_any_wrapper(path, reply, kind):
    with pytest.raises(RowfleetError) as caught:
        extract(path, reply)
    assert type(caught.value) is kind


ANSWERS = [
    ("llm.replies[0]", {"llm": {"replies": ["WHI"], "meta": [{"index": 0, "finish_reason": "stop"}]}}),
    # a natural end in the same wrappers
    ("[0].choices[0].message.content", [chat("stop")]),
    (
        "generations[0][0].text",
        {"generations": [[{"text": "WHI", "generation_info": {"finish_reason": "stop"}}]]},
    ),
    ("result.output.text", {"result": {"output": {"text": "WHI"}, "metadata": {"finishReason": "STOP"}}}),
    (
        "candidates[0].content.parts[0].text",
        {"candidates": [{"content": {"parts": [{"text": "WHI"}]}, "finishReason": 1}]},
    ),
    (
        "[*].results[0].generated_text | join('')",
        [
            {"results": [{"generated_text": "WH", "stop_reason": "not_finished"}]},
            {"results": [{"generated_text": "I", "stop_reason": "eos_token"}]},
        ],
    ),
    ("output.text", {"output": {"text": "WHI"}, "guardrailAction": "NONE", "sessionId": "s"}),
    ("artifacts[0].base64", {"artifacts": [{"base64": "WHI", "finishReason": "SUCCESS"}]}),
    ("content", {"content": "WHI", "stop": True, "stop_type": "eos", "truncated": False}),
    (
        "data.outputs.answer",
        {"workflow_run_id": "w", "data": {"status": "succeeded", "outputs": {"answer": "WHI"}}},
    ),
    # an earlier message of a conversation, and other calls that the mapping does not read
    (
        "state.log[-1].content",
        {"state": {"log": [{"content": "x", "finish_reason": "length"}, {"content": "WHI"}]}},
    ),
    ("answer", {"answer": "WHI", "trace": {"calls": [{"content": "y", "finish_reason": "length"}]}}),
    ("answer", {"answer": "WHI", "sample": chat("length")}),
    ("poll.answer", {"poll": {"answer": "WHI", "choices": [{"finish_reason": "length"}]}}),
    ("answer", {"answer": "WHI", "notes": {"finish_reason": "length"}}),
    # reasons that are data
    ("answer", {"answer": "WHI", "stop_reason": "length"}),
    ("machine", {"machine": "WHI", "stop_reason": "timeout"}),
    ("machine", {"machine": "WHI", "stop_reason": "safety"}),
    ("order.name", {"order": {"name": "WHI", "finish_reason": "cancelled"}}),
    ("beam.name", {"beam": {"name": "WHI", "finish_reason": "Matte", "length": "max_tokens"}}),
    ("answer", {"answer": "WHI", "stop_reason": None, "metadata": {"finish_reason": ""}}),
    # flags of an error that are none, are read, or are about something else
    ("run.message.text", {"run": {"message": {"text": "WHI", "error": False}}}),
    ("[0].chunk", [{"chunk": "WHI"}, {"done": True, "stop_reason": "end_turn"}]),
    ("[0].machine", [{"machine": "WHI"}, {"machine": "x", "stop_reason": "max_tokens"}]),
    ("run.message.text", {"run": {"message": {"text": "WHI", "error": "true"}}}),
    ("run.error && run.text", {"run": {"text": "WHI", "error": True}}),
    ("host.name", {"host": {"name": "WHI", "error": True}}),
    ("[?message_type=='assistant_message'] | [0].content", letta("end_turn")),
    ("status", {"status": "WHI", "workflow_run_id": "w", "data": {"status": "stopped"}}),
]


@pytest.mark.parametrize(("path", "reply"), ANSWERS, ids=[str(index) for index in range(len(ANSWERS))])
def test_an_answer_stays_one(path, reply):
    assert extract(path, reply) == "WHI"


def test_a_cut_off_answer_is_taken_where_the_mapping_allows_it():
    assert extract("[0].choices[0].message.content", [chat("length")], allow_truncated=True) == "WHI"
    filtered = {"Response": {"Choices": [{"FinishReason": "sensitive", "Message": {"Content": "WHI"}}]}}
    assert extract("Response.Choices[0].Message.Content", filtered, accept_errors=True) == "WHI"


def test_the_places_of_a_large_reply_are_bounded():
    reply = {"choices": [{"message": {"content": "x"}}] * 100_000}
    assert len(list(places_on_paths(reply, {"choices", "message", "content"}))) <= 400
    deep = {"data": "x"}
    for _ in range(10_000):
        deep = {"data": deep}
    assert len(list(places_on_paths(deep, {"data"}))) <= 400


@pytest.mark.parametrize(
    "name", ["finish_reason", "finishReason", "FinishReason", "finish-reason", " FINISH_REASON"]
)
def test_names_in_snake_case(name):
    assert snake_case(name) == "finish_reason"
