"""Several answers to one request: those that a mapping does not read say nothing."""

import json

import pytest

from service.domain.errors import ReplyRejectedError, ReplyTruncatedError
from service.mapping import Catalog


def values(paths, reply, **method):
    methods = [{"method": "direct", "field_mappings": paths} | method]
    files = {"e.yaml": json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})}
    return Catalog.load(files, {}).extractor("e").extract(reply).values


def chat(*reasons, **more):
    choices = [
        {"index": index, "finish_reason": reason, "message": {"role": "assistant", "content": "AB"[index]}}
        for index, reason in enumerate(reasons)
    ]
    return {"object": "chat.completion", "choices": choices, "usage": {"completion_tokens": 3}} | more


def gemini(*reasons):
    return {
        "candidates": [
            {"index": index, "finishReason": reason, "content": {"parts": [{"text": "AB"[index]}]}}
            for index, reason in enumerate(reasons)
        ]
    }


@pytest.mark.parametrize(
    ("path", "reply", "value"),
    [
        ("choices[0].message.content", chat("stop", "length"), "A"),
        ("$.choices[0].message.content | trim()", chat("stop", "content_filter"), "A"),
        ("choices[1].message.content", chat("length", "stop"), "B"),
        ("candidates[0].content.parts[0].text", gemini("STOP", "MAX_TOKENS"), "A"),
        ("candidates[0].content.parts[0].text", gemini("STOP", "SAFETY"), "A"),
    ],
)
def test_an_answer_beside_one_that_is_not_read(path, reply, value):
    """Whoever asks for several and reads the first has an answer if the first is whole."""
    assert values({"a": path, "object": "object"}, reply)["a"] == value


@pytest.mark.parametrize(
    "paths",
    [
        {"a": "choices[1].message.content"},
        {"a": "choices[0].message.content", "b": "choices[1].message.content"},
        {"a": "choices[-1].message.content"},
        {"a": "choices[*].message.content"},
        {"a": "choices[0].message.content || choices[1].message.content"},
        {"a": "choices[?index == `1`].message.content | [0]"},
        {"a": "choices[0].message.content", "b": "to_string(@)"},
        {"a": "choices[0].message.content", "b": "$"},
    ],
)
def test_each_answer_that_may_be_read_counts(paths):
    """A field that may read the second choice needs it whole."""
    with pytest.raises(ReplyTruncatedError):
        values(paths, chat("stop", "length"))


def test_the_answer_that_is_read_counts():
    """So does an error of the whole reply."""
    paths = {"a": "choices[0].message.content"}
    with pytest.raises(ReplyTruncatedError):
        values(paths, chat("length", "stop"))
    with pytest.raises(ReplyRejectedError):
        values(paths, chat("stop", "length", success=False, message="no"))


def test_each_reads_all_answers():
    """`each` takes every item of the list that the path names one of."""
    with pytest.raises(ReplyTruncatedError):
        values({"a": "choices[0].message.content"}, chat("stop", "length"), method="results_array", each=True)


def test_tools_are_those_of_all_answers():
    """A method that reads no path of the reply may read any of them."""
    with pytest.raises(ReplyTruncatedError):
        values({"a": "$.x"}, chat("stop", "length"), method="structured_output", tool_name="f")
