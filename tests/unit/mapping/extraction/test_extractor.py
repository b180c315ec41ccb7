import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import exact_json
from service.domain.errors import ExtractionError, ReplyPendingError
from service.domain.model import Json
from service.mapping import Catalog

DESIGN = r"""
output_mappings:
  broadband-agent-rust:
    type: "agent"
    extraction_methods:
      - method: "tool_result"
        tool_name: "browser_broadband"
        field_mappings:
          exchange: "$.content | parse('Exchange: (.+)')"
          cabinet: "$.content | parse('Cabinet: (.+)')"

      - method: "structured_output"
        tool_name: "print_output"
        field_mappings:
          exchange: "$.exchange"
          cabinet: "$.cabinet"

      - method: "jmespath"
        paths:
          exchange: "messages[-1].content[0].text"
          transform: "parse_text"

  web-search-agent:
    type: "agent"
    extraction_methods:
      - method: "results_array"
        field_mappings:
          title: "results[0].title"
          url: "results[0].url"
          snippet: "results[0].snippet"

  classification-tool:
    type: "tool"
    extraction_methods:
      - method: "direct"
        field_mappings:
          category: "$.category"
          confidence: "$.confidence_score"
"""
"""The example of the original design, verbatim."""

CATALOG = Catalog.load({"design.yaml": DESIGN}, {})
BROADBAND = CATALOG.extractor("broadband-agent-rust")
TEXT = "Exchange: WHITEHALL\r\nCabinet: Direct Exchange"
BLOCKS = [{"type": "text", "text": line} for line in TEXT.split("\r\n")]


def call(name="browser_broadband", ref="t1", **arguments):
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": ref, "name": name, "input": arguments}],
    }


def result(content, ref="t1", **more):
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": ref, "content": content, **more}],
    }


def extractor(methods, **more):
    spec = json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **more}}})
    return Catalog.load({"e.yaml": spec}, {}).extractor("e")


def direct(**fields):
    return {"method": "direct", "field_mappings": fields}


@pytest.mark.parametrize(
    "reply",
    [
        {"messages": [call(), result(TEXT)]},
        [call(), result([{"type": "text", "text": TEXT}])],
        {"messages": [result(TEXT, None, name="browser_broadband")]},
        {"role": "assistant", "content": [*call()["content"], *result(TEXT)["content"]]},
        {"content": [*call()["content"], *result(BLOCKS)["content"]]},
    ],
)
def test_the_original_design_finds_a_tool_result_in_every_anthropic_shape(reply):
    """A result is named after its call, or by its own block."""
    found = BROADBAND.extract(reply)
    assert found.values == {"exchange": "WHITEHALL", "cabinet": "Direct Exchange"}
    assert found.provenance["exchange"] == "tool_result[0]:$.content | parse('Exchange: (.+)')"


def test_error_results_and_other_tools_are_skipped():
    """The last result of the named tool that is not an error counts."""
    reply = {
        "messages": [
            call(ref="1"),
            result("Exchange: ONE", "1"),
            call(ref="2"),
            result("Exchange: TWO", "2"),
            call(ref="3"),
            result("Exchange: ERR", "3", is_error=True),
            call("other", ref="4"),
            result("Exchange: OTHER", "4"),
        ]
    }
    assert BROADBAND.extract(reply).values["exchange"] == "TWO"


def test_the_design_falls_back_to_structured_output():
    """Without a tool result, print_output's arguments, its result, or the reply's own output are used."""
    arguments = {"messages": [call("print_output", exchange="A", cabinet="B")]}
    answered = {"messages": [call("print_output"), result('{"exchange": "A", "cabinet": "B"}')]}
    own_output = {"messages": [], "structured_output": {"exchange": "A", "cabinet": "B"}, "success": True}
    for reply in (arguments, answered, own_output):
        found = BROADBAND.extract(reply)
        assert found.values == {"exchange": "A", "cabinet": "B"}
        assert found.provenance["exchange"] == "structured_output[1]:$.exchange"


def test_the_design_falls_back_to_the_final_text():
    """parse_text as the transform of all paths gives each field the line of its name, or no value."""
    reply = {
        "messages": [{"role": "assistant", "content": [{"type": "text", "text": "**Exchange:** WHITEHALL"}]}]
    }
    assert BROADBAND.extract(reply).values == {"exchange": "WHITEHALL", "cabinet": None}
    reply["messages"][0]["content"][0]["text"] = "Note: I found nothing"
    with pytest.raises(ExtractionError, match=r"no value for any of exchange, cabinet .*no result of tool"):
        BROADBAND.extract(reply)


