import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ExtractionError, MappingError, UnfitValueError
from service.mapping import Catalog, Definition, check
from service.mapping.extraction.types import TYPES

DESIGN = r"""
# schemas/broadband-agent-rust.yaml
agent: broadband-agent-rust
version: "1.0"
output_format: "messages"
fields:
  - name: exchange
    type: string
    extraction:
      - type: tool_result
        tool: browser_broadband
        pattern: "Exchange: ([A-Z\\s]+)"
      - type: structured
        path: "$.exchange"

  - name: download_speed
    type: string
    extraction:
      - type: tool_result
        tool: browser_broadband
        pattern: "Download Speed: ([\\d.-]+\\s*Mbps)"
      - type: structured
        path: "$.speeds.download"
"""
"""The example of the original design, verbatim."""

RUN = "target: {name: broadband-agent-rust, invoke: http, url: 'http://agent'}\n"
TEXT = "Exchange: WHITEHALL\nCabinet: Direct Exchange\nDownload Speed: 50.0-330.0 Mbps"


def messages(text, tool="browser_broadband"):
    call = {"type": "tool_use", "id": "1", "name": tool, "input": {}}
    answer = {"type": "tool_result", "tool_use_id": "1", "content": text}
    return {"messages": [{"role": "assistant", "content": [call]}, {"role": "user", "content": [answer]}]}


def schema(*fields, agent="a"):
    return json.dumps({"agent": agent, "version": "1", "fields": list(fields)})


def structured(name, kind, **more):
    extraction = [{"type": "structured", "path": f"$.{name}"}]
    return {"name": name, "type": kind, "extraction": extraction, **more}


def automatic(*fields):
    run = "target: {name: a, invoke: http, url: 'http://agent'}\n"
    return Catalog.load({"r.yaml": run}, {"s.yaml": schema(*fields)}).definition("r").compile()


def mapped(mapping, *fields, **more):
    run = {
        "target": {"name": "a", "invoke": "http", "url": "http://agent"},
        "output_mapping": {
            "extraction_methods": [{"method": "direct", "field_mappings": mapping}],
            **more,
        },
    }
    return Catalog.load({"r.yaml": json.dumps(run)}, {"s.yaml": schema(*fields)}).definition("r").compile()


def test_the_schema_of_the_design_extracts_by_itself():
    """A target with only a schema extracts every field by its `extraction` entries, in order."""
    mapping = Catalog.load({"r.yaml": RUN}, {"s.yaml": DESIGN}).definition("r").compile()
    found = mapping.extract(messages(TEXT))
    assert found.values == {"exchange": "WHITEHALL", "download_speed": "50.0-330.0 Mbps"}
    assert found.provenance["exchange"] == r"tool_result[0]:$.content | parse('Exchange: ([A-Z\s]+)')"
    own_output = {"messages": [], "structured_output": {"exchange": "A", "speeds": {"download": "1 Mbps"}}}
    assert mapping.extract(own_output).values == {"exchange": "A", "download_speed": "1 Mbps"}
    assert mapping.extract(own_output).provenance["exchange"] == "structured[1]:$.exchange"


def test_fields_of_a_schema_fall_back_one_by_one():
    """Fields missing in the tool's result come from the structured output; the others do not."""
    mapping = Catalog.load(
        {"r.yaml": RUN}, {"s.yaml": DESIGN.replace("type: string", "type: string\n    required: true")}
    )
    reply = {**messages("Exchange: WHITEHALL"), "structured_output": {"speeds": {"download": "1 Mbps"}}}
    found = mapping.extractor("r").extract(reply)
    assert found.values == {"exchange": "WHITEHALL", "download_speed": "1 Mbps"}
    with pytest.raises(ExtractionError, match="no value for required field download_speed"):
        mapping.extractor("r").extract(messages("Exchange: WHITEHALL"))


def test_the_schema_is_part_of_the_definition():
    """The definition's text has the schema: it compiles without files, and its digest covers the schema."""
    definition = Catalog.load({"r.yaml": RUN}, {"s.yaml": DESIGN}).definition("r")
    assert json.loads(definition.text)["schema"]["agent"] == "broadband-agent-rust"
    again = Definition("r", definition.text).compile()
    assert again.output_fields == ("exchange", "download_speed")
    other = Catalog.load({"r.yaml": RUN}, {"s.yaml": DESIGN.replace("Exchange: (", "Exchange = (")})
    assert other.definition("r").digest != definition.digest


