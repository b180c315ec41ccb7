"""The error that nothing was found says what the reply is, and which path may be meant."""

import pytest

from service.domain.errors import ExtractionError
from service.mapping import Catalog
from service.mapping.extraction.reply_summary import reply_paths

DIRECT = "{method: direct, field_mappings: {category: $.category, score: $.rating}}"


def said(reply, methods=DIRECT):
    catalog = Catalog.load({"a.yaml": f"output_mappings: {{a: {{extraction_methods: [{methods}]}}}}"}, {})
    with pytest.raises(ExtractionError) as caught:
        catalog.extractor("a").extract(reply)
    return str(caught.value)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"result": {"class": "bug"}, "usage": {}}, "the reply is JSON with the keys result, usage"),
        ({"x": 1}, "the reply is JSON with the key x"),
        ([{"a": 1}, {"a": 2}], "the reply is a JSON list of 2, the first with the key a"),
        ([], "the reply is JSON: []"),
        (5, "the reply is JSON: 5"),
        ("Sorry, I\ncannot " + "say " * 100, "the reply is text: 'Sorry, I cannot say say"),
        (
            "\n<!DOCTYPE html>\n<html><title>Welcome</title>",
            "the reply is an HTML page: 'Welcome'",
        ),
        ({f"key{number}": 1 for number in range(50)}, "key9, …"),
    ],
)
def test_the_reply_is_described(reply, words):
    """Kind, top-level keys, or the first characters, all of bounded length."""
    text = said(reply)
    assert words in text
    assert len(text) < 400


def test_the_finish_reason_is_named():
    """The reason why the model stopped, which may explain that there is no answer."""
    reply = {"choices": [{"message": {"role": "assistant", "content": "Hm"}, "finish_reason": "stop"}]}
    assert "finish reason stop" in said(reply)


@pytest.mark.parametrize(
    ("reply", "path"),
    [
        ({"result": {"category": "bug"}}, "$.result.category"),
        ({"result": {"Category": "bug"}}, "$.result.Category"),
        ({"result": [{"rating": 5}]}, "$.result[0].rating"),
        ({"a b": {"sco-re": 5}}, '$."a b"."sco-re"'),
        ({"content": '{"category": "bug"}'}, "$.content.category"),
    ],
)
def test_the_only_leaf_of_the_name_is_proposed(reply, path):
    """The name of the field, or the key at the end of its path; also in a text that is JSON."""
    assert f"did you mean {path}?" in said(reply)
    field = f"{{method: direct, field_mappings: {{category: '{path}'}}}}"
    extractor = Catalog.load({"a.yaml": f"output_mappings: {{a: {{extraction_methods: [{field}]}}}}"}, {})
    assert extractor.extractor("a").extract(reply).values["category"]


@pytest.mark.parametrize(
    "reply",
    [
        {"a": {"category": "x"}, "b": {"category": "y"}},
        {"a": {"category": None}},
        {"a": {"categories": "x"}},
        {"category": ""},
    ],
)
def test_no_path_is_proposed_in_doubt(reply):
    """Two leaves of the name, a leaf without a value and another name are no proposal."""
    assert "did you mean" not in said(reply)


@pytest.mark.parametrize("path", ["$.category", "category", "$.category | parse(''([0-9]+) EUR'')"])
def test_a_path_that_was_read_is_not_proposed(path):
    """It is right, and its value does not fit."""
    method = f"{{method: direct, field_mappings: {{category: '{path} | to_number()'}}}}"
    assert "did you mean" not in said({"category": "twelve"}, method)


def test_a_long_reason_does_not_hide_the_reply():
    """The description stands at the end of a message of any length."""
    methods = ", ".join(
        [f"{{method: tool_result, tool_name: {'t' * 100}, field_mappings: {{a: $.content}}}}"] * 20
    )
    text = said({"x": 1}, methods)
    assert text.endswith("the reply is JSON with the key x")
    assert len(text) <= 1000


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('{"value": {"text": "a"}, "id": 7}', ["$.value.text", "$.id"]),
        ('{"items": [{"a": 1}, {"a": 2, "b c": 3}]}', ["$.items[0].a", '$.items[0]."b c"']),
        ('{"body": "{\\"answer\\": 1}"}', ["$.body.answer"]),
        ("plain text", []),
        ('{"cut off": "in the mid', []),
    ],
)
def test_the_paths_of_a_kept_reply_are_listed(text, paths):
    """Each value once, in the reply's order; of a list the first items that have it."""
    assert reply_paths(text) == paths