def test_the_other_two_mappings_of_the_design():
    """results_array and direct read the root of the reply."""
    web = CATALOG.extractor("web-search-agent").extract({"results": [{"title": "T", "url": "U"}]})
    assert web.values == {"title": "T", "url": "U", "snippet": None}
    tool = CATALOG.extractor("classification-tool").extract({"category": "x", "confidence_score": 0})
    assert tool.values == {"category": "x", "confidence": 0}


def test_later_methods_fill_what_the_first_successful_one_left_empty():
    """Later methods fill empty fields only. Methods that failed before the first success fill nothing."""
    e = extractor([direct(a="x.a", b="x.b"), direct(a="y.a"), direct(a="z.a", b="z.b")])
    assert e.extract({"y": {"a": "Y"}, "z": {"a": "Z", "b": "Z"}}).values == {"a": "Y", "b": "Z"}
    assert e.output_fields == ("a", "b")


@pytest.mark.parametrize("text", ["", " ", "\n", "\xa0\t"])
def test_nulls_and_empty_strings_are_no_success(text):
    """A method with only null and blank text fails. 0 and false are values."""
    e = extractor([direct(a="x"), direct(a="y")])
    assert e.extract({"x": text, "y": 0}).provenance == {"a": "direct[1]:y"}
    with pytest.raises(ExtractionError):
        e.extract({"x": text, "y": None})
    assert e.extract({"x": False, "y": 0}).values == {"a": False}


def test_required_fields_decide_which_method_succeeds():
    """With `required`, a method without every required field fails, and its values are not used."""
    e = extractor([direct(a="x.a", b="x.b"), direct(a="y.a", b="y.b")], required=["b"])
    assert e.extract({"x": {"a": 1}, "y": {"b": 2}}).values == {"a": None, "b": 2}
    with pytest.raises(ExtractionError, match="no value for required field b"):
        e.extract({"x": {"a": 1}})


def test_required_fields_may_come_from_several_methods():
    """If no method succeeds, the values of all together may still have every required field."""
    e = extractor([direct(a="x"), direct(b="y")], required=["a", "b"])
    assert e.extract({"x": 1, "y": 2}).values == {"a": 1, "b": 2}


def test_allow_empty_makes_nothing_a_success():
    """With allow_empty, a reply without any value gives nulls."""
    e = extractor([direct(a="x")], allow_empty=True, required=["a"])
    assert e.extract({}).values == {"a": None}


def test_a_plain_text_reply_is_content():
    """The root of a text that is no JSON is `{content: text}`, also for jmespath."""
    methods = [
        {
            "method": "jmespath",
            "paths": {"n": {"path": "content", "transform": ["parse('n=(.*)')", "to_number"]}},
        }
    ]
    assert extractor(methods).extract("n= 1.50").values == {"n": Decimal("1.50")}
    assert extractor([direct(a="$.content")]).extract("hello").values == {"a": "hello"}


def test_tool_results_are_json_too():
    """The root of tool_result has `content`, and `json` if the text is JSON.

    Without a name any tool counts.
    """
    e = extractor([{"method": "tool_result", "field_mappings": {"a": "json.a", "t": "content"}}])
    assert e.extract([call(), result('{"a": 0.1}')]).values == {"a": 0.1, "t": '{"a": 0.1}'}
    assert e.extract([call(), result("text")]).values == {"a": None, "t": "text"}


def test_parse_text_in_an_expression_keeps_the_object():
    """parse_text in an expression gives the object, or the entry with the field's name if there is one."""
    e = extractor([direct(details="content | parse_text()", exchange="content | parse_text()")])
    assert e.extract(TEXT).values == {
        "details": {"exchange": "WHITEHALL", "cabinet": "Direct Exchange"},
        "exchange": "WHITEHALL",
    }


@pytest.mark.parametrize(
    ("reply", "tokens"),
    [
        ({"x": 1, "usage": {"input_tokens": 5, "output_tokens": 7}}, (5, 7)),
        (
            {"x": 1, "messages": [{"role": "assistant", "content": "a", "usage": {"input_tokens": 2}}] * 2},
            (4, 0),
        ),
        ({"x": 1, "usage": {"input_tokens": -5, "output_tokens": True}}, (0, 0)),
        ({"x": 1, "usage": {"input_tokens": 10**30, "output_tokens": "7"}}, (0, 0)),
        ({"x": 1, "usage": [1]}, (0, 0)),
    ],
)
def test_usage_is_read_from_valid_counts(reply, tokens):
    """Usage is the reply's own, else the sum over its messages. Invalid counts are 0."""
    found = extractor([direct(x="x")]).extract(reply)
    assert (found.usage.input_tokens, found.usage.output_tokens) == tokens


def test_error_messages_are_truncated():
    """Long names from an agent are truncated in the error, which is stored in the table."""
    with pytest.raises(ExtractionError) as caught:
        BROADBAND.extract([call("n" * 100_000), result("x")])
    assert len(str(caught.value)) <= 1000