def test_a_reply_that_is_no_conversation_is_structured_output():
    """A tool that replies with plain JSON needs no output mapping."""
    assert automatic(structured("x", "integer")).extract({"x": "1,234"}).values == {"x": 1234}


def test_a_call_without_a_result_is_structured_output():
    """Agents hand over their output with a call without a result. Arguments of other calls are no output."""
    lookup = {"type": "tool_use", "id": "t1", "name": "lookup", "input": {"x": "1"}}
    found = {"type": "tool_result", "tool_use_id": "t1", "content": "no number here"}
    printed = {"type": "tool_use", "id": "t2", "name": "print_output", "input": {"x": "2"}}
    asked = [{"role": "assistant", "content": [lookup]}, {"role": "user", "content": [found]}]
    mapping = automatic(structured("x", "integer"))
    done = {"messages": [*asked, {"role": "assistant", "content": [printed]}]}
    assert mapping.extract(done).values == {"x": 2}
    with pytest.raises(ExtractionError, match="no structured output"):
        mapping.extract({"messages": asked})


def test_with_an_output_mapping_the_schema_only_converts():
    """The output mapping extracts its own fields, and the schema only converts those that it has."""
    mapping = mapped({"n": "$.number", "free": "$.f"}, structured("n", "number"), structured("z", "string"))
    assert mapping.extract({"number": "£1,234.50", "f": "x"}).values == {"n": Decimal("1234.50"), "free": "x"}
    assert mapping.output_fields == ("n", "free")


def test_required_fields_of_a_schema_count_with_an_output_mapping():
    """A field that the schema requires must be found, and some method must give it."""
    mapping = mapped({"n": "$.n", "m": "$.m"}, structured("n", "number", required=True))
    with pytest.raises(ExtractionError, match="required field n"):
        mapping.extract({"m": 1})
    with pytest.raises(MappingError, match="the schema of 'a' requires 'n', and no method gives it"):
        mapped({"m": "$.m"}, structured("n", "number", required=True))


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("string", [1], "type"),
        ("number", "50 Mbps", 50),
        ("number", "0.10", Decimal("0.10")),
        ("number", 0.1, 0.1),
        ("number", "50-330", "type"),
        ("number", True, "type"),
        ("integer", "1,234", 1234),
        ("integer", 5.0, 5),
        ("integer", "5.5", "type"),
        ("boolean", "Yes", True),
        ("boolean", False, False),
        ("boolean", "perhaps", "type"),
        ("date", "2025-01-18", "2025-01-18"),
        ("date", "2025-01-18T23:59:00Z", "2025-01-18"),
        ("date", "2025-02-30", "type"),
        ("date", "18/01/2025", "type"),
        ("date", 20250118, "type"),
        ("datetime", "2025-01-18 10:00:00.500+0100", "2025-01-18T10:00:00.500+0100"),
        ("datetime", "2025-01-18t10:00z", "2025-01-18T10:00Z"),
        ("datetime", "2025-01-18", "type"),
        ("datetime", "2025-01-18T25:00", "type"),
        ("list", [1], [1]),
        ("list", "[1, 2]", [1, 2]),
        ("list", "1, 2", "type"),
        ("object", {"a": 1}, {"a": 1}),
        ("object", '{"a": 1}', {"a": 1}),
        ("object", "[1]", "type"),
    ],
)
def test_types(kind, given, value):
    """A value that fits is converted to its type. A value that does not fit fails the row."""
    mapping = automatic(structured("f", kind))
    if value == "type":
        with pytest.raises(UnfitValueError, match=f"^f: .* does not fit type {kind}$"):
            mapping.extract({"f": given})
    else:
        found = mapping.extract({"f": given}).values["f"]
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("field", "good", "bad", "rule"),
    [
        (structured("f", "string", enum=["north", "south"]), "north", "North", "enum north, south"),
        (structured("f", "string", pattern="[A-Z]{3}"), "LHR", "xLHR", "pattern [A-Z]{3}"),
        (structured("f", "number", minimum=0.1), "0.1", 0.05, "minimum 0.1"),
        (structured("f", "number", maximum=20038), 20038, "20,038.1 km", "maximum 20038"),
        (structured("f", "number", enum=[0.1, 2]), Decimal("0.1"), 3, "enum 0.1, 2"),
        (structured("f", "integer", minimum=1, maximum=5), "5", 0, "minimum 1"),
        (structured("f", "boolean", enum=[True]), "yes", "no", "enum true"),
        (structured("f", "date", minimum="2025-01-01"), "2025-01-01", "2024-12-31", "minimum 2025-01-01"),
        (
            structured("f", "datetime", maximum="2025-01-01T00:00Z"),
            "2025-01-01T01:00+01:00",
            "2025-01-01T00:01",
            "maximum 2025-01-01T00:00Z",
        ),
    ],
)
def test_constraints(field, good, bad, rule):
    """Constraints: enum, pattern (whole value), minimum, maximum.

    The error has field, value and constraint.
    """
    mapping = automatic(field)
    mapping.extract({"f": good})
    with pytest.raises(UnfitValueError) as caught:
        mapping.extract({"f": bad})
    shown = repr(bad) if isinstance(bad, str) else str(bad)
    assert str(caught.value) == f"f: {shown} does not fit {rule}"


