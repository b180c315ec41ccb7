import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ExtractionError, ReplyRejectedError, UnfitValueError
from service.mapping import Catalog, Explanation, FailedMethod, FieldTrace

FIELDS = {
    "exchange": "$.content | parse('Exchange: (.+)')",
    "cabinet": "$.content | parse('Cabinet: (.+)')",
}
METHODS = [
    {"method": "tool_result", "tool_name": "browser", "field_mappings": FIELDS},
    {
        "method": "structured_output",
        "tool_name": "print",
        "field_mappings": {"exchange": "e", "cabinet": "c"},
    },
    {"method": "jmespath", "paths": {"cabinet": {"path": "note", "transform": ["trim", "to_number"]}}},
]


NAN_NOTE = " (NaN read as null)"


def extractor(methods=METHODS, **more):
    spec = {"output_mappings": {"e": {"extraction_methods": methods, **more}}}
    return Catalog.load({"e.yaml": json.dumps(spec)}, {}).extractor("e")


def reply(text, tool="browser", **more):
    call = {"type": "tool_use", "id": "1", "name": tool, "input": {}}
    answer = {"type": "tool_result", "tool_use_id": "1", "content": text}
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [answer]}]
    return {"messages": messages, "usage": {"input_tokens": 3, "output_tokens": 4}, **more}


def test_each_value_has_its_source_and_the_methods_that_failed():
    """Each trace has the methods before the one that gave the value, each with the reason why it failed."""
    explained = extractor(not_found=["Not found"]).explain(
        reply("Exchange: WHITEHALL\nCabinet: Not found", structured_output={"c": None}, note=" 12 ")
    )
    assert explained == Explanation(
        {"exchange": "WHITEHALL", "cabinet": 12},
        None,
        3,
        4,
        (
            FieldTrace("exchange", "WHITEHALL", "tool_result[0]", (), FIELDS["exchange"]),
            FieldTrace(
                "cabinet",
                12,
                "jmespath[2]",
                (
                    FailedMethod("tool_result[0]", FIELDS["cabinet"], "'Not found' is in not_found"),
                    FailedMethod("structured_output[1]", "c", "the path gives null"),
                ),
                "note | trim | to_number",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply("x", "other"), "no result of tool 'browser'; there are results of other"),
        (reply("nothing here"), "the pattern found nothing in 12 characters"),
        ({"a": 1}, "no result of tool 'browser'; there is no result of any"),
    ],
)
def test_the_reason_why_a_tool_result_gave_nothing(answer, why):
    """The reason names the missing tool and the others, or says that the pattern found nothing."""
    explained = extractor().explain(answer)
    assert explained.fields[0].failed[0].reason == why
    assert isinstance(explained.error, ExtractionError)
    assert explained.values == {"exchange": None, "cabinet": None}


@pytest.mark.parametrize(
    ("path", "root", "why"),
    [
        ("a.b", {}, "the path gives null"),
        ("a | parse('x')", {}, "the path gives null"),
        ("a | parse('x')", {"a": "yyy"}, "the pattern found nothing in 3 characters"),
        ("a | to_number()", {"a": "far"}, "to_number() makes nothing of 'far'"),
        ("a | trim() | to_date('%d/%m/%Y')", {"a": " 2025 "}, "to_date() makes nothing of '2025'"),
        ("a | lower()", {"a": [1]}, "lower() makes nothing of [1]"),
        ("a", {"a": ""}, "an empty text"),
        ("a | parse_text() | nothing", {"a": "b: c"}, "the path gives null"),
        ("a | parse_json() | [0]", {"a": "{}"}, "the path gives null"),
        ({"path": "a", "transform": "parse_text"}, {"a": "b: c"}, "parse_text found no line 'f'"),
        ({"path": "a", "transform": "to_number"}, {"a": "far"}, "to_number() makes nothing of 'far'"),
    ],
)
def test_the_reason_why_a_path_gave_nothing(path, root, why):
    """The reason names the part of the path that lost the value, and its input."""
    methods = [{"method": "direct", "field_mappings": {"f": path}}]
    assert extractor(methods).explain(root).fields[0].failed[0].reason == why


def test_a_method_without_a_required_field_is_reported_as_unused():
    """The value of a method without a required field is found, and reported as not used."""
    methods = [
        {"method": "direct", "field_mappings": {"a": "x.a", "b": "x.b"}},
        {"method": "direct", "field_mappings": {"a": "y.a", "b": "y.b"}},
    ]
    explained = extractor(methods, required=["b"]).explain({"x": {"a": 1}, "y": {"a": 2, "b": 3}})
    assert explained.values == {"a": 2, "b": 3}
    assert explained.fields[0].failed == (
        FailedMethod("direct[0]", "x.a", "has a value, but its method has none for every required field (b)"),
    )


def test_the_exception_of_extract_is_in_error():
    """`error` is what extract raises. Values that were found are kept, and unfit ones count as failed."""
    rejected = extractor(reject_if=["Sorry"]).explain(reply("Exchange: A\nSorry"))
    assert isinstance(rejected.error, ReplyRejectedError)
    assert rejected.values["exchange"] == "A"
    run = {
        "target": {"name": "a", "invoke": "http", "url": "http://a"},
        "output_mapping": {
            "extraction_methods": [{"method": "direct", "field_mappings": {"n": "x", "m": "y"}}]
        },
    }
    schema = {"agent": "a", "fields": [{"name": "n", "type": "number", "maximum": 5}]}
    catalog = Catalog.load({"r.yaml": json.dumps(run)}, {"s.yaml": json.dumps(schema)})
    unfit = catalog.extractor("r").explain({"x": "6", "y": 1})
    assert isinstance(unfit.error, UnfitValueError)
    assert unfit.values == {"n": None, "m": 1}
    assert unfit.fields[0] == FieldTrace(
        "n", None, "", (FailedMethod("direct[0]", "x", "does not fit maximum 5: '6'"),)
    )


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "e", "c", "note", "messages", "content"]), inner, max_size=4)
    ),
)


@given(
    answer=ANY | st.builds(reply, ANY, st.sampled_from(["browser", "print"]), note=ANY, structured_output=ANY)
)
def test_explaining_agrees_with_extracting(answer):
    """For any reply, explain and extract agree, and every field without a value has reasons."""
    e = extractor(required=["cabinet"], not_found=["0"], reject_if=["1"])
    explained = e.explain(answer)
    assert [trace.value for trace in explained.fields] == list(explained.values.values())
    for trace in explained.fields:
        assert trace.method or all(failed.reason for failed in trace.failed)
    if explained.error is not None:
        with pytest.raises(type(explained.error)) as caught:
            e.extract(answer)
        assert str(caught.value) == str(explained.error)
        return
    found = e.extract(answer)
    assert found.values == explained.values
    sources = {t.name: f"{t.method}:{t.path}" for t in explained.fields if t.method}
    # A field whose value is read as null has its source in the provenance all the same.
    stated = {
        name: source.removesuffix(NAN_NOTE)
        for name, source in found.provenance.items()
        if name in sources or not source.endswith(NAN_NOTE)
    }
    assert stated == sources


def test_a_number_that_is_not_finite_has_a_reason():
    """An agent in Python can give one."""
    explained = extractor().explain(reply("", note=float("inf")))
    reasons = [one.reason for one in explained.fields[1].failed if one.method == "jmespath[2]"]
    assert reasons == ["trim() makes nothing of a number that is not finite"]