TEXTS = st.text(max_size=8) | st.sampled_from(["a", "content", "type", "tool_use", "tool_result", "t1", TEXT])
KEYS = st.sampled_from(
    [
        "a",
        "messages",
        "content",
        "type",
        "text",
        "id",
        "name",
        "tool_use_id",
        "usage",
        "input",
        "input_tokens",
        "output_tokens",
        "role",
        "is_error",
        "results",
        "structured_output",
    ]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
)
EVERY = extractor(
    [
        {"method": "tool_result", "tool_name": "a", "field_mappings": {"f": "content | parse('(.+)')"}},
        {"method": "tool_result", "field_mappings": {"f": "$", "g": "content | parse_text()"}},
        {"method": "structured_output", "tool_name": "a", "field_mappings": {"f": "@.a", "h": "sort(@)"}},
        {"method": "structured_output", "field_mappings": {"f": "max_by(@, &a)"}},
        {"method": "results_array", "field_mappings": {"f": "results[0].a", "h": "sum(results)"}},
        {"method": "results_array", "each": True, "field_mappings": {"l": "results[0].a", "m": "*"}},
        {"method": "jmespath", "paths": {"k": "@", "transform": ["to_number", "round"]}},
        direct(i="ceil(a)", j="a > content", k="a | split(',') | join('|')", n="a | to_date()"),
    ],
    reject_if=["^t1$"],
    pending_if=["(?i)exchange: .*hall"],
    not_found=["a"],
)


@given(reply=ANY)
def test_any_reply_gives_fields_or_a_declared_error(reply):
    """Any reply gives every field, writable as JSON, or a declared error."""
    try:
        found = EVERY.extract(reply)
    except (ExtractionError, ReplyPendingError):
        return
    assert tuple(found.values) == EVERY.output_fields
    exact_json.dumps(found.values).encode()


@pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, '{"content":' * 400 + "1" + "}" * 400])
def test_deep_replies_do_not_crash(text):
    """Replies as deep as the parser accepts do not crash, also in the content of a tool result."""
    deep = exact_json.loads(text)
    for reply in (deep, {"messages": [call("a"), result(deep)]}, {"messages": [call("a"), result(text)]}):
        try:
            EVERY.extract(reply)
        except ExtractionError:
            continue


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (['{"a": 1}'], {"a": 1}),
        (["Found it:", '{"a": 1}', "Done."], {"a": 1}),
        (['{"a": 1}', '{"a": 2}'], [{"a": 1}, {"a": 2}]),
        (["1", "2"], [1, 2]),
        (["Found:", '{"a": 1}', '{"a": 2}'], None),
        (["no", "JSON"], None),
        (['{"a":', "1}"], {"a": 1}),
    ],
)
def test_the_json_of_a_result_with_several_blocks(texts, value):
    """The only document among texts is the JSON, several that are all JSON are a list, others are a guess."""
    spec = {"method": "tool_result", "field_mappings": {"v": "$.json", "n": "$.content"}}
    content = [{"type": "text", "text": text} for text in texts]
    reply = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": content}]}]
    assert extractor([spec]).extract(reply).values == {"v": value, "n": "\n".join(texts)}


def test_nan_is_null_and_the_provenance_says_so():
    """In a value that holds NaN, and for a field that has no value for that reason."""
    fields = "all: '$.content | parse_json()', price: $.content.price, n: $.n"
    methods = f"[{{method: direct, field_mappings: {{{fields}}}}}]"
    catalog = Catalog.load({"a.yaml": f"output_mappings: {{a: {{extraction_methods: {methods}}}}}"}, {})
    reply = {"content": '{"price": NaN, "n": 5}', "n": 5}
    found = catalog.extractor("a").extract(reply)
    assert found.values == {"all": {"price": None, "n": 5}, "price": None, "n": 5}
    assert found.provenance == {
        "all": "direct[0]:$.content | parse_json() (NaN read as null)",
        "price": "direct[0]:$.content.price (NaN read as null)",
        "n": "direct[0]:$.n",
    }
    (trace,) = [field for field in catalog.extractor("a").explain(reply).fields if field.name == "price"]
    assert trace.failed[0].reason == "NaN is read as null"


@pytest.mark.parametrize("path", ["$.content.a.b", "$.json.a.b", "$.content | parse_json() | a.b"])
def test_json_that_a_model_wrote_is_read_in_tool_results(path):
    """In a fence, with a comma too many, and with JSON in a text within."""
    text = "Found:\n```json\n{'a': '{\"b\": 1}',}\n```" if "content.a" not in path else "{'a': '{\"b\": 1}',}"
    reply = {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "t", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": text}]},
        ]
    }
    methods = f'[{{method: tool_result, tool_name: t, field_mappings: {{b: "{path}"}}}}]'
    catalog = Catalog.load({"a.yaml": f"output_mappings: {{a: {{extraction_methods: {methods}}}}}"}, {})
    assert catalog.extractor("a").extract(reply).values == {"b": 1}