def test_every_unfit_value_is_named_and_truncated():
    """The error names every field that does not fit, with truncated values. A missing value always fits."""
    mapping = automatic(structured("a", "number"), structured("b", "boolean"), structured("c", "list"))
    with pytest.raises(UnfitValueError) as caught:
        mapping.extract({"a": "x" * 5000, "b": "y" * 5000})
    text = str(caught.value)
    assert text.startswith("a: 'xxx")
    assert "…" in text
    assert "; b: 'yyy" in text
    assert len(text) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "- {name: f, type: strnig}",
            "s.yaml:3: fields[0].type: unknown type 'strnig' (did you mean",
        ),
        ("- {name: f, type: number, minimum: 5, maximum: 3}", "minimum 5 is greater than maximum 3"),
        ("- {name: f, type: date, minimum: 2025-01-02, maximum: 2025-01-01}", "greater than maximum"),
        ("- {name: f, type: string, pattern: '(?=a)'}", "look-around"),
        ("- {name: f, type: string, enum: [a, 1]}", "enum: 1 is not of type string (put it in quotes)"),
        ("- {name: f, type: number, enum: ['1']}", "enum: '1' is not of type number"),
        ("- {name: f, type: integer, enum: [true]}", "enum: true is not of type integer"),
        ("- {name: f, type: integer, minimum: 1.5}", "minimum: 1.5 is not of type integer"),
        ("- {name: f, type: date, enum: [18.1.2025]}", "is not of type date"),
        ("- {name: f, type: string, enum: []}", "must not be empty"),
        ("- {name: f, type: string, minimum: 1}", "'minimum' does not apply to type string"),
        ("- {name: f, type: list, enum: [a]}", "rules of this type: none"),
        (
            "- {name: f, type: string}\n  - {name: f, type: string}",
            "s.yaml:4: fields[1].name: a second",
        ),
        ("- {name: f, type: string, requried: true}", "did you mean 'required'"),
        ("- {name: f}", "'fields[0].type' is missing"),
        ("- {name: '', type: string}", "cannot be a field's name"),
        ("- {name: f, type: string, extraction: [{type: tool_resutl}]}", "did you mean 'tool_result'"),
        ("- {name: f, type: string, extraction: [{type: tool_result}]}", "pattern' is missing"),
        ("- {name: f, type: string, extraction: [{type: tool_result, pattern: '('}]}", "missing )"),
        ("- {name: f, type: string, extraction: [{type: structured, path: 'a['}]}", "expression"),
        ("- {name: f, type: string, extraction: [{type: structured, path: a, x: 1}]}", "unknown key"),
        ("- f", "must be a table"),
    ],
)
def test_an_invalid_schema_is_reported(text, words):
    """An invalid schema is reported once, with file and line, when it is loaded."""
    problems = check({}, {"s.yaml": f"agent: a\nfields:\n  {text}\n"})
    assert len(problems) == 1
    assert words in str(problems[0])
    assert str(problems[0]).startswith("s.yaml:")