@pytest.mark.parametrize("reply", ["", " \n", {"content": ""}])
def test_an_empty_text_is_no_success(reply):
    """An empty reply is no value, for `$` neither, unless the mapping allows it."""
    with pytest.raises(ExtractionError, match="the reply is an empty text"):
        extractor([direct(a="$")]).extract(reply)
    assert extractor([direct(a="$")], allow_empty=True).extract(reply)


def _value(reply: Json, path: str, method: str = "direct") -> Json:
    text = json.dumps(
        {
            "output_mappings": {
                "n": {"extraction_methods": [{"method": method, "field_mappings": {"a": path}}]}
            }
        }
    )
    return Catalog.load({"n.yaml": text}, {}).extractor("n").extract(reply).values["a"]


PROXY = {"statusCode": 200, "headers": {}}
EXECUTION = {"executionArn": "arn:aws:states:x", "status": "SUCCEEDED", "name": "n"}


@pytest.mark.parametrize(
    ("reply", "path", "value"),
    [
        (PROXY | {"body": '{"risk": "low"}'}, "body.risk", "low"),
        (PROXY | {"body": '{"risk": "low"}'}, "$.risk", "low"),
        (PROXY | {"body": '{"output": "{\\"risk\\": \\"low\\"}"}'}, "body.output.risk", "low"),
        ({"ExecutedVersion": "1", "StatusCode": 200, "Payload": {"risk": "low"}}, "Payload.risk", "low"),
        (EXECUTION | {"output": '{"risk": "low"}'}, "output.risk", "low"),
        ({"output": "[1, 2]"}, "output[1]", 2),
        ({"output": '{"a": 1}'}, "output", '{"a": 1}'),
        # a body that is a text, and a number
        (PROXY | {"body": "WHITEHALL"}, "$.content", "WHITEHALL"),
        (PROXY | {"body": "V0hJVEVIQUxM", "isBase64Encoded": True}, "$.content", "WHITEHALL"),
        (PROXY | {"body": "WHITEHALL"}, "$.body", "WHITEHALL"),
        (42, "$.content", 42),
        (False, "$.content", False),
    ],
)
def test_a_path_may_begin_at_the_wrapper_or_at_the_reply(reply: Json, path: str, value: Json) -> None:
    assert _value(reply, path) == value


@pytest.mark.parametrize("path", ["status", "name", "body.status", "output.status", "body.statusCode"])
def test_the_status_of_a_wrapper_is_none_of_the_reply(path: str) -> None:
    for reply in (EXECUTION | {"output": '{"risk": "low"}'}, PROXY | {"body": '{"risk": "low"}'}):
        with pytest.raises(ExtractionError, match="no value"):
            _value(reply, path)


@pytest.mark.parametrize(
    ("reply", "path", "value"),
    [
        ({"content": [{"type": "text", "text": "Code: 5"}]}, "$.content", "Code: 5"),
        (
            {"content": [{"type": "text", "text": '{"a": 1}'}, {"type": "text", "text": "note"}]},
            "$.json.a",
            1,
        ),
        ({"content": [{"type": "resource", "resource": {"uri": "f:a", "text": "5"}}]}, "$.content", "5"),
        ([{"type": "text", "text": "5"}], "$.content", "5"),
        ({"type": "resource", "resource": {"uri": "f:a", "text": "5"}}, "$.content", "5"),
    ],
)
def test_a_reply_that_is_the_content_of_a_tool_is_its_result(reply: Json, path: str, value: Json) -> None:
    """Gateways of MCP pass on the content of a result without any mark of one."""
    assert _value(reply, path, "tool_result") == value


@pytest.mark.parametrize("unseen", ["\u200b", " \u200b\n", "\ufeff", "\u2060\u200b "])
def test_a_text_in_which_nothing_is_seen_is_no_value(unseen: str) -> None:
    for reply in ({"a": unseen}, unseen):
        with pytest.raises(ExtractionError):
            _value(reply, "$.a || $.content")
    assert _value({"a": unseen + "x"}, "a") == unseen + "x"


def test_a_body_that_is_a_json_string_is_its_text() -> None:
    assert _value(PROXY | {"body": '"WHITEHALL"'}, "$.content") == "WHITEHALL"
    assert _value(PROXY | {"body": '"WHITE" "HALL"'}, "$.content") == '"WHITE" "HALL"'