def test_an_agent_has_one_schema():
    """A second schema of an agent is reported. A run whose schema has problems is not reported as well."""
    good = schema(structured("f", "string"))
    assert [str(p) for p in check({}, {"s.yaml": good, "t.yaml": good})] == [
        "t.yaml:1: agent: a second schema of 'a' (the first is in s.yaml)"
    ]
    run = "target: {name: a, invoke: http, url: 'http://agent'}\n"
    assert len(check({"r.yaml": run}, {"s.yaml": "agent: a\nfields: [{name: f, type: x}]\n"})) == 1


def test_a_schema_alone_must_say_how_to_extract_every_field():
    """A schema without an output mapping must have fields, and an `extraction` for each of them."""
    with pytest.raises(MappingError, match="does not say how to extract 'f'"):
        automatic({"name": "f", "type": "string"})
    with pytest.raises(MappingError, match="has no fields"):
        automatic()
    run = "target: {name: a, invoke: http, url: 'http://agent'}\noutput_mapping: a\n"
    said = str(check({"r.yaml": run}, {"s.yaml": schema(structured("f", "string"))})[0])
    assert said == "r.yaml:2: output_mapping: no output mapping 'a' (leave it out: the schema is enough)"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text()
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(kind=st.sampled_from(sorted(TYPES)), value=ANY | st.dates().map(str) | st.datetimes().map(str))
def test_any_value_is_converted_or_unfit(kind, value):
    """Any value is converted or fails with a declared error. A converted value converts to itself."""
    rules = {
        "integer": {"minimum": -5},
        "date": {"maximum": "2030-01-01"},
        "datetime": {"enum": ["2025-01-01T00:00Z"]},
    }
    mapping = automatic(structured("f", kind, **rules.get(kind, {})))
    try:
        found = mapping.extract({"f": value}).values
    except ExtractionError:
        return
    assert mapping.extract({"f": found["f"]}).values == found


CALL = {"id": "1", "name": "browser_broadband"}
FUNCTION = {"id": "1", "type": "function", "function": {"name": "browser_broadband", "arguments": "{}"}}
USE = {"toolUse": {"toolUseId": "1", "name": "browser_broadband", "input": {}}}
RESULT = {"toolResult": {"toolUseId": "1", "content": [{"text": TEXT}], "status": "success"}}
PLAIN = {"exchange": "WHITEHALL", "speeds": {"download": "50.0-330.0 Mbps"}}


@pytest.mark.parametrize(
    "reply",
    [
        messages(TEXT),
        [
            {"role": "assistant", "tool_calls": [FUNCTION]},
            {"role": "tool", "tool_call_id": "1", "content": TEXT},
        ],
        {
            "output": [
                {"type": "function_call", "call_id": "1", "name": "browser_broadband", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": TEXT},
            ]
        },
        {"messages": [{"role": "assistant", "content": [USE]}, {"role": "user", "content": [RESULT]}]},
        {
            "messages": [
                {"type": "ai", "content": "", "tool_calls": [CALL | {"args": {}}]},
                {"type": "tool", "name": "browser_broadband", "tool_call_id": "1", "content": TEXT},
            ]
        },
        {"output": json.dumps({**messages(TEXT), "success": True})},
        {"statusCode": 200, "body": json.dumps(messages(TEXT))},
        {"messages": [], "structured_output": PLAIN, "success": True},
        {"statusCode": 200, "body": json.dumps(PLAIN)},
        PLAIN,
    ],
    ids=[
        *("anthropic", "chat", "responses", "converse", "langchain", "steps", "lambda", "structured"),
        *("lambda-plain", "plain"),
    ],
)
def test_the_schema_of_the_design_reads_every_reply_shape(reply):
    """The schema alone extracts exchange and speed from every reply shape."""
    mapping = Catalog.load({"r.yaml": RUN}, {"s.yaml": DESIGN}).definition("r").compile()
    found = mapping.extract(reply)
    assert found.values == {"exchange": "WHITEHALL", "download_speed": "50.0-330.0 Mbps"}
